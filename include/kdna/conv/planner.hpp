// From a problem and an input shape to a plan: blocks, chunks, workspace.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include <kdna/conv/cost_model.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Rows of packed input that are kept while the panels pass over them: a third of a typical L2, so that a panel fits beside.
inline constexpr index_t packed_bytes_target = 320 * 1024;
/// A source that assembles panels gets larger blocks, since every block assembles all of them again.
inline constexpr index_t packed_bytes_assembled = 4 * 1024 * 1024;
/// Input rows of a depthwise block.
inline constexpr index_t depthwise_bytes_target = 256 * 1024;
/// Copied input of a block of one channel.
inline constexpr index_t plane_bytes_target = 192 * 1024;
/// Transformed input of one block of Winograd tiles.
inline constexpr index_t winograd_bytes_target = 340 * 1024;
/// Transformed input up to this size is made once for all threads, which then share out the panels: with tiles shared out
/// instead, each thread reads the whole transformed kernel, and few tiles cannot be shared evenly.
inline constexpr index_t transform_first_bytes = 1536 * 1024;
/// Shortest run of channels that is worth reading through a table of row pointers; below, the taps of a kernel row are made
/// one run (the stem's three channels are the case in point), or windows are copied where groups prevent that.
inline constexpr index_t shortest_direct_run = 8;
/// A kernel up to this size stays in L2 while every tile meets all of it: the tile's input stays in L1, and its output, and
/// the residual, are passed over once, in order. Larger ones are passed over once while the block's input stays, unless the
/// output is the larger part: 256-1024 at 14x14 gains 3 %, 1024-256 nothing.
inline constexpr index_t tiles_outside_bytes = 256 * 1024, tiles_outside_bytes_wide = 1100 * 1024;
/// Rows a multiple of this apart fight for a few sets of L1: 1,024 channels (1x1, 14x14) ran at 88 GFLOP/s in place with
/// tiles of 14 rows, at 110 from a copy, and at 116 in place with tiles of 7; only larger kernels, which read each row several times, get the copy.
inline constexpr index_t conflicting_row_bytes = 2048;

/// Plans the copy of the input. One whose border is wound around is made in any case; it is planned before (make_plan).
inline void plan_stage(plan& p, staging when, index_t pixel_floats, const padding& border) {
    if (p.staged.circular) {
        p.stage = staging::always;
        p.staged.pixel_floats = pixel_floats;
        return;
    }
    p.stage = when;
    p.staged = {p.in, border, pixel_floats};
}

/// Adds up shared and per-thread workspace.
inline void finish_workspace(plan& p, const workspace_layout& thread, std::string_view where) {
    workspace_layout shared;
    p.zeros_at = shared.add<float>(p.zeros_floats);
    if (p.stage != staging::never) p.staged_at = shared.add<float>(p.staged.floats());
    if (p.transform_first)
        p.transformed_at = shared.add<float>(
            checked_mul(all_tiles(p) * (p.winograd_m + 2) * (p.winograd_m + 2), p.row_floats * p.input_parts, where));
    if (p.parts > 0)
        p.part_sums_at = shared.add<float>(checked_mul(checked_mul(p.out.n, p.parts, where), p.part_floats, where));
    p.thread_bytes = thread.bytes();
    p.workspace_bytes = checked_add(shared.bytes(), checked_mul(p.threads, p.thread_bytes, where), where);
}

/// Makes room for the sums of `parts` parts of each sample, if channel means are wanted.
inline void plan_means(plan& p, const problem& q, index_t parts) {
    if (!q.channel_means) return;
    p.parts = parts;
    p.part_floats = ceil_div(p.out.c, simd::lanes) * simd::lanes;
}

/// Cuts the work into tasks and notes how.
inline void share_out(plan& p, const nest_work& w, std::string_view where) {
    const partition parts = cut(w, p.threads);
    p.pixel_block = parts.block_rows;
    p.pixel_blocks = parts.blocks;
    p.panel_chunk = parts.chunk_panels;
    p.panel_chunks = parts.chunks;
    p.tasks = checked_mul(checked_mul(w.outer, parts.blocks, where), parts.chunks, where);
}

