#!/usr/bin/env bash
# tools/test.sh [CTEST ARGUMENTS...]: installs what is missing, builds everything in build/, and runs all tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash tools/setup.sh build tests demo
source tools/build.sh
# Each header on its own takes minutes to compile, which is left to .ci/run.
cmake -S . -B build -DKDNA_BUILD_TESTS=ON -DKDNA_BUILD_EXAMPLES=ON -DKDNA_BUILD_BENCH=ON "-DKDNA_TEST_BATCH=$test_batch" \
    -DKDNA_TEST_SKIP=headers
cmake --build build --parallel "$(parallel_jobs)"
ctest --test-dir build --parallel "$(parallel_jobs)" --output-on-failure "$@"
