// The plan of a depthwise convolution on planes.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/conv/algorithm.hpp>
#include <kdna/conv/planes/layout.hpp>
#include <kdna/simd/lanes.hpp>

namespace kdna::inline KDNA_ABI::conv::planes {

/// Output rows of a register tile of two vectors of columns, and most rows of taps that it meets at a time, whose
/// weights are in registers too. A tile loads (rows + taps - 1) x 2 vectors for rows x taps x 2 multiply-adds.
inline constexpr index_t tile_rows = simd::registers >= 32 ? 6 : 4;
inline constexpr index_t tap_rows = 6;

/// A task is a block of output rows of one channel of one sample, whose input it copies first.
struct plan {
    index_t block_rows = 1, blocks = 1;  ///< blocks per channel
    plane_layout copy{};
    // Of each thread: the copy, one line before its columns are dealt out, an assembled panel, the channel's weights
    // [KH][KW], and where each column of taps reads [KW].
    index_t copy_at = 0, line_at = 0, assembled_panel_at = 0, weights_at = 0, columns_at = 0;
};

}  // namespace kdna::inline KDNA_ABI::conv::planes

#include <kdna/core/macros_pop.hpp>
