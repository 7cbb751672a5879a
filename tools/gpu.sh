#!/usr/bin/env bash
# tools/gpu.sh [--sanitize] [--no-bench] [--no-torch] [BUILD FOLDER]: on a machine with a GPU, builds for it, runs all tests that need
# one, then the benchmarks, and says which bars they meet. Results are in <build folder>/results.
#
#   --sanitize   the tests again under compute-sanitizer: memcheck, racecheck, initcheck and synccheck
#   --no-bench   no benchmarks;  --no-torch  none of PyTorch
#
# cuDNN is used where it is found, PyTorch where python3 has it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sanitize=0 bench=1 torch=1 folder=build/gpu
for argument in "$@"; do
    case $argument in
        --sanitize) sanitize=1 ;;
        --no-bench) bench=0 ;;
        --no-torch) torch=0 ;;
        -*)
            sed -n '2,8p' "${BASH_SOURCE[0]}"
            exit 2
            ;;
        *) folder=$argument ;;
    esac
done

if ! command -v nvidia-smi > /dev/null || ! nvidia-smi -L | grep -q GPU; then
    echo "tools/gpu.sh: there is no GPU here" >&2
    exit 77
fi
source tools/build.sh
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)

# Configures; the first argument is the value of KDNA_CUDNN.
configure() {
    cmake -S . -B "$folder" -DCMAKE_BUILD_TYPE=Release -DKDNA_ENABLE_CUDA=ON -DKDNA_CUDNN="$1" \
        -DCMAKE_CUDA_ARCHITECTURES="$capability" -DKDNA_BUILD_EXAMPLES=OFF
}
configure ON || configure OFF
cmake --build "$folder" --parallel "$(parallel_jobs)" --target kdna_cuda_programs kdna_test_cuda

results=$folder/results
mkdir -p "$results"
{
    nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv
    git rev-parse HEAD 2> /dev/null || true
} | tee "$results/machine.txt"

failed=0
ctest --test-dir "$folder" --output-on-failure -L 'gpu|cuda_host' | tee "$results/tests.txt" || failed=1

if ((sanitize)); then
    # A part of the random cases: every access is instrumented.
    for tool in memcheck racecheck initcheck synccheck; do
        KDNA_TEST_SCALE=0.1 compute-sanitizer --tool "$tool" --error-exitcode 1 "$folder/tests/cuda/gpu/kdna_test_gpu" \
            '*formula*,*PyTorch*,*Plans*' > "$results/$tool.txt" 2>&1 && verdict=passed || { verdict=FAILED; failed=1; }
        echo "$tool: $verdict ($results/$tool.txt)"
    done
fi
if ((bench)); then
    "$folder/bench/cuda/cuda_bench" | tee "$results/kdna.txt" || failed=1
    if grep -q WRONG "$results/kdna.txt"; then failed=1; fi
    : > "$results/torch.txt"
    if ((torch)) && python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
        python3 bench/cuda/peer_torch.py | tee "$results/torch.txt" || failed=1
    fi
    python3 bench/cuda/verdict.py "$results"/{kdna,torch}.txt | tee "$results/verdict.md" || failed=1
fi
exit "$failed"
