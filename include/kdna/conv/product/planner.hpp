// From a request to the plan of a matrix product: what stands in its rows, blocks, chunks, workspace.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/partition.hpp>
#include <kdna/conv/planning.hpp>
#include <kdna/conv/product/cost.hpp>

namespace kdna::inline KDNA_ABI::conv::product {

/// Rows of packed input that are kept while the panels pass over them: five sixteenths of L2, so that a panel fits as
/// well.
[[nodiscard]] inline index_t packed_bytes(const machine& m) noexcept { return m.l2_bytes / 16 * 5; }
/// A source that assembles panels gets larger blocks, since every block assembles all of them again: an eighth of L3, or
/// half of L2 if that is more.
[[nodiscard]] inline index_t packed_bytes_assembled(const machine& m) noexcept {
    return std::max(m.l3_bytes / 8, m.l2_bytes / 2);
}
/// Blocks have at most this many pixels, of this many tallest tiles; and a few lower ones.
inline constexpr index_t most_block_pixels = 64 * max_tile_height, most_tall_tiles = 128;
inline constexpr index_t most_tiles = most_tall_tiles + static_cast<index_t>(tile_heights.size()) + 2;
/// Shortest run of channels that is worth reading through a table of row pointers. Below, the taps of a kernel row are
/// made one run (the stem's three channels are the case in point), or windows are copied where groups prevent that.
inline constexpr index_t shortest_direct_run = 8;
/// A kernel up to this size, a quarter of L2, stays there while every tile meets all of it. The tile's input then stays
/// in L1, and its output and the residual are passed over once, in order. Larger kernels are passed over once while the
/// block's input stays, unless the output is the larger part (`wide`, up to all of L2): 256-1024 at 14x14 gains 3 %,
/// 1024-256 nothing.
[[nodiscard]] inline index_t tiles_outside_bytes(const machine& m, bool wide) noexcept {
    return wide ? m.l2_bytes : m.l2_bytes / 4;
}
/// Rows a multiple of this apart, half a way of L1, compete for a few of its sets: 1,024 channels (1x1, 14x14) ran at 88
/// GFLOP/s in place with tiles of 14 rows, at 110 from a copy, and at 116 in place with tiles of 7 (Zen 4: ways of 4
/// KiB). Only larger kernels, which read each row several times, get the copy.
[[nodiscard]] inline index_t conflicting_row_bytes(const machine& m) noexcept { return m.l1_way_bytes() / 2; }

/// How many times the pixels of its map and output an input copied with its padding may have.
inline constexpr double most_border = 16.0;

/// Decides what stands in the rows, where the gate is applied, and whether the input is copied.
KDNA_COLD void plan_rows(conv::plan& p, plan& own, const plan_request& r) {
    const kernel_shape& k = r.shape();
    const bool gated = r.layer.channel_factor;
    const bool short_runs = k.channels_per_group() < shortest_direct_run && k.taps() > 1;
    // The copy for rows of the kernel has the padding, which may be all but the map's own pixels.
    const stage_layout bordered{r.in, r.params.pad, k.i};
    const bool mostly_border = cost::real(bordered.rows()) * cost::real(bordered.columns()) >
                               most_border * (cost::real(r.in.h * r.in.w) + cost::real(r.out.h * r.out.w));
    const bool kernel_rows = short_runs && k.groups == 1 && r.params.dilation.w == 1 && !mostly_border;
    own.rows = kernel_rows ? input_rows::kernel_rows : short_runs ? input_rows::windows : input_rows::in_place;
    const bool conflicts =
        k.groups == 1 && k.i * static_cast<index_t>(sizeof(float)) % conflicting_row_bytes(r.target()) == 0;
    const index_t spread_floats = conflicts ? k.i + simd::lanes : k.i;
    // The gate goes into whichever has fewer elements: the panels, once per block, or the input, in a copy. A copy that
    // is made anyway takes it at no cost.
    own.gate_in_panel =
        gated && !kernel_rows && !conflicts && !r.circular && 2 * k.taps() * k.filters_per_group() <= r.map.h * r.map.w;
    const bool pointwise = k.taps() == 1 && !gated;
    if (conflicts && pointwise) own.tallest = aligned_tile_height(r.target().l1_ways);
    if (kernel_rows)
        plan_stage(p, r, staging::always, k.i, r.params.pad);
    else if ((gated && !own.gate_in_panel) || (conflicts && !pointwise))
        plan_stage(p, r, staging::always, spread_floats, 0);
    else if (r.map_order == input_order::any)
        plan_stage(p, r, staging::if_strided, k.i, 0);

    const bool wide = r.kernel().filters() >= 2 * r.kernel().depth();
    own.tiles_outside =
        !r.layer.assembles() && !r.layer.spatial_factor && !own.gate_in_panel &&
        r.kernel().group_floats() * static_cast<index_t>(sizeof(float)) <= tiles_outside_bytes(r.target(), wide);

    own.one_kernel = r.layer.assembles() && r.layer.one_kernel();
    const bool mixes = r.layer.mixes() > 0 && !own.one_kernel && !r.layer.channel_means && cost::mixing_input_pays(r);
    // A panel that serves several samples cannot have the gate of one in it.
    if (own.one_kernel && own.gate_in_panel) {
        own.gate_in_panel = false;
        plan_stage(p, r, staging::always, spread_floats, 0);
    }
    if (mixes) {
        own.mixes = r.layer.mixes();
        own.rows = input_rows::mixed_windows;
        own.gate_in_panel = own.tiles_outside = false;
        own.tallest = max_tile_height;
        p.stage = staging::never;
        if (r.map_order == input_order::any) plan_stage(p, r, staging::if_strided, k.i, 0);
    }
    p.gate_in_copy = !own.gate_in_panel;
}

/// The best plan for a request whose kernel is not depthwise.
[[nodiscard]] KDNA_COLD conv::plan make_plan(const plan_request& r, int) {
    const panel_layout& kernel = r.kernel();
    const kernel_shape& k = kernel.shape();
    const index_t channels = k.channels_per_group(), pixels = checked_mul(r.out.h, r.out.w, r.where);
    conv::plan p = begin_plan(r, "direct");
    plan& own = own_plan<plan>(p);
    plan_rows(p, own, r);
    if (own.packs()) p.name = "im2col";
    const index_t runs = own.packs() ? 1 : own.rows == input_rows::kernel_rows ? k.kh : k.taps();
    const index_t row_depth =
        own.mixes_input() ? checked_mul(r.layer.mixes(), kernel.depth(), r.where) : kernel.depth();
    own.packed_row_floats = own.packs() ? (ceil_div(row_depth, simd::lanes) + 1) * simd::lanes : channels;
    const index_t row_bytes = checked_mul(own.packed_row_floats, static_cast<index_t>(sizeof(float)), r.where);
    const bool assembles = r.layer.assembles() && !own.mixes_input();
    const index_t target = assembles ? packed_bytes_assembled(r.target()) : packed_bytes(r.target());
    own.remnant = std::max<index_t>(lower_tile_rows(pixels, own.tallest) - own.tallest, 0);
    const nest_work work{.outer = checked_mul(r.in.n, kernel.groups(), r.where),
                         .rows = std::max<index_t>(pixels - own.remnant, 1),
                         .panels = kernel.panels(),
                         .unit = own.tallest,
                         .most_rows = std::clamp<index_t>(target / row_bytes, own.tallest,
                                                          std::min(most_block_pixels, most_tall_tiles * own.tallest)),
                         .panel_rows = assembles                                     ? 8.0
                                       : r.layer.spatial_factor || own.gate_in_panel ? 2.0
                                                                                     : 0.5,
                         .block_panels = 0.1};
    const partition parts = cut(work, p.threads);
    own.block_pixels = parts.block_rows;
    own.blocks = parts.blocks;
    own.chunk_panels = parts.chunk_panels;
    own.chunks = parts.chunks;
    p.tasks = checked_mul(checked_mul(work.outer, parts.blocks, r.where), parts.chunks, r.where);
    // A block of b pixels is cut into at most b / tallest + the number of heights tiles.
    const auto tiles_of = [&](index_t rows) { return rows / own.tallest + static_cast<index_t>(tile_heights.size()); };
    index_t block_pixels = std::min(own.block_pixels + own.remnant, pixels), tiles = tiles_of(block_pixels);
    if (own.blocks == 1 && (own.one_kernel || own.mixes_input())) {
        const index_t most = std::min(std::min(most_block_pixels / pixels, most_tiles / tiles),
                                      std::max<index_t>(target / checked_mul(row_bytes, pixels, r.where), 1));
        own.task_samples = std::clamp<index_t>(ceil_div(r.in.n, p.threads), 1, std::max<index_t>(most, 1));
        block_pixels *= own.task_samples;
        tiles *= own.task_samples;
    }

    workspace_regions w;
    own.zeros_floats = channels;
    own.zeros_at = w.shared.add<float>(own.zeros_floats);
    own.row_pointers_at = w.thread.add<const float*>(checked_mul(block_pixels, runs, r.where));
    own.output_pointers_at = w.thread.add<float*>(block_pixels);
    own.residual_pointers_at = w.thread.add<const float*>(block_pixels);
    own.run_depths_at = w.thread.add<index_t>(checked_mul(tiles, runs, r.where));
    if (r.layer.spatial_factor) own.run_factors_at = w.thread.add<float>(checked_mul(tiles, runs, r.where));
    if (own.packs())
        own.packed_rows_at = w.thread.add<float>(checked_mul(block_pixels, own.packed_row_floats, r.where));
    own.assembled_panel_at = w.thread.add<float>(r.layer.source.scratch_floats());
    if (r.layer.spatial_factor || own.gate_in_panel)
        own.modulated_panel_at = w.thread.add<float>(kernel.panel_floats());
    plan_means(p, r, pixels / own.tallest + static_cast<index_t>(tile_heights.size()));
    finish_workspace(p, r, w);
    p.predicted_cycles = cost::real(r.in.n) * cost::sample(r, p, own, true);
    return p;
}

/// Any kernel but a depthwise one, whose panels have no depth to sum over.
KDNA_COLD void offers(const plan_request& r, offer_list& all) {
    if (r.shape().depthwise()) return;
    all.push_back({.name = "direct", .cost = cost::sample(r, conv::plan{}, plan{}, false)});
}

}  // namespace kdna::inline KDNA_ABI::conv::product

#include <kdna/core/macros_pop.hpp>