/// A transformed panel up to this size stays in L2, beside a block's tiles and products, while all blocks pass over it. Larger
/// ones are transformed some channels at a time, and all tiles of the task gather their products meanwhile.
inline constexpr index_t transformed_panel_bytes = 640 * 1024, transformed_part_bytes = 640 * 1024;
/// Transformed input and products of a task that transforms panels.
inline constexpr index_t task_input_bytes = 4 * 1024 * 1024, task_products_bytes = 384 * 1024;

/// Cuts a Winograd convolution whose panels are transformed as they are used.
inline void share_out_transforms(plan& p, const problem& q, index_t positions, std::string_view where) {
    const index_t channel_bytes = positions * panel_layout::width * static_cast<index_t>(sizeof(float)),
                  tile_input = checked_mul(positions * p.in.c, static_cast<index_t>(sizeof(float)), where),
                  tile_products = channel_bytes, panels = q.kernel->panels();
    const bool whole = checked_mul(p.in.c, channel_bytes, where) <= transformed_panel_bytes;
    // What the next part is made of is fetched meanwhile.
    const index_t source_vectors = std::min<index_t>(9 * std::max<index_t>(q.assembly_terms, 1), 40),
                  part_bytes = channel_bytes / positions * (positions + source_vectors);
    const index_t parts = whole ? 1 : ceil_div(p.in.c * part_bytes, transformed_part_bytes),
                  vectors = ceil_div(p.in.c, simd::lanes);
    p.transform_depth = whole ? p.in.c : ceil_div(vectors, parts) * simd::lanes;
    p.input_parts = ceil_div(p.in.c, p.transform_depth);
    p.row_floats = (ceil_div(p.transform_depth, simd::lanes) + 1) * simd::lanes;
    const index_t task_tiles =
        std::max(whole ? task_input_bytes / tile_input
                       : std::min(task_input_bytes / tile_input, task_products_bytes / tile_products),
                 max_tile_height);
    // Blocks of tall tiles while a panel lies ready; otherwise all of a task's tiles at once.
    if (p.tile_count <= task_tiles) {
        p.pixel_block = whole ? std::min<index_t>(p.tile_count, max_tile_height) : p.tile_count;
        if (p.tile_count <= 2 * tile_heights[1]) p.pixel_block = p.tile_count;
        p.pixel_blocks = p.task_blocks = ceil_div(p.tile_count, p.pixel_block);
        // A panel that is made as a whole is made once for all its parts, so it is that of one sample.
        if (whole || q.assembles_parts)
            p.task_samples = std::clamp<index_t>(task_tiles / p.tile_count, 1, ceil_div(p.in.n, p.threads));
    } else {
        p.pixel_block = whole ? max_tile_height : task_tiles / max_tile_height * max_tile_height;
        p.pixel_blocks = ceil_div(p.tile_count, p.pixel_block);
        p.task_blocks = whole ? task_tiles / max_tile_height : 1;
    }
    const index_t tasks = checked_mul(ceil_div(p.in.n, p.task_samples), ceil_div(p.pixel_blocks, p.task_blocks), where);
    p.panel_chunk = ceil_div(panels, std::clamp<index_t>(ceil_div(p.threads, tasks), 1, panels));
    p.panel_chunks = ceil_div(panels, p.panel_chunk);
    p.tasks = checked_mul(tasks, p.panel_chunks, where);
}

