#!/bin/sh
# pkg_config.sh PKG_CONFIG FOLDER VERSION PROGRAM SOURCE COMPILER ARGUMENTS...: compiles with pkg-config's flags, and runs.
# 77 (skipped) where xsimd has no pkg-config file.
set -eu
pkg_config=$1 folder=$2 version=$3 program=$4 source=$5
shift 5
PKG_CONFIG_PATH=$folder${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export PKG_CONFIG_PATH

if grep -q '^Requires: xsimd' "$folder/kdna.pc" && ! "$pkg_config" --exists 'xsimd >= 8.0'; then
    echo "pkg-config does not know xsimd"
    exit 77
fi
found=$("$pkg_config" --modversion kdna)
if [ "$found" != "$version" ]; then
    echo "kdna.pc says version $found, config.hpp says $version"
    exit 1
fi
flags=$("$pkg_config" --cflags --libs kdna)
echo "flags: $flags"
# shellcheck disable=SC2086  # several words
"$@" $flags "$source" -o "$program"
"$program"
