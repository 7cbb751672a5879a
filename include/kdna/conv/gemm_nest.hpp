// The loop nest of every convolution but depthwise: blocks of pixels, panels of filters, register tiles.
#pragma once

#include <kdna/conv/plan.hpp>
#include <kdna/conv/rows.hpp>
#include <kdna/conv/winograd.hpp>
#include <kdna/core/arithmetic.hpp>
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
    activation act;  ///< of_channel, where it has any, readable for whole panels past the last filter
    const winograd_kernel* transformed = nullptr;  ///< for a Winograd plan
    float* channel_means = nullptr;                ///< [N][O], for a plan that takes them: means of y over H and W
    // Set by the backend, in its workspace: see plan::part_sums_at and plan::transform_first.
    float* part_sums = nullptr;
    float* transformed_input = nullptr;
    row_band rows{};  ///< never with Winograd
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

/// Where the sums of a part of a sample go, null where none are wanted.
[[nodiscard]] inline float* part_sums(const plan& p, const call& c, index_t n, index_t part) noexcept {
    return c.part_sums == nullptr ? nullptr : c.part_sums + (n * p.parts + part) * p.part_floats;
}

/// Multiplies s[t] and g[c], or one of them (null: ones), into a copy of a panel [taps][channels][width].
inline const float* modulate_panel(const float* panel, const float* spatial, const float* gate, index_t taps,
                                   index_t channels, index_t width, float* copy) noexcept {
    float* to = copy;
    for (index_t t = 0; t < taps; ++t)
        for (index_t c = 0; c < channels; ++c, panel += width, to += width) {
            const simd::vec factor((spatial != nullptr ? spatial[t] : 1.0F) * (gate != nullptr ? gate[c] : 1.0F));
            for (index_t i = 0; i < width; i += simd::lanes) simd::store(to + i, simd::load(panel + i) * factor);
        }
    return copy;
}

/// A tile whose rows are ready, to be multiplied by every panel.
struct prepared_tile {
    index_t height, runs;
    const float** rows;
    const index_t* depth;
    const float* factors;
    float** y;               ///< [height], filter 0 of each pixel
    const float** residual;  ///< likewise, or null
    float* sums;             ///< of its part, or null
    index_t n;               ///< a sample of which it has pixels: the one whose scale and shift it is finished with
};

/// Where in a thread's workspace the next tile's arrays go.
struct tile_arrays {
    const float** rows;
    float** y;
    const float** residual;  ///< null: none
    index_t* depth;
    float* factors;
    float* packed;
    tile_arrays(const plan& p, const call& c, const thread_space& space) noexcept
        : rows(space.at<const float*>(p.rows_at)),
          y(space.at<float*>(p.outputs_at)),
          residual(c.residual.data != nullptr ? space.at<const float*>(p.residuals_at) : nullptr),
          depth(space.at<index_t>(p.depth_at)),
          factors(space.at<float>(p.factors_at)),
          packed(space.at<float>(p.packed_at)) {}
};

