// X-volution's attention: a kernel for every position, from the input itself (dna/position_kernel.hpp).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/program.hpp>
#include <kdna/cuda/programs/convolution.hpp>

namespace kdna::inline KDNA_ABI::cuda {

template <class T>
struct attention_arguments {
    device_span<const T> x{};          ///< [N][H][W] pixels of C channels
    device_span<const T> residual{};   ///< [pixels] of C channels, or none
    int residual_row = 0;              ///< from a pixel of the residual to the next, in elements
    device_span<const float> scale{};  ///< [C]
    device_span<T> y{};                ///< [pixels][C]
    conv_geometry geometry{};
    float factor = 0.0F;
};

/// y(x0) = scale * ( sum over xi in A(x0) of factor * <x0, xi> * xi ) + residual, x0 the middle of the window A.
///
/// Grid: pixels of the output, at_once a block. `lanes` threads share an inner product, each in steps of Width
/// contiguous channels; their parts are added in order. Then a thread computes Width channels of a pixel.
template <class T, int Width>
struct attention_program {
    using arguments = attention_arguments<T>;
    static constexpr const char* name = "attention_program";
    static constexpr int threads = 128, at_once = 8, lanes = 8, products = threads / lanes, most_taps = 1024;
    struct registers {};

    /// parts of inner products | weights [pixel][tap]
    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments& a) {
        return 4 * (threads + at_once * a.geometry.kh * a.geometry.kw);
    }
    [[nodiscard]] static grid_size grid(const arguments& a) {
        return {(a.y.size / a.geometry.channels - 1) / at_once + 1, 1, 1};
    }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const conv_geometry& g = a.geometry;
        const int taps = g.kh * g.kw, first = block.x * at_once, rest = a.y.size / g.channels - first,
                  pixels = rest < at_once ? rest : at_once, weights = 4 * threads;
        KDNA_DEVICE_NO_UNROLL
        for (int begin = 0; begin < pixels * taps; begin += products) {
            block.parallel([&](int thread, registers&) {
                const int product = begin + thread / lanes;
                if (product >= pixels * taps) return;
                const int pixel = first + product / taps, tap = product % taps;
                const int x0 = input_at(g, pixel, g.kh / 2, g.kw / 2), xi = input_at(g, pixel, tap / g.kw, tap % g.kw);
                float sum = 0.0F;
                for (int c = thread % lanes * Width; c < g.channels && x0 >= 0 && xi >= 0; c += lanes * Width) {
                    const auto u = a.x.template load<Width>(x0 + c), v = a.x.template load<Width>(xi + c);
                    KDNA_DEVICE_UNROLL
                    for (int e = 0; e < Width; ++e) sum += to_float(u.v[e]) * to_float(v.v[e]);
                }
                block.store(thread, 4 * thread, pack<float, 1>{{sum}});
            });
            block.sync();
            block.parallel([&](int thread, registers&) {
                if (thread >= products || begin + thread >= pixels * taps) return;
                float sum = 0.0F;
                for (int i = 0; i < lanes; ++i)
                    sum += block.template load<float>(thread, 4 * (thread * lanes + i)).v[0];
                block.store(thread, weights + 4 * (begin + thread), pack<float, 1>{{a.factor * sum}});
            });
            block.sync();
        }
        block.parallel([&](int thread, registers&) {
            KDNA_DEVICE_NO_UNROLL
            for (int i = thread * Width; i < pixels * g.channels; i += threads * Width) {
                const int pixel = i / g.channels, channel = i % g.channels, at = first * g.channels + i;
                float sum[Width] = {};
                KDNA_DEVICE_NO_UNROLL
                for (int tap = 0; tap < taps; ++tap) {
                    const int xi = input_at(g, first + pixel, tap / g.kw, tap % g.kw);
                    if (xi < 0) continue;
                    const float w = block.template load<float>(thread, weights + 4 * (pixel * taps + tap)).v[0];
                    const auto x = a.x.template load<Width>(xi + channel);
                    KDNA_DEVICE_UNROLL
                    for (int e = 0; e < Width; ++e) sum[e] += w * to_float(x.v[e]);
                }
                pack<T, Width> out, residual{};
                if (a.residual) residual = a.residual.template load<Width>((first + pixel) * a.residual_row + channel);
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < Width; ++e)
                    out.v[e] = from_float<T>(a.scale.load(channel + e) * sum[e] + to_float(residual.v[e]));
                a.y.template store<Width>(at, out);
            }
        });
    }

private:
    /// Offset of the input's pixel under a tap, -1 outside of the map.
    KDNA_DEVICE static int input_at(const conv_geometry& g, int pixel, int tap_h, int tap_w) {
        const int n = pixel / g.out_pixels, in_sample = pixel % g.out_pixels;
        const int h = in_sample / g.out_w * g.stride_h - g.pad_top + tap_h * g.dilation_h,
                  w = in_sample % g.out_w * g.stride_w - g.pad_left + tap_w * g.dilation_w;
        const bool inside = h >= 0 && h < g.in_h && w >= 0 && w < g.in_w;
        return inside ? ((n * g.in_h + h) * g.in_w + w) * g.pixel : -1;
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
