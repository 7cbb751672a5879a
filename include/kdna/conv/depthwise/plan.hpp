// The plan of a depthwise convolution with channels in the vectors.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/conv/algorithm.hpp>

namespace kdna::inline KDNA_ABI::conv::depthwise {

/// A task is a block of output rows of one sample, all channels.
struct plan {
    index_t block_rows = 1;
    // Of each thread.
    index_t assembled_panel_at = 0, modulated_panel_at = 0;
};

/// Whether rows of outputs can slide, which is compiled for 3, 5 and 7 columns of taps: each input vector then is loaded
/// once for all outputs of its row.
[[nodiscard]] inline bool slides_over(const kernel_shape& k, const conv_params& params) noexcept {
    return k.kw >= 3 && k.kw <= 7 && k.kw % 2 == 1 && k.kh <= k.kw && params.stride.w <= 2 && params.dilation.w == 1;
}

}  // namespace kdna::inline KDNA_ABI::conv::depthwise

#include <kdna/core/macros_pop.hpp>
