// The loop nest of a matrix product: blocks of pixels, panels of filters, register tiles.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <span>

#include <kdna/conv/modulate.hpp>
#include <kdna/conv/product/micro_kernel.hpp>
#include <kdna/conv/product/planner.hpp>
#include <kdna/conv/product/rows.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv::product {
namespace detail {

using conv::detail::modulate_panel;
using conv::detail::part_sums;

/// Where in a thread's workspace the next tile's arrays go.
struct tile_arrays {
    const float** rows;
    float** y;
    const float** residual;  ///< null: none
    index_t* depth;
    float* factors;
    float* packed;
    tile_arrays(const plan& own, const call& c, const workspace_view& space) noexcept
        : rows(space.at<const float*>(own.row_pointers_at)),
          y(space.at<float*>(own.output_pointers_at)),
          residual(c.residual.data != nullptr ? space.at<const float*>(own.residual_pointers_at) : nullptr),
          depth(space.at<index_t>(own.run_depths_at)),
          factors(space.at<float>(own.run_factors_at)),
          packed(space.at<float>(own.packed_rows_at)) {}
};

/// Prepares every tile of pixels [first, last) of sample n; returns the number of tiles. `between` are spatial factors
/// that are applied between runs, or null.
inline index_t prepare_tiles(const conv::plan& p, const plan& own, const call& c, const window_source& window,
                             const workspace_view& space, const float* between, tile_arrays& arrays, index_t n,
                             index_t first, index_t last, tile* tiles) noexcept {
    const bool packs = own.rows == input_rows::windows, kernel_rows = own.rows == input_rows::kernel_rows;
    const index_t most_runs = packs ? 1 : kernel_rows ? window.kernel.kh : window.kernel.taps();
    const auto* zeros = space.shared_at<float>(own.zeros_at);
    auto& [rows, y, residual, depth, factors, packed] = arrays;
    float* const y_sample = c.y.at(n, 0, 0, 0);
    const float* const residual_sample = c.residual.data != nullptr ? c.residual.at(n, 0, 0, 0) : nullptr;
    // What the loops need, by value: they store through pointers that the compiler cannot tell from these.
    const index_t out_w = p.out.w, stride_w = c.params.stride.w, x_step = stride_w * window.x.stride.w,
                  y_step = c.y.stride.w, residual_step = c.residual.stride.w;
    window_piece pieces[max_tile_height];
    index_t offsets[max_tile_height];
    index_t h = first / out_w, w = first % out_w;
    index_t count = 0;
    for (index_t pixel = first; pixel < last; ++count) {
        const index_t height = tile_height_for(last - pixel, own.tallest);
        tile& of = tiles[count];
        of = {height, 1, rows, depth, nullptr, y, residual, part_sums(p, space, n, first / own.tallest + count), n};
        tile_windows windows{.pieces = pieces, .offsets = offsets, .height = height, .stride_w = stride_w};
        // Row by row of the map: pixel by pixel, with a division each, this took as long as a product of depth 16.
        for (index_t r = 0; r < height;) {
            const index_t run = std::min(height - r, out_w - w);
            const window_origin origin{h * c.params.stride.h - c.params.pad.top, w * stride_w - c.params.pad.left};
            pieces[windows.count++] = {origin, run};
            const index_t offset = window.offset(origin);
            for (index_t i = 0; i < run; ++i) offsets[r + i] = offset + i * x_step;
            float* const y_run = y_sample + ((h - c.rows.y_first) * c.y.stride.h + w * y_step);
            for (index_t i = 0; i < run; ++i) y[r + i] = y_run + i * y_step;
            if (residual != nullptr) {
                const float* const residual_run = residual_sample + (h * c.residual.stride.h + w * residual_step);
                for (index_t i = 0; i < run; ++i) residual[r + i] = residual_run + i * residual_step;
            }
            windows.inside = windows.inside && window.inside(origin, {origin.h, origin.w + (run - 1) * stride_w});
            r += run;
            w += run;
            if (w == out_w) {
                w = 0;
                ++h;
            }
        }
        y += height;
        if (residual != nullptr) residual += height;
        if (packs) {
            pack_rows(window, windows, own.packed_row_floats, packed);
            for (index_t r = 0; r < height; ++r) rows[r] = packed + r * own.packed_row_floats;
            depth[0] = 0;
            packed += height * own.packed_row_floats;
        } else if (kernel_rows) {
            of.runs = point_kernel_rows(window, windows, rows, depth);
        } else {
            of.runs = point_rows(window, windows, between, zeros, rows, depth);
            if (between != nullptr) {
                factors_between(between, depth, window.x.shape.c, of.runs, factors);
                of.factors = factors;
                factors += most_runs;
            }
        }
        rows += height * most_runs;
        depth += most_runs;
        pixel += height;
    }
    return count;
}

/// Blocks of pixels of a band. They begin at multiples of the tallest tile, counted from the map's first pixel, and a
/// small remnant joins the last one. The same pixels so share a tile however many blocks and bands there are: which
/// taps are left out, and with them the rounding of factors, depends on that.
[[nodiscard]] inline index_t blocks_of(const conv::plan& p, const plan& own, const row_band& rows) noexcept {
    return std::max<index_t>(1, ceil_div(rows.count * p.out.w - own.remnant, own.block_pixels));
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

/// Prepares pixels [first, last) of samples [n, n + samples) with their mixed windows. Tiles hold pixels of several
/// samples if scale and shift are the same for all. Returns the number of tiles.
inline index_t prepare_mixed_tiles(const conv::plan& p, const plan& own, const call& c, tile_arrays& arrays, index_t n,
                                   index_t samples, index_t g, index_t first, index_t last, tile* tiles) noexcept {
    const bool spans = c.factors.scale.stride == 0 && c.factors.shift.stride == 0;
    const index_t channels = c.source.layout().shape().channels_per_group(), pixels = last - first,
                  pieces = spans ? 1 : samples, piece = spans ? samples * pixels : pixels;
    index_t count = 0;
    for (index_t i = 0; i < pieces; ++i)
        for (index_t row = 0; row < piece; ++count) {
            const index_t height = tile_height_for(piece - row, own.tallest);
            tiles[count] = {height, 1, arrays.rows, arrays.depth, nullptr, arrays.y, arrays.residual, nullptr, n + i};
            *arrays.depth++ = 0;
            for (const index_t end = row + height; row < end; ++row, arrays.packed += own.packed_row_floats) {
                const index_t at = i * pixels + row, sample = n + at / pixels, pixel = first + at % pixels,
                              h = pixel / p.out.w, w = pixel % p.out.w;
                const float* gate = c.factors.channel.of(sample);
                pack_mixed_row(window_of(c, sample, g),
                               {h * c.params.stride.h - c.params.pad.top, w * c.params.stride.w - c.params.pad.left},
                               c.factors.mixture.of(sample), own.mixes, c.factors.spatial.of(sample),
                               gate != nullptr ? gate + g * channels : nullptr, arrays.packed);
                *arrays.rows++ = arrays.packed;
                *arrays.y++ = c.y.at(sample, 0, h - c.rows.y_first, w);
                if (arrays.residual != nullptr) *arrays.residual++ = c.residual.at(sample, 0, h, w);
            }
        }
    return count;
}

/// One task: task_samples samples from n on, group g, one block of pixels, one chunk of panels.
inline void run_task(const conv::plan& p, const plan& own, const call& c, const workspace_view& space, index_t n,
                     index_t g, index_t block, index_t chunk) noexcept {
    const panel_layout& kernel = c.source.layout();
    const kernel_shape& k = kernel.shape();
    const index_t channels = k.channels_per_group(), samples = std::min(own.task_samples, p.in.n - n);
    const bool mixes_input = own.mixes_input();
    const float* spatial = c.factors.spatial.of(n);
    const float* gate = own.gate_in_panel ? c.factors.channel.of(n) + g * channels : nullptr;
    const bool between = spatial != nullptr && gate == nullptr && own.rows == input_rows::in_place &&
                         can_scale_between(spatial, k.taps());
    const index_t begin = c.rows.first * p.out.w, end = begin + c.rows.count * p.out.w,
                  first = begin + block * own.block_pixels;
    const index_t last = block + 1 < blocks_of(p, own, c.rows) ? first + own.block_pixels : end;
    tile tiles[most_tiles];
    tile_arrays arrays(own, c, space);
    index_t count = 0;
    if (mixes_input)
        count = prepare_mixed_tiles(p, own, c, arrays, n, samples, g, first, last, tiles);
    else
        for (index_t sample = n; sample < n + samples; ++sample)
            count += prepare_tiles(p, own, c, window_of(c, sample, g), space, between ? spatial : nullptr, arrays,
                                   sample, first, last, tiles + count);
    const index_t panel_depth = mixes_input ? own.mixes * kernel.depth() : kernel.depth(),
                  run = own.packs()                           ? panel_depth
                        : own.rows == input_rows::kernel_rows ? k.kw * channels
                                                              : channels;

    const index_t panel_first = chunk * own.chunk_panels,
                  panel_end = std::min(panel_first + own.chunk_panels, kernel.panels());
    const bool stored = mixes_input || c.source.scratch_floats() == 0;
    // Any other activation is applied to a few tiles at a time, while they are in L1.
    const index_t most_pairs = is_clamp(c.act) ? most_tiles : 4;
    // One series for all: built anew for each call, its copies waited for the stores of its parts.
    tile_series in{.run = run,
                   .out = {.y_stride = c.y.stride.c, .residual_stride = c.residual.stride.c, .act = c.act},
                   .adds_column_sums = is_clamp(c.act)};
    const auto multiply = [&](index_t panel) {
        in.out.scale = c.factors.scale.of(in.tiles->n);
        in.out.shift = c.factors.shift.of(in.tiles->n);
        in.out.first = g * kernel.filters() + panel * panel_layout::width;
        in.out.filters = kernel.filters() - panel * panel_layout::width;
        micro_kernel_for(in.tiles->height, kernel.width_of(panel) / simd::lanes)(in);
        if (!is_clamp(c.act))
            for (index_t i = 0; i < in.count; ++i) {
                const tile& of = in.tiles[i * in.tile_step];
                const tile_output out = output_of(in, i, kernel.width_of(panel));
                activate(c.act, of.y, of.height, out.y_stride, out.first, out.filters, of.column_sums);
            }
    };
    // Panels from `panel` on that a tile meets before the next tile, side by side in memory; their products.
    const auto panels_at_once = [&](index_t panel) {
        const float* const from = c.source.panel(g, panel, nullptr, nullptr);
        const index_t width = kernel.width_of(panel);
        index_t pairs = 1;
        while (pairs < most_pairs && panel + pairs < panel_end && kernel.width_of(panel + pairs) == width &&
               c.source.panel(g, panel + pairs, nullptr, nullptr) == from + pairs * panel_depth * width)
            ++pairs;
        return pairs;
    };
    const auto tile_by_tile = [&](index_t panel, index_t pairs) {
        in.panel = c.source.panel(g, panel, nullptr, nullptr);
        in.tile_step = 0;
        in.panel_step = in.ahead_between = panel_depth * kernel.width_of(panel);
        in.ahead = in.panel + in.panel_step;
        in.ahead_step = kernel.width_of(panel);
        in.count = pairs;
        for (index_t i = 0; i < count; ++i) {
            in.tiles = tiles + i;
            multiply(panel);
        }
    };
    const bool one_scale = c.factors.scale.stride == 0 && c.factors.shift.stride == 0;
    const auto panel_by_panel = [&](index_t panel) {
        in.panel = mixes_input
                       ? c.source.expanded(g, panel)
                       : c.source.panel(g, panel, c.factors.mixture.of(n), space.at<float>(own.assembled_panel_at));
        if (!mixes_input && (gate != nullptr || (spatial != nullptr && !between)))
            in.panel = modulate_panel(in.panel, spatial, gate, k.taps(), channels, kernel.width_of(panel),
                                      space.at<float>(own.modulated_panel_at));
        in.tile_step = 1;
        in.panel_step = 0;
        for (index_t i = 0; i < count; i += in.count) {
            in.tiles = tiles + i;
            in.count = 1;
            in.ahead = in.panel;
            in.ahead_step = in.ahead_between = 0;
            // The tiles prefetch together the next panel, or what it is assembled from.
            if (stored) {
                in.ahead_step = kernel.width_of(panel) / count;
                in.ahead_between = panel_depth * in.ahead_step;
                in.ahead += panel_depth * kernel.width_of(panel) + i * in.ahead_between;
                while (in.count < most_pairs && i + in.count < count && tiles[i + in.count].height == tiles[i].height &&
                       (one_scale || tiles[i + in.count].n == tiles[i].n))
                    ++in.count;
            } else if (panel + 1 < panel_end) {
                const std::span<const float> share = as_lines(c.source.stored(g, panel + 1, {0, channels}, i, count));
                if (!share.empty()) in.ahead = share.data();
                in.ahead_step = static_cast<index_t>(share.size()) / (std::max<index_t>(tiles[i].runs, 1) * run);
            }
            multiply(panel);
        }
    };
    for (index_t panel = panel_first, pairs = 1; panel < panel_end; panel += pairs) {
        pairs = own.tiles_outside ? panels_at_once(panel) : 1;
        if (pairs > 1)
            tile_by_tile(panel, pairs);
        else
            panel_by_panel(panel);
    }
}

}  // namespace detail

[[nodiscard]] inline index_t count_tasks(const conv::plan& p, const call& c) noexcept {
    const plan& own = own_of<plan>(p);
    return ceil_div(p.in.n, own.task_samples) * c.source.layout().groups() * detail::blocks_of(p, own, c.rows) *
           own.chunks;
}

/// Runs tasks [first, last). Each output element is computed whole by one task, in an order that depends on the plan's
/// tiles alone, so results do not depend on the number of threads.
inline void run_tasks(const conv::plan& p, const call& c, const workspace_view& space, index_t first,
                      index_t last) noexcept {
    const plan& own = own_of<plan>(p);
    const index_t groups = c.source.layout().groups(), blocks = detail::blocks_of(p, own, c.rows);
    for (index_t task = first; task < last; ++task) {
        const index_t chunk = task % own.chunks, piece = task / own.chunks / blocks, block = task / own.chunks % blocks;
        detail::run_task(p, own, c, space, piece / groups * own.task_samples, piece % groups, block, chunk);
    }
}

}  // namespace kdna::inline KDNA_ABI::conv::product

#include <kdna/core/macros_pop.hpp>
