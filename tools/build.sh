# Sourced by test.sh, demo.sh and .ci/run: how this repository is configured and built, with what the machine has.
if command -v ninja > /dev/null; then export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}; fi
if command -v ccache > /dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}; fi

# Unit tests of a folder are compiled as one file: each would compile the library anew, which takes most of the time.
test_batch=40

# Parallel jobs: the processors, but no more than there are 1.5 GiB of memory for.
parallel_jobs() {
    local processors memory
    processors=$(getconf _NPROCESSORS_ONLN 2> /dev/null || echo 2)
    memory=$(awk '/MemAvailable/ { print int($2 / 1572864) }' /proc/meminfo 2> /dev/null || true)
    if [[ -n $memory ]] && ((memory < processors)); then processors=$((memory < 1 ? 1 : memory)); fi
    echo "$processors"
}
