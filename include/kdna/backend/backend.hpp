// What a backend is: it plans a convolution and runs it. Layers (nn/) take one as a template parameter.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>

#include <kdna/conv/gemm_nest.hpp>

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

}  // namespace kdna::inline KDNA_ABI
