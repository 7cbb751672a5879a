#!/bin/sh
# no_flags.sh COMPILE_COMMANDS.json: fails if a compiler call has flags that a user did not ask for.
set -eu
grep -q main.cpp "$1"
# Of the consumer's own file: kdna::compiled, where it is built along, has definitions of its own.
if grep '"command"' "$1" | grep main.cpp | grep -E -e ' (-m[a-z]|-W|-O|-f|-D[A-Z]*KDNA|-pthread)'; then
    echo "the consumer inherits flags"
    exit 1
fi
grep '"command"' "$1" | grep main.cpp
