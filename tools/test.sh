#!/usr/bin/env bash
# tools/test.sh [CTEST ARGUMENTS...]: installs what is missing, builds everything in build/, and runs the tests.
#
# Half of the random cases run, unless KDNA_TEST_SCALE says otherwise. The emulated GPU, libkdna with its three variants, what a file
# costs to compile, Windows programs, and each header on its own take minutes, which are left to .ci/run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash tools/setup.sh build tests demo
source tools/build.sh
cmake -S . -B build -DKDNA_BUILD_TESTS=ON -DKDNA_BUILD_EXAMPLES=ON -DKDNA_BUILD_BENCH=ON "-DKDNA_TEST_BATCH=$test_batch" \
    "-DKDNA_TEST_SKIP=headers;cuda" -DKDNA_LIBRARY=OFF
cmake --build build --parallel "$(parallel_jobs)"
export KDNA_TEST_SCALE=${KDNA_TEST_SCALE:-0.5}
ctest --test-dir build --parallel "$(parallel_jobs)" --output-on-failure --label-exclude 'cost|windows' "$@"
