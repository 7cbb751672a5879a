// The loop nest of a Winograd convolution: blocks of tiles, their transform, products panel by panel, the inverse
// transform.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <span>

#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/winograd/direct.hpp>
#include <kdna/conv/winograd/kernel.hpp>
#include <kdna/conv/winograd/plan.hpp>
#include <kdna/conv/winograd/products.hpp>
#include <kdna/conv/winograd/transforms.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd {
namespace detail {

using conv::detail::part_sums;

/// `tile` is counted over all samples.
[[nodiscard]] inline tile_place place_of(const plan& own, index_t tile) noexcept {
    const index_t per_sample = own.tile_rows * own.tile_columns, part = tile % per_sample;
    return {tile / per_sample, part, part / own.tile_columns * own.m, part % own.tile_columns * own.m};
}

/// B^T (g . x) B of one tile, channels [first, last): v[position * position_stride + channel - first].
///
/// Column by column into a tile in L1, then row by row out of it: 36 or 64 vectors do not fit the registers in any
/// case. The loops over columns and rows stay loops: unrolled they ran slower (F(4x4), 64 channels, 56x56: 892 us for
/// the layer against 767) and compile for longer. Each column prefetches the same column of the next tile to the right,
/// which maps beyond L2 gain by (with the output's lines, below: 64 channels, 224x224, 18 %). At the end of a row that
/// is of no use, and does no harm.
template <int M>
void transform_input(const call& c, const tile_place& tile, index_t first, index_t last, index_t position_stride,
                     float* v) noexcept {
    constexpr int n = transform<M>::inputs;
    const tensor_view<const float>& x = c.x;
    const index_t top = tile.h - c.params.pad.top, left = tile.w - c.params.pad.left;
    const bool rows_inside = top >= 0 && top + n <= x.shape.h;
    const float* gate = c.factors.channel.of(tile.n);
    const float* sample = x.at(tile.n, 0, 0, 0);
    for (index_t ch = first; ch < last; ch += simd::lanes) {
        const index_t count = std::min(last - ch, simd::lanes);
        const simd::vec g = gate != nullptr ? simd::load_strided(gate + ch, 1, count) : simd::zero();
        simd::vec t[n * n];
        for (int j = 0; j < n; ++j) {
            simd::vec d[n];
            if (left + j < 0 || left + j >= x.shape.w) {
                for (int i = 0; i < n; ++i) t[i * n + j] = simd::zero();
                continue;
            }
            const float* column = sample + (left + j) * x.stride.w + ch;
            if (rows_inside && count == simd::lanes) {
                KDNA_UNROLL
                for (int i = 0; i < n; ++i) d[i] = simd::load(column + (top + i) * x.stride.h);
                if (ch % simd::line_floats == 0) {
                    KDNA_UNROLL
                    for (int i = 0; i < n; ++i) simd::prefetch_line(column + M * x.stride.w + (top + i) * x.stride.h);
                }
            } else {
                simd::vec some[n];  // an array of its own, so that d stays in registers
                for (int i = 0; i < n; ++i)
                    some[i] = top + i >= 0 && top + i < x.shape.h
                                  ? simd::load_strided(column + (top + i) * x.stride.h, 1, count)
                                  : simd::zero();
                KDNA_UNROLL
                for (int i = 0; i < n; ++i) d[i] = some[i];
            }
            if (gate != nullptr) {
                KDNA_UNROLL
                for (int i = 0; i < n; ++i) d[i] = d[i] * g;
            }
            transform<M>::input(d, 1, t + j, n);
        }
        float* to = v + (ch - first);
        for (int i = 0; i < n; ++i, to += n * position_stride) {
            simd::vec row[n];
            transform<M>::input(t + i * n, 1, row, 1);
            KDNA_UNROLL
            for (int j = 0; j < n; ++j) simd::store(to + j * position_stride, row[j]);
        }
    }
}

/// A^T m A of one tile and one vector of filters, finished and stored. `m` [position] with a stride. From the first row that is not
/// finite on, the tile is computed directly (0 times infinity is NaN); rows are looked at before they are stored, since the
/// output may be its own residual.
template <int M>
void transform_output(const conv::plan& p, const call& c, const workspace_view& space, const tile_place& tile,
                      index_t filter, index_t count, const float* m, index_t position_stride) noexcept {
    constexpr int n = transform<M>::inputs;
    float* y = c.y.at(tile.n, filter, tile.h, tile.w);
    simd::vec t[M * n];
    for (int j = 0; j < n; ++j) {
        simd::vec d[n];
        KDNA_UNROLL
        for (int i = 0; i < n; ++i) d[i] = simd::load(m + (i * n + j) * position_stride);
        if (j < M && filter % simd::line_floats == 0) {
            const float* next = y + M * c.y.stride.w + j * c.y.stride.h;
            KDNA_UNROLL
            for (int i = 0; i < M; ++i) simd::prefetch_to_write(next + i * c.y.stride.w);
        }
        transform<M>::output(d, 1, t + j, n);
    }
    const finisher finish(c.factors.scale.of(tile.n) + filter, c.factors.shift.of(tile.n) + filter, range_of(c.act));
    const index_t rows = std::min<index_t>(p.out.h - tile.h, M), columns = std::min<index_t>(p.out.w - tile.w, M);
    const bool has_residual = c.residual.data != nullptr;
    const bool whole =
        columns == M && count == simd::lanes && c.y.stride.c == 1 && (!has_residual || c.residual.stride.c == 1);
    const float* residual = has_residual ? c.residual.at(tile.n, filter, tile.h, tile.w) : nullptr;
    simd::vec sum = simd::zero();
    for (index_t i = 0; i < rows; ++i) {
        simd::vec row[M];
        transform<M>::output(t + i * n, 1, row, 1);
        simd::vec check = simd::zero();
        KDNA_UNROLL
        for (int j = 0; j < M; ++j) check = simd::multiply_add(row[j], simd::zero(), check);
        if (simd::has_nan(check)) {
            sum = sum + finish_directly(c, tile, filter, count, i, rows, columns);
            break;
        }
        if (whole && has_residual) {
            KDNA_UNROLL
            for (int j = 0; j < M; ++j)
                sum = sum + finish(row[j], simd::load(residual + j * c.residual.stride.w), y + j * c.y.stride.w);
        } else if (whole) {
            KDNA_UNROLL
            for (int j = 0; j < M; ++j) sum = sum + finish(row[j], y + j * c.y.stride.w);
        } else {
            simd::vec some[M];  // an array of its own, so that row stays in registers
            KDNA_UNROLL
            for (int j = 0; j < M; ++j) some[j] = row[j];
            for (index_t j = 0; j < columns; ++j)
                sum = sum + finish(some[j], has_residual ? residual + j * c.residual.stride.w : nullptr,
                                   c.residual.stride.c, y + j * c.y.stride.w, c.y.stride.c, count);
        }
        y += c.y.stride.h;
        if (has_residual) residual += c.residual.stride.h;
    }
    if (float* sums = part_sums(p, space, tile.n, tile.part); sums != nullptr && is_clamp(c.act))
        add_to(sums + filter, sum, count);
}

/// The input transform of tiles [first, first + count) of a block of `block` tiles: to[part][position][tile][channel of
/// the part].
template <int M>
void transform_tiles(const plan& own, const call& c, index_t block_first, index_t first, index_t count, index_t block,
                     float* to) noexcept {
    constexpr index_t positions = positions_of(M);
    const index_t channels = c.source.layout().shape().i;
    for (index_t i = first; i < first + count; ++i)
        for (index_t part = 0; part < own.input_parts; ++part)
            transform_input<M>(c, place_of(own, block_first + i), part * own.part_channels,
                               std::min((part + 1) * own.part_channels, channels), block * own.row_floats,
                               to + (part * positions * block + i) * own.row_floats);
}

/// G (s . w) G^T of `count` channels of w[tap][channel][filter], taps `tap_stride` floats apart:
/// to[position][channel][filter], positions `stride` floats apart. `spatial` may be null.
///
/// What limits this is the path of the results to L2, about four cycles a vector on Zen 4, not the arithmetic.
template <int M>
void transform_weights(const float* w, index_t tap_stride, const float* spatial, index_t width, index_t count,
                       index_t stride, float* to) noexcept {
    constexpr int n = transform<M>::inputs;
    for (index_t at = 0; at < count * width; at += simd::lanes, to += simd::lanes) {
        simd::vec d[9], half[n * 3];
        KDNA_UNROLL
        for (int t = 0; t < 9; ++t) d[t] = simd::load(w + t * tap_stride + at);
        if (spatial != nullptr) {
            KDNA_UNROLL
            for (int t = 0; t < 9; ++t) d[t] = d[t] * simd::broadcast(spatial[t]);
        }
        KDNA_UNROLL
        for (int j = 0; j < 3; ++j) transform_taps<M>(d + j, 3, half + j, 3);
        KDNA_UNROLL
        for (int i = 0; i < n; ++i) {
            simd::vec row[n];
            transform_taps<M>(half + i * 3, 1, row, 1);
            KDNA_UNROLL
            for (int j = 0; j < n; ++j) simd::store(to + (i * n + j) * stride, row[j]);
        }
    }
}

/// Applies an activation that is no clamp to the stored outputs of a block of tiles, filters of one panel.
KDNA_NOINLINE void activate_tiles(const conv::plan& p, const plan& own, const call& c, const workspace_view& space,
                                  index_t first, index_t count, index_t panel) noexcept {
    const index_t filter = panel * panel_layout::width, filters = c.source.layout().filters_of(panel), m = own.m;
    for (index_t i = 0; i < count; ++i) {
        const auto tile = place_of(own, first + i);
        for (index_t h = tile.h; h < std::min(tile.h + m, p.out.h); ++h)
            activate(c.act, c.y.at(tile.n, 0, h, tile.w), std::min(p.out.w - tile.w, m), c.y.stride.w, c.y.stride.c,
                     filter, filters, part_sums(p, space, tile.n, tile.part));
    }
}

/// Outputs of a block of tiles from the products of one panel.
template <int M>
void finish_tiles(const conv::plan& p, const plan& own, const call& c, const workspace_view& space, index_t first,
                  index_t count, index_t panel, const float* products) noexcept {
    const index_t width = c.source.layout().width_of(panel);
    for (index_t i = 0; i < count; ++i)
        for (index_t j = 0; j < width; j += simd::lanes) {
            const index_t filter = panel * panel_layout::width + j;
            transform_output<M>(p, c, space, place_of(own, first + i), filter, std::min(p.out.c - filter, simd::lanes),
                                products + i * width + j, count * width);
        }
    if (!is_clamp(c.act)) activate_tiles(p, own, c, space, first, count, panel);
}

/// The three transforms of a variant. Only they are compiled for each; what calls them is not.
struct transform_set {
    void (*input)(const plan&, const call&, index_t, index_t, index_t, index_t, float*) noexcept;
    void (*weights)(const float*, index_t, const float*, index_t, index_t, index_t, float*) noexcept;
    void (*output)(const conv::plan&, const plan&, const call&, const workspace_view&, index_t, index_t, index_t,
                   const float*) noexcept;
};
[[nodiscard]] inline const transform_set& transforms_of(int m) noexcept {
    static constexpr transform_set all[] = {{transform_tiles<2>, transform_weights<2>, finish_tiles<2>},
                                            {transform_tiles<4>, transform_weights<4>, finish_tiles<4>},
                                            {transform_tiles<6>, transform_weights<6>, finish_tiles<6>}};
    return all[index_of(m)];
}

/// The transformed weights of some channels of one panel, for one sample. `scratch` holds what is assembled.
inline void transform_panel(const transform_set& f, const call& c, index_t panel, index_t n,
                            const channel_range& channels, index_t stride, float* scratch, float* to) noexcept {
    const panel_layout& kernel = c.source.layout();
    const index_t width = kernel.width_of(panel), all = kernel.depth() / 9;
    const float* mixture = c.factors.mixture.of(n);
    const float* spatial = c.factors.spatial.of(n);
    if (!c.source.assembles_parts()) {
        // A panel that is made as a whole is made with its first channels.
        const float* weights = scratch;
        if (channels.first == 0 || c.source.scratch_floats() == 0) weights = c.source.panel(0, panel, mixture, scratch);
        return f.weights(weights + channels.first * width, all * width, spatial, width, channels.count, stride, to);
    }
    for (index_t i = 0; i < channels.count; i += assembled_channels) {
        const channel_range some{channels.first + i, std::min(assembled_channels, channels.count - i)};
        c.source.assemble(0, panel, mixture, some, scratch);
        f.weights(scratch, some.count * width, spatial, width, some.count, stride, to + i * width);
    }
}

/// The transformed input of a block of tiles, made here unless that was done for all threads.
inline const float* block_input(const plan& own, const transform_set& f, const call& c, const workspace_view& space,
                                index_t first, index_t count, float* to) noexcept {
    if (own.transform_first) return space.shared_at<float>(own.transformed_input_at) + first * own.tile_floats();
    f.input(own, c, first, 0, count, count, to);
    return to;
}

/// One task of a kernel that is kept transformed: one block of tiles (of any samples), one chunk of panels.
inline void run_task(const conv::plan& p, const plan& own, const call& c, const workspace_view& space, index_t block,
                     index_t chunk) noexcept {
    const transform_set& f = transforms_of(own.m);
    const auto& transformed = static_cast<const kernel&>(*p.prepared);
    const panel_layout& layout = c.source.layout();
    const index_t positions = own.positions(), first = block * own.block_tiles,
                  count = std::min(own.block_tiles, own.tiles - first);
    const float* input = block_input(own, f, c, space, first, count, space.at<float>(own.task_input_at));
    auto *products = space.at<float>(own.products_at), *widened = space.at<float>(own.widened_at);
    const auto** rows = space.at<const float*>(own.row_pointers_at);
    for (index_t i = 0; i < count * positions; ++i) rows[i] = input + i * own.row_floats;
    const index_t panel_end = std::min((chunk + 1) * own.chunk_panels, layout.panels());
    for (index_t panel = chunk * own.chunk_panels; panel < panel_end; ++panel) {
        const index_t width = layout.width_of(panel), floats = p.in.c * width;
        const stored_numbers weights = transformed.panel(panel, 0);
        multiply_positions(
            {positions, count, width, rows, 0, p.in.c, false, products},
            [&](index_t q) -> const float* {
                const stored_numbers of_position = weights + q * floats;
                if (own.format == number_format::float32) return of_position.floats();
                widen(of_position, floats, widened);
                return widened;
            },
            [&](index_t q, index_t i, index_t height) {
                // The next position's weights follow these; each tile prefetches its share of them.
                return (weights + ((q + 1) * floats + floats * i / count)).bytes(floats * height / count);
            });
        f.output(p, own, c, space, first, count, panel, products);
    }
}

/// One task of a kernel that is not kept transformed: task_samples samples from `n` on, task_blocks blocks of tiles of
/// each, one chunk of panels.
///
/// Some channels of a panel at a time are assembled for a sample, transformed, and multiplied by that sample's tiles,
/// before the next sample: what a panel is assembled from is so read from memory once for all of them. While positions
/// are multiplied, what the next channels are made of is prefetched, a line or two with every step of the depth. Of
/// more at a time the processor drops some (shares of 16 KiB between positions gained nothing).
inline void run_transforming_task(const conv::plan& p, const plan& own, const call& c, const workspace_view& space,
                                  index_t n, index_t blocks_first, index_t chunk) noexcept {
    const transform_set& f = transforms_of(own.m);
    const panel_layout& kernel = c.source.layout();
    const index_t positions = own.positions(), samples = std::min(own.task_samples, p.in.n - n), channels = p.in.c,
                  depth = own.part_channels, blocks_end = std::min(blocks_first + own.task_blocks, own.blocks),
                  first_tile = blocks_first * own.block_tiles,
                  tiles = std::min(blocks_end * own.block_tiles, own.tiles) - first_tile;
    auto* products = space.at<float>(own.products_at);
    auto* assembled = space.at<float>(own.assembled_at);
    auto* part = space.at<float>(own.weights_at);
    const auto** rows = space.at<const float*>(own.row_pointers_at);
    const index_t stride = own.weights_stride();
    // f(first tile, tiles, where its rows and products begin) for every block of one sample of the task.
    const auto for_each_block = [&](index_t sample, const auto& visit) {
        for (index_t block = blocks_first; block < blocks_end; ++block) {
            const index_t in_sample = block * own.block_tiles, count = std::min(own.block_tiles, own.tiles - in_sample);
            visit((n + sample) * own.tiles + in_sample, count, (sample * tiles + in_sample - first_tile) * positions);
        }
    };
    for (index_t sample = 0; sample < samples; ++sample)
        for_each_block(sample, [&](index_t first, index_t count, index_t at) {
            float* to = space.at<float>(own.task_input_at) + at / positions * own.tile_floats();
            const float* input = block_input(own, f, c, space, first, count, to);
            for (index_t i = 0; i < count * positions; ++i) rows[at + i] = input + i * own.row_floats;
        });

    const bool in_parts = c.source.scratch_floats() == 0 || c.source.assembles_parts();
    const index_t panel_end = std::min((chunk + 1) * own.chunk_panels, kernel.panels());
    for (index_t panel = chunk * own.chunk_panels; panel < panel_end; ++panel) {
        const index_t width = kernel.width_of(panel);
        for (index_t from = 0; from < channels; from += depth) {
            const channel_range range{from, std::min(depth, channels - from)};
            const bool last_part = from + depth >= channels;
            const index_t next_panel = last_part ? panel + 1 : panel, next_from = last_part ? 0 : from + depth;
            const channel_range next{next_from, std::min(depth, channels - next_from)};
            for (index_t sample = 0; sample < samples; ++sample) {
                if (sample == 0 || !own.one_kernel)
                    transform_panel(f, c, panel, n + sample, range, stride, assembled, part);
                const bool prefetches = in_parts && sample + 1 == samples && next_panel < panel_end;
                for_each_block(sample, [&](index_t first, index_t count, index_t at) {
                    float* block_products = products + (depth < channels ? at * width : 0);
                    const bool last_block = first + count == (n + sample) * own.tiles + first_tile + tiles;
                    multiply_positions(
                        {positions, count, width, rows + at, from / depth * positions * count * own.row_floats,
                         range.count, from > 0, block_products},
                        [&](index_t q) { return part + q * stride; },
                        [&](index_t q, index_t i, index_t height) {
                            if (!prefetches || !last_block) return std::span<const std::byte>();
                            return c.source.stored(0, next_panel, next, (q * count + i) / height,
                                                   positions * count / height);
                        });
                    if (last_part) f.output(p, own, c, space, first, count, panel, block_products);
                });
            }
        }
    }
}

/// Transforms tiles [first, last) of all samples into `to`, block by block.
inline void transform_all(const plan& own, const call& c, index_t first, index_t last, float* to) noexcept {
    const transform_set& f = transforms_of(own.m);
    while (first < last) {
        const index_t piece_first = first / own.tiles * own.tiles, in_piece = first - piece_first,
                      block_first = piece_first + in_piece / own.block_tiles * own.block_tiles,
                      block = std::min(own.block_tiles, piece_first + own.tiles - block_first),
                      count = std::min(last, block_first + block) - first;
        f.input(own, c, block_first, first - block_first, count, block, to + block_first * own.tile_floats());
        first += count;
    }
}

}  // namespace detail
}  // namespace kdna::inline KDNA_ABI::conv::winograd

#include <kdna/core/macros_pop.hpp>
