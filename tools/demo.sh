#!/usr/bin/env bash
# tools/demo.sh [CLASSIFY ARGUMENTS...]: installs what is missing, builds the example `classify` in build/, and runs it: a
# trained KernelDNA network and its plain twin on the Fashion-MNIST test images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash tools/setup.sh build demo
source tools/build.sh
if [[ -e build/CMakeCache.txt ]]; then
    cmake -S . -B build -DKDNA_BUILD_EXAMPLES=ON
else
    cmake -S . -B build -DKDNA_BUILD_EXAMPLES=ON -DKDNA_BUILD_TESTS=OFF -DKDNA_BUILD_BENCH=OFF
fi
cmake --build build --parallel "$(parallel_jobs)" --target kdna_example_classify
build/examples/classify "$@"