/// Plans F(m x m, 3x3).
inline void plan_winograd(plan& p, const problem& q, int m, std::string_view where) {
    const panel_layout& kernel = *q.kernel;
    const index_t positions = static_cast<index_t>(m + 2) * (m + 2);
    p.algo = algorithm::winograd;
    p.winograd_m = m;
    p.tile_rows = ceil_div(p.out.h, m);
    p.tile_columns = ceil_div(p.out.w, m);
    p.transforms_panels = transforms_panels(q, m);
    p.equal_kernels = q.equal_routes || !q.routed_kernel;
    p.tile_count =
        checked_mul(checked_mul(p.tile_rows, p.tile_columns, where), p.transforms_panels ? 1 : p.in.n, where);
    // Rows are whole vectors and one more, so that rows of 2 KiB and 4 KiB do not fight for the same cache sets.
    p.row_floats = (ceil_div(p.in.c, simd::lanes) + 1) * simd::lanes;
    if (p.transforms_panels) share_out_transforms(p, q, positions, where);
    const index_t row_bytes =
        checked_mul(positions * p.row_floats, p.input_parts * static_cast<index_t>(sizeof(float)), where);
    p.transform_first = p.threads > 1 && checked_mul(all_tiles(p), row_bytes, where) <= transform_first_bytes;
    // A few tiles are one block (16 are 8 + 8); more are blocks of whole tall tiles.
    const bool few = p.tile_count <= 2 * tile_heights[1];
    if (!p.transforms_panels)
        share_out(
            p,
            {.rows = p.tile_count,
             .panels = kernel.panels(),
             .unit = few ? (p.transform_first ? p.tile_count : ceil_div(p.tile_count, p.threads)) : max_tile_height,
             .most_rows = few ? p.tile_count : std::max(winograd_bytes_target / row_bytes, max_tile_height),
             .panel_rows = 0.5,
             .block_panels = p.transform_first ? 0.02 : 0.15},
            where);
    workspace_layout thread;
    // Tiles of a task, and those whose products are kept at a time.
    index_t tiles = p.pixel_block, products = p.pixel_block;
    if (p.transforms_panels) {
        tiles = checked_mul(p.task_samples, std::min(p.task_blocks * p.pixel_block, p.tile_count), where);
        products = p.transform_depth < p.in.c ? tiles : p.pixel_block;
        p.modulated_at = thread.add<float>(q.source_scratch);
        p.factors_at = thread.add<float>(positions * transformed_stride(p));
    }
    p.rows_at = thread.add<const float*>(checked_mul(positions, tiles, where));
    if (!p.transform_first)
        p.packed_at = thread.add<float>(checked_mul(tiles, row_bytes / static_cast<index_t>(sizeof(float)), where));
    p.assembled_at =
        thread.add<float>(checked_mul(checked_mul(positions, products, where), panel_layout::width, where));
    if (p.order == input_order::any) plan_stage(p, staging::if_strided, p.in.c, 0);
    plan_means(p, q, p.tile_rows * p.tile_columns);
    finish_workspace(p, thread, where);
}

/// Plans a depthwise convolution: blocks of output rows whose input stays in cache while the panels pass over it.
inline void plan_depthwise(plan& p, const problem& q, std::string_view where) {
    p.algo = algorithm::depthwise;
    const index_t row_bytes =
        checked_mul(checked_mul(p.in.w, p.in.c, where), static_cast<index_t>(sizeof(float)) * q.params.stride.h, where);
    share_out(p,
              {.outer = p.in.n,
               .rows = p.out.h,
               .most_rows = std::clamp<index_t>(depthwise_bytes_target / row_bytes, 1, p.out.h)},
              where);
    if (p.order == input_order::any) plan_stage(p, staging::if_strided, p.in.c, 0);
    workspace_layout thread;
    p.assembled_at = thread.add<float>(q.source_scratch);
    if (q.spatial_factor) p.modulated_at = thread.add<float>(q.kernel->panel_floats());
    plan_means(p, q, p.out.h);
    finish_workspace(p, thread, where);
}