/// Prepares every tile of pixels [first, last) of sample n; returns the number of tiles. `between`: spatial factors that are
/// applied between runs, or null.
inline index_t prepare_tiles(const plan& p, const call& c, const window_source& window, const float* zeros,
                             const float* between, tile_arrays& arrays, index_t n, index_t first, index_t last,
                             prepared_tile* tiles) noexcept {
    const index_t most_runs = p.algo == algorithm::im2col ? 1 : p.kernel_rows ? window.kernel.kh : window.kernel.taps();
    auto& [rows, y, residual, depth, factors, packed] = arrays;
    float* const y_sample = c.y.at(n, 0, 0, 0);
    const float* const residual_sample = c.residual.data != nullptr ? c.residual.at(n, 0, 0, 0) : nullptr;
    window_origin origins[max_tile_height];
    index_t offsets[max_tile_height];
    index_t h = first / p.out.w, w = first % p.out.w;
    index_t count = 0;
    for (index_t pixel = first; pixel < last; ++count) {
        const index_t height = tile_height_for(last - pixel, p.tallest);
        prepared_tile& tile = tiles[count];
        tile = {height, 1, rows, depth, nullptr, y, residual, part_sums(p, c, n, first / p.tallest + count), n};
        tile_windows windows{origins, offsets, height, true};
        // Pixel by pixel, with a division each, this took as long as a product of depth 16; so it goes from row to row.
        for (index_t r = 0; r < height;) {
            const index_t run = std::min(height - r, p.out.w - w);
            const window_origin origin{h * c.params.stride.h - c.params.pad.top,
                                       w * c.params.stride.w - c.params.pad.left};
            const index_t offset = window.offset(origin), step = c.params.stride.w * window.x.stride.w;
            float* const y_run = y_sample + ((h - c.rows.y_first) * c.y.stride.h + w * c.y.stride.w);
            for (index_t i = 0; i < run; ++i) {
                origins[r + i] = {origin.h, origin.w + i * c.params.stride.w};
                offsets[r + i] = offset + i * step;
                y[r + i] = y_run + i * c.y.stride.w;
            }
            if (residual != nullptr) {
                const float* const residual_run = residual_sample + (h * c.residual.stride.h + w * c.residual.stride.w);
                for (index_t i = 0; i < run; ++i) residual[r + i] = residual_run + i * c.residual.stride.w;
            }
            windows.inside = windows.inside && window.inside(origin, origins[r + run - 1]);
            r += run;
            w += run;
            if (w == p.out.w) {
                w = 0;
                ++h;
            }
        }
        y += height;
        if (residual != nullptr) residual += height;
        if (p.algo == algorithm::im2col) {
            pack_rows(window, windows, p.row_floats, packed);
            for (index_t r = 0; r < height; ++r) rows[r] = packed + r * p.row_floats;
            depth[0] = 0;
            packed += height * p.row_floats;
        } else if (p.kernel_rows) {
            tile.runs = point_kernel_rows(window, windows, rows, depth);
        } else {
            tile.runs = point_rows(window, windows, between, zeros, rows, depth);
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

/// Blocks of pixels of a band. They begin at multiples of the tallest tile, counted from the map's first pixel, and a small
/// remnant joins the last one, so that the same pixels share a tile however many blocks and bands there are: taps that are
/// left out, and with them the rounding of factors, depend on that.
[[nodiscard]] inline index_t blocks_of(const plan& p, const row_band& rows) noexcept {
    return std::max<index_t>(1, ceil_div(rows.count * p.out.w - p.remnant, p.pixel_block));
}

/// One sample and one group of the call's input.
[[nodiscard]] inline window_source window_of(const call& c, index_t n, index_t g) noexcept {
    const kernel_shape& k = c.source.layout().shape();
    const index_t channels = k.channels_per_group();
    window_source window{c.x, k, c.params, c.rows.x_first};
    window.x.data = c.x.at(n, g * channels, 0, 0);
    window.x.shape = {1, channels, c.x.shape.h, c.x.shape.w};
    return window;
}

/// Prepares pixels [first, last) of samples [n, n + samples) with their mixed windows. Tiles hold pixels of several samples if
/// scale and shift are the same for all. Returns the number of tiles.
inline index_t prepare_mixed_tiles(const plan& p, const call& c, tile_arrays& arrays, index_t n, index_t samples,
                                   index_t g, index_t first, index_t last, prepared_tile* tiles) noexcept {
    const bool spans = c.factors.scale.stride == 0 && c.factors.shift.stride == 0;
    const index_t channels = c.source.layout().shape().channels_per_group(), pixels = last - first,
                  pieces = spans ? 1 : samples, piece = spans ? samples * pixels : pixels;
    index_t count = 0;
    for (index_t i = 0; i < pieces; ++i)
        for (index_t row = 0; row < piece; ++count) {
            const index_t height = tile_height_for(piece - row, p.tallest);
            tiles[count] = {height, 1, arrays.rows, arrays.depth, nullptr, arrays.y, arrays.residual, nullptr, n + i};
            *arrays.depth++ = 0;
            for (const index_t end = row + height; row < end; ++row, arrays.packed += p.row_floats) {
                const index_t at = i * pixels + row, sample = n + at / pixels, pixel = first + at % pixels,
                              h = pixel / p.out.w, w = pixel % p.out.w;
                const float* gate = c.factors.channel.of(sample);
                pack_mixed_row(window_of(c, sample, g),
                               {h * c.params.stride.h - c.params.pad.top, w * c.params.stride.w - c.params.pad.left},
                               c.factors.mixture.of(sample), p.mixes, c.factors.spatial.of(sample),
                               gate != nullptr ? gate + g * channels : nullptr, arrays.packed);
                *arrays.rows++ = arrays.packed;
                *arrays.y++ = c.y.at(sample, 0, h - c.rows.y_first, w);
                if (arrays.residual != nullptr) *arrays.residual++ = c.residual.at(sample, 0, h, w);
            }
        }
    return count;
}

/// One task: task_samples samples from n on, group g, one block of pixels, one chunk of panels.
inline void gemm_task(const plan& p, const call& c, const float* zeros, const thread_space& space, index_t n, index_t g,
                      index_t block, index_t chunk) noexcept {
    const panel_layout& kernel = c.source.layout();
    const kernel_shape& k = kernel.shape();
    const index_t channels = k.channels_per_group(), samples = std::min(p.task_samples, p.in.n - n);
    const float* spatial = c.factors.spatial.of(n);
    const float* gate = p.gate_in_panel ? c.factors.channel.of(n) + g * channels : nullptr;
    const bool between = spatial != nullptr && gate == nullptr && p.algo == algorithm::direct && !p.kernel_rows &&
                         can_scale_between(spatial, k.taps());
    const index_t begin = c.rows.first * p.out.w, end = begin + c.rows.count * p.out.w,
                  first = begin + block * p.pixel_block;
    const index_t last = block + 1 < blocks_of(p, c.rows) ? first + p.pixel_block : end;
    prepared_tile tiles[most_tiles];
    tile_arrays arrays(p, c, space);
    index_t count = 0;
    if (p.mixes_input)
        count = prepare_mixed_tiles(p, c, arrays, n, samples, g, first, last, tiles);
    else
        for (index_t sample = n; sample < n + samples; ++sample)
            count += prepare_tiles(p, c, window_of(c, sample, g), zeros, between ? spatial : nullptr, arrays, sample,
                                   first, last, tiles + count);
    const index_t panel_depth = p.mixes_input ? p.mixes * kernel.depth() : kernel.depth(),
                  run = p.algo == algorithm::im2col ? panel_depth
                        : p.kernel_rows             ? k.kw * channels
                                                    : channels;

    const index_t panel_first = chunk * p.panel_chunk,
                  panel_end = std::min(panel_first + p.panel_chunk, kernel.panels());
    const bool clamps = is_clamp(c.act);
    const bool stored = p.mixes_input || c.source.scratch_floats() == 0;
    const auto multiply = [&](const prepared_tile& tile, index_t panel, const float* weights, index_t part,
                              index_t parts) {
        const index_t vectors = kernel.width_of(panel) / simd::lanes;
        tile_input in{.rows = tile.rows,
                      .depth = tile.depth,
                      .runs = tile.runs,
                      .run = run,
                      .panel = weights,
                      .factors = tile.factors,
                      .ahead = weights};
        // The tiles fetch together what the next panel is, or is put together from.
        if (stored) {
            in.ahead_step = kernel.width_of(panel) / parts;
            in.ahead += panel_depth * (kernel.width_of(panel) + part * in.ahead_step);
        } else if (panel + 1 < panel_end) {
            const std::span<const float> share = c.source.stored(g, panel + 1, {0, channels}, part, parts);
            if (!share.empty()) in.ahead = share.data();
            in.ahead_step = static_cast<index_t>(share.size()) / (std::max<index_t>(tile.runs, 1) * run);
        }
        const index_t first_filter = g * kernel.filters() + panel * panel_layout::width;
        micro_kernel_for(tile.height, vectors)(in, {.y = tile.y,
                                                    .residual = tile.residual,
                                                    .y_stride = c.y.stride.c,
                                                    .residual_stride = c.residual.stride.c,
                                                    .scale = c.factors.scale.of(tile.n),
                                                    .shift = c.factors.shift.of(tile.n),
                                                    .first = first_filter,
                                                    .filters = kernel.filters_of(panel),
                                                    .act = c.act,
                                                    .column_sums = clamps ? tile.sums : nullptr});
        if (!clamps)
            activate(c.act, tile.y, tile.height, c.y.stride.c, first_filter, kernel.filters_of(panel), tile.sums);
    };
    if (p.tiles_outside) {
        for (index_t i = 0; i < count; ++i)
            for (index_t panel = panel_first; panel < panel_end; ++panel)
                multiply(tiles[i], panel, c.source.panel(g, panel, nullptr, nullptr), 0, 1);
        return;
    }
    for (index_t panel = panel_first; panel < panel_end; ++panel) {
        const float* weights = p.mixes_input
                                   ? c.source.expanded(g, panel)
                                   : c.source.panel(g, panel, c.factors.mixture.of(n), space.at<float>(p.assembled_at));
        if (!p.mixes_input && (gate != nullptr || (spatial != nullptr && !between)))
            weights = modulate_panel(weights, spatial, gate, k.taps(), channels, kernel.width_of(panel),
                                     space.at<float>(p.modulated_at));
        for (index_t i = 0; i < count; ++i) multiply(tiles[i], panel, weights, i, count);
    }
}

}  // namespace detail

[[nodiscard]] inline index_t gemm_tasks(const plan& p, const call& c) noexcept {
    return ceil_div(p.in.n, p.task_samples) * c.source.layout().groups() * detail::blocks_of(p, c.rows) *
           p.panel_chunks;
}

/// Runs tasks [first, last) with one thread's workspace. Each output element is computed whole by one task, in an order
/// that depends on the plan's tiles alone, so results do not depend on the number of threads.
inline void gemm_nest(const plan& p, const call& c, const float* zeros, std::byte* thread_space, index_t first,
                      index_t last) noexcept {
    const index_t groups = c.source.layout().groups(), blocks = detail::blocks_of(p, c.rows);
    for (index_t task = first; task < last; ++task) {
        index_t rest = task;
        const index_t chunk = rest % p.panel_chunks;
        rest /= p.panel_chunks;
        const index_t block = rest % blocks;
        rest /= blocks;
        detail::gemm_task(p, c, zeros, {thread_space}, rest / groups * p.task_samples, rest % groups, block, chunk);
    }
}

}  // namespace kdna::inline KDNA_ABI::conv
