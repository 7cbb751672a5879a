#!/bin/sh
# cost.sh NAME GOAL LIMIT COMPILER ARGUMENTS...: runs the compiler and prints the processor time it took; fails past LIMIT.
set -eu
name=$1 goal=$2 limit=$3
shift 3
"$@"
# POSIX `times`: the second line is the children's user and system time, as 0m1.23s 0m0.12s.
times > "${TMPDIR:-/tmp}/kdna-cost.$$"
trap 'rm -f "${TMPDIR:-/tmp}/kdna-cost.$$"' EXIT
awk -v name="$name" -v goal="$goal" -v limit="$limit" '
    function seconds(t) { split(t, part, /[ms]/); return part[1] * 60 + part[2] }
    NR == 2 {
        cost = seconds($1) + seconds($2)
        printf "compiling %s takes %.2f s (goal: under %d s, limit: %d s)\n", name, cost, goal, limit
        exit cost > limit
    }' "${TMPDIR:-/tmp}/kdna-cost.$$"
