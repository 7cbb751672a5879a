// What a device is to everything above it: memory, and kernels in streams. gpu.hpp has one, emulator.hpp another.
#pragma once

#include <concepts>
#include <functional>

#include <kdna/core/shape.hpp>
#include <kdna/cuda/device/numbers.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Blocks of a launch along the three axes.
struct grid_size {
    int x = 1, y = 1, z = 1;
};

/// A layer that a library of the device's vendor can run as well: y = act( scale * conv(x, w) + shift + residual ), w [O][KH][KW][C],
/// all dense and channels last.
struct plain_convolution {
    precision numbers = precision::f32;
    shape4 in{}, out{};
    kernel_shape kernel{};
    conv_params params{};
    bool residual = false;
    device_activation act = device_activation::none;
};
/// Its tensors in device memory; `scale` and `shift` float32 [O].
struct plain_convolution_call {
    const void *x = nullptr, *w = nullptr;
    void* y = nullptr;
    const void* residual = nullptr;
    const float *scale = nullptr, *shift = nullptr;
    void* scratch = nullptr;
    friend bool operator==(const plain_convolution_call&, const plain_convolution_call&) = default;
};

/// What a device gives:
///
///     multiprocessors()                        how many there are, for plans
///     allocate(bytes), release(p)              device memory, 256-byte aligned
///     upload, download (to, from, bytes, s)    ordered in stream s; return when the host memory may be used again
///     synchronize(s)                           waits for the stream
///     launch<Kernel>(grid, arguments, s)       asynchronous
///     record(work)                             a callable (stream) that replays the launches of work(stream) (a CUDA graph)
///
/// where a kernel is a type:
///
///     name                      for messages
///     threads                   per block, a multiple of 32
///     arguments                 trivially copyable, at most 4 KiB
///     registers                 what a thread keeps from one part of the program to the next
///     shared_bytes(arguments)   of dynamic shared memory
///     run(block, arguments)     the program of one block, over emulated_block or gpu_block
///
/// Optional: library_convolution and plan_plain(plain_convolution), for plain layers that a vendor's library runs (cudnn.hpp).
// clang-format off
template <class D>
concept device_api = requires(D& d, void* p, const void* from, index_t bytes, typename D::stream s,
                              std::function<void(typename D::stream)> work) {
    { d.multiprocessors() } -> std::convertible_to<int>;
    { d.allocate(bytes) } -> std::same_as<void*>;
    d.release(p);
    d.upload(p, from, bytes, s);
    d.download(p, from, bytes, s);
    d.synchronize(s);
    { d.record(work) } -> std::same_as<typename D::recording>;
};
// clang-format on

/// Throws kdna::error for grids that no device takes.
template <class Kernel>
void check_grid(const grid_size& g) {
    if (g.x < 1 || g.y < 1 || g.z < 1 || g.y > 65535 || g.z > 65535)
        throw error(Kernel::name, "a grid of at least one block, and at most 65535 along its second and third axis",
                    concat(g.x, " x ", g.y, " x ", g.z));
}

}  // namespace kdna::inline KDNA_ABI::cuda
