// Convolution with a kernel of its own at every position, channels in the vectors.
#pragma once

#include <kdna/conv/epilogue.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/dna/position_kernel.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// One call: y = act( m * (sum over taps of w(x0, i) * xi) + b + residual ), zeros around the map.
struct position_call {
    tensor_view<const float> x;  ///< stride.c == 1
    tensor_view<float> y;
    tensor_view<const float> residual;  ///< data is null where there is none
    const float* scale;                 ///< m [C], readable for whole vectors past the last channel
    const float* shift;                 ///< b [C], likewise
    activation act;                     ///< of_channel, where it has any, likewise
    const float* zeros;                 ///< [C]
    conv_params params{};
};

namespace detail {

/// `Vectors` vectors of channels from c on, all of one group, `count` channels of them (whole vectors unless Vectors is 1).
template <int Vectors>
void weigh_neighbours(const position_call& p, const neighbourhood& at, const float* weights, index_t taps, index_t h,
                      index_t w, index_t c, index_t count) noexcept {
    simd::vec acc[Vectors];
    KDNA_UNROLL
    for (int v = 0; v < Vectors; ++v) acc[v] = simd::zero();
    for (index_t i = 0; i < taps; ++i) {
        const simd::vec weight(weights[i]);
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            const float* from = at.around[i] + c + v * simd::lanes;
            acc[v] = simd::multiply_add(weight, Vectors == 1 ? simd::load_strided(from, 1, count) : simd::load(from),
                                        acc[v]);
        }
    }
    for (int v = 0; v < Vectors; ++v) {
        const index_t first = c + v * simd::lanes;
        const finisher finish(p.scale + first, p.shift + first, range_of(p.act));
        finish(acc[v], p.residual.data != nullptr ? p.residual.at(at.n, first, h, w) : nullptr, p.residual.stride.c,
               p.y.at(at.n, first, h, w), p.y.stride.c, Vectors == 1 ? count : simd::lanes);
    }
}

}  // namespace detail

/// Computes rows [first, last) of the output, counted over all samples. `around` [KH*KW] and `weights` [groups][KH*KW] are scratch.
template <position_kernel Kernel>
void position_nest(const Kernel& kernel, const position_call& p, const float** around, float* weights, index_t first,
                   index_t last) noexcept {
    const extent2 window = kernel.window();
    const index_t taps = window.h * window.w, group = kernel.channels() / kernel.groups();
    const auto& [stride, pad, dilation, mode] = p.params;
    for (index_t row = first; row < last; ++row) {
        const index_t n = row / p.y.shape.h, y_h = row % p.y.shape.h;
        for (index_t y_w = 0; y_w < p.y.shape.w; ++y_w) {
            const index_t top = y_h * stride.h - pad.top, left = y_w * stride.w - pad.left;
            for (index_t i = 0; i < window.h; ++i)
                for (index_t j = 0; j < window.w; ++j) {
                    const index_t h = top + i * dilation.h, w = left + j * dilation.w;
                    const bool outside = h < 0 || h >= p.x.shape.h || w < 0 || w >= p.x.shape.w;
                    around[i * window.w + j] = outside ? p.zeros : p.x.at(n, 0, h, w);
                }
            const neighbourhood at{around[taps / 2], around, n, top + window.h / 2 * dilation.h,
                                   left + window.w / 2 * dilation.w};
            kernel(at, weights);
            for (index_t g = 0; g < kernel.groups(); ++g) {
                index_t c = g * group;
                const index_t end = c + group;
                for (; c + 4 * simd::lanes <= end; c += 4 * simd::lanes)
                    detail::weigh_neighbours<4>(p, at, weights + g * taps, taps, y_h, y_w, c, 0);
                for (; c < end; c += simd::lanes)
                    detail::weigh_neighbours<1>(p, at, weights + g * taps, taps, y_h, y_w, c,
                                                std::min(end - c, simd::lanes));
            }
            if (!is_clamp(p.act))
                activate(p.act, p.y.at(n, 0, y_h, y_w), 1, 0, p.y.stride.c, 0, kernel.channels(), nullptr);
        }
    }
}

}  // namespace kdna::inline KDNA_ABI::conv
