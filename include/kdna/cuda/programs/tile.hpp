// How a tile of sums is finished: scale, shift, residual, activation, the output, and the sums of its channels.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/activation_functions.hpp>
#include <kdna/cuda/device/span.hpp>
#include <kdna/cuda/programs/product.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// An activation as programs take it. A clamp is applied as its interval. The formulas of the others (core/) are applied by a
/// finishing loop of their own, so that the loop of clamps has no more instructions and registers than it needs.
struct device_activation {
    clamp_range range = range_of(activation_kind::none);
    bool clamps = true;
    activation_kind kind = activation_kind::none;
    float number = 0.0F;                    ///< a, or
    device_span<const float> of_channel{};  ///< that of each channel

    device_activation() = default;
    device_activation(const activation& act, const device_span<const float>& channels)
        : range(range_of(act.kind)),
          clamps(is_clamp(act.kind)),
          kind(act.kind),
          number(act.number),
          of_channel(channels) {}

    /// NaN stays.
    KDNA_DEVICE float clamp(float v) const { return v < range.low ? range.low : v > range.high ? range.high : v; }
    KDNA_DEVICE float operator()(float v, int channel) const {
        return activated<float>(kind, v, of_channel ? of_channel.load(channel) : number);
    }
};

/// How the rows of a matrix of pixels x channels, dense NHWC, are cut into tiles. A slice is the whole batch, or one
/// sample where every sample has a kernel of its own. Tiles end where their slice ends.
struct tile_rows {
    int pixels = 1;           ///< H * W of a sample
    int slice_rows = 1;       ///< rows of a slice
    int tiles_per_slice = 1;  ///< tiles of `tile` rows in a slice
    int tile = 1;

    [[nodiscard]] static constexpr tile_rows cut(int pixels, int slice_rows, int tile) {
        return {pixels, slice_rows, (slice_rows - 1) / tile + 1, tile};
    }
    KDNA_HOST_DEVICE int first(int index) const {
        return index / tiles_per_slice * slice_rows + index % tiles_per_slice * tile;
    }
    KDNA_HOST_DEVICE int count(int index) const {
        const int rest = slice_rows - index % tiles_per_slice * tile;
        return rest < tile ? rest : tile;
    }
    /// The most samples that a tile has rows of.
    KDNA_HOST_DEVICE int slots() const { return slice_rows == pixels ? 1 : (tile - 1) / pixels + 2; }
};

/// Rows of the tiles of programs without a product: those that finish an output, and those that only add up an input.
inline constexpr int finishing_rows = 32, summing_rows = 64;

/// Sums over the pixels of every sample and channel, tile by tile: values[tile][slot][channel], where slot counts the
/// samples of a tile. A mean adds them up in the order of the tiles, so that its bits are always the same.
struct device_sums {
    device_span<float> values{};
    tile_rows rows{};
    int channels = 0;
    KDNA_HOST_DEVICE explicit operator bool() const { return static_cast<bool>(values); }
    KDNA_DEVICE int at(int tile, int slot, int channel) const {
        return (tile * rows.slots() + slot) * channels + channel;
    }
};

/// y = act( scale * sum + shift + residual ), y and residual [rows][channels].
template <class T>
struct device_output {
    device_span<T> y{};
    device_span<const T> residual{};
    int y_row = 0, residual_row = 0;  ///< from a row to the next, in elements
    bool whole_rows = false;          ///< whether rows of both begin, and end, between packs of 16 bytes
    device_factors scale{}, shift{};  ///< [channels] each
    device_sums sums{};               ///< of the values as they are stored
    tile_rows rows{};
    int channels = 0;
    device_activation act{};
};

/// A tile of sums in shared memory: rows of Columns floats, and 8 more, so that the pairs of floats which half of a
/// warp stores lie in different banks. In the second half of every 64 columns, neighbouring groups of four floats are
/// exchanged, so that 16-byte reads which are 32 bytes apart lie in different banks as well.
template <int Rows, int Columns, int Threads>
struct sum_tile {
    static constexpr int stride = (Columns + 8) * static_cast<int>(sizeof(float)), bytes = Rows * stride;

    /// Where a sum lies, in bytes. The column of four sums that are read at once is a multiple of 4.
    KDNA_HOST_DEVICE static constexpr int at(int row, int column) {
        return row * stride + ((column * 4) ^ (column / 32 % 2 * 16));
    }

    /// Stores f(row, column) in the tile's rows [0, rows) and columns [0, count).
    template <class Block, class F>
    KDNA_DEVICE static void fill(Block& block, int rows, int count, F&& f) {
        block.parallel([&](int thread, auto&) {
            for (int i = thread; i < rows * Columns; i += Threads) {
                const int row = i / Columns, column = i % Columns;
                if (column < count) block.store(thread, at(row, column), pack<float, 1>{{f(row, column)}});
            }
        });
    }

