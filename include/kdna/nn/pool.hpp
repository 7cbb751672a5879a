// Pooling.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <kdna/core/memory.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/simd/simd.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI {

/// Mean over H and W of each channel of sample n, to mean[C]. Rows are summed in float, the rows' sums in double.
/// Any strides; allocates nothing.
inline void global_average(const tensor_view<const float>& x, index_t n, float* mean) noexcept {
    const double count = static_cast<double>(x.shape.h * x.shape.w);
    index_t c = 0;
    if (x.stride.c == 1) {
        for (; c + simd::lanes <= x.shape.c; c += simd::lanes) {
            double sum[simd::lanes] = {};
            alignas(alignment) float row[simd::lanes];
            for (index_t h = 0; h < x.shape.h; ++h) {
                simd::vec acc = simd::zero();
                const float* from = x.at(n, c, h, 0);
                for (index_t w = 0; w < x.shape.w; ++w) acc = acc + simd::load(from + w * x.stride.w);
                simd::store(row, acc);
                for (index_t l = 0; l < simd::lanes; ++l) sum[l] += static_cast<double>(row[l]);
            }
            for (index_t l = 0; l < simd::lanes; ++l) mean[c + l] = static_cast<float>(sum[l] / count);
        }
    }
    for (; c < x.shape.c; ++c) {
        double sum = 0.0;
        for (index_t h = 0; h < x.shape.h; ++h)
            for (index_t w = 0; w < x.shape.w; ++w) sum += static_cast<double>(x(n, c, h, w));
        mean[c] = static_cast<float>(sum / count);
    }
}

/// Largest value under a window; padding never wins, NaN always does (as in PyTorch).
class max_pool2d {
public:
    /// Throws kdna::error unless the padding is less than the window on every side, so that each window has an input.
    max_pool2d(extent2 window, extent2 stride, padding pad) : window_(window), stride_(stride), pad_(pad) {
        if (window.h < 1 || window.w < 1 || stride.h < 1 || stride.w < 1)
            throw error("max_pool2d", "window and stride >= 1",
                        concat("window ", window.h, "x", window.w, ", stride ", stride.h, "x", stride.w));
        if (std::min({pad.top, pad.bottom, pad.left, pad.right}) < 0 || std::max(pad.top, pad.bottom) >= window.h ||
            std::max(pad.left, pad.right) >= window.w)
            throw error("max_pool2d", concat("padding >= 0 and less than the window ", window.h, "x", window.w),
                        concat(pad.top, ", ", pad.bottom, ", ", pad.left, ", ", pad.right));
    }

    /// Throws kdna::error where the window does not fit.
    [[nodiscard]] shape4 output_shape(const shape4& in) const {
        return {in.n, in.c, output_extent(in.h, window_.h, stride_.h, pad_.top, pad_.bottom, 1, "max_pool2d"),
                output_extent(in.w, window_.w, stride_.w, pad_.left, pad_.right, 1, "max_pool2d")};
    }

    /// x [N, C, H, W] to y [output_shape(x.shape)], any strides.
    void run(const tensor_view<const float>& x, const tensor_view<float>& y) const noexcept {
        for (index_t n = 0; n < y.shape.n; ++n)
            for (index_t h = 0; h < y.shape.h; ++h) run_row(x, y, n, h);
    }
    /// One output row.
    void run_row(const tensor_view<const float>& x, const tensor_view<float>& y, index_t n, index_t h) const noexcept {
        for (index_t w = 0; w < y.shape.w; ++w) pixel(x, y, n, h, w);
    }

private:
    void pixel(const tensor_view<const float>& x, const tensor_view<float>& y, index_t n, index_t h,
               index_t w) const noexcept {
        const index_t top = std::max<index_t>(h * stride_.h - pad_.top, 0),
                      left = std::max<index_t>(w * stride_.w - pad_.left, 0);
        const index_t bottom = std::min(h * stride_.h - pad_.top + window_.h, x.shape.h);
        const index_t right = std::min(w * stride_.w - pad_.left + window_.w, x.shape.w);
        index_t c = 0;
        if (x.stride.c == 1 && y.stride.c == 1)
            for (; c + simd::lanes <= y.shape.c; c += simd::lanes) {
                simd::vec best = simd::load(x.at(n, c, top, left));
                for (index_t i = top; i < bottom; ++i)
                    for (index_t j = left; j < right; ++j)
                        best = simd::max_keep_nan(best, simd::load(x.at(n, c, i, j)));
                simd::store(y.at(n, c, h, w), best);
            }
        for (; c < y.shape.c; ++c) {
            float best = x(n, c, top, left);
            for (index_t i = top; i < bottom; ++i)
                for (index_t j = left; j < right; ++j)
                    if (const float v = x(n, c, i, j); !(v <= best)) best = std::isnan(best) ? best : v;
            y(n, c, h, w) = best;
        }
    }
    extent2 window_, stride_;
    padding pad_;
};

}  // namespace kdna::inline KDNA_ABI
