// Sums and means of channels, of whole maps and of the windows that routers read.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/programs/elementwise.hpp>
#include <kdna/cuda/programs/image.hpp>
#include <kdna/cuda/programs/tile.hpp>

namespace kdna::inline KDNA_ABI::cuda {

template <class T>
struct channel_sums_arguments {
    device_span<const T> x{};
    device_sums sums{};
    int row = 0;  ///< from a row of x to the next, in elements
};

/// Sums of the channels of a tensor [rows] of channels, where the program that made it did not take them. Grid: tiles of rows; tiles of
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
        sums::fill(block, a.sums.rows.count(block.x), count,
                   [&](int row, int column) { return to_float(a.x.load((begin + row) * a.row + first + column)); });
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
    device_span<T> y{};
    int samples = 1;
    int row = 0;  ///< from a sample of y to the next, in elements
};

/// Means of channels from their sums: global average pooling. A thread computes a channel of a sample.
template <class Number>
struct mean_program : elementwise_program {
    using element = typename Number::element;
    using arguments = mean_arguments<element>;
    static constexpr const char* name = "mean_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.samples * a.sums.channels, [&](int i) {
            const int n = i / a.sums.channels, channel = i % a.sums.channels;
            a.y.store(n * a.row + channel, from_float<element>(detail::mean_of(a.sums, n, channel)));
        });
    }
};

template <class T>
struct window_mean_arguments {
    device_span<const T> x{};    ///< [N][H][W] pixels of C channels
    device_span<float> means{};  ///< [N][C][grid][grid]
    int h = 1, w = 1, channels = 1, grid = 1;
    int pixel = 1;  ///< from a pixel of x to the next, in elements
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
        const int top = detail::window_begin(i, a.h, a.grid), left = detail::window_begin(j, a.w, a.grid),
                  width = detail::window_end(j, a.w, a.grid) - left,
                  pixels = (detail::window_end(i, a.h, a.grid) - top) * width;
        block.parallel([&](int thread, registers&) {
            const int channel = block.y * columns + thread % columns;
            float sum = 0.0F;
            for (int p = thread / columns; p < pixels && channel < a.channels; p += parts)
                sum += to_float(a.x.load(((n * a.h + top + p / width) * a.w + left + p % width) * a.pixel + channel));
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
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
