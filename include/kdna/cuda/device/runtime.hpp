// The CUDA runtime in the library's words: errors, streams. Needs the toolkit's headers, not its compiler.
#pragma once

#include <kdna/core/macros_push.hpp>

#if !defined(KDNA_CUDA)
#error \
    "kdna: this header needs CUDA. Configure kdna with -DKDNA_ENABLE_CUDA=ON (find_package(kdna COMPONENTS cuda) where it is installed), and link the target kdna::cuda"
#endif

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Throws kdna::error with the call and the error's name and text, unless it is cudaSuccess.
inline void check(cudaError_t status, std::string_view call) {
    if (status == cudaSuccess) return;
    static_cast<void>(cudaGetLastError());  // so that the next call does not report it again
    throw error(std::string(call), "cudaSuccess", concat(cudaGetErrorName(status), ": ", cudaGetErrorString(status)));
}

/// A stream of the caller's, which outlives the work in it.
struct stream_ref {
    cudaStream_t handle = nullptr;  ///< null: the default stream
};

/// The number of devices; 0 where there is no driver.
[[nodiscard]] inline int device_count() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) {
        static_cast<void>(cudaGetLastError());
        return 0;
    }
    check(status, "cudaGetDeviceCount");
    return count;
}

/// Makes a device the current one while this lives.
class current_device {
public:
    explicit current_device(int ordinal) {
        check(cudaGetDevice(&before_), "cudaGetDevice");
        if (before_ != ordinal) check(cudaSetDevice(ordinal), "cudaSetDevice");
    }
    current_device(const current_device&) = delete;
    current_device& operator=(const current_device&) = delete;
    // A destructor cannot report an error; the next call will.
    ~current_device() { static_cast<void>(cudaSetDevice(before_)); }

private:
    int before_ = 0;
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
