// A CUDA device: runs the programs. Files that include this are compiled by nvcc.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/runtime.hpp>

#if !defined(__CUDACC__)
#error \
    "kdna: <kdna/cuda/device/gpu.hpp> has device functions in it; compile the file as CUDA (name it .cu, or set its LANGUAGE to CUDA)"
#endif

#include <functional>
#include <memory>
#include <utility>

#include <kdna/cuda/device/device.hpp>
#include <kdna/cuda/device/program.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// A CUDA device by its ordinal. Models device_api (device.hpp); its errors are kdna::error with the CUDA call and its
/// text. Launches do not wait: an error inside a program is reported by a later call.
class gpu {
public:
    using stream = stream_ref;

    explicit gpu(int ordinal = 0) : ordinal_(ordinal) {
        int major = 0;
        check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal), "cudaDeviceGetAttribute");
        if (major < 8) throw error(concat("device ", ordinal), "compute capability 8.0 or later", concat(major, ".x"));
        check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, ordinal),
              "cudaDeviceGetAttribute");
    }

    [[nodiscard]] int ordinal() const noexcept { return ordinal_; }
    [[nodiscard]] int multiprocessors() const noexcept { return multiprocessors_; }

    [[nodiscard]] void* allocate(index_t bytes) const {
        const current_device here(ordinal_);
        void* p = nullptr;
        check(cudaMalloc(&p, static_cast<std::size_t>(bytes)), concat("cudaMalloc of ", bytes, " bytes"));
        return p;
    }
    static void release(void* p) noexcept { static_cast<void>(cudaFree(p)); }
    static void upload(void* to, const void* from, index_t bytes, stream s) {
        check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, s.handle),
              "cudaMemcpyAsync");
        synchronize(s);
    }
    static void download(void* to, const void* from, index_t bytes, stream s) {
        check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, s.handle),
              "cudaMemcpyAsync");
        synchronize(s);
    }
    static void synchronize(stream s) { check(cudaStreamSynchronize(s.handle), "cudaStreamSynchronize"); }

    /// Starts a program (program.hpp): one thread block for each cell of the grid.
    template <class Program>
    void launch(const grid_size& grid, const typename Program::arguments& arguments, stream s) const;

    /// A CUDA graph.
    class recording {
    public:
        recording() = default;
        void operator()(stream s) const { check(cudaGraphLaunch(graph_.get(), s.handle), "cudaGraphLaunch"); }

    private:
        friend class gpu;
        std::shared_ptr<CUgraphExec_st> graph_{};
    };
    /// Runs `work` once in a stream, waits for it, and then records its launches as a graph. It runs first because
    /// device functions are loaded by their first launch, which may break a recording.
    [[nodiscard]] recording record(const std::function<void(stream)>& work) const {
        const current_device here(ordinal_);
        cudaStream_t handle = nullptr;
        check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
        const std::shared_ptr<CUstream_st> owner(handle,
                                                 [](cudaStream_t h) { static_cast<void>(cudaStreamDestroy(h)); });
        work({handle});
        synchronize({handle});
        // Of this thread only: others may allocate and copy meanwhile.
        check(cudaStreamBeginCapture(handle, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
        cudaGraph_t captured = nullptr;
        try {
            work({handle});
        } catch (...) {
            static_cast<void>(cudaStreamEndCapture(handle, &captured));
            if (captured != nullptr) static_cast<void>(cudaGraphDestroy(captured));
            throw;
        }
        check(cudaStreamEndCapture(handle, &captured), "cudaStreamEndCapture");
        const std::shared_ptr<CUgraph_st> graph(captured,
                                                [](cudaGraph_t g) { static_cast<void>(cudaGraphDestroy(g)); });
        cudaGraphExec_t executable = nullptr;
        check(cudaGraphInstantiate(&executable, captured, 0), "cudaGraphInstantiate");
        recording r;
        r.graph_ = {executable, [](cudaGraphExec_t e) { static_cast<void>(cudaGraphExecDestroy(e)); }};
        return r;
    }

private:
    int ordinal_;
    int multiprocessors_ = 1;
};
static_assert(device_api<gpu>);

}  // namespace kdna::inline KDNA_ABI::cuda

// With KDNA_CUDA_COMPILED, files call the programs of kdna::cuda_compiled (src/cuda.cu), which each file would compile anew.
#ifndef KDNA_CUDA_COMPILED
#include <kdna/cuda/device/gpu.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
