// Definitions of pool.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <kdna/core/arithmetic.hpp>
#include <kdna/nn/pool.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// Sums over H and W of `Vectors` vectors of channels, row by row and then over the rows: a rounding error grows with H + W.
template <int Vectors>
void sum_channels(const tensor_view<const float>& x, index_t n, index_t c, simd::vec (&sum)[Vectors]) noexcept {
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) sum[j] = simd::zero();
    for (index_t h = 0; h < x.shape.h; ++h) {
        simd::vec row[Vectors];
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) row[j] = simd::zero();
        const float* from = x.at(n, c, h, 0);
        for (index_t w = 0; w < x.shape.w; ++w, from += x.stride.w) {
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j) row[j] = row[j] + simd::load(from + j * simd::lanes);
        }
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) sum[j] = sum[j] + row[j];
    }
}

}  // namespace detail

KDNA_FUNC void global_average(const tensor_view<const float>& x, index_t n, float* mean, index_t first,
                              index_t last) noexcept {
    const float share = 1.0F / static_cast<float>(x.shape.h * x.shape.w);
    const auto average = [&]<int Vectors>(index_t c) {
        simd::vec sum[Vectors];
        detail::sum_channels<Vectors>(x, n, c, sum);
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) simd::store(mean + c + j * simd::lanes, sum[j] * simd::vec(share));
    };
    index_t c = first;
    if (x.stride.c == 1) {
        for (; c + 4 * simd::lanes <= last; c += 4 * simd::lanes) average.template operator()<4>(c);
        for (; c + simd::lanes <= last; c += simd::lanes) average.template operator()<1>(c);
    }
    for (; c < last; ++c) {
        float sum = 0.0F;
        for (index_t h = 0; h < x.shape.h; ++h) {
            float row = 0.0F;
            for (index_t w = 0; w < x.shape.w; ++w) row += x(n, c, h, w);
            sum += row;
        }
        mean[c] = sum * share;
    }
}

KDNA_FUNC void global_average(const tensor_view<const float>& x, index_t n, float* mean) noexcept {
    global_average(x, n, mean, 0, x.shape.c);
}

KDNA_FUNC void pool_samples(const tensor_view<const float>& x, float* mean, index_t stride,
                            const executor_ref& executor) noexcept {
    constexpr index_t unit = 4 * simd::lanes;
    const index_t units = ceil_div(x.shape.c, unit),
                  chunks = std::min(units, ceil_div(executor.concurrency(), x.shape.n));
    executor.parallel_for(x.shape.n * chunks, [&](index_t task) {
        const index_t n = task / chunks, chunk = task % chunks;
        global_average(x, n, mean + n * stride, units * chunk / chunks * unit,
                       std::min(units * (chunk + 1) / chunks * unit, x.shape.c));
    });
}

KDNA_FUNC void adaptive_average(const tensor_view<const float>& x, index_t n, index_t grid, float* mean,
                                float* scratch) noexcept {
    const auto begin = [grid](index_t i, index_t extent) { return i * extent / grid; };
    const auto end = [grid](index_t i, index_t extent) { return ((i + 1) * extent + grid - 1) / grid; };
    for (index_t i = 0; i < grid; ++i)
        for (index_t j = 0; j < grid; ++j) {
            const index_t top = begin(i, x.shape.h), left = begin(j, x.shape.w);
            const tensor_view<const float> window{
                x.at(n, 0, top, left), {1, x.shape.c, end(i, x.shape.h) - top, end(j, x.shape.w) - left}, x.stride};
            global_average(window, 0, scratch);
            for (index_t c = 0; c < x.shape.c; ++c) mean[(c * grid + i) * grid + j] = scratch[c];
        }
}

KDNA_FUNC max_pool2d::max_pool2d(extent2 window, extent2 stride, padding pad)
    : window_(window), stride_(stride), pad_(pad) {
    if (window.h < 1 || window.w < 1 || stride.h < 1 || stride.w < 1)
        throw error("max_pool2d", "window and stride >= 1",
                    concat("window ", window.h, "x", window.w, ", stride ", stride.h, "x", stride.w));
    if (std::min({pad.top, pad.bottom, pad.left, pad.right}) < 0 || std::max(pad.top, pad.bottom) >= window.h ||
        std::max(pad.left, pad.right) >= window.w)
        throw error("max_pool2d", concat("padding >= 0 and less than the window ", window.h, "x", window.w),
                    concat(pad.top, ", ", pad.bottom, ", ", pad.left, ", ", pad.right));
}

KDNA_FUNC shape4 max_pool2d::output_shape(const shape4& in, std::string_view where) const {
    return {in.n, in.c, output_extent(in.h, window_.h, stride_.h, pad_.top, pad_.bottom, 1, where),
            output_extent(in.w, window_.w, stride_.w, pad_.left, pad_.right, 1, where)};
}

KDNA_FUNC void max_pool2d::run(const tensor_view<const float>& x, const tensor_view<float>& y) const noexcept {
    for (index_t n = 0; n < y.shape.n; ++n)
        for (index_t h = 0; h < y.shape.h; ++h) run_row(x, y, n, h);
}

KDNA_FUNC void max_pool2d::run_row(const tensor_view<const float>& x, const tensor_view<float>& y, index_t n, index_t h,
                                   index_t x_first, index_t y_first) const noexcept {
    const index_t top = std::max<index_t>(h * stride_.h - pad_.top, 0),
                  bottom = std::min(h * stride_.h - pad_.top + window_.h, x.shape.h);
    for (index_t w = 0; w < y.shape.w; ++w) pixel(x, y, n, top - x_first, bottom - x_first, h - y_first, w);
}

KDNA_FUNC void max_pool2d::pixel(const tensor_view<const float>& x, const tensor_view<float>& y, index_t n, index_t top,
                                 index_t bottom, index_t h, index_t w) const noexcept {
    const index_t left = std::max<index_t>(w * stride_.w - pad_.left, 0),
                  right = std::min(w * stride_.w - pad_.left + window_.w, x.shape.w);
    index_t c = 0;
    if (x.stride.c == 1 && y.stride.c == 1)
        for (; c + simd::lanes <= y.shape.c; c += simd::lanes) {
            simd::vec best = simd::load(x.at(n, c, top, left));
            for (index_t i = top; i < bottom; ++i)
                for (index_t j = left; j < right; ++j) best = simd::max_keep_nan(best, simd::load(x.at(n, c, i, j)));
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

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
