#!/bin/sh
# check.sh SOURCE COMPILER ARGUMENTS...
set -eu
source=$1
shift

if ! "$@" -fsyntax-only "$source"; then
    echo "$source does not compile, but should without SHOULD_NOT_COMPILE"
    exit 1
fi
if output=$("$@" -fsyntax-only -DSHOULD_NOT_COMPILE "$source" 2>&1); then
    echo "$source compiles with SHOULD_NOT_COMPILE, but should not"
    exit 1
fi
if ! grep -q '^// expect: ' "$source"; then
    echo "$source has no \"// expect: \" line"
    exit 1
fi
sed -n 's,^// expect: ,,p' "$source" | while read -r words; do
    if ! printf '%s\n' "$output" | grep -q -e "$words"; then
        echo "no \"$words\" in the compiler's output:"
        printf '%s\n' "$output"
        exit 1
    fi
done
