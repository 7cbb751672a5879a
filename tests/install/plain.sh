#!/bin/sh
# plain.sh PROGRAM SOURCE COMPILER ARGUMENTS...: compiles with a bare command line, and runs.
set -eu
program=$1 source=$2
shift 2
"$@" "$source" -o "$program"
"$program"
