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
#include <kdna/cuda/device/numbers.hpp>
#include <kdna/cuda/device/program.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// The block that a program works with (program.hpp), on a GPU: every thread runs the program.
template <class Registers>
class gpu_block {
public:
    __device__ __forceinline__ gpu_block(unsigned char* shared, Registers& registers)
        : x(static_cast<int>(blockIdx.x)),
          y(static_cast<int>(blockIdx.y)),
          z(static_cast<int>(blockIdx.z)),
          shared_(shared),
          registers_(registers) {}

    const int x, y, z;

    template <class F>
    __device__ __forceinline__ void parallel(F&& f) {
        f(thread(), registers_);
    }
    template <class Multiply, class Operands>
    __device__ __forceinline__ void multiply(Operands&& operands) {
        auto& r = operands(registers_);
        constexpr int down = sizeof(r.a) / sizeof(r.a[0]), across = 2 * sizeof(r.b) / sizeof(r.b[0]);
#pragma unroll
        for (int i = 0; i < down; ++i) {
#pragma unroll
            for (int j = 0; j < across; ++j) Multiply::issue(r.sums[i][j], r.a[i], r.b[j / 2] + 2 * (j % 2));
        }
    }
    template <int Count, class At, class Take>
    __device__ __forceinline__ void load_matrices(At&& at, Take&& take) {
#pragma unroll
        for (int i = 0; i < Count; ++i) {
            std::uint32_t words[4];
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                         : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                         : "r"(shared_address(at(thread(), i)))
                         : "memory");
            take(registers_, i, words);
        }
    }
    __device__ __forceinline__ void sync() { __syncthreads(); }

    template <class T, int N = 1>
    __device__ __forceinline__ pack<T, N> load(int, int at) const {
        return *reinterpret_cast<const pack<T, N>*>(shared_ + at);
    }
    template <class T, int N>
    __device__ __forceinline__ void store(int, int at, const pack<T, N>& v) {
        *reinterpret_cast<pack<T, N>*>(shared_ + at) = v;
    }
    template <int Bytes>
    __device__ __forceinline__ void copy_async(int, int at, const void* from, bool valid) {
        // An invalid copy reads no bytes and writes zeros. Only copies of 16 bytes can bypass L1.
        if constexpr (Bytes == 16)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                         :
                         : "r"(shared_address(at)), "l"(from), "r"(valid ? 16 : 0)
                         : "memory");
        else
            asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;"
                         :
                         : "r"(shared_address(at)), "l"(from), "r"(valid ? Bytes : 0), "n"(Bytes)
                         : "memory");
    }
    __device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
    template <int N>
    __device__ __forceinline__ void wait() {
        asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
    }

private:
    /// Without the assumption, the compiler divides by powers of two as if the number could be negative: five
    /// instructions instead of one, in every iteration of a loop.
    __device__ __forceinline__ static int thread() {
        const unsigned t = threadIdx.x;
        __builtin_assume(t < 1024U);
        return static_cast<int>(t);
    }
    __device__ __forceinline__ unsigned shared_address(int at) const {
        return static_cast<unsigned>(__cvta_generic_to_shared(shared_ + at));
    }

    unsigned char* shared_;
    Registers& registers_;
};

template <class Program>
__global__ void __launch_bounds__(Program::threads)
    program_entry(const __grid_constant__ typename Program::arguments a) {
    extern __shared__ __align__(16) unsigned char shared[];
    typename Program::registers registers;
    gpu_block<typename Program::registers> block(shared, registers);
    Program::run(block, a);
}

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

    template <class Program>
    void launch(const grid_size& grid, const typename Program::arguments& arguments, stream s) const {
        check_grid<Program>(grid);
        const current_device here(ordinal_);
        const int bytes = Program::shared_bytes(arguments);
        if (bytes > 48 * 1024)  // more is an opt-in
            check(cudaFuncSetAttribute(program_entry<Program>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                  concat("cudaFuncSetAttribute of ", Program::name, " for ", bytes, " bytes of shared memory"));
        const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z));
        program_entry<Program><<<blocks, Program::threads, static_cast<std::size_t>(bytes), s.handle>>>(arguments);
        check(cudaGetLastError(), concat("launch of ", Program::name));
    }

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

#include <kdna/core/macros_pop.hpp>
