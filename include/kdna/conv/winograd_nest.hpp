// The loop nest of a Winograd convolution: blocks of tiles, their transform, products panel by panel, the inverse transform.
#pragma once

#include <kdna/conv/gemm_nest.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv {
namespace detail {

/// Where a tile of the output stands.
struct winograd_tile {
    index_t n, part, h, w;  ///< sample, number within it, first output row and column
};

[[nodiscard]] inline winograd_tile winograd_tile_at(const plan& p, index_t tile) noexcept {
    const index_t per_sample = p.tile_rows * p.tile_columns, part = tile % per_sample;
    return {tile / per_sample, part, part / p.tile_columns * p.winograd_m, part % p.tile_columns * p.winograd_m};
}

/// B^T (g . x) B of one tile, channels [first, last): v[position * position_stride + channel - first].
///
/// Column by column into a tile in L1, then row by row out of it: 36 or 64 vectors do not fit the registers in any case.
/// The loops over columns and rows stay loops: unrolled they ran slower (F(4x4), 64 channels, 56x56: 892 us for the layer
/// against 767) and compile for longer. Each column asks for the same one of the next tile to the right, which maps beyond
/// L2 wait for (with the output's lines, below: 64 channels, 224x224, 18 %); at the end of a row that is of no use, and does
/// no harm.
template <int M>
void winograd_input(const call& c, const winograd_tile& tile, index_t first, index_t last, index_t position_stride,
                    float* v) noexcept {
    constexpr int n = winograd<M>::inputs;
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
                simd::vec some[n];  // of its own, so that d stays in registers
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
            winograd<M>::input(d, 1, t + j, n);
        }
        float* to = v + (ch - first);
        for (int i = 0; i < n; ++i, to += n * position_stride) {
            simd::vec row[n];
            winograd<M>::input(t + i * n, 1, row, 1);
            KDNA_UNROLL
            for (int j = 0; j < n; ++j) simd::store(to + j * position_stride, row[j]);
        }
    }
}

/// A^T m A of one tile and one vector of filters, finished and stored. `m` [position] with a stride.
template <int M>
void winograd_output(const plan& p, const call& c, const winograd_tile& tile, index_t filter, index_t count,
                     const float* m, index_t position_stride) noexcept {
    constexpr int n = winograd<M>::inputs;
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
        winograd<M>::output(d, 1, t + j, n);
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
        winograd<M>::output(t + i * n, 1, row, 1);
        if (whole && has_residual) {
            KDNA_UNROLL
            for (int j = 0; j < M; ++j)
                sum = sum + finish(row[j], simd::load(residual + j * c.residual.stride.w), y + j * c.y.stride.w);
        } else if (whole) {
            KDNA_UNROLL
            for (int j = 0; j < M; ++j) sum = sum + finish(row[j], y + j * c.y.stride.w);
        } else {
            simd::vec some[M];  // of its own, so that row stays in registers
            KDNA_UNROLL
            for (int j = 0; j < M; ++j) some[j] = row[j];
            for (index_t j = 0; j < columns; ++j)
                sum = sum + finish(some[j], has_residual ? residual + j * c.residual.stride.w : nullptr,
                                   c.residual.stride.c, y + j * c.y.stride.w, c.y.stride.c, count);
        }
        y += c.y.stride.h;
        if (has_residual) residual += c.residual.stride.h;
    }
    if (float* sums = part_sums(p, c, tile.n, tile.part); sums != nullptr && is_clamp(c.act))
        add_to(sums + filter, sum, count);
}

/// Floats of one tile's transformed input.
[[nodiscard]] inline index_t tile_floats(const plan& p) noexcept {
    return static_cast<index_t>(p.winograd_m + 2) * (p.winograd_m + 2) * p.row_floats * p.input_parts;
}

/// The input transform of tiles [first, first + count) of a block of `block` tiles: to[part][position][tile][channel of the
/// part].
template <int M>
void transform_tiles(const plan& p, const call& c, index_t block_first, index_t first, index_t count, index_t block,
                     float* to) noexcept {
    constexpr index_t positions = winograd<M>::inputs * winograd<M>::inputs;
    const index_t depth = p.input_parts > 1 ? p.transform_depth : p.in.c;
    for (index_t i = first; i < first + count; ++i)
        for (index_t part = 0; part < p.input_parts; ++part)
            winograd_input<M>(c, winograd_tile_at(p, block_first + i), part * depth,
                              std::min((part + 1) * depth, p.in.c), block * p.row_floats,
                              to + (part * positions * block + i) * p.row_floats);
}

