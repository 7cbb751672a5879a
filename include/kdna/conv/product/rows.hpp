// The input side of the matrix product: which floats stand in each row of a tile.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/shape.hpp>
#include <kdna/simd/simd.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv::product {

/// Position of an output pixel's window: the input row and column of its first tap, either may lie in the padding.
struct window_origin {
    index_t h, w;
};

/// One sample and one group of a channels-last input, and the kernel that slides over it.
struct window_source {
    tensor_view<const float> x;  ///< one sample, the group's channels; stride.c == 1
    kernel_shape kernel;
    conv_params params;
    index_t first_row = 0;  ///< of the map that is the view's row 0

    /// Where the window's first tap would be read, from x.data on; on the map or not.
    [[nodiscard]] index_t offset(const window_origin& origin) const noexcept {
        return (origin.h - first_row) * x.stride.h + origin.w * x.stride.w;
    }
    /// Whether the windows from `first` to `last`, neighbours in a row, lie on the map as a whole.
    [[nodiscard]] bool inside(const window_origin& first, const window_origin& last) const noexcept {
        return first.h >= 0 && first.w >= 0 && first.h + (kernel.kh - 1) * params.dilation.h < x.shape.h &&
               last.w + (kernel.kw - 1) * params.dilation.w < x.shape.w;
    }
    /// First channel of the input element under tap (i, j), or null where that is padding.
    [[nodiscard]] const float* under(const window_origin& origin, index_t i, index_t j) const noexcept {
        const index_t h = origin.h + i * params.dilation.h, w = origin.w + j * params.dilation.w;
        if (h < 0 || h >= x.shape.h || w < 0 || w >= x.shape.w) return nullptr;
        return x.data + ((h - first_row) * x.stride.h + w * x.stride.w);
    }
};

/// Windows of neighbouring output pixels of a row.
struct window_piece {
    window_origin origin;  ///< of the first
    index_t count;
};

/// The windows of a tile: pieces of rows, where their first taps lie (offsets from x.data), and whether all lie on the
/// map.
struct tile_windows {
    const window_piece* pieces;
    const index_t* offsets;
    index_t height;
    index_t stride_w;
    index_t count = 0;  ///< pieces
    bool inside = true;

    /// Calls f(row of the tile, origin of its window) for all rows.
    template <class F>
    void for_each(const F& f) const {
        for (index_t i = 0, r = 0; i < count; ++i)
            for (index_t j = 0; j < pieces[i].count; ++j)
                f(r++, window_origin{pieces[i].origin.h, pieces[i].origin.w + j * stride_w});
    }
};

/// Points the rows of a tile straight at the input, one run of channels per tap: rows [taps][height], depth [taps].
/// Returns the number of runs.
///
/// Padding points at `zeros`, a run of zeros. A tap that is padding for the whole tile is left out (on a 7x7 map with
/// padding 1 that is a good part of the work), and so is one whose factor in `spatial` [taps] (or null) is zero.
inline index_t point_rows(const window_source& s, const tile_windows& windows, const float* spatial, const float* zeros,
                          const float** rows, index_t* depth) noexcept {
    const index_t height = windows.height;
    index_t runs = 0;
    for (index_t i = 0; i < s.kernel.kh; ++i)
        for (index_t j = 0; j < s.kernel.kw; ++j) {
            const index_t tap = i * s.kernel.kw + j;
            if (spatial != nullptr && spatial[tap] == 0.0F) continue;
            const float** row = rows + runs * height;
            if (windows.inside) {
                const index_t to_tap = i * s.params.dilation.h * s.x.stride.h + j * s.params.dilation.w * s.x.stride.w;
                const float* const from = s.x.data + to_tap;
                for (index_t r = 0; r < height; ++r) row[r] = from + windows.offsets[r];
                depth[runs++] = tap * s.x.shape.c;
                continue;
            }
            bool any = false;
            windows.for_each([&](index_t r, const window_origin& origin) {
                const float* from = s.under(origin, i, j);
                any = any || from != nullptr;
                row[r] = from != nullptr ? from : zeros;
            });
            if (any) depth[runs++] = tap * s.x.shape.c;
        }
    return runs;
}

