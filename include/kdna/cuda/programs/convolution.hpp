// Convolution as a product of matrices that never exist in memory: pixels x (taps * channels) times (taps * channels) x
// filters.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/programs/tile.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How the input gets into shared memory.
///     copies        16 bytes at a time by asynchronous copies: no factors, and C/groups a multiple of 16 bytes
///     short_copies  the same 8 bytes at a time, where C/groups is a multiple of those
///     vectors       16 bytes at a time through registers, times g[c] * s[t]
///     elements      one by one through registers, any number of channels
enum class input_path { copies, short_copies, vectors, elements };

[[nodiscard]] constexpr const char* to_string(input_path p) noexcept {
    switch (p) {
        case input_path::copies: return "asynchronous copies";
        case input_path::short_copies: return "asynchronous copies of 8 bytes";
        case input_path::vectors: return "16 bytes through registers";
        case input_path::elements: return "single elements";
    }
    return "";
}

/// A step along the depth: taps down, taps across, channels; each is less than the extent of the kernel or the group.
struct depth_step {
    int h = 0, w = 0, channel = 0;
};

/// Extents and parameters of a convolution, one group at a time.
struct conv_geometry {
    int in_h = 1, in_w = 1, out_w = 1;
    int kh = 1, kw = 1, stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0, dilation_h = 1, dilation_w = 1;
    int channels = 1;  ///< of a pixel of the whole input, as it is stored
    int pixel = 1;     ///< from a pixel of the input to the next, in elements
    int group_channels = 1, group_filters = 1;
    int out_pixels = 1;       ///< of a sample
    depth_step stage_step{};  ///< by the depth of a stage
    bool circular = false;    ///< whether the padding repeats the map, or is zeros

    /// The row or column of the map for coordinate i along an axis of that extent; outside of the map in zero padding.
    KDNA_DEVICE int on_map(int i, int extent) const {
        return !circular ? i : i < 0 ? i + extent : i >= extent ? i - extent : i;
    }
};

/// Kernels on the device: w[sample][group][filter][depth], depth = tap * C/groups + channel, filled with zeros to whole
/// stages (row_bytes). sample_stride 0: one kernel for all samples.
template <class T>
struct device_kernel {
    device_span<const T> w{};
    int depth = 0;  ///< of a filter, with the zeros
    int group_stride = 0, sample_stride = 0;
};

template <class T>
struct convolution_arguments {
    device_span<const T> x{};  ///< [N][H][W] pixels of C channels
    device_kernel<T> kernel{};
    conv_geometry geometry{};
    device_factors channel{}, spatial{};  ///< g[C] and s[KH * KW], for input_path::vectors and elements
    device_output<T> out{};
    device_span<float> parts{};  ///< [part][row][filter] where the depth is cut, else none
    int depth_parts = 1;
};

/// y = act( scale * ( sum over t, c of W[o,c,t] * s[t] * g[c] * x[c,p+t] ) + shift + residual )
///
/// Grid: tiles of rows; tiles of a group's filters; groups * depth_parts. The weights are copied through `stages`
/// asynchronous stages, and so is the input where it needs no factors. An input with factors is loaded into registers
/// one stage ahead, while the stage before it is multiplied. Where the depth is cut into parts, every part writes its
/// sums, and convolution_finish_program adds them up and finishes the output.
template <class Number, class Tile, input_path Path>
struct convolution_program {
    using element = typename Number::element;
    using multiply = tile_product<Number, Tile>;
    using arguments = convolution_arguments<element>;
    using sums = sum_tile<Tile::rows, Tile::columns, Tile::threads>;
    static constexpr const char* name = "convolution_program";
    static constexpr int threads = Tile::threads, stages = 4;
    static constexpr int stage_rows = Tile::rows + Tile::columns, stage_bytes = stage_rows * row_bytes;
    static constexpr int stage_depth = row_bytes / static_cast<int>(sizeof(element));
    /// Elements of one load, loads in a row of a stage, rows that all threads together load at once, and loads of a
    /// thread in a stage.
    template <int Bytes, int Rows>
    struct loads_of {
        static constexpr int bytes = Bytes, width = Bytes / static_cast<int>(sizeof(element)),
                             across = row_bytes / Bytes, rows_at_once = threads / across, count = Rows / rows_at_once;
        static_assert(rows_at_once % 8 == 0, "kdna: what a thread loads has the same place in all its rows");
        KDNA_DEVICE static int row(int thread) { return thread / across; }
        KDNA_DEVICE static int depth(int thread) { return thread % across * width; }
        /// Where a thread's first load goes, in bytes, for rows from `first` on; its other loads follow `apart` bytes
        /// from one another.
        KDNA_DEVICE static int at(int thread, int first) {
            const int byte = thread % across * Bytes;
            return stage_at(first + row(thread), byte / 16) + byte % 16;
        }
        static constexpr int apart = rows_at_once * row_bytes;
    };
    using x_load = loads_of<Path == input_path::short_copies ? 8 : 16, Tile::rows>;
    using w_load = loads_of<16, Tile::columns>;
    static constexpr bool copied = Path == input_path::copies || Path == input_path::short_copies;
    static constexpr int width = x_load::width, x_loads = x_load::count;

