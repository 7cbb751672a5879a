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
template <int M>
void winograd_input(const call& c, const winograd_tile& tile, index_t position_stride, float* v) noexcept {
    constexpr int n = winograd<M>::inputs;
    const tensor_view<const float>& x = c.x;
    const index_t top = tile.h - c.params.pad.top, left = tile.w - c.params.pad.left;
    const bool inside = top >= 0 && left >= 0 && top + n <= x.shape.h && left + n <= x.shape.w;
    const float* gate = c.factors.channel.of(tile.n);
    const float* origin = inside ? x.at(tile.n, 0, top, left) : nullptr;
    for (index_t ch = 0; ch < x.shape.c; ch += simd::lanes) {
        const index_t count = std::min(x.shape.c - ch, simd::lanes);
        simd::vec d[n * n], t[n * n];
        if (inside && count == simd::lanes) {
            KDNA_UNROLL
            for (int i = 0; i < n; ++i) {
                KDNA_UNROLL
                for (int j = 0; j < n; ++j) d[i * n + j] = simd::load(origin + i * x.stride.h + j * x.stride.w + ch);
            }
        } else {
            for (int i = 0; i < n; ++i)
                for (int j = 0; j < n; ++j) {
                    const bool in = top + i >= 0 && top + i < x.shape.h && left + j >= 0 && left + j < x.shape.w;
                    d[i * n + j] =
                        in ? simd::load_strided(x.at(tile.n, ch, top + i, left + j), 1, count) : simd::zero();
                }
        }
        if (gate != nullptr) {
            const simd::vec g = simd::load_strided(gate + ch, 1, count);
            KDNA_UNROLL
            for (int i = 0; i < n * n; ++i) d[i] = d[i] * g;
        }
        KDNA_UNROLL
        for (int j = 0; j < n; ++j) winograd<M>::input(d + j, n, t + j, n);
        KDNA_UNROLL
        for (int i = 0; i < n; ++i) winograd<M>::input(t + i * n, 1, d + i * n, 1);
        KDNA_UNROLL
        for (int i = 0; i < n * n; ++i) simd::store(v + i * position_stride + ch, d[i]);
    }
}

/// A^T m A of one tile and one vector of filters, finished and stored. `m` [position] with a stride.
template <int M>
void winograd_output(const plan& p, const call& c, const winograd_tile& tile, index_t filter, index_t count,
                     const float* m, index_t position_stride) noexcept {
    constexpr int n = winograd<M>::inputs;
    simd::vec d[n * n], t[M * n], y[M * M];
    KDNA_UNROLL
    for (int i = 0; i < n * n; ++i) d[i] = simd::load(m + i * position_stride);
    KDNA_UNROLL
    for (int j = 0; j < n; ++j) winograd<M>::output(d + j, n, t + j, n);
    KDNA_UNROLL
    for (int i = 0; i < M; ++i) winograd<M>::output(t + i * n, 1, y + i * M, 1);
    const finisher finish(c.factors.scale.of(tile.n) + filter, c.factors.shift.of(tile.n) + filter, range_of(c.act));
    simd::vec sum = simd::zero();
    for (int i = 0; i < M && tile.h + i < p.out.h; ++i)
        for (int j = 0; j < M && tile.w + j < p.out.w; ++j)
            sum = sum +
                  finish(y[i * M + j],
                         c.residual.data != nullptr ? c.residual.at(tile.n, filter, tile.h + i, tile.w + j) : nullptr,
                         c.residual.stride.c, c.y.at(tile.n, filter, tile.h + i, tile.w + j), c.y.stride.c, count);
    if (float* sums = part_sums(p, c, tile.n, tile.part); sums != nullptr) add_to(sums + filter, sum, count);
}

/// The input transform of tiles [first, first + count) of a block of `block` tiles: to[position][tile][channel].
template <int M>
void transform_tiles(const plan& p, const call& c, index_t block_first, index_t first, index_t count, index_t block,
                     float* to) noexcept {
    for (index_t i = first; i < first + count; ++i)
        winograd_input<M>(c, winograd_tile_at(p, block_first + i), block * p.row_floats, to + i * p.row_floats);
}

/// One task: one block of tiles (of any samples), one chunk of panels.
template <int M>
void winograd_task(const plan& p, const call& c, const thread_space& space, index_t block, index_t chunk) noexcept {
    constexpr index_t positions = winograd<M>::inputs * winograd<M>::inputs;
    const panel_layout& kernel = c.source.layout();
    const index_t first = block * p.pixel_block, count = std::min(p.pixel_block, p.tile_count - first);
    float* transformed = nullptr;
    if (p.transform_first) {
        transformed = c.transformed_input + first * positions * p.row_floats;
    } else {
        transformed = space.at<float>(p.packed_at);
        transform_tiles<M>(p, c, first, 0, count, count, transformed);
    }
    auto* products = space.at<float>(p.assembled_at);
    const auto** rows = space.at<const float*>(p.rows_at);
    for (index_t i = 0; i < count * positions; ++i) rows[i] = transformed + i * p.row_floats;
    const index_t depth = 0;
    const index_t panel_end = std::min((chunk + 1) * p.panel_chunk, kernel.panels());
    for (index_t panel = chunk * p.panel_chunk; panel < panel_end; ++panel) {
        const index_t width = kernel.width_of(panel), vectors = width / simd::lanes;
        for (index_t q = 0; q < positions; ++q) {
            const float* weights = c.transformed->panel(panel, q);
            for (index_t i = 0; i < count;) {
                const index_t height = tile_height_for(count - i);
                // The next position's weights follow these; each tile fetches its share of them.
                micro_kernel_for(height, vectors)({.rows = rows + q * count + i,
                                                   .depth = &depth,
                                                   .runs = 1,
                                                   .run = p.in.c,
                                                   .panel = weights,
                                                   .factors = nullptr,
                                                   .ahead = weights + p.in.c * (width + width * i / count),
                                                   .ahead_step = width * height / count},
                                                  {.sums = products + (q * count + i) * width});
                i += height;
            }
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
        const index_t block_first = first / p.pixel_block * p.pixel_block,
                      block = std::min(p.pixel_block, p.tile_count - block_first),
                      count = std::min(last, block_first + block) - first;
        float* to = c.transformed_input + block_first * positions * p.row_floats;
        if (p.winograd_m == 2)
            detail::transform_tiles<2>(p, c, block_first, first - block_first, count, block, to);
        else
            detail::transform_tiles<4>(p, c, block_first, first - block_first, count, block, to);
        first += count;
    }
}

/// Runs tasks [first, last) with one thread's workspace; results do not depend on the number of threads. A thread's tasks
/// are those of few panels and many blocks.
inline void winograd_nest(const plan& p, const call& c, std::byte* thread_space, index_t first, index_t last) noexcept {
    for (index_t task = first; task < last; ++task) {
        const index_t block = task % p.pixel_blocks, chunk = task / p.pixel_blocks;
        if (p.winograd_m == 2)
            detail::winograd_task<2>(p, c, {thread_space}, block, chunk);
        else
            detail::winograd_task<4>(p, c, {thread_space}, block, chunk);
    }
}

}  // namespace kdna::inline KDNA_ABI::conv
