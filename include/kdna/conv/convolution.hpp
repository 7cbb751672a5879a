// The face of conv/: makes the plan of a convolution, runs it, and says what was decided.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/conv/call.hpp>
#include <kdna/conv/plan.hpp>
#include <kdna/conv/problem.hpp>
#include <kdna/core/executor.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Plans a convolution of inputs [N, C, H, W] of shape `in` by the way that is expected to be fastest, for `threads`
/// threads, and prepares its kernel. `where` names the layer in errors. Throws kdna::error where the shapes do not fit.
[[nodiscard]] KDNA_FUNC_COLD plan make_plan(const problem& q, const shape4& in, input_order order, index_t threads,
                                            std::string_view where);

/// A plan for each way in which the problem can be run, whatever it is expected to cost (plan::predicted_cycles); never
/// empty. Throws as make_plan. Their kernels are not prepared yet: call `prepare` before `run`.
[[nodiscard]] KDNA_FUNC_COLD std::vector<plan> candidates(const problem& q, const shape4& in, input_order order,
                                                          index_t threads, std::string_view where);

/// Prepares a candidate's kernel, if its algorithm has one, or takes it from problem::prepared. Throws kdna::error, which begins with
/// `where`, if that cannot be stored in problem::prepared_format.
KDNA_FUNC_COLD void prepare(const problem& q, plan& p, std::string_view where = "convolution");

/// Runs a plan on one call. `workspace` has plan::workspace_bytes bytes, 64-byte aligned. Allocates nothing.
KDNA_FUNC void run(const plan& p, const call& c, std::byte* workspace, const executor_ref& executor) noexcept;

/// One line for people: the algorithm and its tiles, where each factor is applied, tasks, threads, workspace.
[[nodiscard]] KDNA_FUNC_COLD std::string explain(const problem& q, const plan& p);

/// The rows of a call's band must begin at, and be, multiples of this, the map's last row excepted; 0: only whole maps.
[[nodiscard]] KDNA_FUNC_COLD index_t row_multiple(const plan& p) noexcept;

/// Bytes of the kernel that was prepared for the plan and is kept with the layer; 0 for none.
[[nodiscard]] KDNA_FUNC_COLD index_t prepared_bytes(const plan& p) noexcept;

}  // namespace kdna::inline KDNA_ABI::conv

#ifndef KDNA_COMPILED
#include <kdna/conv/convolution.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
