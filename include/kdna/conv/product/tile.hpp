// The heights of register tiles, and how a number of rows is cut into tiles.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <array>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/config.hpp>
#include <kdna/simd/lanes.hpp>

namespace kdna::inline KDNA_ABI::conv::product {

/// Heights that are compiled, tallest first. The tallest fills the registers: two accumulators a row, two weights, one
/// broadcast. The others are for what a map leaves over; 14 and 7 divide the maps of the published networks.
inline constexpr std::array<int, 6> tile_heights =
    simd::registers >= 32 ? std::array<int, 6>{14, 8, 7, 4, 2, 1} : std::array<int, 6>{6, 5, 4, 3, 2, 1};
inline constexpr index_t max_tile_height = tile_heights.front();

/// Tallest tile whose rows may compete for one set of L1, which has this many ways: the weights that stream by need one
/// of them. Of few ways a lower tile would not make use, since it waits for its adds.
[[nodiscard]] inline index_t aligned_tile_height(index_t l1_ways) noexcept {
    for (const int h : tile_heights)
        if (h < l1_ways || h <= 4) return h;
    return 1;
}

/// This many tiles at the end of a map share what is left of it.
inline constexpr index_t shared_tiles = 3;

/// The height of the next tile of `rows` that are left: the tallest that fits, but for the last two or three tiles, which
/// are as even as the compiled heights allow if that takes no further tile. 16 rows are 8 + 8, not 14 + 2, and 13 rows are
/// 5 + 4 + 4, not 6 + 6 + 1: a tile of one or two rows waits for its adds. `tallest` is max_tile_height or an
/// aligned_tile_height.
[[nodiscard]] inline index_t tile_height_for(index_t rows, index_t tallest = max_tile_height) noexcept {
    const index_t tiles = ceil_div(rows, tallest);
    if (tiles >= 2 && tiles <= shared_tiles) {
        index_t even = tallest;
        for (const int h : tile_heights)  // the lowest that is enough comes last
            if (h * tiles >= rows) even = std::min<index_t>(h, tallest);
        return even;
    }
    for (const int h : tile_heights)
        if (h <= rows && h <= tallest) return h;
    return 1;
}

/// How many of `rows` make up the lower tiles at their end. Before them tiles begin at multiples of the tallest, so that a
/// part of the rows that begins at such a multiple, and not within the lower tiles, is cut as it is in the whole.
[[nodiscard]] inline index_t lower_tile_rows(index_t rows, index_t tallest) noexcept {
    index_t last = rows % tallest;
    for (index_t more = last + tallest; more <= rows && more < shared_tiles * tallest; more += tallest)
        if (tile_height_for(more, tallest) < tallest) last = more;
    return last;
}

}  // namespace kdna::inline KDNA_ABI::conv::product

#include <kdna/core/macros_pop.hpp>
