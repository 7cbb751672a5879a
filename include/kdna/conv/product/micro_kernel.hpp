// The register tile: some output pixels by one panel of filters.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <cstddef>
#include <span>

#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/product/tile.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv::product {

/// The rows of a register tile, ready to be multiplied by any panel, and where the products go.
///
/// The depth K of the product is cut into `runs` of equally many consecutive floats: one run per tap or per kernel row
/// where rows are read in place, a single one where they were packed. Row r of run t starts at rows[t * height + r]; its
/// weights start at depth `depth[t]` of the panel.
struct tile {
    index_t height;
    index_t runs;
    const float* const* rows;      ///< [runs][height]
    const index_t* depth;          ///< [runs]
    const float* factors;          ///< [runs], multiplied into the accumulators after each run; null: ones
    float* const* y;               ///< [height], filter 0 of each pixel
    const float* const* residual;  ///< likewise; null: none
    float* column_sums;            ///< [filter], sums over pixels to add the finished tile to; null: none
    index_t n;                     ///< a sample of which it has pixels, whose scale and shift finish it
};

/// Products that follow each other: pair i is tile `i * tile_step` of `tiles`, all of one height, times the panel
/// `i * panel_step` floats behind `panel`. One of the steps is 0 where one tile meets several panels, or the reverse.
///
/// With a call for each pair, layers of 16 and 32 channels took 12 and 6 % longer (6 x 16, Zen 4).
struct tile_series {
    const tile* tiles = nullptr;
    index_t tile_step = 1;
    index_t count = 1;  ///< pairs
    index_t run = 0;    ///< floats of each run
    index_t skip = 0;   ///< floats at the beginning of each row that are left out
    const float* panel = nullptr;
    index_t panel_step = 0;
    /// Weights that will be read soon, and how many floats of them to prefetch into L2 for every step of the depth: the
    /// tiles of a block prefetch the next panel together, at an even pace, while they use this one. Pair i begins
    /// `i * ahead_between` floats behind `ahead`.
    const float* ahead = nullptr;
    index_t ahead_step = 0, ahead_between = 0;
    /// How the tiles are finished. The filters of pair i begin `i` panels behind `out.first` where panels change, and
    /// its sums `i` tiles behind `out.sums`; y, residual and column_sums are the tiles' own.
    tile_output out{};
    bool adds_column_sums = false;
};

/// Memory to be prefetched as a tile_series counts it, in floats, whatever is stored there.
[[nodiscard]] inline std::span<const float> as_lines(std::span<const std::byte> memory) noexcept {
    return {reinterpret_cast<const float*>(memory.data()), memory.size() / sizeof(float)};
}

namespace detail {

/// Whether a tile of so many accumulators fills the registers, so that the order of loads decides what is spilled.
[[nodiscard]] constexpr bool fills_registers(int accumulators) noexcept { return accumulators > 24; }

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
        if constexpr (fills_registers(Rows * Vectors)) simd::load_after(acc[r][Vectors - 1]);
    }
}

/// Prefetches what one step of the depth of a panel takes: a single line if its rows are no longer, since a second
/// request would take the place of a load.
template <int Vectors>
KDNA_INLINE void prefetch_step(const float* ahead) noexcept {
    simd::prefetch_line(ahead);
    if constexpr (Vectors * simd::lanes > simd::line_floats) simd::prefetch_line(ahead + simd::line_floats);
}

/// acc[r][j] = sum over depth of row `first` + r times vector j of the panel of a pair.
///
/// Two steps a turn where the tile fills the registers: there g++ 12 keeps some row pointers on the stack, and reading
/// them once a step costs 4 % (14 x 32, Zen 4); smaller tiles gain nothing. On 64-bit ARM, where all row pointers have
/// registers, two steps a turn make compilers spill accumulators (docs/performance.md, NEON).
template <int Rows, int Vectors>
KDNA_INLINE void multiply_rows(simd::vec (&acc)[Rows][Vectors], const tile_series& in, index_t pair, const tile& of,
                               index_t height, index_t first) noexcept {
    constexpr index_t width = Vectors * simd::lanes;
    KDNA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) acc[r][j] = simd::zero();
    }
    const float* const panel = in.panel + pair * in.panel_step;
    const float* ahead = in.ahead + pair * in.ahead_between;
    for (index_t t = 0; t < of.runs; ++t) {
        const float* row[Rows];
        KDNA_UNROLL
        for (int r = 0; r < Rows; ++r) row[r] = of.rows[t * height + first + r] + in.skip;
        const float* w = panel + of.depth[t] * width;
        index_t k = 0;
        if constexpr (fills_registers(Rows * Vectors) && !simd::neon64) {
            for (; k + 2 <= in.run; k += 2, w += 2 * width, ahead += 2 * in.ahead_step) {
                prefetch_step<Vectors>(ahead);
                multiply_step(acc, row, w, k);
                prefetch_step<Vectors>(ahead + in.ahead_step);
                multiply_step(acc, row, w + width, k + 1);
            }
        }
        for (; k < in.run; ++k, w += width, ahead += in.ahead_step) {
            prefetch_step<Vectors>(ahead);
            multiply_step(acc, row, w, k);
        }
        if (of.factors != nullptr) {
            const simd::vec factor = simd::broadcast(of.factors[t]);
            KDNA_UNROLL
            for (int r = 0; r < Rows; ++r) {
                KDNA_UNROLL
                for (int j = 0; j < Vectors; ++j) acc[r][j] = acc[r][j] * factor;
            }
        }
    }
}

