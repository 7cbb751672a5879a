// What a backend is: it plans a convolution and runs it. Layers (nn/) and networks (models/) take one as a template
// parameter.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>

#include <kdna/conv/call.hpp>
#include <kdna/conv/problem.hpp>
#include <kdna/core/executor.hpp>

namespace kdna::inline KDNA_ABI {

/// A backend has no state; everything a call needs is in its plan, its workspace and the call itself.
///
///     plan                                             its decisions for one problem and input shape;
///                                                      members in, out, workspace_bytes
///     make_plan(problem, in, order, threads, where)    throws kdna::error where the shapes do not fit
///     run(plan, call, workspace, executor)             noexcept; allocates nothing
///     explain(problem, plan)                           one line for people
// clang-format off
template <class B>
concept conv_backend =
    requires(const conv::problem& q, const shape4& in, conv::input_order order, index_t threads, std::string_view where,
             const typename B::plan& p, const conv::call& c, std::byte* workspace, const executor_ref& executor) {
        { B::make_plan(q, in, order, threads, where) } -> std::same_as<typename B::plan>;
        { B::run(p, c, workspace, executor) } noexcept;
        { B::explain(q, p) } -> std::same_as<std::string>;
        { p.out } -> std::convertible_to<shape4>;
        { p.workspace_bytes } -> std::convertible_to<index_t>;
    };
// clang-format on

namespace cuda {
class gpu;
/// Layers and networks on devices of a type: what it gives them is in kdna/cuda/ (conv2d.hpp, network.hpp).
template <class Device>
struct on;
}  // namespace cuda

namespace backend {
/// A CUDA device. Files that name it are compiled by nvcc, include <kdna/cuda/cuda.hpp>, and link kdna::cuda.
using cuda = KDNA_ABI::cuda::on<KDNA_ABI::cuda::gpu>;
}  // namespace backend

/// A backend whose layers run on a device.
template <class B>
inline constexpr bool is_device_backend = false;
template <class Device>
inline constexpr bool is_device_backend<cuda::on<Device>> = true;
template <class B>
concept device_backend = is_device_backend<B>;

/// What a layer can be made for.
template <class B>
concept layer_backend = conv_backend<B> || device_backend<B>;

/// In class templates that kdna/cuda/ specialises for devices: stops where nobody has.
#define KDNA_REQUIRE_HOST_BACKEND(B)                                                                             \
    static_assert(KDNA_ABI::conv_backend<B>,                                                                     \
                  "kdna: backend::cuda needs CUDA in this file; configure with -DKDNA_ENABLE_CUDA=ON, link the " \
                  "target kdna::cuda, include <kdna/cuda/cuda.hpp>, and compile the file as CUDA (name it .cu)")

}  // namespace kdna::inline KDNA_ABI
