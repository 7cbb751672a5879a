#!/bin/sh
# no_flags.sh COMPILE_COMMANDS.json: fails if a compiler call has flags that a user did not ask for.
set -eu
grep -q main.cpp "$1"
if grep '"command"' "$1" | grep -E -e ' (-m[a-z]|-W|-O|-f|-D[A-Z]*KDNA|-pthread)'; then
    echo "the consumer inherits flags"
    exit 1
fi
grep '"command"' "$1"
