#!/bin/sh
# accepts.sh [--run PROGRAM] COMPILER ARGUMENTS...: the compiler must succeed without a word, and the program must run.
set -eu
program=
if [ "$1" = --run ]; then
    program=$2
    shift 2
    set -- "$@" -o "$program"
fi

if ! output=$("$@" 2>&1) || [ -n "$output" ]; then
    echo "not accepted, or not without warnings:"
    printf '%s\n' "$output"
    exit 1
fi
if [ -n "$program" ]; then exec "$program"; fi
