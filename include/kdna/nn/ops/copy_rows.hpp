// Copies of rows and columns, whatever their strides: the kernel of all copies.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/core/config.hpp>
#include <kdna/simd/simd.hpp>
#include <kdna/simd/transpose.hpp>

namespace kdna::inline KDNA_ABI::ops::detail {

/// Rows and columns to be copied, and the strides of both.
struct copy_block {
    index_t rows, columns;
    float* y;
    const float* x;
    index_t y_row, x_row, y_column, x_column;
};

/// Rows that are contiguous in both, shorter than what memmove is made for.
inline void copy_short_rows(const copy_block& t) noexcept {
    using simd::lanes;
    const index_t whole = t.columns / lanes * lanes;
    const simd::lane_mask mask = simd::first_lanes(t.columns - whole);
    for (index_t r = 0; r < t.rows; ++r) {
        float* const y = t.y + r * t.y_row;
        const float* const x = t.x + r * t.x_row;
        for (index_t i = 0; i < whole; i += lanes) simd::store(y + i, simd::load(x + i));
        if (whole < t.columns) simd::store_masked(y + whole, simd::load_masked(x + whole, mask), mask);
    }
}

/// A few columns: the loop over the rows is the inner one.
template <int Columns>
void copy_narrow(const copy_block& t) noexcept {
    const float* x = t.x;
    float* y = t.y;
    for (index_t r = 0; r < t.rows; ++r, x += t.x_row, y += t.y_row) {
        float v[Columns];
        KDNA_UNROLL
        for (int i = 0; i < Columns; ++i) v[i] = x[i * t.x_column];
        KDNA_UNROLL
        for (int i = 0; i < Columns; ++i) y[i * t.y_column] = v[i];
    }
}

/// Columns contiguous in y and rows contiguous in x.
inline void copy_transposed(const copy_block& t) noexcept {
    simd::transpose(t.rows, t.columns, t.x, t.x_column, t.y, t.y_row);
}

/// Two contiguous columns that are rows of x: y takes from both in turn.
inline void copy_interleaved(const copy_block& t) noexcept {
    const float *a = t.x, *b = t.x + t.x_column;
    index_t r = 0;
#ifdef __SSE2__
    for (; r + 4 <= t.rows; r += 4) {
        const __m128 p = _mm_loadu_ps(a + r), q = _mm_loadu_ps(b + r);
        _mm_storeu_ps(t.y + 2 * r, _mm_unpacklo_ps(p, q));
        _mm_storeu_ps(t.y + 2 * r + 4, _mm_unpackhi_ps(p, q));
    }
#endif
    for (; r < t.rows; ++r) {
        t.y[2 * r] = a[r];
        t.y[2 * r + 1] = b[r];
    }
}

inline void copy_rows(const copy_block& t) noexcept {
    if (t.y_column == 1 && t.columns == 2 && t.y_row == 2 && t.x_row == 1) return copy_interleaved(t);
    switch (t.columns) {
        case 1: return copy_narrow<1>(t);
        case 2: return copy_narrow<2>(t);
        case 3: return copy_narrow<3>(t);
        case 4:
            if (t.x_column == 1 || t.x_row != 1) return copy_narrow<4>(t);
            break;
        default: break;
    }
    if (t.y_column == 1 && t.x_column == 1) {
        if (t.columns < 256) return copy_short_rows(t);
        for (index_t r = 0; r < t.rows; ++r) std::copy_n(t.x + r * t.x_row, t.columns, t.y + r * t.y_row);
        return;
    }
    if (t.y_column == 1 && t.x_row == 1 && t.rows >= 4) return copy_transposed(t);
    for (index_t r = 0; r < t.rows; ++r) {
        float* const y = t.y + r * t.y_row;
        const float* const x = t.x + r * t.x_row;
        if (t.y_column == 1 && t.x_column == 0) {
            std::fill_n(y, t.columns, *x);
        } else {
            for (index_t i = 0; i < t.columns; ++i) y[i * t.y_column] = x[i * t.x_column];
        }
    }
}

}  // namespace kdna::inline KDNA_ABI::ops::detail

#include <kdna/core/macros_pop.hpp>
