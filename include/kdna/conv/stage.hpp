// A channels-last copy of the input, for plans that cannot, or had better not, read it in place.
#pragma once

#include <algorithm>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/simd/simd.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// How the copy lies: staged[n][h][w][pixel_floats], with a border of zeros or of the map's opposite side, and each channel
/// times its gate.
struct stage_layout {
    shape4 in{};
    padding border = 0;
    index_t pixel_floats = 0;  ///< channels, and some more where rows would fight for the same cache sets
    /// The border is the map's opposite side, and a part of the map for the nest, which then knows of no padding.
    bool circular = false;

    [[nodiscard]] index_t rows() const noexcept { return in.h + border.top + border.bottom; }
    [[nodiscard]] index_t columns() const noexcept { return in.w + border.left + border.right; }
    [[nodiscard]] index_t row_floats() const noexcept { return columns() * pixel_floats; }
    [[nodiscard]] index_t floats() const {
        return checked_mul(checked_mul(in.n, rows(), "stage"), checked_mul(columns(), pixel_floats, "stage"), "stage");
    }
    /// Extents of the map that the nest sees.
    [[nodiscard]] shape4 map() const noexcept { return circular ? shape4{in.n, in.c, rows(), columns()} : in; }
    /// The copy as a view of that map: without a border of zeros, which is read around it.
    [[nodiscard]] tensor_view<const float> view(const float* staged) const noexcept {
        if (circular) return {staged, map(), {rows() * row_floats(), 1, row_floats(), pixel_floats}};
        return {staged + border.top * row_floats() + border.left * pixel_floats,
                in,
                {rows() * row_floats(), 1, row_floats(), pixel_floats}};
    }
};

/// Where index i, at most one extent outside the map, lies on it when it is wound around.
[[nodiscard]] constexpr index_t wrapped(index_t i, index_t extent) noexcept {
    return i < 0 ? i + extent : i >= extent ? i - extent : i;
}

/// One row of an input whose channels do not lie side by side: `from` at its first pixel. Image channels, three as a rule,
/// are taken together, which writes every line once.
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

/// Fills rows [first, last) of the copy, counted over all samples. `gate(n)` is g[C] of a sample, or null; row 0 of `x` is
/// row `x_first` of the map.
template <class Gate>
void stage_rows(const stage_layout& s, const tensor_view<const float>& x, index_t x_first, const Gate& gate,
                float* staged, index_t first, index_t last) noexcept {
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
        const float* g = gate(n);
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
            interleave(s, x.at(n, 0, h - x_first, 0), x.stride, g, to);
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
