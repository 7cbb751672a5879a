// Definitions of stage.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/stage.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv {
namespace detail {

/// One row of an input whose channels are not contiguous: `from` points at its first pixel. Three channels at a time,
/// as images have, which writes every line once.
inline void interleave(const stage_layout& s, const float* from, const strides4& stride, const float* gate,
                       float* to) noexcept {
    index_t c = 0;
    for (; c + 3 <= s.in.c; c += 3) {
        const float *r = from + c * stride.c, *g = r + stride.c, *b = g + stride.c;
        const float red = gate != nullptr ? gate[c] : 1.0F, green = gate != nullptr ? gate[c + 1] : 1.0F,
                    blue = gate != nullptr ? gate[c + 2] : 1.0F;
        float* pixel = to + c;
        for (index_t w = 0; w < s.in.w; ++w, pixel += s.pixel_floats) {
            pixel[0] = r[w * stride.w] * red;
            pixel[1] = g[w * stride.w] * green;
            pixel[2] = b[w * stride.w] * blue;
        }
    }
    for (; c < s.in.c; ++c) {
        const float factor = gate != nullptr ? gate[c] : 1.0F;
        for (index_t w = 0; w < s.in.w; ++w) to[w * s.pixel_floats + c] = from[c * stride.c + w * stride.w] * factor;
    }
}

}  // namespace detail

KDNA_FUNC void stage_rows(const stage_layout& s, const tensor_view<const float>& x, index_t x_first,
                          const factor_set::per_sample& gate, float* staged, index_t first, index_t last) noexcept {
    for (index_t row = first; row < last; ++row) {
        float* to = staged + row * s.row_floats();
        const index_t n = row / s.rows(), left = s.border.left * s.pixel_floats,
                      right = s.border.right * s.pixel_floats;
        index_t h = row % s.rows() - s.border.top;
        if (s.circular) h = wrapped(h, s.in.h);
        if (h < 0 || h >= s.in.h) {
            std::fill_n(to, s.row_floats(), 0.0F);
            continue;
        }
        float* const middle = to + left;
        if (!s.circular) std::fill_n(to, left, 0.0F);
        to = middle;
        const float* g = gate.of(n);
        if (x.stride.c == 1 && g == nullptr && x.stride.w == s.in.c && s.pixel_floats == s.in.c) {
            std::copy_n(x.at(n, 0, h - x_first, 0), s.in.w * s.in.c, to);
            to += s.in.w * s.in.c;
        } else if (x.stride.c == 1) {
            for (index_t w = 0; w < s.in.w; ++w, to += s.pixel_floats) {
                const float* from = x.at(n, 0, h - x_first, w);
                index_t c = 0;
                for (; c + simd::lanes <= s.in.c; c += simd::lanes)
                    simd::store(to + c, g != nullptr ? simd::load(from + c) * simd::load(g + c) : simd::load(from + c));
                for (; c < s.in.c; ++c) to[c] = g != nullptr ? from[c] * g[c] : from[c];
            }
        } else {
            detail::interleave(s, x.at(n, 0, h - x_first, 0), x.stride, g, to);
            to += s.in.w * s.pixel_floats;
        }
        if (s.circular) {  // neither side is wider than the middle
            std::copy_n(to - left, left, middle - left);
            std::copy_n(middle, right, to);
        } else {
            std::fill_n(to, right, 0.0F);
        }
    }
}

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
