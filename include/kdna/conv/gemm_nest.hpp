// The loop nest of every convolution but depthwise: blocks of pixels, panels of filters, register tiles.
#pragma once

#include <kdna/conv/plan.hpp>
#include <kdna/conv/rows.hpp>
#include <kdna/conv/winograd.hpp>
#include <kdna/dna/factors.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// One call of a planned convolution. Views and factors are valid for the plan (the layer has checked them).
struct call {
    source_ref source;
    conv_params params;
    tensor_view<const float> x;
    tensor_view<float> y;
    tensor_view<const float> residual;  ///< data is null where there is none
    factor_set factors;
    activation act;
    const winograd_kernel* transformed = nullptr;  ///< for a Winograd plan
};

namespace detail {

/// What one thread writes to while it works.
struct thread_space {
    std::byte* base;
    template <class T>
    [[nodiscard]] T* at(index_t offset) const noexcept {
        return at_offset<T>(base, offset);
    }
};

/// Pointers to the first filter of each of a tile's pixels.
template <class T>
void point_pixels(const tensor_view<T>& view, index_t n, index_t first_filter, index_t first_pixel, index_t height,
                  index_t columns, T** to) noexcept {
    for (index_t r = 0; r < height; ++r) {
        const index_t pixel = first_pixel + r;
        to[r] = view.at(n, first_filter, pixel / columns, pixel % columns);
    }
}

/// Multiplies s[t] into a copy of a panel.
inline const float* modulate_panel(const float* panel, const float* spatial, index_t taps, index_t floats_per_tap,
                                   float* copy) noexcept {
    for (index_t t = 0; t < taps; ++t)
        for (index_t i = t * floats_per_tap; i < (t + 1) * floats_per_tap; ++i) copy[i] = panel[i] * spatial[t];
    return copy;
}

/// A tile whose rows are ready, to be multiplied by every panel.
struct prepared_tile {
    index_t pixel, height, runs;
    const float** rows;
    const index_t* depth;
    const float* factors;
};

/// The rows of every tile of pixels [first, last); returns the number of tiles. `between`: spatial factors that are applied
/// between runs, or null.
inline index_t prepare_tiles(const plan& p, const window_source& window, const float* zeros, const float* between,
                             const thread_space& space, index_t first, index_t last, prepared_tile* tiles) noexcept {
    const index_t most_runs = p.algo == algorithm::im2col ? 1 : p.kernel_rows ? window.kernel.kh : window.kernel.taps();
    const auto** rows = space.at<const float*>(p.rows_at);
    auto* depth = space.at<index_t>(p.depth_at);
    auto* factors = space.at<float>(p.factors_at);
    auto* packed = space.at<float>(p.packed_at);
    index_t count = 0;
    for (index_t pixel = first; pixel < last; ++count) {
        const index_t height = tile_height_for(last - pixel);
        prepared_tile& tile = tiles[count];
        tile = {pixel, height, 1, rows, depth, nullptr};
        if (p.algo == algorithm::im2col) {
            pack_rows(window, pixel, height, p.row_floats, packed);
            for (index_t r = 0; r < height; ++r) rows[r] = packed + r * p.row_floats;
            depth[0] = 0;
            packed += height * p.row_floats;
        } else if (p.kernel_rows) {
            tile.runs = point_kernel_rows(window, pixel, height, rows, depth);
        } else {
            tile.runs = point_rows(window, pixel, height, between, zeros, rows, depth);
            if (between != nullptr) {
                factors_between(between, depth, window.x.shape.c, tile.runs, factors);
                tile.factors = factors;
                factors += most_runs;
            }
        }
        rows += height * most_runs;
        depth += most_runs;
        pixel += height;
    }
    return count;
}

/// One task: sample n, group g, one block of pixels, one chunk of panels.
inline void gemm_task(const plan& p, const call& c, const float* zeros, const thread_space& space, index_t n, index_t g,
                      index_t block, index_t chunk) noexcept {
    const panel_layout& kernel = c.source.layout();
    const kernel_shape& k = kernel.shape();
    const index_t channels = k.channels_per_group();
    window_source window{c.x, k, c.params, p.out.w};
    window.x.data = c.x.at(n, g * channels, 0, 0);
    window.x.shape = {1, channels, c.x.shape.h, c.x.shape.w};

    const float* spatial = c.factors.spatial.of(n);
    const bool between =
        spatial != nullptr && p.algo == algorithm::direct && !p.kernel_rows && can_scale_between(spatial, k.taps());
    const index_t first = block * p.pixel_block,
                  last = block + 1 < p.pixel_blocks ? first + p.pixel_block : p.out.h * p.out.w;
    prepared_tile tiles[64 + tile_heights.size()];
    const index_t count = prepare_tiles(p, window, zeros, between ? spatial : nullptr, space, first, last, tiles);
    const index_t run = p.algo == algorithm::im2col ? kernel.depth() : p.kernel_rows ? k.kw * channels : channels;

    alignas(alignment) float acc[max_tile_floats];
    float* y_at[max_tile_height];
    const float* residual_at[max_tile_height];
    const index_t panel_end = std::min((chunk + 1) * p.panel_chunk, kernel.panels());
    for (index_t panel = chunk * p.panel_chunk; panel < panel_end; ++panel) {
        auto* assembled = space.at<float>(p.assembled_at);
        const float* weights = c.source.panel(g, panel, c.factors.mixture.of(n), assembled);
        if (spatial != nullptr && !between)
            weights = modulate_panel(weights, spatial, k.taps(), channels * kernel.width_of(panel),
                                     assembled + (c.source.scratch_floats() > 0 ? kernel.panel_floats() : 0));
        const index_t filter = g * kernel.filters() + panel * panel_layout::width;
        const index_t vectors = kernel.width_of(panel) / simd::lanes;
        for (index_t i = 0; i < count; ++i) {
            const prepared_tile& tile = tiles[i];
            point_pixels(c.y, n, filter, tile.pixel, tile.height, p.out.w, y_at);
            if (c.residual.data != nullptr)
                point_pixels(c.residual, n, filter, tile.pixel, tile.height, p.out.w, residual_at);
            const tile_output out{.y = y_at,
                                  .residual = c.residual.data != nullptr ? residual_at : nullptr,
                                  .y_stride = c.y.stride.c,
                                  .residual_stride = c.residual.stride.c,
                                  .scale = c.factors.scale.of(n) + filter,
                                  .shift = c.factors.shift.of(n) + filter,
                                  .filters = kernel.filters_of(panel),
                                  .act = c.act};
            const tile_input in{tile.rows, tile.depth, tile.runs, run, weights, tile.factors};
            micro_kernel_for(tile.height, vectors)(in, acc);
            finish_tile(acc, tile.height, vectors, out);
        }
    }
}

}  // namespace detail

/// Runs tasks [first, last) with one thread's workspace. Each output element is computed whole by one task, in an order
/// that depends on the plan's tiles alone, so results do not depend on the number of threads.
inline void gemm_nest(const plan& p, const call& c, const float* zeros, std::byte* thread_space, index_t first,
                      index_t last) noexcept {
    const index_t groups = c.source.layout().groups();
    for (index_t task = first; task < last; ++task) {
        index_t rest = task;
        const index_t chunk = rest % p.panel_chunks;
        rest /= p.panel_chunks;
        const index_t block = rest % p.pixel_blocks;
        rest /= p.pixel_blocks;
        detail::gemm_task(p, c, zeros, {thread_space}, rest / groups, rest % groups, block, chunk);
    }
}

}  // namespace kdna::inline KDNA_ABI::conv
