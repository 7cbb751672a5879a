// The heights of register tiles, and how a number of rows is cut into tiles.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>

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

/// The height of the next tile of `rows` that are left: the tallest that fits, unless a tallest tile would leave a
/// remnant that two tiles of the second height take with it (16 rows are 8 + 8, not 14 + 2: a tile of two rows waits
/// for its adds). `tallest` is max_tile_height or an aligned_tile_height.
[[nodiscard]] inline index_t tile_height_for(index_t rows, index_t tallest = max_tile_height) noexcept {
    if (tallest == max_tile_height && rows > tile_heights[0] && rows <= 2 * tile_heights[1]) return tile_heights[1];
    for (const int h : tile_heights)
        if (h <= rows && h <= tallest) return h;
    return 1;
}

}  // namespace kdna::inline KDNA_ABI::conv::product

#include <kdna/core/macros_pop.hpp>
