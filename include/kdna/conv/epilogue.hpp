// What happens to a register tile on its way to memory: y = act(m * acc + b + residual).
//
// A clamp is applied in registers, as an interval. For any other activation the interval is that of all numbers: the tile is
// stored as m * acc + b + residual, and the nest calls `activate` for it afterwards, while it is in L1. So a clamp costs nothing
// more, and the functions are compiled once (simd/activation.hpp) and not for every shape of a tile.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <iterator>

#include <kdna/core/activation.hpp>
#include <kdna/simd/activation.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Where a tile goes. Row r of the tile is one output pixel; `y[r]` and `residual[r]` point at its filter 0.
struct tile_output {
    float* const* y = nullptr;
    const float* const* residual = nullptr;  ///< null: none
    index_t y_stride = 1;                    ///< floats between filters
    index_t residual_stride = 1;
    const float* scale = nullptr;  ///< m, readable for whole vectors past the last filter
    const float* shift = nullptr;  ///< b, likewise
    index_t first = 0;             ///< filter of the tile's first column
    index_t filters = 0;           ///< filters of the tile that exist
    activation act = activation::none;
    /// Not null: each filter's sum over the tile's pixels, finished, goes to column_sums[filter]. For clamps only.
    float* column_sums = nullptr;
    float* sums = nullptr;     ///< not null: the tile goes here as it is, [row][vector], and the rest is not looked at
    bool add_to_sums = false;  ///< and is added to what is there
};

/// What finishes a vector of filters and stores it: y = act(scale * acc + shift + residual). Every form returns y.
struct finisher {
    simd::vec scale, shift, low, high;
    finisher(const float* scale_at, const float* shift_at, const clamp_range& range) noexcept
        : scale(simd::load(scale_at)), shift(simd::load(shift_at)), low(range.low), high(range.high) {}

    /// A whole vector without a residual.
    KDNA_INLINE simd::vec operator()(const simd::vec& acc, float* y) const noexcept {
        const simd::vec v = simd::clamp(simd::multiply_add(acc, scale, shift), low, high);
        simd::store(y, v);
        return v;
    }
    /// A whole vector with a residual.
    KDNA_INLINE simd::vec operator()(const simd::vec& acc, const simd::vec& residual, float* y) const noexcept {
        const simd::vec v = simd::clamp(simd::multiply_add(acc, scale, shift) + residual, low, high);
        simd::store(y, v);
        return v;
    }
    /// `count` filters of one pixel; `residual` may be null. The other lanes of the result mean nothing.
    KDNA_INLINE simd::vec operator()(const simd::vec& acc, const float* residual, index_t residual_stride, float* y,
                                     index_t y_stride, index_t count) const noexcept {
        simd::vec v = simd::multiply_add(acc, scale, shift);
        if (residual != nullptr) v = v + simd::load_strided(residual, residual_stride, count);
        v = simd::clamp(v, low, high);
        simd::store_strided(y, v, y_stride, count);
        return v;
    }
};

/// sums[0 ... count) += v.
KDNA_INLINE void add_to(float* sums, const simd::vec& v, index_t count) noexcept {
    simd::store_strided(sums, simd::load_strided(sums, 1, count) + v, 1, count);
}

/// Finishes rows [first, first + rows) of a tile that is not stored in whole vectors of contiguous filters: their
/// accumulators acc[row][vector] in memory, `vectors` of them in a row. Compiled once for all tiles, which keeps the micro-kernels small and quick to compile.
KDNA_NOINLINE void finish_strided(const float* acc, index_t rows, index_t vectors, index_t first,
                                  const tile_output& out) noexcept {
    const clamp_range range = range_of(out.act);
    for (index_t j = 0; j < vectors; ++j) {
        const index_t filter = out.first + j * simd::lanes,
                      count = std::min(out.filters - j * simd::lanes, simd::lanes);
        if (count <= 0) return;
        const finisher finish(out.scale + filter, out.shift + filter, range);
        simd::vec sum = simd::zero();
        for (index_t r = 0; r < rows; ++r)
            sum =
                sum + finish(simd::load(acc + (r * vectors + j) * simd::lanes),
                             out.residual != nullptr ? out.residual[first + r] + filter * out.residual_stride : nullptr,
                             out.residual_stride, out.y[first + r] + filter * out.y_stride, out.y_stride, count);
        if (out.column_sums != nullptr) add_to(out.column_sums + filter, sum, count);
    }
}

/// Applies an activation that is no clamp to filters [first, first + filters) of stored pixels, in place. y[row]: filter 0 of
/// a pixel; `stride`: floats between filters. `sums`: null, or where the results are added to, those of filter o to sums[o].
KDNA_NOINLINE void activate(const activation& act, float* const* y, index_t rows, index_t stride, index_t first,
                            index_t filters, float* sums) noexcept {
    simd::activate(act.kind, act.number, act.of_channel.empty() ? nullptr : act.of_channel.data() + first, y, rows,
                   first * stride, stride, filters, sums != nullptr ? sums + first : nullptr);
}
/// The same for `columns` pixels, `pixel_stride` floats apart from y on.
KDNA_NOINLINE void activate(const activation& act, float* y, index_t columns, index_t pixel_stride, index_t stride,
                            index_t first, index_t filters, float* sums) noexcept {
    float* pixels[16];
    for (index_t w = 0; w < columns;) {
        index_t some = 0;
        for (; some < std::ssize(pixels) && w < columns; ++some, ++w) pixels[some] = y + w * pixel_stride;
        activate(act, pixels, some, stride, first, filters, sums);
    }
}

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
