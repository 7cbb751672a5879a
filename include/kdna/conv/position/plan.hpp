// The plan of a convolution whose kernel differs from position to position. There is one way to run it, so it has no
// cost and is not in the list of algorithms.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string>
#include <string_view>

#include <kdna/conv/problem.hpp>
#include <kdna/conv/stage.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/dna/position_kernel.hpp>

namespace kdna::inline KDNA_ABI::conv::position {

/// The decisions for one input shape. Threads take runs of output rows, counted over all samples.
struct plan {
    shape4 in{}, out{};
    extent2 window{1, 1};
    index_t groups = 1;  ///< of channels that share weights
    weight_sharing sharing = weight_sharing::neighbours;
    index_t weights_pitch = 0;  ///< of interleaved weights: floats between those of one tap and of the next
    index_t threads = 1;
    bool stages = false;    ///< an input whose channels are not contiguous is copied
    stage_layout staged{};  ///< that copy
    // Workspace, offsets in bytes: shared, and then `threads` times `thread_bytes` from threads_at on.
    index_t zeros_at = 0, staged_at = 0, threads_at = 0;
    index_t neighbours_at = 0, weights_at = 0;  ///< of each thread: pointers [KH*KW], weights, see `weights_floats`
    index_t thread_bytes = 0, workspace_bytes = 0;

    /// Weights of one position lie [groups][KH*KW], or, where channels share them interleaved, [KH*KW][pitch]: the groups of a tap
    /// again and again, so that the weights of any vector of channels are contiguous.
    [[nodiscard]] index_t weights_floats() const noexcept {
        const index_t taps = window.h * window.w;
        return sharing == weight_sharing::neighbours ? taps * groups : taps * weights_pitch;
    }
};

/// Plans outputs `out` from inputs `in`, with weights of that shape. `where` names the layer in errors. Throws kdna::error where sizes do not fit.
[[nodiscard]] KDNA_FUNC_COLD plan make_plan(const shape4& in, const shape4& out, const given_position_weights& weights,
                                            input_order order, index_t threads, std::string_view where);

/// One line for people.
[[nodiscard]] KDNA_FUNC_COLD std::string explain(const plan& p);

}  // namespace kdna::inline KDNA_ABI::conv::position

#ifndef KDNA_COMPILED
#include <kdna/conv/position/plan.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
