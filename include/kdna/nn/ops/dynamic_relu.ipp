// Definitions of nn/ops/dynamic_relu.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/nn/ops/dynamic_relu.hpp>
#include <kdna/simd/activation.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::ops {
namespace detail {

/// Channels whose lines are computed at a time: they stay in L1 while the pixels pass by.
inline constexpr index_t dynamic_relu_channels = 128;
/// Pixels of a map that are worth a thread.
inline constexpr index_t dynamic_relu_grain = 512;

/// The lines [2M][dynamic_relu_channels] of some channels of a sample: slopes, then intercepts.
inline void dynamic_relu_lines(const nd_view<const float>& theta, index_t n, index_t first, index_t count,
                               index_t lines, float* to) noexcept {
    const float* from = theta.data + n * theta.stride[0] + first * 2 * lines * theta.stride[1];
    for (index_t j = 0; j < 2 * lines; ++j) {
        float* row = to + j * dynamic_relu_channels;
        for (index_t c = 0; c < count; ++c) row[c] = from[(c * 2 * lines + j) * theta.stride[1]];
        simd::activate(activation_kind::sigmoid, row, count);
        const float scale = j < lines ? 2.0F : 1.0F, shift = j == 0 ? 0.0F : j < lines ? -1.0F : -0.5F;
        for (index_t c = 0; c < count; ++c) row[c] = scale * row[c] + shift;
        std::fill(row + count, row + (count + simd::lanes - 1) / simd::lanes * simd::lanes, 0.0F);
    }
}

/// One row of pixels, `count` channels of each. `Contiguous`: the channels of x and y.
template <bool Contiguous>
void dynamic_relu_row(const float* x, float* y, index_t pixels, index_t x_pixel, index_t y_pixel, index_t x_channel,
                      index_t y_channel, index_t count, index_t lines, const float* of) noexcept {
    for (index_t p = 0; p < pixels; ++p, x += x_pixel, y += y_pixel)
        for (index_t c = 0; c < count; c += simd::lanes) {
            const index_t some = std::min(simd::lanes, count - c);
            const bool whole = Contiguous && some == simd::lanes;
            const simd::vec v = whole ? simd::load(x + c) : simd::load_strided(x + c * x_channel, x_channel, some);
            const auto line = [&](index_t m) {
                return simd::multiply_add(simd::load(of + m * dynamic_relu_channels + c), v,
                                          simd::load(of + (lines + m) * dynamic_relu_channels + c));
            };
            simd::vec best = line(0);
            for (index_t m = 1; m < lines; ++m) best = simd::max_keep_nan(best, line(m));
            if (whole)
                simd::store(y + c, best);
            else
                simd::store_strided(y + c * y_channel, best, y_channel, some);
        }
}

}  // namespace detail

KDNA_FUNC nd_shape dynamic_relu::output_shape(input_shapes in, std::string_view where) const {
    require_inputs(in, 2, where);
    const nd_shape &x = in[0], &theta = in[1];
    static_cast<void>(element_count(x, where));
    if (x.rank() != 4) throw error(std::string(where), "an image [N, C, H, W]", to_string(x));
    const bool row = theta.rank() == 2 || (theta.rank() == 4 && theta[2] == 1 && theta[3] == 1);
    const index_t lines = row && theta[1] % (2 * x[1]) == 0 ? theta[1] / (2 * x[1]) : 0;
    if (lines < 1 || lines > most_lines || theta[0] != x[0])
        throw error(concat(where, " coefficients"), concat("[", x[0], ", ", x[1], " * 2M], M from 1 to ", most_lines),
                    to_string(theta));
    return x;
}

KDNA_FUNC void dynamic_relu::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    const nd_view<const float>&x = in[0], &theta = in[1];
    const index_t channels = x.shape[1], lines = theta.shape[1] / (2 * channels), height = x.shape[2],
                  width = x.shape[3], samples = x.shape[0];
    const index_t rows_each = std::max<index_t>(1, detail::dynamic_relu_grain / std::max<index_t>(width, 1)),
                  bands = (height + rows_each - 1) / rows_each;
    const bool contiguous = x.stride[1] == 1 && y.stride[1] == 1;
    const auto band = [&](index_t task) {
        const index_t n = task / bands, first_row = task % bands * rows_each,
                      end = std::min(first_row + rows_each, height);
        float of[2 * most_lines * detail::dynamic_relu_channels];
        for (index_t c = 0; c < channels; c += detail::dynamic_relu_channels) {
            const index_t count = std::min(channels - c, detail::dynamic_relu_channels);
            detail::dynamic_relu_lines(theta, n, c, count, lines, of);
            for (index_t h = first_row; h < end; ++h) {
                const float* from = x.data + n * x.stride[0] + c * x.stride[1] + h * x.stride[2];
                float* to = y.data + n * y.stride[0] + c * y.stride[1] + h * y.stride[2];
                const auto row = contiguous ? detail::dynamic_relu_row<true> : detail::dynamic_relu_row<false>;
                row(from, to, width, x.stride[3], y.stride[3], x.stride[1], y.stride[1], count, lines, of);
            }
        }
    };
    executor.parallel_for(samples * bands, band);
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
