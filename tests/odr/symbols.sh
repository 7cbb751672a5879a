#!/bin/sh
# symbols.sh NM WHICH A B: fails if a symbol that the linker would merge is defined in both objects or static libraries. WHICH is
# kdna (symbols of kdna) or all.
set -eu
nm=$1 which=$2 a=$3 b=$4
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Global and weak definitions: nm prints their types as capitals, or u, v, w.
symbols() {
    "$nm" --defined-only "$1" > "$folder/all"
    awk '$2 ~ /^[A-Zuvw]$/ { print $3 }' "$folder/all" | sort -u
}
wanted=.
if [ "$which" = kdna ]; then wanted=4kdna; fi
symbols "$a" | { grep "$wanted" || true; } > "$folder/a"
symbols "$b" | { grep "$wanted" || true; } > "$folder/b"
if [ ! -s "$folder/a" ] || [ ! -s "$folder/b" ]; then
    echo "no such symbols in $a or $b: nothing was checked"
    exit 2
fi
comm -12 "$folder/a" "$folder/b" > "$folder/both"
if [ -s "$folder/both" ]; then
    echo "$(wc -l < "$folder/both") symbols are defined in both:"
    head -20 "$folder/both" | { c++filt 2> /dev/null || cat; }
    exit 1
fi
echo "$(wc -l < "$folder/a") and $(wc -l < "$folder/b") symbols, none in both"
