#!/bin/sh
# stops.sh WORDS SOURCE COMPILER ARGUMENTS...: the compiler must reject SOURCE with a single #error that contains WORDS. Beside it
# there may be one more error, which ends the compilation.
set -u
words=$1
source=$2
shift 2

if output=$("$@" -fsyntax-only "$source" 2>&1); then
    echo "$source compiles, but should stop with \"$words\""
    exit 1
fi
fail() {
    echo "$1:"
    printf '%s\n' "$output"
    exit 1
}
count() { printf '%s\n' "$output" | grep -c -e "$1"; }

[ "$(count 'error: ')" -le 2 ] || fail "more than an error and the end of the compilation"
[ "$(printf '%s\n' "$output" | grep 'error: ' | grep -c -v compilation_stopped_because)" -eq 1 ] || fail "not one error"
printf '%s\n' "$output" | grep 'error: ' | grep -v compilation_stopped_because | grep -q -F -e "$words" ||
    fail "no error that says \"$words\""
