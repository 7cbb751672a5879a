#!/bin/sh
# qemu.sh CPU EXPECTED PROGRAM [ARGUMENTS...]: runs the program on a processor that qemu emulates, and expects a line in its output; SIGILL
# expects that the program dies of an instruction which the processor lacks. 77 (skipped) without qemu.
set -eu
cpu=$1 expected=$2
shift 2
qemu=""
for name in qemu-x86_64 qemu-x86_64-static; do
    if command -v "$name" > /dev/null; then qemu=$name; fi
done
if [ -z "$qemu" ]; then
    echo "skipped: there is no qemu-x86_64 (Debian: qemu-user)"
    exit 77
fi

status=0
output=$("$qemu" -cpu "$cpu" "$@" 2>&1) || status=$?
echo "$output" | grep -v "doesn't support requested feature" || true
if [ "$expected" = SIGILL ]; then
    if [ "$status" -eq 132 ]; then
        echo "died of SIGILL, as it should"
        exit 0
    fi
    echo "ended with $status, not of SIGILL: on $cpu this test cannot find a wrong instruction"
    exit 1
fi
if [ "$status" -ne 0 ]; then
    echo "ended with $status"
    exit 1
fi
if ! echo "$output" | grep -q "$expected"; then
    # qemu before 7.2 does not emulate AVX2.
    case $cpu in Haswell) echo "skipped: this qemu does not emulate AVX2" && exit 77 ;; esac
    echo "\"$expected\" was not printed"
    exit 1
fi