/// How pair `pair` of a series is finished; `width`: filters of a panel.
[[nodiscard]] inline tile_output output_of(const tile_series& in, index_t pair, index_t width) noexcept {
    tile_output out = in.out;
    const tile& of = in.tiles[pair * in.tile_step];
    const index_t before = in.panel_step == 0 ? 0 : pair * width;
    out.y = of.y;
    out.residual = of.residual;
    out.column_sums = in.adds_column_sums ? of.column_sums : nullptr;
    out.first += before;
    out.filters = std::min(out.filters - before, width);
    return out;
}

/// The accumulators of a pair, in memory, to where they go if that is not a whole vector at a time.
KDNA_NOINLINE void finish_part(const float* acc, index_t rows, index_t vectors, index_t first, const tile_series& in,
                               index_t pair) noexcept {
    finish_strided(acc, rows, vectors, first, output_of(in, pair, vectors * simd::lanes));
}

/// Adds rows [first, first + rows) of a pair, which are stored as whole vectors, to the sums of their columns.
KDNA_NOINLINE void add_columns(index_t rows, index_t vectors, index_t first, const tile_series& in,
                               index_t pair) noexcept {
    const tile_output out = output_of(in, pair, vectors * simd::lanes);
    for (index_t j = 0; j < vectors; ++j) {
        const index_t filter = out.first + j * simd::lanes;
        simd::vec sum = simd::zero();
        for (index_t r = 0; r < rows; ++r) sum = sum + simd::load(out.y[first + r] + filter);
        add_to(out.column_sums + filter, sum, simd::lanes);
    }
}

/// Rows [first, first + Rows) of a pair: multiplied, finished in registers, stored.
template <int Rows, int Vectors>
KDNA_INLINE void pair_rows(const tile_series& in, index_t pair, index_t height, index_t first) noexcept {
    constexpr index_t width = Vectors * simd::lanes;
    const tile& of = in.tiles[pair * in.tile_step];
    simd::vec acc[Rows][Vectors];
    multiply_rows(acc, in, pair, of, height, first);
    const index_t before = in.panel_step == 0 ? 0 : pair * width;
    const bool whole = in.out.y_stride == 1 && (of.residual == nullptr || in.out.residual_stride == 1) &&
                       in.out.filters - before >= width;
    if (in.out.sums != nullptr || !whole) {
        alignas(alignment) float part[Rows * width];
        float* to = in.out.sums != nullptr ? in.out.sums + (pair * height + first) * width : part;
        KDNA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j) {
                float* const at = to + r * width + j * simd::lanes;
                simd::store(at, in.out.add_to_sums ? acc[r][j] + simd::load(at) : acc[r][j]);
            }
        }
        if (in.out.sums == nullptr) finish_part(part, Rows, Vectors, first, in, pair);
        return;
    }
    const clamp_range range = range_of(in.out.act);
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) {
        const index_t filter = in.out.first + before + j * simd::lanes;
        const finisher finish(in.out.scale + filter, in.out.shift + filter, range);
        if (of.residual == nullptr) {
            KDNA_UNROLL
            for (int r = 0; r < Rows; ++r) finish(acc[r][j], of.y[first + r] + filter);
        } else {
            KDNA_UNROLL
            for (int r = 0; r < Rows; ++r)
                finish(acc[r][j], simd::load(of.residual[first + r] + filter), of.y[first + r] + filter);
        }
    }
    if (in.adds_column_sums && of.column_sums != nullptr) add_columns(Rows, Vectors, first, in, pair);
}

/// Half of a tall tile of one vector, or a tile of seven rows; out of line, since both need it.
KDNA_NOINLINE void seven_rows(const tile_series& in, index_t pair, index_t height, index_t first) noexcept {
    pair_rows<7, 1>(in, pair, height, first);
}

}  // namespace detail

/// A series of tiles, each `Height` pixels by `Vectors` vectors of filters. Filters lie in the vectors and pixels are
/// broadcast, so that maps of 7x7 and 14x14 waste no lanes.
template <int Height, int Vectors>
void micro_kernel(const tile_series& in) noexcept {
    for (index_t pair = 0; pair < in.count; ++pair) {
        // A tall tile of one vector has more row pointers than accumulators are worth: as two halves it is 15 % faster
        // (g++ 12).
        if constexpr (Vectors == 1 && (Height == 14 || Height == 7)) {
            for (index_t first = 0; first < Height; first += 7) detail::seven_rows(in, pair, Height, first);
        } else {
            detail::pair_rows<Height, Vectors>(in, pair, Height, 0);
        }
    }
}

using micro_kernel_fn = void (*)(const tile_series&) noexcept;

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
