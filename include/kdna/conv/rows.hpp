// The input side of the matrix product: which floats stand in each row of a tile.
#pragma once

#include <kdna/core/shape.hpp>
#include <kdna/simd/simd.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Position of an output pixel's window: the input row and column of its first tap, either may lie in the padding.
struct window_origin {
    index_t h, w;
};

[[nodiscard]] inline window_origin origin_of(index_t pixel, index_t output_columns, const conv_params& p) noexcept {
    return {pixel / output_columns * p.stride.h - p.pad.top, pixel % output_columns * p.stride.w - p.pad.left};
}

/// One sample and one group of the input, and the kernel that slides over it.
struct window_source {
    tensor_view<const float> x;  ///< one sample, the group's channels
    kernel_shape kernel;
    conv_params params;
    index_t output_columns;

    /// First channel of the input element under tap (i, j), or null where that is padding.
    [[nodiscard]] const float* under(const window_origin& origin, index_t i, index_t j) const noexcept {
        const index_t h = origin.h + i * params.dilation.h, w = origin.w + j * params.dilation.w;
        if (h < 0 || h >= x.shape.h || w < 0 || w >= x.shape.w) return nullptr;
        return x.data + (h * x.stride.h + w * x.stride.w);
    }
};

/// Points the rows of a tile straight at a channels-last input. Padding points at `zeros` (a run of zeros); a tap that is
/// padding for the whole tile is left out: on a 7x7 map with padding 1 that is a good part of the work.
///     rows [taps][height], depth [taps]; returns the number of runs.
inline index_t point_rows(const window_source& s, index_t first_pixel, index_t height, const float* zeros, const float** rows,
                        index_t* depth) noexcept {
    index_t runs = 0;
    for (index_t i = 0; i < s.kernel.kh; ++i)
        for (index_t j = 0; j < s.kernel.kw; ++j) {
            bool any = false;
            const float** row = rows + runs * height;
            for (index_t r = 0; r < height; ++r) {
                const float* from = s.under(origin_of(first_pixel + r, s.output_columns, s.params), i, j);
                any = any || from != nullptr;
                row[r] = from != nullptr ? from : zeros;
            }
            if (any) depth[runs++] = (i * s.kernel.kw + j) * s.x.shape.c;
        }
    return runs;
}

/// Copies one row's channels under one tap, times gate and spatial factor. `gate` may be null.
inline void pack_run(const float* from, index_t stride, const float* gate, float spatial, index_t channels, float* to) noexcept {
    index_t c = 0;
    if (stride == 1) {
        const simd::vec s = simd::broadcast(spatial);
        for (; c + simd::lanes <= channels; c += simd::lanes) {
            const simd::vec factor = gate != nullptr ? s * simd::load(gate + c) : s;
            simd::store(to + c, simd::load(from + c) * factor);
        }
    }
    for (; c < channels; ++c) to[c] = from[c * stride] * (gate != nullptr ? spatial * gate[c] : spatial);
}

/// im2col of one tile with the factors applied on the way: packed[r][tap][channel] = x * s[tap] * g[channel], padding
/// becomes zeros. Any strides of the input. `gate` [channels] and `spatial` [taps] may be null.
inline void pack_rows(const window_source& s, index_t first_pixel, index_t height, const float* gate, const float* spatial,
                      float* packed) noexcept {
    const index_t channels = s.x.shape.c, depth = s.kernel.taps() * channels;
    for (index_t r = 0; r < height; ++r) {
        const window_origin origin = origin_of(first_pixel + r, s.output_columns, s.params);
        for (index_t i = 0; i < s.kernel.kh; ++i)
            for (index_t j = 0; j < s.kernel.kw; ++j) {
                const index_t tap = i * s.kernel.kw + j;
                float* to = packed + r * depth + tap * channels;
                const float* from = s.under(origin, i, j);
                if (from == nullptr)
                    for (index_t c = 0; c < channels; ++c) to[c] = 0.0F;
                else
                    pack_run(from, s.x.stride.c, gate, spatial != nullptr ? spatial[tap] : 1.0F, channels, to);
            }
    }
}

}  // namespace kdna::inline KDNA_ABI::conv