/// The same for an input with few channels whose padding is in memory (stage.hpp): the taps of a kernel row are
/// contiguous, so each kernel row is one run of KW * C floats. rows [KH][height], depth [KH].
inline index_t point_kernel_rows(const window_source& s, const tile_windows& windows, const float** rows,
                                 index_t* depth) noexcept {
    for (index_t i = 0; i < s.kernel.kh; ++i) {
        const index_t to_row = i * s.params.dilation.h * s.x.stride.h;
        const float* const from = s.x.data + to_row;
        const float** const row = rows + i * windows.height;
        for (index_t r = 0; r < windows.height; ++r) row[r] = from + windows.offsets[r];
        depth[i] = i * s.kernel.kw * s.x.shape.c;
    }
    return s.kernel.kh;
}

/// Factors between the runs of a tile, so that the accumulators end up with the sum over runs of s[t] * (run t): after
/// run t they are multiplied by s[t] / s[t+1], after the last by s[last]. Needs no multiplication per weight or input.
inline void factors_between(const float* spatial, const index_t* depth, index_t channels, index_t runs,
                            float* factors) noexcept {
    for (index_t t = 0; t < runs; ++t) {
        const float s = spatial[depth[t] / channels];
        factors[t] = t + 1 < runs ? s / spatial[depth[t + 1] / channels] : s;
    }
}

/// Whether those quotients are harmless: no factor more than 2^20 times another (zeros are left out). Otherwise a
/// partial sum could overflow on its way, and the factors are multiplied into a copy of the panel instead.
[[nodiscard]] inline bool can_scale_between(const float* spatial, index_t taps) noexcept {
    float least = 0.0F, largest = 0.0F;
    for (index_t t = 0; t < taps; ++t) {
        const float s = spatial[t] < 0.0F ? -spatial[t] : spatial[t];
        if (!(s <= 1e18F)) return false;
        if (s == 0.0F) continue;
        least = least == 0.0F || s < least ? s : least;
        largest = s > largest ? s : largest;
    }
    return largest <= least * 1048576.0F && (least == 0.0F || least >= 1e-18F);
}

/// Copies the windows of a tile, so that a row is one run: packed[r][tap][channel], padding becomes zeros. For groups
/// with few channels.
inline void pack_rows(const window_source& s, const tile_windows& windows, index_t row_floats, float* packed) noexcept {
    const index_t channels = s.x.shape.c;
    windows.for_each([&](index_t r, const window_origin& origin) {
        float* to = packed + r * row_floats;
        for (index_t i = 0; i < s.kernel.kh; ++i)
            for (index_t j = 0; j < s.kernel.kw; ++j, to += channels) {
                const float* from = s.under(origin, i, j);
                for (index_t c = 0; c < channels; ++c) to[c] = from != nullptr ? from[c] : 0.0F;
            }
    });
}

/// One window, packed once for each of n kernels: packed[kernel][channel][tap] = mixture[kernel] * s[t] * g[c] * x.
/// `spatial` and `gate` may be null: ones.
inline void pack_mixed_row(const window_source& s, const window_origin& origin, const float* mixture, index_t n,
                           const float* spatial, const float* gate, float* packed) noexcept {
    const index_t channels = s.x.shape.c, taps = s.kernel.taps();
    for (index_t i = 0; i < s.kernel.kh; ++i)
        for (index_t j = 0; j < s.kernel.kw; ++j) {
            const index_t t = i * s.kernel.kw + j;
            const float* from = s.under(origin, i, j);
            const float factor = spatial != nullptr ? spatial[t] : 1.0F;
            for (index_t c = 0; c < channels; ++c)
                packed[c * taps + t] = from == nullptr ? 0.0F : from[c] * factor * (gate != nullptr ? gate[c] : 1.0F);
        }
    for (index_t k = n - 1; k >= 0; --k)
        for (index_t d = 0; d < channels * taps; ++d) packed[k * channels * taps + d] = packed[d] * mixture[k];
}

}  // namespace kdna::inline KDNA_ABI::conv::product

#include <kdna/core/macros_pop.hpp>