    /// Finishes tile `tile` of channels [first, first + count), whose sums lie in shared memory from byte 0 on. Between
    /// the writes of the sums and this, all threads must pass a barrier.
    template <class T, class Block>
    KDNA_DEVICE static void finish(Block& block, const device_output<T>& out, int tile, int first, int count) {
        // The filters of a group need not be whole packs: those of the next group follow at once.
        const auto clamp = [&](float v, int) { return out.act.clamp(v); };
        if (!out.act.clamps)
            finish_columns<1>(block, out, tile, first, count, out.act);
        else if (out.whole_rows && first % wide<T> == 0 && count % wide<T> == 0)
            finish_columns<wide<T>>(block, out, tile, first, count, clamp);
        else
            finish_columns<1>(block, out, tile, first, count, clamp);
        if (out.sums) {
            block.sync();
            add_rows(block, out.sums, tile, first, count);
        }
    }

    /// Adds up the rows of every sample in the tile.
    template <class Block>
    KDNA_DEVICE static void add_rows(Block& block, const device_sums& sums, int tile, int first, int count) {
        block.parallel([&](int thread, auto&) {
            const int rows = sums.rows.count(tile), pixels = sums.rows.pixels;
            for (int column = thread; column < Columns && column < count; column += Threads) {
                int row = 0, rest = pixels - sums.rows.first(tile) % pixels;
                for (int slot = 0; row < rows; ++slot, rest = pixels) {
                    float sum = 0.0F;
                    for (const int end = row + rest < rows ? row + rest : rows; row < end; ++row)
                        sum += block.template load<float>(thread, at(row, column)).v[0];
                    sums.values.store(sums.at(tile, slot, first + column), sum);
                }
            }
        });
    }

private:
    /// Width contiguous channels at a time; act(v, channel) is applied to every value.
    template <int Width, class T, class Block, class Act>
    KDNA_DEVICE static void finish_columns(Block& block, const device_output<T>& out, int tile, int first, int count,
                                           const Act& act) {
        block.parallel([&](int thread, auto&) {
            constexpr int groups = Columns / Width, floats = Width < 4 ? Width : 4;
            const int column = thread % groups * Width, channel = first + column;
            if (column >= count) return;
            const int first_row = out.rows.first(tile), rows = out.rows.count(tile);
            pack<float, floats> scale[Width / floats], shift[Width / floats];
            int sample = 0;
            const auto load_factors = [&] {
                KDNA_DEVICE_UNROLL
                for (int i = 0; i < Width / floats; ++i) {
                    scale[i] = factors<floats>(out.scale, sample, channel + i * floats, 1.0F);
                    shift[i] = factors<floats>(out.shift, sample, channel + i * floats, 0.0F);
                }
            };
            const bool varies = out.scale.stride != 0 || out.shift.stride != 0;
            load_factors();
            KDNA_DEVICE_NO_UNROLL
            for (int row = thread / groups; row < rows; row += Threads / groups) {
                if (const int n = (first_row + row) / out.rows.pixels; varies && n != sample) {
                    sample = n;
                    load_factors();
                }
                pack<T, Width> y, residual{};
                if (out.residual)
                    residual = out.residual.template load<Width>((first_row + row) * out.residual_row + channel);
                KDNA_DEVICE_UNROLL
                for (int i = 0; i < Width / floats; ++i) {
                    const int tile_at = at(row, column + i * floats);
                    pack<float, floats> v = block.template load<float, floats>(thread, tile_at);
                    KDNA_DEVICE_UNROLL
                    for (int e = 0; e < floats; ++e) {
                        float s = scale[i].v[e] * v.v[e] + shift[i].v[e];
                        if (out.residual) s += to_float(residual.v[i * floats + e]);
                        y.v[i * floats + e] = from_float<T>(act(s, channel + i * floats + e));
                        v.v[e] = to_float(y.v[i * floats + e]);
                    }
                    if (out.sums) block.store(thread, tile_at, v);
                }
                out.y.template store<Width>((first_row + row) * out.y_row + channel, y);
            }
        });
    }
    template <int Floats>
    KDNA_DEVICE static pack<float, Floats> factors(const device_factors& f, int n, int channel, float otherwise) {
        if (f) return f.values.template load<Floats>(n * f.stride + channel);
        pack<float, Floats> ones;
        KDNA_DEVICE_UNROLL
        for (int i = 0; i < Floats; ++i) ones.v[i] = otherwise;
        return ones;
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
