// The register tile: some output pixels by one panel of filters.
#pragma once

#include <array>

#include <kdna/conv/epilogue.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Rows of input times a panel of weights.
///
/// The depth K of the product is cut into `runs` of `run` consecutive floats: one run per tap where rows are read straight
/// from a channels-last input, a single one where they were packed. Row r of run t starts at rows[t * height + r]; its
/// weights start at depth `depth[t]` of the panel.
struct tile_input {
    const float* const* rows;
    const index_t* depth;
    index_t runs;
    index_t run;
    const float* panel;
};

/// Heights that are compiled, tallest first. The tallest fills the registers: two accumulators a row, two weights, one
/// broadcast. The others are for what a map leaves over; 14 and 7 divide the maps of the published networks.
inline constexpr std::array<int, 5> tile_heights =
    simd::registers >= 32 ? std::array<int, 5>{14, 7, 4, 2, 1} : std::array<int, 5>{6, 4, 3, 2, 1};
inline constexpr index_t max_tile_height = tile_heights.front();

/// acc[r][j] = sum over depth of row r times the panel's vector j, finished by the epilogue. Filters lie in the vectors and
/// pixels are broadcast, so that maps of 7x7 and 14x14 waste no lanes.
template <int Height, int Vectors>
void micro_kernel(const tile_input& in, const tile_output& out) noexcept {
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
    }
    alignas(alignment) float tile[Height * Vectors * simd::lanes];
    KDNA_UNROLL
    for (int r = 0; r < Height; ++r) {
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) simd::store(tile + (r * Vectors + j) * simd::lanes, acc[r][j]);
    }
    finish_tile(tile, Height, Vectors, out);
}

using micro_kernel_fn = void (*)(const tile_input&, const tile_output&) noexcept;

/// The micro-kernel for a compiled height and a panel of one or two vectors.
[[nodiscard]] inline micro_kernel_fn micro_kernel_for(index_t height, index_t vectors) noexcept {
    constexpr auto& h = tile_heights;
    static constexpr std::array<std::array<micro_kernel_fn, 2>, 5> table{{{&micro_kernel<h[0], 1>, &micro_kernel<h[0], 2>},
                                                                          {&micro_kernel<h[1], 1>, &micro_kernel<h[1], 2>},
                                                                          {&micro_kernel<h[2], 1>, &micro_kernel<h[2], 2>},
                                                                          {&micro_kernel<h[3], 1>, &micro_kernel<h[3], 2>},
                                                                          {&micro_kernel<h[4], 1>, &micro_kernel<h[4], 2>}}};
    std::size_t i = 0;
    while (h[i] != height) ++i;
    return table[i][vectors == 1 ? 0 : 1];
}

/// The tallest compiled height that is at most `pixels`.
[[nodiscard]] inline index_t tile_height_for(index_t pixels) noexcept {
    for (const int h : tile_heights)
        if (h <= pixels) return h;
    return 1;
}

}  // namespace kdna::inline KDNA_ABI::conv
