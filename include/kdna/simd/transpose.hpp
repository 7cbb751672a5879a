// Transposition of matrices in memory.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/core/config.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::simd {

/// y[r * y_row + c] = x[r + c * x_column] for four rows and columns.
inline void transpose_4x4(const float* x, index_t x_column, float* y, index_t y_row) noexcept {
#ifdef __SSE2__
    __m128 a = _mm_loadu_ps(x), b = _mm_loadu_ps(x + x_column), c = _mm_loadu_ps(x + 2 * x_column),
           d = _mm_loadu_ps(x + 3 * x_column);
    const __m128 ab_low = _mm_unpacklo_ps(a, b), ab_high = _mm_unpackhi_ps(a, b), cd_low = _mm_unpacklo_ps(c, d),
                 cd_high = _mm_unpackhi_ps(c, d);
    _mm_storeu_ps(y, _mm_movelh_ps(ab_low, cd_low));
    _mm_storeu_ps(y + y_row, _mm_movehl_ps(cd_low, ab_low));
    _mm_storeu_ps(y + 2 * y_row, _mm_movelh_ps(ab_high, cd_high));
    _mm_storeu_ps(y + 3 * y_row, _mm_movehl_ps(cd_high, ab_high));
#else
    for (index_t r = 0; r < 4; ++r)
        for (index_t c = 0; c < 4; ++c) y[r * y_row + c] = x[r + c * x_column];
#endif
}

/// y[r * y_row + c] = x[r + c * x_column]: columns contiguous in y and rows contiguous in x. Sixteen rows at a time, which are a
/// cache line of every column.
inline void transpose(index_t rows, index_t columns, const float* x, index_t x_column, float* y,
                      index_t y_row) noexcept {
    for (index_t top = 0; top < rows; top += 16, x += 16, y += 16 * y_row) {
        const index_t some = std::min<index_t>(16, rows - top), fours = some / 4 * 4;
        index_t c = 0;
        for (; c + 4 <= columns; c += 4) {
            for (index_t r = 0; r < fours; r += 4)
                transpose_4x4(x + r + c * x_column, x_column, y + r * y_row + c, y_row);
            for (index_t r = fours; r < some; ++r)
                for (index_t i = c; i < c + 4; ++i) y[r * y_row + i] = x[r + i * x_column];
        }
        for (; c < columns; ++c)
            for (index_t r = 0; r < some; ++r) y[r * y_row + c] = x[r + c * x_column];
    }
}

}  // namespace kdna::inline KDNA_ABI::simd

#include <kdna/core/macros_pop.hpp>