/// Plans a depthwise convolution of few channels: blocks of output rows whose input, copied, stays in cache.
inline void plan_planes(plan& p, const problem& q, std::string_view where) {
    const kernel_shape& k = q.kernel->shape();
    const auto& [stride, pad, dilation, mode] = q.params;
    p.algo = algorithm::planes;
    plane_layout& s = p.planes;
    s.border = pad;
    s.circular = mode == padding_mode::circular;
    s.columns = p.in.w + pad.left + pad.right;
    s.phases = stride.w;
    // Of each phase, what the taps read for whole vectors of outputs, or what there is if that is more.
    const auto whole = [](index_t floats, index_t unit) { return ceil_div(floats, unit) * unit; };
    const index_t read = checked_add(whole(p.out.w, simd::lanes), (k.kw - 1) * dilation.w / stride.w, where);
    s.phase_floats = whole(std::max(read, ceil_div(s.columns, s.phases)), simd::lanes);
    const index_t lines = ceil_div(checked_mul(s.phases, s.phase_floats, where), simd::line_floats);
    s.row_floats = (lines | 1) * simd::line_floats;
    const index_t row_bytes = checked_mul(checked_mul(s.row_floats, stride.h, where), sizeof(float), where);
    share_out(p,
              {.outer = checked_mul(p.in.n, p.in.c, where),
               .rows = p.out.h,
               .unit = plane_tile_rows,
               .most_rows = std::max(plane_bytes_target / row_bytes, 4 * plane_tile_rows)},
              where);
    s.rows = checked_add(checked_mul(p.pixel_block - 1, stride.h, where), (k.kh - 1) * dilation.h + 1, where);
    workspace_layout thread;
    p.rows_at = thread.add<float>(s.floats(where));
    p.packed_at = thread.add<float>(s.line_floats());
    p.assembled_at = thread.add<float>(q.source_scratch);
    p.factors_at = thread.add<float>(k.taps());
    p.depth_at = thread.add<index_t>(k.kw);
    plan_means(p, q, p.out.h);
    finish_workspace(p, thread, where);
}

