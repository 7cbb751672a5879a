// What happens to a register tile on its way to memory: y = act(m * acc + b + residual).
#pragma once

#include <algorithm>

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
    index_t y_stride;                ///< floats between filters
    index_t residual_stride;
    const float* scale;  ///< m, readable for whole vectors
    const float* shift;  ///< b, readable for whole vectors
    index_t filters;       ///< filters of the tile that exist
    activation act;
};

[[nodiscard]] KDNA_INLINE simd::vec activate(activation act, const simd::vec& v) noexcept {
    if (act == activation::none) return v;
    return act == activation::relu ? simd::relu(v) : simd::at_most_6(simd::relu(v));
}

/// Finishes a tile whose accumulators acc[row][vector] lie in memory, `vectors` of them in a row, and stores it. Compiled
/// once for all tiles: inlined into every micro-kernel it tripled the compile time of this header, while the round trip of
/// the accumulators through L1 is lost in the noise from a depth of 64 on.
inline void finish_tile(const float* acc, index_t rows, index_t vectors, const tile_output& out) noexcept {
    for (index_t j = 0; j < vectors; ++j) {
        const index_t first = j * simd::lanes, count = std::min(out.filters - first, simd::lanes);
        if (count <= 0) return;
        const simd::vec scale = simd::load(out.scale + first), shift = simd::load(out.shift + first);
        const bool contiguous = out.y_stride == 1 && count == simd::lanes;
        for (index_t r = 0; r < rows; ++r) {
            simd::vec v = simd::multiply_add(simd::load(acc + (r * vectors + j) * simd::lanes), scale, shift);
            if (out.residual != nullptr)
                v = v + simd::load_strided(out.residual[r] + first * out.residual_stride, out.residual_stride, count);
            v = activate(out.act, v);
            float* y = out.y[r] + first * out.y_stride;
            if (contiguous)
                simd::store(y, v);
            else
                simd::store_strided(y, v, out.y_stride, count);
        }
    }
}

}  // namespace conv
}  // namespace kdna::inline KDNA_ABI