    /// The factors of the channels that a thread loads in a row.
    struct loaded_factors {
        pack<float, 4> channel[wide<element> / 4];
        float spatial;
    };
    struct registers {
        typename multiply::registers product;
        // Of the rows that this thread loads: first pixel of the sample, top left of the window, sample.
        int origin[x_loads], top[x_loads], left[x_loads], sample[x_loads];
        // Where in the depth this thread loads next: of the input, and of its first filter in the kernel. (Computing
        // filter_at for every stage took a fifth of the main loop.) Unsigned, as filters behind the last one may lie
        // beyond 2^31.
        int tap_h, tap_w, channel;
        unsigned filter_at;
        // The next stage of the input, in registers; with input_path::vectors also which of the rows are not zeros, and
        // the factors of the first.
        pack<element, width> next[x_loads];
        unsigned inside;
        loaded_factors factors;
    };

    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments&) {
        return sums::bytes > stages * stage_bytes ? sums::bytes : stages * stage_bytes;
    }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int part = block.z % a.depth_parts, group = block.z / a.depth_parts;
        const int first_filter = block.y * Tile::columns;
        const int all = a.kernel.depth / stage_depth;
        const int begin = all * part / a.depth_parts, end = all * (part + 1) / a.depth_parts;
        block.parallel([&](int thread, registers& r) { start(thread, r, a, block.x, group, first_filter, begin); });
        // Copies of stages 0 ... stages - 2 are started before the first product. An input through registers is one
        // stage ahead only.
        KDNA_DEVICE_UNROLL
        for (int s = 0; s < stages - 1; ++s) {
            block.parallel([&](int thread, registers& r) {
                if (begin + s >= end) return;
                if constexpr (copied)
                    copy_input(block, thread, r, a, group, s);
                else if (s == 0) {
                    load_input(r, a, group);
                    store_input(block, thread, r, a, group, 0);
                }
                copy_kernel(block, thread, r, a, first_filter, s);
            });
            block.commit();
        }
        KDNA_DEVICE_NO_UNROLL
        for (int chunk = begin; chunk < end; ++chunk) {
            block.template wait<stages - 2>();
            block.sync();
            const int s = static_cast<int>(static_cast<unsigned>(chunk - begin) % stages), ahead = chunk + stages - 1,
                      to = static_cast<int>(static_cast<unsigned>(s + stages - 1) % stages);
            block.parallel([&](int thread, registers& r) {
                if constexpr (!copied) {
                    if (chunk + 1 < end) load_input(r, a, group);
                }
                if (ahead >= end) return;
                if constexpr (copied) copy_input(block, thread, r, a, group, to);
                copy_kernel(block, thread, r, a, first_filter, to);
            });
            block.commit();
            multiply::add_stage(block, s * stage_bytes, s * stage_bytes + Tile::rows * row_bytes);
            if constexpr (!copied)
                block.parallel([&](int thread, registers& r) {
                    if (chunk + 1 < end) store_input(block, thread, r, a, group, (s + 1) % stages);
                });
        }
        block.template wait<0>();
        block.sync();
        block.parallel([&](int thread, registers& r) { multiply::store(block, thread, r.product, &sums::at); });
        block.sync();
        const int rest = a.geometry.group_filters - first_filter;
        const int filters = rest < Tile::columns ? rest : Tile::columns;
        if (a.depth_parts > 1)
            write_part(block, a, part, group * a.geometry.group_filters + first_filter, filters);
        else
            sums::finish(block, a.out, block.x, group * a.geometry.group_filters + first_filter, filters);
    }