/// G (s . w) G^T of `count` channels of w[tap][channel][filter], taps `tap_stride` floats apart: to[position][channel][filter],
/// positions `stride` floats apart. `spatial` may be null.
///
/// What limits this is the path of the results to L2, about four cycles a vector on Zen 4, not the arithmetic.
template <int M>
void transform_weights(const float* w, index_t tap_stride, const float* spatial, index_t width, index_t count,
                       index_t stride, float* to) noexcept {
    constexpr int n = winograd<M>::inputs;
    for (index_t at = 0; at < count * width; at += simd::lanes, to += simd::lanes) {
        simd::vec d[9], half[n * 3];
        KDNA_UNROLL
        for (int t = 0; t < 9; ++t) d[t] = simd::load(w + t * tap_stride + at);
        if (spatial != nullptr) {
            KDNA_UNROLL
            for (int t = 0; t < 9; ++t) d[t] = d[t] * simd::broadcast(spatial[t]);
        }
        KDNA_UNROLL
        for (int j = 0; j < 3; ++j) winograd_weights<M>(d + j, 3, half + j, 3);
        KDNA_UNROLL
        for (int i = 0; i < n; ++i) {
            simd::vec row[n];
            winograd_weights<M>(half + i * 3, 1, row, 1);
            KDNA_UNROLL
            for (int j = 0; j < n; ++j) simd::store(to + (i * n + j) * stride, row[j]);
        }
    }
}

/// Channels of an assembled panel that are transformed at a time: they are assembled into a scratch that stays in L1.
inline constexpr index_t assembled_channels = 8;

/// The transformed weights of some channels of one panel, for one sample. `scratch` holds what is assembled.
template <int M>
void transform_panel(const call& c, index_t panel, index_t n, const channel_range& channels, index_t stride,
                     float* scratch, float* to) noexcept {
    const panel_layout& kernel = c.source.layout();
    const index_t width = kernel.width_of(panel), all = kernel.depth() / 9;
    const float* mixture = c.factors.mixture.of(n);
    const float* spatial = c.factors.spatial.of(n);
    if (!c.source.assembles_parts()) {
        // A panel that is made as a whole is, with its first channels.
        const float* weights = scratch;
        if (channels.first == 0 || c.source.scratch_floats() == 0) weights = c.source.panel(0, panel, mixture, scratch);
        return transform_weights<M>(weights + channels.first * width, all * width, spatial, width, channels.count,
                                    stride, to);
    }
    for (index_t i = 0; i < channels.count; i += assembled_channels) {
        const channel_range some{channels.first + i, std::min(assembled_channels, channels.count - i)};
        c.source.assemble(0, panel, mixture, some, scratch);
        transform_weights<M>(scratch, some.count * width, spatial, width, some.count, stride, to + i * width);
    }
}

/// The products of one panel at all positions, for `depth` channels: products[position][tile][filter], or added to them. Rows
/// begin `skip` floats after where they point. `weights(position)` are [depth][filter]; `ahead(position, row, height)` is what
/// to ask for during that tile, neighbours in memory.
template <class Weights, class Ahead>
void multiply_positions(index_t positions, index_t count, index_t width, const float* const* rows, index_t skip,
                        index_t depth, bool add, const Weights& weights, const Ahead& ahead, float* products) noexcept {
    const index_t vectors = width / simd::lanes, start = 0;
    for (index_t q = 0; q < positions; ++q) {
        const float* panel = weights(q);
        for (index_t i = 0; i < count;) {
            const index_t height = tile_height_for(count - i);
            const std::span<const float> wanted = ahead(q, i, height);
            micro_kernel_for(height, vectors)({.rows = rows + q * count + i,
                                               .depth = &start,
                                               .runs = 1,
                                               .run = depth,
                                               .panel = panel,
                                               .factors = nullptr,
                                               .ahead = wanted.empty() ? panel : wanted.data(),
                                               .ahead_step = static_cast<index_t>(wanted.size()) / depth,
                                               .skip = skip},
                                              {.sums = products + (q * count + i) * width, .add_to_sums = add});
            i += height;
        }
    }
}

