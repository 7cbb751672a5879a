#!/bin/sh
# loads.sh PROGRAM FOLDER: the loader picks the newest variant that this processor can run, and says so.
set -eu
program=$1 folder=$2
expected="x86-64"
flags=$(grep -m 1 '^flags' /proc/cpuinfo)
has() {
    for flag in "$@"; do case " $flags " in *" $flag "*) ;; *) return 1 ;; esac; done
}
if has avx2 fma bmi1 bmi2 f16c movbe abm; then expected="x86-64-v3"; fi
if has avx2 fma avx512f avx512bw avx512cd avx512dq avx512vl; then expected="x86-64-v4"; fi
LD_DEBUG=libs "$program" "$folder" > "$folder/loads.txt" 2>&1 || { cat "$folder/loads.txt"; exit 1; }
grep "calling init: .*libkdna" "$folder/loads.txt"
grep -q "libkdna [0-9.]* for $expected\$" "$folder/loads.txt" || { echo "not the variant for $expected"; exit 1; }
case $expected in
    x86-64) ;;
    *) grep -q "calling init: .*/glibc-hwcaps/$expected/libkdna" "$folder/loads.txt" ;;
esac
