// The register tile: some output pixels by one panel of filters.
#pragma once

#include <array>

#include <kdna/conv/epilogue.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Rows of input times a panel of weights.
///
/// The depth K of the product is cut into `runs` of `run` consecutive floats: one run per tap or per kernel row where
/// rows are read in place, a single one where they were packed. Row r of run t starts at rows[t * height + r]; its
/// weights start at depth `depth[t]` of the panel.
struct tile_input {
    const float* const* rows;
    const index_t* depth;
    index_t runs;
    index_t run;
    const float* panel;
    const float* factors;  ///< [runs], multiplied into the accumulators after each run; null: ones
};

/// Heights that are compiled, tallest first. The tallest fills the registers: two accumulators a row, two weights, one
/// broadcast. The others are for what a map leaves over; 14 and 7 divide the maps of the published networks.
inline constexpr std::array<int, 6> tile_heights =
    simd::registers >= 32 ? std::array<int, 6>{14, 8, 7, 4, 2, 1} : std::array<int, 6>{6, 5, 4, 3, 2, 1};
inline constexpr index_t max_tile_height = tile_heights.front();

/// tile[r][j] = sum over depth of row r times the panel's vector j. Filters lie in the vectors and pixels are broadcast, so
/// that maps of 7x7 and 14x14 waste no lanes.
template <int Height, int Vectors>
void micro_kernel(const tile_input& in, float* tile) noexcept {
    simd::vec acc[Height][Vectors];
    KDNA_UNROLL
    for (int r = 0; r < Height; ++r) {
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) acc[r][j] = simd::zero();
    }
    for (index_t t = 0; t < in.runs; ++t) {
        const float* row[Height];
        KDNA_UNROLL
        for (int r = 0; r < Height; ++r) row[r] = in.rows[t * Height + r];
        const float* w = in.panel + in.depth[t] * (Vectors * simd::lanes);
        for (index_t k = 0; k < in.run; ++k, w += Vectors * simd::lanes) {
            simd::vec b[Vectors];
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j) b[j] = simd::load(w + j * simd::lanes);
            KDNA_UNROLL
            for (int r = 0; r < Height; ++r) {
                const simd::vec a = simd::broadcast(row[r][k]);
                KDNA_UNROLL
                for (int j = 0; j < Vectors; ++j) acc[r][j] = simd::multiply_add(a, b[j], acc[r][j]);
            }
        }
        if (in.factors != nullptr) {
            const simd::vec factor = simd::broadcast(in.factors[t]);
            KDNA_UNROLL
            for (int r = 0; r < Height; ++r) {
                KDNA_UNROLL
                for (int j = 0; j < Vectors; ++j) acc[r][j] = acc[r][j] * factor;
            }
        }
    }
    KDNA_UNROLL
    for (int r = 0; r < Height; ++r) {
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) simd::store(tile + (r * Vectors + j) * simd::lanes, acc[r][j]);
    }
}

using micro_kernel_fn = void (*)(const tile_input&, float* tile) noexcept;

/// Floats of the largest tile.
inline constexpr index_t max_tile_floats = tile_heights.front() * 2 * simd::lanes;

/// The micro-kernel for a compiled height and a panel of one or two vectors.
[[nodiscard]] inline micro_kernel_fn micro_kernel_for(index_t height, index_t vectors) noexcept {
    constexpr auto& h = tile_heights;
    static constexpr std::array<std::array<micro_kernel_fn, 2>, 6> table{
        {{&micro_kernel<h[0], 1>, &micro_kernel<h[0], 2>},
         {&micro_kernel<h[1], 1>, &micro_kernel<h[1], 2>},
         {&micro_kernel<h[2], 1>, &micro_kernel<h[2], 2>},
         {&micro_kernel<h[3], 1>, &micro_kernel<h[3], 2>},
         {&micro_kernel<h[4], 1>, &micro_kernel<h[4], 2>},
         {&micro_kernel<h[5], 1>, &micro_kernel<h[5], 2>}}};
    std::size_t i = 0;
    while (h[i] != height) ++i;
    return table[i][vectors == 1 ? 0 : 1];
}

/// The height of the next tile of `rows` that are left: the tallest that fits, unless a tallest tile would leave a remnant
/// that two tiles of the second height take with it (16 rows are 8 + 8, not 14 + 2: a tile of two rows waits for its adds).
[[nodiscard]] inline index_t tile_height_for(index_t rows) noexcept {
    if (rows > tile_heights[0] && rows <= 2 * tile_heights[1]) return tile_heights[1];
    for (const int h : tile_heights)
        if (h <= rows) return h;
    return 1;
}

}  // namespace kdna::inline KDNA_ABI::conv
