// Sums over nests in float vectors and, from block to block, in double.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <array>

#include <kdna/nn/ops/nest.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::ops::detail {

/// Most additions in float, one after another, to a lane of a sum; then it goes to a double.
inline constexpr index_t float_additions = 32;

/// The first `count` (0 ... lanes) lanes as a mask for xsimd::select.
[[nodiscard]] KDNA_INLINE auto select_first(index_t count) noexcept {
    using simd::lanes;
    static constexpr std::array<float, 2 * lanes> ones_then_zeros = [] {
        std::array<float, 2 * lanes> out{};
        for (std::size_t i = 0; i < static_cast<std::size_t>(lanes); ++i) out[i] = 1.0F;
        return out;
    }();
    return simd::load(ones_then_zeros.data() + lanes - count) > simd::zero();
}

/// Sum of term(x[i]) over `count` contiguous elements. term maps a vector to a vector.
template <class Term>
[[nodiscard]] double line_sum(const float* x, index_t count, const Term& term) noexcept {
    using simd::lanes, simd::vec;
    double sum = 0.0;
    const index_t whole = count / lanes * lanes;
    index_t i = 0;
    vec all[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    // One addition of each sum is left for the last vectors.
    for (; i + 4 * lanes <= whole;) {
        const index_t end = std::min(whole, i + 4 * (float_additions - 1) * lanes);
        for (; i + 4 * lanes <= end; i += 4 * lanes) {
            KDNA_UNROLL
            for (int j = 0; j < 4; ++j) all[j] = all[j] + term(simd::load(x + i + j * lanes));
        }
        if (i + 4 * lanes > whole) break;
        sum += static_cast<double>(simd::sum((all[0] + all[1]) + (all[2] + all[3])));
        KDNA_UNROLL
        for (vec& v : all) v = simd::zero();
    }
    // At most three vectors are left. (An index that is not a constant would keep the sums in memory.)
    KDNA_UNROLL
    for (int j = 0; j < 3; ++j)
        if (i + (j + 1) * lanes <= whole) all[j] = all[j] + term(simd::load(x + i + j * lanes));
    i = whole;
    if (i < count) {
        const vec last = term(simd::load_masked(x + i, simd::first_lanes(count - i)));
        all[3] = all[3] + xsimd::select(select_first(count - i), last, simd::zero());
    }
    return sum + static_cast<double>(simd::sum((all[0] + all[1]) + (all[2] + all[3])));
}

/// Sum of term(x[r * row + c * column]) over rows and columns. term maps a vector to a vector; lanes past the last column do not
/// count.
template <class Term>
[[nodiscard]] double block_sum(const float* x, index_t rows, index_t columns, index_t row, index_t column,
                               const Term& term) noexcept {
    using simd::lanes, simd::vec;
    double sum = 0.0;
    if (column == 1 && (rows == 1 || columns > 4 * lanes)) {
        for (index_t r = 0; r < rows; ++r) sum += line_sum(x + r * row, columns, term);
        return sum;
    }
    const index_t whole = columns / lanes * lanes, rest = columns - whole;
    const auto counts = select_first(rest);
    const auto part = [&](const float* from) {
        return xsimd::select(counts, term(simd::load_strided(from, column, rest)), simd::zero());
    };
    if (columns <= 4 * lanes) {
        // Short rows: vectors are added up over the rows.
        for (index_t top = 0; top < rows; top += float_additions) {
            const index_t bottom = std::min(rows, top + float_additions);
            for (index_t c = 0; c < columns; c += lanes) {
                vec all = simd::zero();
                const float* from = x + top * row + c * column;
                if (c == whole) {
                    for (index_t r = top; r < bottom; ++r, from += row) all = all + part(from);
                } else if (column == 1) {
                    for (index_t r = top; r < bottom; ++r, from += row) all = all + term(simd::load(from));
                } else {
                    for (index_t r = top; r < bottom; ++r, from += row)
                        all = all + term(simd::load_strided(from, column, lanes));
                }
                sum += static_cast<double>(simd::sum(all));
            }
        }
        return sum;
    }
    for (index_t r = 0; r < rows; ++r) {
        const float* const from = x + r * row;
        for (index_t c = 0; c < whole;) {
            vec all = simd::zero();
            const index_t end = std::min(whole, c + float_additions * lanes);
            for (; c < end; c += lanes) all = all + term(simd::load_strided(from + c * column, column, lanes));
            sum += static_cast<double>(simd::sum(all));
        }
        if (rest > 0) sum += static_cast<double>(simd::sum(part(from + whole * column)));
    }
    return sum;
}

/// y = (x - mean) * scale * w + b for `count` elements, strides as they are; w and b have one stride.
inline void affine_line(float* y, index_t y_stride, const float* x, index_t x_stride, index_t count, float mean,
                        float scale, const float* w, const float* b, index_t w_stride) noexcept {
    using simd::lanes, simd::vec;
    const vec m = simd::broadcast(mean), s = simd::broadcast(scale);
    const auto apply = [&](const vec& v, const vec& wv, const vec& bv) {
        return simd::multiply_add((v - m) * s, wv, bv);
    };
    index_t i = 0;
    if (y_stride == 1 && x_stride == 1) {
        if (w_stride == 1)
            for (; i + lanes <= count; i += lanes)
                simd::store(y + i, apply(simd::load(x + i), simd::load(w + i), simd::load(b + i)));
        if (w_stride == 0) {
            const vec wv = simd::broadcast(*w), bv = simd::broadcast(*b);
            for (; i + lanes <= count; i += lanes) simd::store(y + i, apply(simd::load(x + i), wv, bv));
        }
    }
    for (; i < count; i += lanes) {
        const index_t some = std::min(lanes, count - i);
        simd::store_strided(y + i * y_stride,
                            apply(simd::load_strided(x + i * x_stride, x_stride, some),
                                  simd::load_strided(w + i * w_stride, w_stride, some),
                                  simd::load_strided(b + i * w_stride, w_stride, some)),
                            y_stride, some);
    }
}

}  // namespace kdna::inline KDNA_ABI::ops::detail

#include <kdna/core/macros_pop.hpp>
