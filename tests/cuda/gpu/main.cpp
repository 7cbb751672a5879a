// The main function of the tests that need a GPU: without one, or with one that is too old, they are skipped.
#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include <kdna/cuda/device/runtime.hpp>

#include "support/catch.hpp"

int main(int argc, char** argv) {
    if (kdna::cuda::device_count() == 0) {
        std::puts("skipped: there is no CUDA device");
        return 77;
    }
    return Catch::Session().run(argc, argv);
}
