#!/usr/bin/env bash
# tools/setup.sh [build] [tests] [demo] [peers] [ci]: installs what is missing for these (default: the first three), on Debian and
# Ubuntu as root or with sudo. Elsewhere, or without either, it says what is needed. Where nothing is missing it does nothing.
set -euo pipefail

has_command() {
    local name
    for name in "$@"; do
        if command -v "$name" > /dev/null; then return 0; fi
    done
    return 1
}

has_header() {
    local file
    for file in /usr/include/$1 /usr/include/*/$1 /usr/local/include/$1 /usr/local/include/*/$1; do
        if [[ -e $file ]]; then return 0; fi
    done
    return 1
}

# Missing packages, as words in a string (bash 3 has no empty arrays under -u).
tools=""      # nothing can be done without these
libraries=""  # CMake downloads these if they are not there
extras=""     # these make more possible
tool() { if ! has_command "${@:2}"; then tools+=" $1"; fi; }
library() { if ! has_header "$2"; then libraries+=" $1"; fi; }
extra() { extras+=" $1"; }

if (($# == 0)); then set -- build tests demo; fi
for purpose in "$@"; do
    case $purpose in
        build)
            tool cmake cmake
            tool ninja-build ninja make
            tool g++ "${CXX:-g++}" g++ clang++
            library libxsimd-dev xsimd/xsimd.hpp
            library nlohmann-json3-dev nlohmann/json.hpp
            library libeigen3-dev Eigen/Core
            library libcli11-dev CLI/CLI.hpp
            library libstb-dev stb_image_write.h
            library zlib1g-dev zlib.h
            # For downloads over https, should it come to that.
            if [[ ! -e /etc/ssl/certs/ca-certificates.crt && ! -d /etc/pki ]]; then extra ca-certificates; fi
            ;;
        tests)
            if ! has_header catch2/catch.hpp && ! has_header catch2/catch_all.hpp; then libraries+=" catch2"; fi
            library libbenchmark-dev benchmark/benchmark.h
            if ! has_command pkg-config; then extra pkg-config; fi
            # Programs with several instruction sets run on older processors as well.
            if [[ $(uname -m) == x86_64 ]] && ! has_command qemu-x86_64 qemu-x86_64-static; then extra qemu-user; fi
            ;;
        demo)
            if [[ ! -d /usr/share/datasets/fashion-mnist ]]; then extra dataset-fashion-mnist; fi
            ;;
        peers)
            if ! has_header oneapi/dnnl/dnnl.hpp; then extra libdnnl-dev; fi
            ;;
        ci)
            tool g++ g++
            for name in clang clang-format clang-tidy git qemu-user:qemu-x86_64 g++-aarch64-linux-gnu:aarch64-linux-gnu-g++; do
                if ! has_command "${name#*:}"; then extra "${name%:*}"; fi
            done
            # libFuzzer and the sanitizers of clang, without which its programs are not fuzzed.
            if ! compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a' > /dev/null; then extra libclang-rt-14-dev; fi
            # Compiles for Windows, and runs there.
            if ! has_command x86_64-w64-mingw32-g++-posix; then extra g++-mingw-w64-x86-64-posix; fi
            if ! has_command wine64 wine && [[ ! -x /usr/lib/wine/wine64 ]]; then extra wine64; fi
            ;;
        *)
            echo "tools/setup.sh: no purpose \"$purpose\"; there are build, tests, demo, peers and ci" >&2
            exit 2
            ;;
    esac
done

if [[ -z $tools$libraries$extras ]]; then exit 0; fi

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif [[ -t 0 ]]; then
        sudo "$@"
    else
        sudo -n "$@" # nobody there to type a password
    fi
}
apt_install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" < /dev/null; }

if has_command apt-get && { ((EUID == 0)) || { has_command sudo && as_root true; }; }; then
    echo "Installing$tools$libraries$extras"
    as_root apt-get update -q
    # shellcheck disable=SC2086  # several words
    if [[ -n $tools$libraries ]]; then apt_install $tools $libraries; fi
    for package in $extras; do
        apt_install "$package" || echo "$package cannot be installed; going on without it"
    done
    exit 0
fi

{
    echo "Not installed, and this script can install packages only on Debian and Ubuntu, as root or with sudo."
    if [[ -n $tools ]]; then echo "  needed:$tools"; fi
    if [[ -n $libraries ]]; then echo "  needed, CMake downloads what is missing:$libraries"; fi
    if [[ -n $extras ]]; then echo "  good to have:$extras"; fi
    echo "(Debian's package names. In all: CMake 3.21, a C++20 compiler (g++ 11, clang 14 or later), Ninja or make; xsimd 8.0,"
    echo "nlohmann_json, Eigen 3.4, CLI11, stb, zlib; for tests Catch2 2.13 or 3 and Google Benchmark.)"
} >&2
if [[ -n $tools ]]; then exit 1; fi
