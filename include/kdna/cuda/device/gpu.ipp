// How a CUDA device runs the programs (gpu.hpp declares it): the block, the entry, and the launch.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/gpu.hpp>
#include <kdna/cuda/device/numbers.hpp>

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

// It stays a function of its own: files that see no definition call the one that another file has.
template <class Program>
__noinline__ void gpu::launch(const grid_size& grid, const typename Program::arguments& arguments, stream s) const {
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

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
