#!/usr/bin/env bash
# tools/gpu.sh [--sanitize] [--quick] [--no-bench] [--no-torch] [BUILD FOLDER]: on a machine with a GPU, builds for it, runs all tests that need
# one, then the benchmarks, and says which bars they meet. Results are in <build folder>/results.
#
#   --sanitize   the tests again under compute-sanitizer: memcheck, racecheck, initcheck and synccheck
#   --quick      of the benchmarks only what the bars are about: minutes, where all of them take an hour
#   --no-bench   no benchmarks;  --no-torch  none of PyTorch
#
# cuDNN is used where it is found, PyTorch where python3 has it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sanitize=0 quick=0 bench=1 torch=1 folder=build/gpu
for argument in "$@"; do
    case $argument in
        --sanitize) sanitize=1 ;;
        --quick) quick=1 ;;
        --no-bench) bench=0 ;;
        --no-torch) torch=0 ;;
        -*)
            sed -n '2,10p' "${BASH_SOURCE[0]}"
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
# own ARGUMENTS..., peer ARGUMENTS...: a part of the benchmarks, added to the results.
own() { "$folder/bench/cuda/cuda_bench" "$@" | tee -a "$results/kdna.txt"; }
peer() {
    if ((torch)) && python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
        python3 bench/cuda/peer_torch.py "$@" | tee -a "$results/torch.txt"
    fi
}
if ((bench)); then
    : > "$results/kdna.txt"
    : > "$results/torch.txt"
    if ((quick)); then
        # Ours and theirs in turns, so that both meet the card in the same state.
        own networks --only resnet --batch 128 --numbers f16 || failed=1
        peer networks --only resnet --batch 128 --numbers f16 || failed=1
        own networks --batch 1 --numbers f16,tf32 || failed=1
        peer networks --batch 1 --numbers f16,tf32 --ways graph || failed=1
        own layers --children --batch 32,128 --numbers tf32,f16,bf16 || failed=1
    else
        own || failed=1
        peer || failed=1
    fi
    if grep -q WRONG "$results/kdna.txt"; then failed=1; fi
    python3 bench/cuda/verdict.py "$results"/{kdna,torch}.txt | tee "$results/verdict.md" || failed=1
fi
exit "$failed"