/// Outputs of a block of tiles from the products of one panel.
template <int M>
void finish_tiles(const plan& p, const call& c, index_t first, index_t count, index_t panel,
                  const float* products) noexcept {
    const index_t width = c.source.layout().width_of(panel);
    for (index_t i = 0; i < count; ++i)
        for (index_t j = 0; j < width; j += simd::lanes) {
            const index_t filter = panel * panel_layout::width + j;
            winograd_output<M>(p, c, winograd_tile_at(p, first + i), filter, std::min(p.out.c - filter, simd::lanes),
                               products + i * width + j, count * width);
        }
    if (is_clamp(c.act)) return;
    const index_t filter = panel * panel_layout::width, filters = c.source.layout().filters_of(panel);
    for (index_t i = 0; i < count; ++i) {
        const winograd_tile tile = winograd_tile_at(p, first + i);
        for (index_t h = tile.h; h < std::min<index_t>(tile.h + M, p.out.h); ++h)
            activate(c.act, c.y.at(tile.n, 0, h, tile.w), std::min<index_t>(p.out.w - tile.w, M), c.y.stride.w,
                     c.y.stride.c, filter, filters, part_sums(p, c, tile.n, tile.part));
    }
}

/// The transformed input of a block of tiles, made here unless that was done for all threads.
template <int M>
const float* block_input(const plan& p, const call& c, index_t first, index_t count, float* own) noexcept {
    if (p.transform_first) return c.transformed_input + first * tile_floats(p);
    transform_tiles<M>(p, c, first, 0, count, count, own);
    return own;
}

/// One task of a kernel that is kept transformed: one block of tiles (of any samples), one chunk of panels.
template <int M>
void winograd_task(const plan& p, const call& c, const thread_space& space, index_t block, index_t chunk) noexcept {
    constexpr index_t positions = winograd<M>::inputs * winograd<M>::inputs;
    const panel_layout& kernel = c.source.layout();
    const index_t first = block * p.pixel_block, count = std::min(p.pixel_block, p.tile_count - first);
    const float* transformed = block_input<M>(p, c, first, count, space.at<float>(p.packed_at));
    auto* products = space.at<float>(p.assembled_at);
    const auto** rows = space.at<const float*>(p.rows_at);
    for (index_t i = 0; i < count * positions; ++i) rows[i] = transformed + i * p.row_floats;
    const index_t panel_end = std::min((chunk + 1) * p.panel_chunk, kernel.panels());
    for (index_t panel = chunk * p.panel_chunk; panel < panel_end; ++panel) {
        multiply_positions(
            positions, count, kernel.width_of(panel), rows, 0, p.in.c, false,
            [&](index_t q) { return c.transformed->panel(panel, q); },
            [&](index_t q, index_t i, index_t height) {
                // The next position's weights follow these; each tile fetches its share of them.
                const index_t floats = p.in.c * kernel.width_of(panel);
                return std::span(c.transformed->panel(panel, q) + floats + floats * i / count,
                                 static_cast<std::size_t>(floats * height / count));
            },
            products);
        finish_tiles<M>(p, c, first, count, panel, products);
    }
}