/// Plans a matrix product whose rows are read in place, or copied where groups have few channels.
inline void plan_gemm(plan& p, const problem& q, std::string_view where) {
    const panel_layout& kernel = *q.kernel;
    const kernel_shape& k = kernel.shape();
    const index_t channels = k.channels_per_group(), taps = k.taps(), pixels = checked_mul(p.out.h, p.out.w, where);
    const bool short_runs = channels < shortest_direct_run && taps > 1;
    p.kernel_rows = short_runs && k.groups == 1 && q.params.dilation.w == 1;
    p.algo = short_runs && !p.kernel_rows ? algorithm::im2col : algorithm::direct;
    const bool conflicts = k.groups == 1 && k.i * static_cast<index_t>(sizeof(float)) % conflicting_row_bytes == 0;
    // Whichever has fewer elements takes the gate: the panels, once per block, or the input, in a copy. A copy that is made
    // anyway takes it at no cost.
    p.gate_in_panel = q.channel_factor && !p.kernel_rows && !conflicts && !p.staged.circular &&
                      2 * taps * k.filters_per_group() <= p.in.h * p.in.w;
    const bool in_place = taps == 1 && !q.channel_factor;
    if (conflicts && in_place) p.tallest = aligned_tile_height;
    if (p.kernel_rows)
        plan_stage(p, staging::always, k.i, q.params.pad);
    else if ((q.channel_factor && !p.gate_in_panel) || (conflicts && !in_place))
        plan_stage(p, staging::always, conflicts ? k.i + simd::lanes : k.i, 0);
    else if (p.order == input_order::any)
        plan_stage(p, staging::if_strided, k.i, 0);

    const bool wide = kernel.filters() >= 2 * kernel.depth();
    p.tiles_outside = q.source_scratch == 0 && !q.spatial_factor && !p.gate_in_panel &&
                      kernel.group_floats() * static_cast<index_t>(sizeof(float)) <=
                          (wide ? tiles_outside_bytes_wide : tiles_outside_bytes);

    p.equal_kernels = q.source_scratch > 0 && (q.equal_routes || !q.routed_kernel);
    p.mixes_input = mixes_input(q, p);
    // A panel that serves several samples cannot have the gate of one in it.
    if (p.equal_kernels && p.gate_in_panel) {
        p.gate_in_panel = false;
        plan_stage(p, staging::always, conflicts ? k.i + simd::lanes : k.i, 0);
    }
    if (p.mixes_input) {
        p.mixes = q.mixes;
        p.algo = algorithm::im2col;
        p.kernel_rows = p.gate_in_panel = p.tiles_outside = false;
        p.tallest = max_tile_height;
        p.stage = staging::never;
        if (p.order == input_order::any) plan_stage(p, staging::if_strided, k.i, 0);
    }
    const bool packs = p.algo == algorithm::im2col;
    const index_t run_count = packs ? 1 : p.kernel_rows ? k.kh : taps;
    const index_t row_depth = p.mixes_input ? checked_mul(q.mixes, kernel.depth(), where) : kernel.depth();
    p.row_floats = packs ? (ceil_div(row_depth, simd::lanes) + 1) * simd::lanes : channels;
    const index_t row_bytes = checked_mul(p.row_floats, static_cast<index_t>(sizeof(float)), where);
    const bool assembles = q.source_scratch > 0 && !p.mixes_input;
    const index_t target = assembles ? packed_bytes_assembled : packed_bytes_target;
    if (p.tallest == max_tile_height) p.remnant = 2 * tile_heights[1] - tile_heights[0];
    share_out(p,
              {.outer = checked_mul(p.in.n, kernel.groups(), where),
               .rows = std::max<index_t>(pixels - p.remnant, 1),
               .panels = kernel.panels(),
               .unit = p.tallest,
               .most_rows = std::clamp<index_t>(target / row_bytes, p.tallest, most_block_pixels),
               .panel_rows = assembles                             ? 8.0
                             : q.spatial_factor || p.gate_in_panel ? 2.0
                                                                   : 0.5,
               .block_panels = 0.1},
              where);
    // A block of b pixels is cut into at most b / tallest + the number of heights tiles.
    const auto tiles_of = [&](index_t rows) { return rows / p.tallest + static_cast<index_t>(tile_heights.size()); };
    index_t block_pixels = std::min(p.pixel_block + p.remnant, pixels), tiles = tiles_of(block_pixels);
    if (p.pixel_blocks == 1 && (p.equal_kernels || p.mixes_input)) {
        const index_t most = std::min(std::min(most_block_pixels / pixels, most_tiles / tiles),
                                      std::max<index_t>(target / checked_mul(row_bytes, pixels, where), 1));
        p.task_samples = std::clamp<index_t>(ceil_div(p.in.n, p.threads), 1, std::max<index_t>(most, 1));
        block_pixels *= p.task_samples;
        tiles *= p.task_samples;
    }

    workspace_layout thread;
    p.rows_at = thread.add<const float*>(checked_mul(block_pixels, run_count, where));
    p.outputs_at = thread.add<float*>(block_pixels);
    p.residuals_at = thread.add<const float*>(block_pixels);
    p.depth_at = thread.add<index_t>(checked_mul(tiles, run_count, where));
    if (q.spatial_factor) p.factors_at = thread.add<float>(checked_mul(tiles, run_count, where));
    if (packs) p.packed_at = thread.add<float>(checked_mul(block_pixels, p.row_floats, where));
    p.assembled_at = thread.add<float>(q.source_scratch);
    if (q.spatial_factor || p.gate_in_panel) p.modulated_at = thread.add<float>(kernel.panel_floats());
    p.zeros_floats = channels;
    plan_means(p, q, pixels / p.tallest + static_cast<index_t>(tile_heights.size()));
    finish_workspace(p, thread, where);
}

/// Chooses the algorithm for a map of shape `p.in`, padding with zeros, and plans it.
KDNA_COLD void plan_map(plan& p, const problem& q, std::string_view where) {
    if (const int m = choose_winograd(q, p); m != 0)
        plan_winograd(p, q, m, where);
    else if (q.kernel->shape().depthwise())
        plan_depthwise(p, q, where);
    else
        plan_gemm(p, q, where);
    p.predicted_cycles = cost_model::predict(q, p);
}

