// What a device is to everything above it: memory, and programs in streams. gpu.hpp has one.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <concepts>
#include <functional>

#include <kdna/cuda/device/program.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// What a device gives:
///
///     multiprocessors()                        how many there are, for plans
///     allocate(bytes), release(p)              device memory, 256-byte aligned
///     upload, download (to, from, bytes, s)    ordered in stream s; return when the host memory may be used again
///     synchronize(s)                           waits for the stream
///     launch<Program>(grid, arguments, s)      asynchronous (program.hpp)
///     record(work)                             a callable (stream) that replays the launches of work(stream)
///
/// Optional: library_convolution and plan_plain(plain_convolution), for plain layers that a vendor's library runs
/// (vendor_library.hpp).
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

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