/// One task of a kernel that is not: task_samples samples from `n` on, task_blocks blocks of tiles of each, one chunk of panels.
///
/// Some channels of a panel at a time: assembled for a sample, transformed, multiplied by that sample's tiles, before the next
/// sample, so that what a panel is assembled from is read from memory once for all of them. While positions are multiplied,
/// what the next channels are made of is asked for, a line or two with every step of the depth: more at a time the processor
/// forgets (shares of 16 KiB between positions came to nothing).
template <int M>
void winograd_transforming_task(const plan& p, const call& c, const thread_space& space, index_t n,
                                index_t blocks_first, index_t chunk) noexcept {
    constexpr index_t positions = winograd<M>::inputs * winograd<M>::inputs;
    const panel_layout& kernel = c.source.layout();
    const index_t samples = std::min(p.task_samples, p.in.n - n), channels = p.in.c, depth = p.transform_depth,
                  blocks_end = std::min(blocks_first + p.task_blocks, p.pixel_blocks),
                  first_tile = blocks_first * p.pixel_block,
                  tiles = std::min(blocks_end * p.pixel_block, p.tile_count) - first_tile;
    auto* products = space.at<float>(p.assembled_at);
    auto* assembled = space.at<float>(p.modulated_at);
    auto* part = space.at<float>(p.factors_at);
    const auto** rows = space.at<const float*>(p.rows_at);
    const index_t stride = transformed_stride(p);
    // f(first tile, tiles, where its rows and products begin) for every block of one sample of the task.
    const auto for_each_block = [&](index_t sample, const auto& f) {
        for (index_t block = blocks_first; block < blocks_end; ++block) {
            const index_t in_sample = block * p.pixel_block, count = std::min(p.pixel_block, p.tile_count - in_sample);
            f((n + sample) * p.tile_count + in_sample, count, (sample * tiles + in_sample - first_tile) * positions);
        }
    };
    for (index_t sample = 0; sample < samples; ++sample)
        for_each_block(sample, [&](index_t first, index_t count, index_t at) {
            const float* transformed =
                block_input<M>(p, c, first, count, space.at<float>(p.packed_at) + at / positions * tile_floats(p));
            for (index_t i = 0; i < count * positions; ++i) rows[at + i] = transformed + i * p.row_floats;
        });

    const bool in_parts = c.source.scratch_floats() == 0 || c.source.assembles_parts();
    const index_t panel_end = std::min((chunk + 1) * p.panel_chunk, kernel.panels());
    for (index_t panel = chunk * p.panel_chunk; panel < panel_end; ++panel) {
        const index_t width = kernel.width_of(panel);
        for (index_t from = 0; from < channels; from += depth) {
            const channel_range range{from, std::min(depth, channels - from)};
            const bool last_part = from + depth >= channels;
            const index_t next_panel = last_part ? panel + 1 : panel, next_from = last_part ? 0 : from + depth;
            const channel_range next{next_from, std::min(depth, channels - next_from)};
            for (index_t sample = 0; sample < samples; ++sample) {
                if (sample == 0 || !p.equal_kernels)
                    transform_panel<M>(c, panel, n + sample, range, stride, assembled, part);
                const bool ahead = in_parts && sample + 1 == samples && next_panel < panel_end;
                for_each_block(sample, [&](index_t first, index_t count, index_t at) {
                    float* block_products = products + (depth < channels ? at * width : 0);
                    const bool last_block = first + count == (n + sample) * p.tile_count + first_tile + tiles;
                    multiply_positions(
                        positions, count, width, rows + at, from / depth * positions * count * p.row_floats,
                        range.count, from > 0, [&](index_t q) { return part + q * stride; },
                        [&](index_t q, index_t i, index_t height) {
                            if (!ahead || !last_block) return std::span<const float>();
                            return c.source.stored(0, next_panel, next, (q * count + i) / height,
                                                   positions * count / height);
                        },
                        block_products);
                    if (last_part) finish_tiles<M>(p, c, first, count, panel, block_products);
                });
            }
        }
    }
}

}  // namespace detail

/// For a plan that transforms first: transforms input tiles [first, last) into c.transformed_input, block by block.
inline void winograd_transform(const plan& p, const call& c, index_t first, index_t last) noexcept {
    while (first < last) {
        const index_t piece_first = first / p.tile_count * p.tile_count, in_piece = first - piece_first,
                      block_first = piece_first + in_piece / p.pixel_block * p.pixel_block,
                      block = std::min(p.pixel_block, piece_first + p.tile_count - block_first),
                      count = std::min(last, block_first + block) - first;
        float* to = c.transformed_input + block_first * detail::tile_floats(p);
        with_winograd(p.winograd_m, [&]<int M>() {
            detail::transform_tiles<M>(p, c, block_first, first - block_first, count, block, to);
        });
        first += count;
    }
}

/// Runs tasks [first, last) with one thread's workspace; results do not depend on the number of threads. A thread's tasks
/// are those of few panels and many blocks.
inline void winograd_nest(const plan& p, const call& c, std::byte* thread_space, index_t first, index_t last) noexcept {
    with_winograd(p.winograd_m, [&]<int M>() {
        for (index_t task = first; task < last; ++task) {
            if (!p.transforms_panels) {
                detail::winograd_task<M>(p, c, {thread_space}, task % p.pixel_blocks, task / p.pixel_blocks);
                continue;
            }
            const index_t chunk = task % p.panel_chunks, rest = task / p.panel_chunks,
                          groups = ceil_div(p.pixel_blocks, p.task_blocks);
            detail::winograd_transforming_task<M>(p, c, {thread_space}, rest / groups * p.task_samples,
                                                  rest % groups * p.task_blocks, chunk);
        }
    });
}

}  // namespace kdna::inline KDNA_ABI::conv
