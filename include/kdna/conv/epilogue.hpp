// What happens to a register tile on its way to memory: y = act(m * acc + b + residual).
#pragma once

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

/// Finishes and stores `Vectors` accumulators of tile row `row`.
template <int Vectors>
KDNA_INLINE void store_row(const simd::vec (&acc)[Vectors], int row, const tile_output& out) noexcept {
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) {
        const index_t first = j * simd::lanes, left = out.filters - first;
        if (left <= 0) return;
        const index_t count = left < simd::lanes ? left : simd::lanes;
        simd::vec v = simd::multiply_add(acc[j], simd::load(out.scale + first), simd::load(out.shift + first));
        if (out.residual != nullptr) {
            const float* r = out.residual[row] + first * out.residual_stride;
            v = v + (out.residual_stride == 1 ? simd::load_part(r, count) : simd::load_strided(r, out.residual_stride, count));
        }
        v = activate(out.act, v);
        float* y = out.y[row] + first * out.y_stride;
        if (out.y_stride == 1)
            simd::store_part(y, v, count);
        else
            simd::store_strided(y, v, out.y_stride, count);
    }
}

}  // namespace conv
}  // namespace kdna::inline KDNA_ABI
