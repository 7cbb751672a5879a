#!/bin/sh
# symbols.sh NM LIBRARY: what the library exports is the facade, without an instruction set in any name.
set -eu
symbols=$("$1" --dynamic --defined-only "$2" | awk '{ print $3 }' | sed 's/@.*//')
if [ -z "$symbols" ]; then echo "no symbols in $2" && exit 1; fi
others=$(printf '%s\n' "$symbols" | grep -v -e '^_ZNK\{0,1\}4kdna7library' -e '^_ZT[ISV]N4kdna7library' || true)
if [ -n "$others" ]; then echo "not the facade's: $others" && exit 1; fi
if printf '%s\n' "$symbols" | grep 'v[0-9]*_[0-9]*_[0-9]*_c'; then echo "an instruction set in a name" && exit 1; fi
echo "$(printf '%s\n' "$symbols" | wc -l) symbols, all of kdna::library"
