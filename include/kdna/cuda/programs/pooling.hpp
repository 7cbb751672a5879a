// Pooling: the largest values and the means of windows, and sums and means of channels.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/programs/elementwise.hpp>
#include <kdna/cuda/programs/tile.hpp>

namespace kdna::inline KDNA_ABI::cuda {

template <class T>
struct max_pool_arguments {
    device_span<const T> x{};  ///< [N][H][W][C]
    device_span<T> y{};        ///< [N][OH][OW][C]
    int in_h = 1, in_w = 1, channels = 1, out_h = 1, out_w = 1;
    int window_h = 1, window_w = 1, stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0;
};

/// The largest value under a window; padding never wins, NaN always does. A thread computes Width channels of a pixel.
template <class Number, int Width>
struct max_pool_program : elementwise_program {
    using element = typename Number::element;
    using arguments = max_pool_arguments<element>;
    static constexpr const char* name = "max_pool_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.y.size / Width, [&](int item) {
            const int at = item * Width, c = at % a.channels, pixel = at / a.channels;
            const int ow = pixel % a.out_w, oh = pixel / a.out_w % a.out_h, n = pixel / a.out_w / a.out_h;
            const int top = oh * a.stride_h - a.pad_top, left = ow * a.stride_w - a.pad_left;
            pack<element, Width> best{};
            bool any = false;
            KDNA_DEVICE_NO_UNROLL
            for (int h = top < 0 ? 0 : top; h < top + a.window_h && h < a.in_h; ++h) {
                KDNA_DEVICE_NO_UNROLL
                for (int w = left < 0 ? 0 : left; w < left + a.window_w && w < a.in_w; ++w) {
                    const auto v = a.x.template load<Width>(((n * a.in_h + h) * a.in_w + w) * a.channels + c);
                    KDNA_DEVICE_UNROLL
                    for (int e = 0; e < Width; ++e) {
                        // Not (next <= now): larger, or one of them is NaN; the first NaN stays.
                        const float now = to_float(best.v[e]), next = to_float(v.v[e]);
                        if (!any || (now == now && !(next <= now))) best.v[e] = v.v[e];
                    }
                    any = true;
                }
            }
            a.y.template store<Width>(at, best);
        });
    }
};

template <class T>
struct channel_sums_arguments {
    device_span<const T> x{};  ///< [rows][channels]
    device_sums sums{};
};

/// Sums of the channels of a tensor, where the program that made it did not take them. Grid: tiles of rows; tiles of
/// channels.
template <class Number>
struct channel_sums_program {
    using element = typename Number::element;
    using arguments = channel_sums_arguments<element>;
    static constexpr const char* name = "channel_sums_program";
    static constexpr int threads = 128, columns = 64;
    using sums = sum_tile<summing_rows, columns, threads>;
    struct registers {};
    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments&) { return sums::bytes; }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int first = block.y * columns, rest = a.sums.channels - first, count = rest < columns ? rest : columns;
        const int begin = a.sums.rows.first(block.x);
        sums::fill(block, a.sums.rows.count(block.x), count, [&](int row, int column) {
            return to_float(a.x.load((begin + row) * a.sums.channels + first + column));
        });
        block.sync();
        sums::add_rows(block, a.sums, block.x, first, count);
    }
    /// For all rows of one slice.
    [[nodiscard]] static grid_size grid(const device_sums& s) {
        return {s.rows.tiles_per_slice, (s.channels - 1) / columns + 1, 1};
    }
};

namespace detail {
/// Mean of a channel of a sample: the sums of the tiles that have rows of it, in their order.
KDNA_DEVICE float mean_of(const device_sums& sums, int n, int channel) {
    const tile_rows& r = sums.rows;
    const int slice = n * r.pixels / r.slice_rows, in_slice = n * r.pixels - slice * r.slice_rows;
    const int begin = slice * r.tiles_per_slice + in_slice / r.tile,
              end = slice * r.tiles_per_slice + (in_slice + r.pixels - 1) / r.tile;
    float sum = 0.0F;
    for (int tile = begin; tile <= end; ++tile)
        sum += sums.values.load(sums.at(tile, n - r.first(tile) / r.pixels, channel));
    return sum / static_cast<float>(r.pixels);
}
}  // namespace detail

template <class T>
struct mean_arguments {
    device_sums sums{};
    device_span<T> y{};  ///< [N][channels]
};

/// Means of channels from their sums: global average pooling. A thread computes a channel of a sample.
template <class Number>
struct mean_program : elementwise_program {
    using element = typename Number::element;
    using arguments = mean_arguments<element>;
    static constexpr const char* name = "mean_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.y.size, [&](int i) {
            a.y.store(i, from_float<element>(detail::mean_of(a.sums, i / a.sums.channels, i % a.sums.channels)));
        });
    }
};

template <class T>
struct window_mean_arguments {
    device_span<const T> x{};    ///< [N][H][W][C]
    device_span<float> means{};  ///< [N][C][grid][grid]
    int h = 1, w = 1, channels = 1, grid = 1;
};

/// Means over grid x grid windows of a map, which may overlap, as PyTorch's adaptive average pooling cuts them. Grid:
/// windows of all samples; tiles of channels. A thread adds up a channel in a part of the window's pixels; the parts
/// are added in their order.
template <class Number>
struct window_mean_program {
    using element = typename Number::element;
    using arguments = window_mean_arguments<element>;
    static constexpr const char* name = "window_mean_program";
    static constexpr int threads = 256, columns = 64, parts = threads / columns;
    struct registers {};
    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments&) { return 4 * threads; }
    [[nodiscard]] static grid_size grid(int samples, const arguments& a) {
        return {samples * a.grid * a.grid, (a.channels - 1) / columns + 1, 1};
    }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int n = block.x / (a.grid * a.grid), i = block.x / a.grid % a.grid, j = block.x % a.grid;
        const int top = begin(i, a.h, a.grid), left = begin(j, a.w, a.grid), width = end(j, a.w, a.grid) - left,
                  pixels = (end(i, a.h, a.grid) - top) * width;
        block.parallel([&](int thread, registers&) {
            const int channel = block.y * columns + thread % columns;
            float sum = 0.0F;
            for (int p = thread / columns; p < pixels && channel < a.channels; p += parts)
                sum +=
                    to_float(a.x.load(((n * a.h + top + p / width) * a.w + left + p % width) * a.channels + channel));
            block.store(thread, 4 * thread, pack<float, 1>{{sum}});
        });
        block.sync();
        block.parallel([&](int thread, registers&) {
            const int channel = block.y * columns + thread;
            if (thread >= columns || channel >= a.channels) return;
            float sum = 0.0F;
            for (int part = 0; part < parts; ++part)
                sum += block.template load<float>(thread, 4 * (part * columns + thread)).v[0];
            a.means.store(((n * a.channels + channel) * a.grid + i) * a.grid + j, sum / static_cast<float>(pixels));
        });
    }

private:
    // floor( i * extent / grid ) and ceil( (i + 1) * extent / grid ), without a product that may overflow 32 bits.
    KDNA_DEVICE static int begin(int i, int extent, int grid) { return extent / grid * i + extent % grid * i / grid; }
    KDNA_DEVICE static int end(int i, int extent, int grid) {
        return extent / grid * (i + 1) + (extent % grid * (i + 1) + grid - 1) / grid;
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
