// What a backend is: it plans a convolution and runs it. Layers (nn/) and networks (models/) take one as a template
// parameter.
#pragma once

#include <kdna/core/macros_push.hpp>

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

namespace backend {
/// The backend of the devices of a type. The leaf that has the devices specialises the layers and network_on for it.
template <class Device>
struct on {
    static constexpr bool on_device = true;
    using device = Device;
};
}  // namespace backend

/// A backend whose layers run on a device.
template <class B>
concept device_backend = requires {
    requires B::on_device;
};

/// What a layer can be made for.
template <class B>
concept layer_backend = conv_backend<B> || device_backend<B>;

/// What class templates require that run on the host, and that leaves specialise for devices. An umbrella that declares
/// a device without its leaf specialises this as well, to say what to include (kdna.hpp).
template <layer_backend B>
struct host_backend_required {
    static_assert(conv_backend<B>,
                  "kdna: layers of this backend run on a device; include the header of the leaf that has them");
};
#define KDNA_REQUIRE_HOST_BACKEND(B) static_assert(sizeof(KDNA_ABI::host_backend_required<B>) > 0)

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
