// The plan of a convolution whose kernel differs from position to position. There is one way to run it, so it has no
// cost and is not in the list of algorithms.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string>
#include <string_view>

#include <kdna/conv/problem.hpp>
#include <kdna/conv/stage.hpp>
#include <kdna/core/shape.hpp>

namespace kdna::inline KDNA_ABI::conv::position {

/// The decisions for one input shape. Threads take runs of output rows, counted over all samples.
struct plan {
    shape4 in{}, out{};
    extent2 window{1, 1};
    index_t groups = 1;  ///< of channels that share weights
    index_t threads = 1;
    bool stages = false;    ///< an input whose channels are not contiguous is copied
    stage_layout staged{};  ///< that copy
    // Workspace, offsets in bytes: shared, and then `threads` times `thread_bytes` from threads_at on.
    index_t zeros_at = 0, staged_at = 0, threads_at = 0;
    index_t neighbours_at = 0, weights_at = 0;  ///< of each thread: pointers [KH*KW], weights [groups][KH*KW]
    index_t thread_bytes = 0, workspace_bytes = 0;
};

/// Plans outputs `out` from inputs `in`. `where` names the layer in errors. Throws kdna::error where sizes do not fit.
[[nodiscard]] KDNA_FUNC_COLD plan make_plan(const shape4& in, const shape4& out, const extent2& window, index_t groups,
                                            input_order order, index_t threads, std::string_view where);

/// One line for people.
[[nodiscard]] KDNA_FUNC_COLD std::string explain(const plan& p);

}  // namespace kdna::inline KDNA_ABI::conv::position

#ifndef KDNA_COMPILED
#include <kdna/conv/position/plan.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
