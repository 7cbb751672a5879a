#!/usr/bin/env bash
# bench/peers/run.sh [options of peers.py]: builds the C++ side, measures, and makes docs/peers.png and the tables. About ten
# minutes on two processors, during which nothing else should run; with --quick about two, and nothing under bench/ or docs/
# is written then: results, plot and tables go to build/peers/.
#
#     sudo apt-get install libdnnl-dev (or: bash tools/setup.sh build peers)
#     python3 -m venv .venv && .venv/bin/pip install -r bench/peers/requirements.txt
#     PYTHON=.venv/bin/python bash bench/peers/run.sh
#
# ARCH=x86-64-v3 compiles ours for that instruction set and holds oneDNN to it; the other libraries have no such setting. Its
# results go to build/peers/ as well.
#
# What is not installed is left out, and the tables say so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/build.sh
source tools/build.sh
python=${PYTHON:-python3}

results=bench/peers/results.json
plot=docs/peers.png
for option in "$@"; do
    if [[ $option == --quick ]]; then
        results=build/peers/quick.json
        plot=build/peers/quick.png
    fi
done

if [[ -n ${ARCH:-} ]]; then
    results=build/peers/$ARCH.json
    plot=build/peers/$ARCH.png
    if [[ $ARCH == x86-64-v3 ]]; then export DNNL_MAX_CPU_ISA=AVX2 ONEDNN_MAX_CPU_ISA=AVX2; fi
fi

cmake -S . -B build/peers -DCMAKE_BUILD_TYPE=Release "-DKDNA_ARCH=${ARCH:-}" -DKDNA_BUILD_TESTS=OFF -DKDNA_BUILD_EXAMPLES=OFF
cmake --build build/peers --target kdna_bench_peers --parallel "$(parallel_jobs)"
"$python" bench/peers/peers.py --server build/peers/bench/peers/peers --out "$results" "$@"
"$python" bench/peers/report.py "$results" --plot "$plot" > build/peers/tables.md
cat build/peers/tables.md
echo "Tables: build/peers/tables.md, plot: $plot, results: $results"
