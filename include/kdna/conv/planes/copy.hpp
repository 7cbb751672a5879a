// The planar copy of the input.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/planes/layout.hpp>
#include <kdna/conv/stage.hpp>
#include <kdna/simd/simd.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv::planes {
namespace detail {

/// Deals out `line`, of which all vectors that begin within s.columns may be read, to the phases of a row.
inline void deal_out(const plane_layout& s, const float* line, float* to) noexcept {
    const index_t each = s.phase_floats;
    if (s.phases == 2) {
        for (index_t i = 0; 2 * i < s.columns; i += simd::lanes) {
            const simd::vec_pair two = simd::unzip(simd::load(line + 2 * i), simd::load(line + 2 * i + simd::lanes));
            simd::store(to + i, two.even);
            simd::store(to + each + i, two.odd);
        }
    } else if (s.phases == 4) {
        for (index_t i = 0; 4 * i < s.columns; i += simd::lanes) {
            const float* from = line + 4 * i;
            const simd::vec_pair a = simd::unzip(simd::load(from), simd::load(from + simd::lanes)),
                                 b = simd::unzip(simd::load(from + 2 * simd::lanes),
                                                 simd::load(from + 3 * simd::lanes)),
                                 even = simd::unzip(a.even, b.even), odd = simd::unzip(a.odd, b.odd);
            simd::store(to + i, even.even);
            simd::store(to + each + i, odd.even);
            simd::store(to + 2 * each + i, even.odd);
            simd::store(to + 3 * each + i, odd.odd);
        }
    } else if (s.phases == 3) {
        simd::unzip_3(line, s.columns, to, to + each, to + 2 * each);
    } else {
        for (index_t phase = 0; phase < s.phases; ++phase)
            for (index_t i = 0, w = phase; w < s.columns; ++i, w += s.phases) to[phase * each + i] = line[w];
    }
}

}  // namespace detail

/// Copies `count` rows of channel c of sample n, from row `first` on, where row 0 is the border's first. Rows below the
/// border are zeros: a tile reads them for outputs that do not exist. `line` [line_floats()] is scratch.
inline void copy_rows(const plane_layout& s, const tensor_view<const float>& x, index_t n, index_t c, index_t first,
                      index_t count, float* to, float* line) noexcept {
    const index_t left = s.border.left, right = s.border.right, rows = x.shape.h, columns = x.shape.w;
    for (index_t row = first; row < first + count; ++row, to += s.row_floats) {
        index_t h = row - s.border.top;
        if (s.circular && h < rows + s.border.bottom) h = wrapped(h, rows);
        if (h < 0 || h >= rows) {
            std::fill_n(to, s.row_floats, 0.0F);
            continue;
        }
        float* const begin = s.phases == 1 ? to : line;
        float* const middle = begin + left;
        float* const behind = middle + columns;
        const float* from = x.at(n, c, h, 0);
        if (x.stride.w == 1)
            std::copy_n(from, columns, middle);
        else
            for (index_t w = 0; w < columns; ++w) middle[w] = from[w * x.stride.w];
        if (s.circular) {  // neither side is wider than the middle
            std::copy_n(behind - left, left, begin);
            std::copy_n(middle, right, behind);
        } else {
            std::fill_n(begin, left, 0.0F);
            std::fill_n(behind, right, 0.0F);
        }
        if (s.phases > 1) detail::deal_out(s, line, to);
    }
}

}  // namespace kdna::inline KDNA_ABI::conv::planes

#include <kdna/core/macros_pop.hpp>
