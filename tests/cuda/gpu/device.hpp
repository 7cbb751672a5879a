// A GPU, and streams.
#pragma once

#include <kdna/cuda/cuda.hpp>

namespace kdna_test {

/// A stream of its own.
class test_stream {
public:
    test_stream() { kdna::cuda::check(cudaStreamCreate(&handle_), "cudaStreamCreate"); }
    test_stream(const test_stream&) = delete;
    test_stream& operator=(const test_stream&) = delete;
    ~test_stream() { static_cast<void>(cudaStreamDestroy(handle_)); }
    [[nodiscard]] kdna::cuda::stream_ref ref() const { return {handle_}; }

private:
    cudaStream_t handle_ = nullptr;
};

}  // namespace kdna_test