/// Plans a convolution of `in`; throws kdna::error where the shapes do not fit.
[[nodiscard]] KDNA_COLD plan make_plan(const problem& q, const shape4& in, input_order order, index_t threads,
                                       std::string_view where) {
    plan p;
    p.in = in;
    p.order = order;
    p.out = output_shape(in, q.kernel->shape(), q.params, where);
    p.threads = std::max<index_t>(threads, 1);
    if (choose_planes(q, p)) {
        plan_planes(p, q, where);
        p.predicted_cycles = cost_model::predict(q, p);
        return p;
    }
    if (q.params.mode == padding_mode::circular && q.params.pad != padding(0)) {
        // The copy has what lies around the map, so the rest is a convolution of the copy without padding.
        p.staged = {in, q.params.pad, 0, true};
        static_cast<void>(element_count(p.staged.map(), where));
        problem inner = q;
        inner.params.pad = 0;
        p.in = p.staged.map();
        p.order = input_order::any;
        plan_map(p, inner, where);
        p.in = in;
        p.order = order;
        return p;
    }
    plan_map(p, q, where);
    return p;
}

/// Where each factor is applied and what was chosen, in one line.
[[nodiscard]] KDNA_COLD std::string explain(const problem& q, const plan& p) {
    const kernel_shape& k = q.kernel->shape();
    std::string text =
        concat(to_string(p.algo),
               p.algo == algorithm::winograd ? concat(" F(", p.winograd_m, "x", p.winograd_m, ")") : "", ", ");
    if (p.algo == algorithm::winograd)
        text += concat(
            "blocks of ", std::min(p.pixel_block, p.tile_count), " of ", p.tile_count, " tiles, ",
            p.transforms_panels
                ? concat("panels transformed as they are used, ", p.transform_depth, " channels at a time")
                : concat("transformed kernel ", winograd_kernel::bytes_for(*q.kernel, p.winograd_m) / 1024, " KiB"));
    else if (p.algo == algorithm::depthwise)
        text +=
            concat("channels in panels of ", std::min(panel_layout::width, ceil_div(k.o, simd::lanes) * simd::lanes));
    else if (p.algo == algorithm::planes)
        text += concat("tile ", plane_tile_rows, " rows of ", 2 * simd::lanes,
                       " columns, each channel copied with its ", p.planes.circular ? "circular padding" : "padding");
    else
        text += concat("tile ", tile_height_for(p.out.h * p.out.w, p.tallest), "x", q.kernel->width_of(0),
                       ", blocks of ", std::min(p.pixel_block, p.out.h * p.out.w), " pixels");
    text += concat(", about ", static_cast<index_t>(std::ceil(p.predicted_cycles / 1000.0)), " kcycles");
    if (p.stage != staging::never)
        text += concat(p.stage == staging::always ? ", input copied" : ", input copied if strided",
                       p.staged.circular ? " with its circular padding"
                       : p.kernel_rows   ? " with its padding"
                                         : "");
    const auto place = [&](const char* depthwise, const char* winograd, const char* gemm) {
        return p.algo == algorithm::depthwise || p.algo == algorithm::planes ? depthwise
               : p.algo == algorithm::winograd                               ? winograd
                                                                             : gemm;
    };
    if (q.channel_factor)
        text += concat(", gate in ",
                       place("the scale", "the input transform", p.gate_in_panel ? "a panel copy" : "the copy"));
    if (q.spatial_factor)
        text +=
            concat(", spatial ",
                   place("in a panel copy", p.transforms_panels ? "in their transform" : "in the transformed kernel",
                         p.algo == algorithm::direct && !p.kernel_rows && !p.gate_in_panel ? "between taps"
                                                                                           : "in a panel copy"));
    if (p.mixes_input)
        text += concat(", input mixed for all ", q.mixes, " kernels");
    else if (q.source_scratch > 0)
        text += concat(", panels assembled ", p.task_samples > 1 && p.equal_kernels ? "for several samples " : "",
                       "in ", q.source_scratch * static_cast<index_t>(sizeof(float)) / 1024, " KiB");
    return text + concat(", ", p.tasks, p.tasks == 1 ? " task on " : " tasks on ", p.threads,
                         p.threads == 1 ? " thread" : " threads", ", workspace ", (p.workspace_bytes + 1023) / 1024,
                         " KiB");
}

}  // namespace kdna::inline KDNA_ABI::conv
