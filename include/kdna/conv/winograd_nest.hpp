// The loop nest of a Winograd convolution: blocks of tiles, their transform, products panel by panel, the inverse transform.
#pragma once

#include <kdna/conv/gemm_nest.hpp>

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

/// B^T (g . x) B of one tile, all channels: v[position * position_stride + channel].
///
/// Column by column into a tile in L1, then row by row out of it: 36 or 64 vectors do not fit the registers in any case.
/// The loops over columns and rows stay loops: unrolled they ran slower (F(4x4), 64 channels, 56x56: 892 us for the layer
/// against 767) and compile for longer. Each column asks for the same one of the next tile to the right, which maps beyond
/// L2 wait for (with the output's lines, below: 64 channels, 224x224, 18 %); at the end of a row that is of no use, and does
/// no harm.
template <int M>
void winograd_input(const call& c, const winograd_tile& tile, index_t position_stride, float* v) noexcept {
    constexpr int n = winograd<M>::inputs;
    const tensor_view<const float>& x = c.x;
    const index_t top = tile.h - c.params.pad.top, left = tile.w - c.params.pad.left;
    const bool rows_inside = top >= 0 && top + n <= x.shape.h;
    const float* gate = c.factors.channel.of(tile.n);
    const float* sample = x.at(tile.n, 0, 0, 0);
    for (index_t ch = 0; ch < x.shape.c; ch += simd::lanes) {
        const index_t count = std::min(x.shape.c - ch, simd::lanes);
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
        float* to = v + ch;
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
    if (float* sums = part_sums(p, c, tile.n, tile.part); sums != nullptr) add_to(sums + filter, sum, count);
}

/// The input transform of tiles [first, first + count) of a block of `block` tiles: to[position][tile][channel].
template <int M>
void transform_tiles(const plan& p, const call& c, index_t block_first, index_t first, index_t count, index_t block,
                     float* to) noexcept {
    for (index_t i = first; i < first + count; ++i)
        winograd_input<M>(c, winograd_tile_at(p, block_first + i), block * p.row_floats, to + i * p.row_floats);
}

/// G (s . w) G^T of `count` channels of an assembled panel w[tap][channel][filter], from channel `first` on:
/// to[position][channel][filter], positions `stride` floats apart. `spatial` may be null.
template <int M>
void transform_panel(const float* w, const float* spatial, index_t channels, index_t width, index_t first,
                     index_t count, index_t stride, float* to) noexcept {
    constexpr int n = winograd<M>::inputs;
    for (index_t at = first * width; at < (first + count) * width; at += simd::lanes, to += simd::lanes) {
        simd::vec d[9], half[n * 3];
        KDNA_UNROLL
        for (int t = 0; t < 9; ++t) d[t] = simd::load(w + t * channels * width + at);
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

/// The products of one panel at all positions, for channels [from, from + depth): products[position][tile][filter].
/// `weights(position)` are [depth][filter]; tiles' rows begin at those channels.
template <class Weights>
void multiply_positions(index_t positions, index_t count, index_t width, const float* const* rows, index_t depth,
                        bool add, const Weights& weights, float* products) noexcept {
    const index_t vectors = width / simd::lanes, start = 0;
    for (index_t q = 0; q < positions; ++q) {
        const float* panel = weights(q);
        for (index_t i = 0; i < count;) {
            const index_t height = tile_height_for(count - i);
            // The next position's weights follow these; each tile fetches its share of them.
            micro_kernel_for(height, vectors)({.rows = rows + q * count + i,
                                               .depth = &start,
                                               .runs = 1,
                                               .run = depth,
                                               .panel = panel,
                                               .factors = nullptr,
                                               .ahead = panel + depth * (width + width * i / count),
                                               .ahead_step = width * height / count},
                                              {.sums = products + (q * count + i) * width, .add_to_sums = add});
            i += height;
        }
    }
}

/// One task: one block of tiles, one chunk of panels. Piece `piece` is a sample where panels are transformed here; otherwise
/// there is one piece, and a block may hold tiles of several samples.
template <int M>
void winograd_task(const plan& p, const call& c, const thread_space& space, index_t piece, index_t block,
                   index_t chunk) noexcept {
    constexpr index_t positions = winograd<M>::inputs * winograd<M>::inputs;
    const panel_layout& kernel = c.source.layout();
    const index_t in_piece = block * p.pixel_block, count = std::min(p.pixel_block, p.tile_count - in_piece),
                  first = piece * p.tile_count + in_piece, channels = p.in.c;
    float* transformed = nullptr;
    if (p.transform_first) {
        transformed = c.transformed_input + first * positions * p.row_floats;
    } else {
        transformed = space.at<float>(p.packed_at);
        transform_tiles<M>(p, c, first, 0, count, count, transformed);
    }
    auto* products = space.at<float>(p.assembled_at);
    const auto** rows = space.at<const float*>(p.rows_at);
    const index_t depth = p.transforms_panels ? p.transform_depth : channels, parts = ceil_div(channels, depth);
    for (index_t part = 0; part < parts; ++part)
        for (index_t i = 0; i < count * positions; ++i)
            rows[part * count * positions + i] = transformed + i * p.row_floats + part * depth;
    const index_t panel_end = std::min((chunk + 1) * p.panel_chunk, kernel.panels());
    for (index_t panel = chunk * p.panel_chunk; panel < panel_end; ++panel) {
        const index_t width = kernel.width_of(panel), vectors = width / simd::lanes;
        if (p.transforms_panels) {
            const float* weights =
                c.source.panel(0, panel, c.factors.mixture.of(piece), space.at<float>(p.modulated_at));
            auto* part_weights = space.at<float>(p.factors_at);
            const index_t stride = transformed_stride(p);
            for (index_t part = 0; part < parts; ++part) {
                const index_t from = part * depth, some = std::min(depth, channels - from);
                transform_panel<M>(weights, c.factors.spatial.of(piece), channels, width, from, some, stride,
                                   part_weights);
                multiply_positions(
                    positions, count, width, rows + part * count * positions, some, part > 0,
                    [&](index_t q) { return part_weights + q * stride; }, products);
            }
        } else {
            multiply_positions(
                positions, count, width, rows, channels, false,
                [&](index_t q) { return c.transformed->panel(panel, q); }, products);
        }
        for (index_t i = 0; i < count; ++i)
            for (index_t j = 0; j < vectors; ++j) {
                const index_t filter = panel * panel_layout::width + j * simd::lanes;
                winograd_output<M>(p, c, winograd_tile_at(p, first + i), filter,
                                   std::min(p.out.c - filter, simd::lanes), products + i * width + j * simd::lanes,
                                   count * width);
            }
    }
}

}  // namespace detail

/// For a plan that transforms first: transforms input tiles [first, last) into c.transformed_input, block by block.
inline void winograd_transform(const plan& p, const call& c, index_t first, index_t last) noexcept {
    const index_t positions = static_cast<index_t>(p.winograd_m + 2) * (p.winograd_m + 2);
    while (first < last) {
        const index_t piece_first = first / p.tile_count * p.tile_count, in_piece = first - piece_first,
                      block_first = piece_first + in_piece / p.pixel_block * p.pixel_block,
                      block = std::min(p.pixel_block, piece_first + p.tile_count - block_first),
                      count = std::min(last, block_first + block) - first;
        float* to = c.transformed_input + block_first * positions * p.row_floats;
        with_winograd(p.winograd_m, [&]<int M>() {
            detail::transform_tiles<M>(p, c, block_first, first - block_first, count, block, to);
        });
        first += count;
    }
}

/// Runs tasks [first, last) with one thread's workspace; results do not depend on the number of threads. A thread's tasks
/// are those of few panels and many blocks.
inline void winograd_nest(const plan& p, const call& c, std::byte* thread_space, index_t first, index_t last) noexcept {
    const index_t per_piece = p.pixel_blocks * p.panel_chunks;
    with_winograd(p.winograd_m, [&]<int M>() {
        for (index_t task = first; task < last; ++task) {
            const index_t rest = task % per_piece;
            detail::winograd_task<M>(p, c, {thread_space}, task / per_piece, rest % p.pixel_blocks,
                                     rest / p.pixel_blocks);
        }
    });
}

}  // namespace kdna::inline KDNA_ABI::conv
