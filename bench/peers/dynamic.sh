#!/usr/bin/env bash
# bench/peers/dynamic.sh [options of dynamic.py]: builds the C++ side, measures dynamic layers and networks beside
# PyTorch, and writes build/peers/dynamic.json and the tables build/peers/dynamic.md. About five minutes after the build
# (--minutes), during which nothing else should run.
#
#     PYTHON=.venv/bin/python bash bench/peers/dynamic.sh          with numpy, safetensors and torch of requirements.txt
#
# Without PyTorch kdna is timed alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/build.sh
source tools/build.sh
python=${PYTHON:-python3}

cmake -S . -B build/peers -DCMAKE_BUILD_TYPE=Release -DKDNA_BUILD_TESTS=OFF -DKDNA_BUILD_EXAMPLES=OFF
cmake --build build/peers --target kdna_bench_peers --parallel "$(parallel_jobs)"
"$python" bench/peers/dynamic.py --server build/peers/bench/peers/peers --tables build/peers/dynamic.md "$@"
cat build/peers/dynamic.md
