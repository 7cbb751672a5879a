// The loop nest of every convolution but depthwise: blocks of pixels, panels of filters, register tiles.
#pragma once

#include <kdna/conv/plan.hpp>
#include <kdna/conv/rows.hpp>
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
void point_pixels(const tensor_view<T>& view, index_t n, index_t first_filter, index_t first_pixel, index_t height, index_t columns,
                  T** to) noexcept {
    for (index_t r = 0; r < height; ++r) {
        const index_t pixel = first_pixel + r;
        to[r] = view.at(n, first_filter, pixel / columns, pixel % columns);
    }
}

/// One task: sample n, group g, one block of pixels, one chunk of panels.
inline void gemm_task(const plan& p, const call& c, const float* zeros, const thread_space& space, index_t n, index_t g,
                      index_t block, index_t chunk) noexcept {
    const panel_layout& kernel = c.source.layout();
    const kernel_shape& k = kernel.shape();
    const index_t channels = k.channels_per_group(), taps = k.taps(), pixels = p.out.h * p.out.w;
    const index_t first = block * p.pixel_block, last = std::min(first + p.pixel_block, pixels);
    const bool direct = p.algo == algorithm::direct;

    window_source window{c.x, k, c.params, p.out.w};
    window.x.data = c.x.at(n, g * channels, 0, 0);
    window.x.shape = {1, channels, c.x.shape.h, c.x.shape.w};
    const float* gate = c.factors.channel.of(n);
    if (gate != nullptr) gate += g * channels;

    // Rows of every tile of the block, prepared once and used by all panels.
    const auto** rows = space.at<const float*>(p.rows_at);
    auto* depth = space.at<index_t>(p.depth_at);
    auto* packed = space.at<float>(p.packed_at);
    struct prepared_tile {
        index_t pixel, height, runs;
        const float** rows;
        const index_t* depth;
    };
    constexpr index_t max_tiles = 64 + static_cast<index_t>(tile_heights.size());
    prepared_tile tiles[max_tiles];
    index_t count = 0;
    for (index_t pixel = first; pixel < last; ++count) {
        const index_t height = tile_height_for(last - pixel);
        prepared_tile& tile = tiles[count];
        tile = {pixel, height, 1, rows, depth};
        if (direct) {
            tile.runs = point_rows(window, pixel, height, zeros, rows, depth);
        } else {
            pack_rows(window, pixel, height, gate, c.factors.spatial.of(n), packed);
            for (index_t r = 0; r < height; ++r) rows[r] = packed + r * kernel.depth();
            depth[0] = 0;
            packed += height * kernel.depth();
        }
        rows += height * (direct ? taps : 1);
        depth += direct ? taps : 1;
        pixel += height;
    }

    float* y_at[max_tile_height];
    const float* residual_at[max_tile_height];
    const index_t panel_end = std::min((chunk + 1) * p.panel_chunk, kernel.panels());
    for (index_t panel = chunk * p.panel_chunk; panel < panel_end; ++panel) {
        const float* weights = c.source.panel(g, panel, c.factors.mixture.of(n), space.at<float>(p.assembled_at));
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
            const tile_input in{tile.rows, tile.depth, tile.runs, direct ? channels : kernel.depth(), weights};
            micro_kernel_for(tile.height, vectors)(in, out);
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
