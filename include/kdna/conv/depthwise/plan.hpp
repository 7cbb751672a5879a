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

}  // namespace kdna::inline KDNA_ABI::conv::depthwise

#include <kdna/core/macros_pop.hpp>