private:
    /// Which pixels the thread loads, and where in the depth it begins.
    KDNA_DEVICE static void start(int thread, registers& r, const arguments& a, int tile, int group, int first_filter,
                                  int begin) {
        multiply::clear(r.product);
        const conv_geometry& g = a.geometry;
        const int rows = a.out.rows.count(tile), first = a.out.rows.first(tile);
        KDNA_DEVICE_UNROLL
        for (int i = 0; i < x_loads; ++i) {
            const int row = x_load::row(thread) + i * x_load::rows_at_once, pixel = first + row;
            const int n = pixel / g.out_pixels, in_sample = pixel % g.out_pixels;
            r.sample[i] = row < rows ? n : 0;
            r.origin[i] = r.sample[i] * g.in_h * g.in_w;
            // A row behind the last one reads from far outside of the map, circular or not: zeros.
            r.top[i] = row < rows ? in_sample / g.out_w * g.stride_h - g.pad_top : -(1 << 28);
            r.left[i] = in_sample % g.out_w * g.stride_w - g.pad_left;
        }
        const int depth = begin * stage_depth + x_load::depth(thread), tap = depth / g.group_channels;
        r.channel = depth % g.group_channels;
        r.tap_h = tap / g.kw;
        r.tap_w = tap % g.kw;
        const int kernel_at =
            tile / a.out.rows.tiles_per_slice * a.kernel.sample_stride + group * a.kernel.group_stride;
        r.filter_at =
            static_cast<unsigned>(kernel_at) +
            static_cast<unsigned>(first_filter + w_load::row(thread)) * static_cast<unsigned>(a.kernel.depth) +
            static_cast<unsigned>(begin * stage_depth + w_load::depth(thread));
    }
    /// Advances along channels and taps. Behind the last tap, tap_h is at least kh, and nothing is loaded.
    KDNA_DEVICE static void advance(int& tap_h, int& tap_w, int& channel, const conv_geometry& g,
                                    const depth_step& by) {
        tap_h += by.h;
        tap_w += by.w;
        channel += by.channel;
        if (channel >= g.group_channels) {
            channel -= g.group_channels;
            ++tap_w;
        }
        if (tap_w >= g.kw) {
            tap_w -= g.kw;
            ++tap_h;
        }
    }
    /// Offset of an element of the input under a tap, -1 in the padding.
    KDNA_DEVICE static int input_at(const registers& r, int i, const conv_geometry& g, int tap_h, int tap_w,
                                    int channel) {
        const int h = g.on_map(r.top[i] + tap_h * g.dilation_h, g.in_h),
                  w = g.on_map(r.left[i] + tap_w * g.dilation_w, g.in_w);
        const bool inside = tap_h < g.kh && h >= 0 && h < g.in_h && w >= 0 && w < g.in_w;
        return inside ? (r.origin[i] + h * g.in_w + w) * g.pixel + channel : -1;
    }

    template <class Block>
    KDNA_DEVICE static void copy_input(Block& block, int thread, registers& r, const arguments& a, int group,
                                       int stage) {
        const conv_geometry& g = a.geometry;
        const int to = stage * stage_bytes + x_load::at(thread, 0);
        KDNA_DEVICE_UNROLL
        for (int i = 0; i < x_loads; ++i) {
            const int at = input_at(r, i, g, r.tap_h, r.tap_w, group * g.group_channels + r.channel);
            block.template copy_async<x_load::bytes>(thread, to + i * x_load::apart,
                                                     a.x.template at<width>(at < 0 ? 0 : at), at >= 0);
        }
        advance(r.tap_h, r.tap_w, r.channel, g, g.stage_step);
    }
    template <class Block>
    KDNA_DEVICE static void copy_kernel(Block& block, int thread, registers& r, const arguments& a, int first_filter,
                                        int stage) {
        const int to = stage * stage_bytes + w_load::at(thread, Tile::rows);
        KDNA_DEVICE_UNROLL
        for (int i = 0; i < w_load::count; ++i) {
            const int filter = first_filter + w_load::row(thread) + i * w_load::rows_at_once;
            const bool valid = filter < a.geometry.group_filters;
            const auto at = static_cast<int>(r.filter_at + static_cast<unsigned>(i * w_load::rows_at_once) *
                                                               static_cast<unsigned>(a.kernel.depth));
            block.template copy_async<16>(thread, to + i * w_load::apart,
                                          a.kernel.w.template at<w_load::width>(valid ? at : 0), valid);
        }
        r.filter_at += stage_depth;
    }

    /// Loads the thread's part of the next stage into registers. Vectors are multiplied by the factors in store_input,
    /// when they have arrived: multiplying here would wait for them.
    KDNA_DEVICE static void load_input(registers& r, const arguments& a, int group) {
        const conv_geometry& g = a.geometry;
        if constexpr (Path == input_path::vectors) {
            r.inside = 0;
            KDNA_DEVICE_UNROLL
            for (int i = 0; i < x_loads; ++i) {
                const int at = input_at(r, i, g, r.tap_h, r.tap_w, group * g.group_channels + r.channel);
                r.next[i] = {};
                if (at < 0) continue;
                r.next[i] = a.x.template load<width>(at);
                r.inside |= 1U << i;
            }
            if (r.inside != 0) r.factors = factors_of(r, a, group, r.sample[0]);
        } else {
            int tap_h = r.tap_h, tap_w = r.tap_w, in_group = r.channel;
            KDNA_DEVICE_UNROLL
            for (int e = 0; e < width; ++e) {
                const int channel = group * g.group_channels + in_group;
                KDNA_DEVICE_UNROLL
                for (int i = 0; i < x_loads; ++i) {
                    const int at = input_at(r, i, g, tap_h, tap_w, channel);
                    r.next[i].v[e] = {};
                    if (at < 0) continue;
                    r.next[i].v[e] = a.x.load(at);
                    if (!a.channel && !a.spatial) continue;
                    float factor = spatial_of(a, r.sample[i], tap_h, tap_w);
                    if (a.channel) factor *= a.channel.values.load(r.sample[i] * a.channel.stride + channel);
                    r.next[i].v[e] = from_float<element>(to_float(r.next[i].v[e]) * factor);
                }
                advance(tap_h, tap_w, in_group, g, {0, 0, 1});
            }
        }
    }
    KDNA_DEVICE static loaded_factors factors_of(const registers& r, const arguments& a, int group, int sample) {
        const int channel = group * a.geometry.group_channels + r.channel;
        loaded_factors f;
        f.spatial = spatial_of(a, sample, r.tap_h, r.tap_w);
        KDNA_DEVICE_UNROLL
        for (int e = 0; e < width / 4; ++e) {
            f.channel[e] = {{1.0F, 1.0F, 1.0F, 1.0F}};
            if (a.channel)
                f.channel[e] = a.channel.values.template load<4>(sample * a.channel.stride + channel + 4 * e);
        }
        return f;
    }
    KDNA_DEVICE static float spatial_of(const arguments& a, int sample, int tap_h, int tap_w) {
        return a.spatial ? a.spatial.values.load(sample * a.spatial.stride + tap_h * a.geometry.kw + tap_w) : 1.0F;
    }
    /// Stores what load_input has loaded in shared memory, and advances to the next stage.
    template <class Block>
    KDNA_DEVICE static void store_input(Block& block, int thread, registers& r, const arguments& a, int group,
                                        int stage) {
        const int to = stage * stage_bytes + x_load::at(thread, 0);
        [[maybe_unused]] int sample = r.sample[0];
        KDNA_DEVICE_UNROLL
        for (int i = 0; i < x_loads; ++i) {
            if constexpr (Path == input_path::vectors)
                if ((r.inside >> i & 1U) != 0) {
                    // Most often all rows are of one sample. Registers for the factors of every row would cost resident
                    // blocks.
                    if (r.sample[i] != sample) r.factors = factors_of(r, a, group, sample = r.sample[i]);
                    KDNA_DEVICE_UNROLL
                    for (int e = 0; e < width; ++e)
                        r.next[i].v[e] = from_float<element>(to_float(r.next[i].v[e]) *
                                                             (r.factors.channel[e / 4].v[e % 4] * r.factors.spatial));
                }
            block.store(thread, to + i * x_load::apart, r.next[i]);
        }
        advance(r.tap_h, r.tap_w, r.channel, a.geometry, a.geometry.stage_step);
    }

    /// Writes the sums of a part of the depth to parts[part][row][filter].
    template <class Block>
    KDNA_DEVICE static void write_part(Block& block, const arguments& a, int part, int first, int count) {
        block.parallel([&](int thread, registers&) {
            const int rows = a.out.rows.count(block.x), begin = a.out.rows.first(block.x);
            const int all_rows = a.parts.size / a.depth_parts / a.out.channels;
            for (int i = thread; i < rows * Tile::columns; i += threads) {
                const int row = i / Tile::columns, column = i % Tile::columns;
                if (column >= count) continue;
                a.parts.store((part * all_rows + begin + row) * a.out.channels + first + column,
                              block.template load<float>(thread, sums::at(row, column)).v[0]);
            }
        });
    }
};

template <class T>
struct convolution_finish_arguments {
    device_span<const float> parts{};  ///< [part][row][channel]
    int depth_parts = 1;
    device_output<T> out{};
};

/// Adds up the parts of the depth in their order, and finishes the output. Grid: tiles of rows; tiles of channels.
template <class Number>
struct convolution_finish_program {
    using element = typename Number::element;
    using arguments = convolution_finish_arguments<element>;
    static constexpr const char* name = "convolution_finish_program";
    static constexpr int threads = 128, columns = 64;
    using sums = sum_tile<finishing_rows, columns, threads>;
    struct registers {};

    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments&) { return sums::bytes; }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int first = block.y * columns, rest = a.out.channels - first, count = rest < columns ? rest : columns;
        const int begin = a.out.rows.first(block.x), part_size = a.parts.size / a.depth_parts;
        sums::fill(block, a.out.rows.count(block.x), count, [&](int row, int column) {
            float sum = 0.0F;
            for (int p = 0; p < a.depth_parts; ++p)
                sum += a.parts.load(p * part_size + (begin + row) * a.out.channels + first + column);
            return sum;
        });
        block.sync();
        sums::finish(block, a.out, block.x, first, count);
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
