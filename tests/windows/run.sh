#!/bin/sh
# run.sh WINE PROGRAM ARGUMENTS...: runs a Windows program, in a prefix of its own. Without Wine it says so and ends with 77.
set -eu
wine=$1
program=$2
shift 2
if [ ! -x "$wine" ]; then
    echo "$program was built, but not run: wine is not installed"
    exit 77
fi
WINEPREFIX=$(dirname "$program")/wine
export WINEPREFIX WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml="
exec "$wine" "$program" "$@"
