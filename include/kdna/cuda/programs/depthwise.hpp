// Depthwise convolution: every channel with a filter of its own.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/programs/convolution.hpp>

namespace kdna::inline KDNA_ABI::cuda {

template <class T>
struct depthwise_arguments {
    device_span<const T> x{};  ///< [N][H][W] pixels of C channels
    device_span<const T> w{};  ///< [sample][tap][C]
    int sample_stride = 0;     ///< of w; 0: one kernel for all
    conv_geometry geometry{};
    device_factors channel{}, spatial{};
    device_output<T> out{};
};

/// y = act( scale * g[c] * ( sum over t of w[t,c] * s[t] * x[c,p+t] ) + shift + residual )
///
/// Grid: tiles of rows; tiles of channels. A thread computes Width contiguous channels of a pixel at a time, 16 bytes
/// or one. Window: height and width of the kernel, so that the loads of several taps overlap; 0: any kernel, tap by
/// tap.
template <class Number, int Width, int Window>
struct depthwise_program {
    using element = typename Number::element;
    using arguments = depthwise_arguments<element>;
    static constexpr const char* name = "depthwise_program";
    static constexpr int threads = 128, columns = 64, groups = columns / Width;
    using sums = sum_tile<finishing_rows, columns, threads>;
    struct registers {};

    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments&) { return sums::bytes; }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int first = block.y * columns, rest = a.geometry.channels - first,
                  count = rest < columns ? rest : columns;
        block.parallel([&](int thread, registers&) {
            const int in_tile = a.out.rows.count(block.x), first_row = a.out.rows.first(block.x);
            const int column = thread % groups * Width;
            if (column >= count) return;
            KDNA_DEVICE_NO_UNROLL
            for (int row = thread / groups; row < in_tile; row += threads / groups)
                pixel(block, thread, a, first_row + row, first + column, row, column);
        });
        block.sync();
        sums::finish(block, a.out, block.x, first, count);
    }

private:
    template <class Block>
    KDNA_DEVICE static void pixel(Block& block, int thread, const arguments& a, int row, int channel, int tile_row,
                                  int column) {
        const conv_geometry& g = a.geometry;
        const int n = row / g.out_pixels, in_sample = row % g.out_pixels;
        const int top = in_sample / g.out_w * g.stride_h - g.pad_top,
                  left = in_sample % g.out_w * g.stride_w - g.pad_left;
        float sum[Width] = {};
        const auto add_tap = [&](int i, int j) {
            const int h = g.on_map(top + i * g.dilation_h, g.in_h), w = g.on_map(left + j * g.dilation_w, g.in_w),
                      tap = i * g.kw + j;
            // No branch around the rest: it would delay the loads of the next tap.
            pack<element, Width> x{};
            if (h >= 0 && h < g.in_h && w >= 0 && w < g.in_w)
                x = a.x.template load<Width>(((n * g.in_h + h) * g.in_w + w) * g.pixel + channel);
            const auto k = a.w.template load<Width>(n * a.sample_stride + tap * g.channels + channel);
            const float s = a.spatial ? a.spatial.values.load(n * a.spatial.stride + tap) : 1.0F;
            KDNA_DEVICE_UNROLL
            for (int e = 0; e < Width; ++e) sum[e] += to_float(k.v[e]) * s * to_float(x.v[e]);
        };
        if constexpr (Window > 0) {
            KDNA_DEVICE_UNROLL
            for (int i = 0; i < Window; ++i) {
                KDNA_DEVICE_UNROLL
                for (int j = 0; j < Window; ++j) add_tap(i, j);
            }
        } else {
            KDNA_DEVICE_NO_UNROLL
            for (int i = 0; i < g.kh; ++i) {
                KDNA_DEVICE_NO_UNROLL
                for (int j = 0; j < g.kw; ++j) add_tap(i, j);
            }
        }
        constexpr int floats = Width < 4 ? Width : 4;
        KDNA_DEVICE_UNROLL
        for (int e = 0; e < Width; e += floats) {
            pack<float, floats> v;
            KDNA_DEVICE_UNROLL
            for (int j = 0; j < floats; ++j) v.v[j] = sum[e + j];
            if (a.channel) {
                const auto gate = a.channel.values.template load<floats>(n * a.channel.stride + channel + e);
                KDNA_DEVICE_UNROLL
                for (int j = 0; j < floats; ++j) v.v[j] *= gate.v[j];
            }
            block.store(thread, sums::at(tile_row, column + e), v);
        }
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
