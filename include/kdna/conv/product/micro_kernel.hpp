// The register tile: some output pixels by one panel of filters.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>

#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/product/tile.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv::product {

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
    /// Weights that will be read soon, and how many floats of them to prefetch into L2 for every step of the depth: the
    /// tiles of a block prefetch the next panel together, at an even pace, while they use this one.
    const float* ahead = nullptr;
    index_t ahead_step = 0;
    index_t skip = 0;  ///< floats at the beginning of each row that are left out
};

namespace detail {

/// One step of the depth: acc[r][j] += row[r][k] * w[j].
template <int Rows, int Vectors>
KDNA_INLINE void multiply_step(simd::vec (&acc)[Rows][Vectors], const float* const (&row)[Rows], const float* w,
                               index_t k) noexcept {
    simd::vec b[Vectors];
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) b[j] = simd::load(w + j * simd::lanes);
    KDNA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        const simd::vec a = simd::broadcast(row[r][k]);
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) acc[r][j] = simd::multiply_add(a, b[j], acc[r][j]);
    }
}

/// acc[r][j] = sum over depth of row `first` + r times the panel's vector j.
///
/// Two steps a turn where the tile fills the registers: there g++ 12 keeps some row pointers on the stack, and reading
/// them once a step costs 4 % (14 x 32, Zen 4); smaller tiles gain nothing.
template <int Rows, int Vectors>
KDNA_INLINE void multiply_rows(simd::vec (&acc)[Rows][Vectors], const tile_input& in, index_t height,
                               index_t first) noexcept {
    constexpr index_t width = Vectors * simd::lanes;
    KDNA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) acc[r][j] = simd::zero();
    }
    const float* ahead = in.ahead;
    for (index_t t = 0; t < in.runs; ++t) {
        const float* row[Rows];
        KDNA_UNROLL
        for (int r = 0; r < Rows; ++r) row[r] = in.rows[t * height + first + r] + in.skip;
        const float* w = in.panel + in.depth[t] * width;
        index_t k = 0;
        if constexpr (Rows * Vectors > 24) {
            for (; k + 2 <= in.run; k += 2, w += 2 * width, ahead += 2 * in.ahead_step) {
                simd::prefetch(ahead);
                multiply_step(acc, row, w, k);
                simd::prefetch(ahead + in.ahead_step);
                multiply_step(acc, row, w + width, k + 1);
            }
        }
        for (; k < in.run; ++k, w += width, ahead += in.ahead_step) {
            simd::prefetch(ahead);
            multiply_step(acc, row, w, k);
        }
        if (in.factors != nullptr) {
            const simd::vec factor = simd::broadcast(in.factors[t]);
            KDNA_UNROLL
            for (int r = 0; r < Rows; ++r) {
                KDNA_UNROLL
                for (int j = 0; j < Vectors; ++j) acc[r][j] = acc[r][j] * factor;
            }
        }
    }
}

/// Rows [first, first + Rows) of a tile: multiplied, finished in registers, stored.
template <int Rows, int Vectors>
KDNA_INLINE void tile_rows(const tile_input& in, index_t height, index_t first, const tile_output& out) noexcept {
    simd::vec acc[Rows][Vectors];
    multiply_rows(acc, in, height, first);
    if (out.sums != nullptr || !whole_vectors(out, Vectors)) {
        alignas(alignment) float tile[Rows * Vectors * simd::lanes];
        float* to = out.sums != nullptr ? out.sums + first * Vectors * simd::lanes : tile;
        KDNA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j) {
                float* const at = to + (r * Vectors + j) * simd::lanes;
                simd::store(at, out.add_to_sums ? acc[r][j] + simd::load(at) : acc[r][j]);
            }
        }
        if (out.sums == nullptr) finish_strided(tile, Rows, Vectors, first, out);
        return;
    }
    const clamp_range range = range_of(out.act);
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) {
        const index_t filter = out.first + j * simd::lanes;
        const finisher finish(out.scale + filter, out.shift + filter, range);
        simd::vec sum = simd::zero();
        if (out.residual == nullptr) {
            KDNA_UNROLL
            for (int r = 0; r < Rows; ++r) sum = sum + finish(acc[r][j], out.y[first + r] + filter);
        } else {
            KDNA_UNROLL
            for (int r = 0; r < Rows; ++r)
                sum = sum + finish(acc[r][j], simd::load(out.residual[first + r] + filter), out.y[first + r] + filter);
        }
        if (out.column_sums != nullptr) add_to(out.column_sums + filter, sum, simd::lanes);
    }
}

/// Half of a tall tile of one vector, or a tile of seven rows; out of line, since both need it.
KDNA_NOINLINE void seven_rows(const tile_input& in, index_t height, index_t first, const tile_output& out) noexcept {
    tile_rows<7, 1>(in, height, first, out);
}

}  // namespace detail

/// One tile: `Height` pixels by `Vectors` vectors of filters. Filters lie in the vectors and pixels are broadcast, so
/// that maps of 7x7 and 14x14 waste no lanes.
template <int Height, int Vectors>
void micro_kernel(const tile_input& in, const tile_output& out) noexcept {
    // A tall tile of one vector has more row pointers than accumulators are worth: as two halves it is 15 % faster (g++
    // 12).
    if constexpr (Vectors == 1 && (Height == 14 || Height == 7)) {
        for (index_t first = 0; first < Height; first += 7) detail::seven_rows(in, Height, first, out);
    } else {
        detail::tile_rows<Height, Vectors>(in, Height, 0, out);
    }
}

using micro_kernel_fn = void (*)(const tile_input&, const tile_output&) noexcept;

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

}  // namespace kdna::inline KDNA_ABI::conv::product

#include <kdna/core/macros_pop.hpp>
