// What happens to a register tile on its way to memory: y = act(m * acc + b + residual).
#pragma once

#include <algorithm>
#include <limits>

#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI {

enum class activation { none, relu, relu6 };

[[nodiscard]] constexpr const char* to_string(activation a) noexcept {
    return a == activation::relu ? "relu" : a == activation::relu6 ? "relu6" : "none";
}

namespace conv {

/// Where a tile goes. Row r of the tile is one output pixel; `y[r]` and `residual[r]` point at its first filter.
struct tile_output {
    float* const* y;
    const float* const* residual;  ///< null: none
    index_t y_stride;              ///< floats between filters
    index_t residual_stride;
    const float* scale;  ///< m, readable for whole vectors
    const float* shift;  ///< b, readable for whole vectors
    index_t filters;     ///< filters of the tile that exist
    activation act;
};

/// An activation as the interval it clamps to: no branch per vector.
struct clamp_range {
    float low, high;
};
[[nodiscard]] inline clamp_range range_of(activation a) noexcept {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    return {a == activation::none ? -infinity : 0.0F, a == activation::relu6 ? 6.0F : infinity};
}

/// What finishes a vector of filters: y = act(scale * acc + shift + residual).
struct finisher {
    simd::vec scale, shift, low, high;
    finisher(const float* scale_at, const float* shift_at, const clamp_range& range) noexcept
        : scale(simd::load(scale_at)), shift(simd::load(shift_at)), low(range.low), high(range.high) {}

    /// A whole vector without a residual.
    KDNA_INLINE void operator()(const simd::vec& acc, float* y) const noexcept {
        simd::store(y, simd::clamp(simd::multiply_add(acc, scale, shift), low, high));
    }
    /// `count` filters of one pixel; `residual` may be null.
    KDNA_INLINE void operator()(const simd::vec& acc, const float* residual, index_t residual_stride, float* y,
                                index_t y_stride, index_t count) const noexcept {
        simd::vec v = simd::multiply_add(acc, scale, shift);
        if (residual != nullptr) v = v + simd::load_strided(residual, residual_stride, count);
        v = simd::clamp(v, low, high);
        if (y_stride == 1 && count == simd::lanes)
            simd::store(y, v);
        else
            simd::store_strided(y, v, y_stride, count);
    }
};

/// Finishes a tile whose accumulators acc[row][vector] lie in memory, `vectors` of them in a row, and stores it. Compiled
/// once for all tiles: inlined into every micro-kernel it took examples/quickstart.cpp from 3.0 to 4.1 s of compile time
/// (g++ 12, -O2), while the round trip of the accumulators through L1 was lost in the noise from a depth of 64 on.
inline void finish_tile(const float* acc, index_t rows, index_t vectors, const tile_output& out) noexcept {
    const clamp_range range = range_of(out.act);
    for (index_t j = 0; j < vectors; ++j) {
        const index_t first = j * simd::lanes, count = std::min(out.filters - first, simd::lanes);
        if (count <= 0) return;
        const finisher finish(out.scale + first, out.shift + first, range);
        for (index_t r = 0; r < rows; ++r)
            finish(simd::load(acc + (r * vectors + j) * simd::lanes),
                   out.residual != nullptr ? out.residual[r] + first * out.residual_stride : nullptr,
                   out.residual_stride, out.y[r] + first * out.y_stride, out.y_stride, count);
    }
}

}  // namespace conv
}  // namespace kdna::inline KDNA_ABI
