#!/bin/sh
# symbols.sh NM A.o B.o: fails if a symbol of kdna that the linker would merge is defined in both objects.
set -eu
nm=$1 a=$2 b=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Global and weak definitions: nm prints their types as capitals, or u, v, w.
symbols() {
    "$nm" --defined-only "$1" > "$folder/all"
    awk '$2 ~ /^[A-Zuvw]$/ { print $3 }' "$folder/all" | sort -u
}
symbols "$a" > "$folder/a"
symbols "$b" > "$folder/b"
comm -12 "$folder/a" "$folder/b" > "$folder/both"
if command -v c++filt > /dev/null; then
    c++filt < "$folder/both" > "$folder/names"
else
    cp "$folder/both" "$folder/names"
fi

if ! grep -q 4kdna "$folder/a"; then
    echo "no symbols of kdna in $a: nothing was checked"
    exit 2
fi
if grep 4kdna "$folder/both" > "$folder/shared"; then
    echo "$(wc -l < "$folder/shared") symbols of kdna are defined in both objects:"
    grep kdna "$folder/names" | head -20
    exit 1
fi
echo "$(grep -c 4kdna "$folder/a") and $(grep -c 4kdna "$folder/b") symbols of kdna, none in both;" \
     "$(wc -l < "$folder/both") of other libraries are in both"
