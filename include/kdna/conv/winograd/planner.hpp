// From a request to the plan of a Winograd convolution: blocks of tiles, chunks of panels, workspace.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/partition.hpp>
#include <kdna/conv/planning.hpp>
#include <kdna/conv/winograd/cost.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd {

using product::max_tile_height;
using product::tile_heights;

/// Transformed input of one block of tiles: a third of L2.
[[nodiscard]] inline index_t block_bytes(const machine& m) noexcept { return m.l2_bytes / 3; }
/// Transformed input up to this size, one and a half times L2, is made once for all threads, which then share out the
/// panels. With tiles shared out instead, each thread reads the whole transformed kernel, and few tiles cannot be shared
/// evenly.
[[nodiscard]] inline index_t transform_first_bytes(const machine& m) noexcept { return m.l2_bytes / 2 * 3; }
/// A transformed panel up to this size, five eighths of L2, stays there, with a block's tiles and products, while all
/// blocks pass over it. Larger ones are transformed some channels at a time, parts of this size, and all tiles of the
/// task gather their products meanwhile.
[[nodiscard]] inline index_t transformed_panel_bytes(const machine& m) noexcept { return m.l2_bytes / 8 * 5; }
/// Transformed input of a task that transforms panels, an eighth of L3 or half of L2 if that is more; and its products,
/// three eighths of L2.
[[nodiscard]] inline index_t task_input_bytes(const machine& m) noexcept {
    return std::max(m.l3_bytes / 8, m.l2_bytes / 2);
}
[[nodiscard]] inline index_t task_products_bytes(const machine& m) noexcept { return m.l2_bytes / 8 * 3; }

/// Rows of the transformed input are whole vectors and one more, so that rows of 2 KiB and 4 KiB do not compete for the
/// same cache sets.
[[nodiscard]] inline index_t padded_row(index_t channels) noexcept {
    return (ceil_div(channels, simd::lanes) + 1) * simd::lanes;
}

/// Cuts a convolution whose panels are transformed as they are used.
KDNA_COLD void share_out_transforms(conv::plan& p, plan& own, const plan_request& r) {
    const index_t positions = own.positions(), channels = r.map.c,
                  channel_bytes = positions * panel_layout::width * static_cast<index_t>(sizeof(float)),
                  tile_input = checked_mul(positions * channels, static_cast<index_t>(sizeof(float)), r.where),
                  tile_products = channel_bytes, panels = r.kernel().panels();
    const index_t panel_bytes = transformed_panel_bytes(r.target()), input_bytes = task_input_bytes(r.target()),
                  products_bytes = task_products_bytes(r.target());
    const bool whole = checked_mul(channels, channel_bytes, r.where) <= panel_bytes;
    // What the next part is made of is prefetched meanwhile.
    const index_t source_vectors = std::min<index_t>(9 * std::max<index_t>(r.layer.assembly_terms(), 1), 40),
                  part_bytes = channel_bytes / positions * (positions + source_vectors);
    const index_t parts = whole ? 1 : ceil_div(channels * part_bytes, panel_bytes),
                  vectors = ceil_div(channels, simd::lanes);
    own.part_channels = whole ? channels : ceil_div(vectors, parts) * simd::lanes;
    own.input_parts = ceil_div(channels, own.part_channels);
    own.row_floats = padded_row(own.part_channels);
    const index_t task_tiles =
        std::max(whole ? input_bytes / tile_input : std::min(input_bytes / tile_input, products_bytes / tile_products),
                 max_tile_height);
    // Blocks of tall tiles while a whole panel is ready; otherwise all of a task's tiles at once.
    if (own.tiles <= task_tiles) {
        own.block_tiles = whole ? std::min<index_t>(own.tiles, max_tile_height) : own.tiles;
        if (own.tiles <= 2 * tile_heights[1]) own.block_tiles = own.tiles;
        own.blocks = own.task_blocks = ceil_div(own.tiles, own.block_tiles);
        // A panel that is made as a whole is made once for all its parts, so it is that of one sample.
        if (whole || r.layer.assembles_parts())
            own.task_samples = std::clamp<index_t>(task_tiles / own.tiles, 1, ceil_div(r.in.n, p.threads));
    } else {
        own.block_tiles = whole ? max_tile_height : task_tiles / max_tile_height * max_tile_height;
        own.blocks = ceil_div(own.tiles, own.block_tiles);
        own.task_blocks = whole ? task_tiles / max_tile_height : 1;
    }
    const index_t tasks =
        checked_mul(ceil_div(r.in.n, own.task_samples), ceil_div(own.blocks, own.task_blocks), r.where);
    own.chunk_panels = ceil_div(panels, std::clamp<index_t>(ceil_div(p.threads, tasks), 1, panels));
    own.chunks = ceil_div(panels, own.chunk_panels);
    p.tasks = checked_mul(tasks, own.chunks, r.where);
}

/// Tiles of the small maps of networks: 14x14 in F(4x4), 7x7 in F(2x2).
inline constexpr index_t small_map_tiles = 16;

/// Bytes that come from beyond L2 if a block is so many tiles: the kernel once for each block, and the input once, or once for each
/// panel if a block of it does not stay in L2.
[[nodiscard]] inline double traffic(const plan& own, const plan_request& r, index_t tile_bytes,
                                    index_t block) noexcept {
    const bool stays = block * tile_bytes <= transformed_panel_bytes(r.target());
    return cost::real(ceil_div(own.tiles, block)) * cost::real(kernel_bytes(r.layer, own.m)) +
           cost::real(stays ? 1 : r.kernel().panels()) * cost::real(own.tiles) * cost::real(tile_bytes);
}

/// Cuts a convolution whose kernel is kept transformed.
KDNA_COLD void share_out_tiles(conv::plan& p, plan& own, const plan_request& r, index_t tile_bytes) {
    // A few tiles are one block (16 are 8 + 8); more are blocks of whole tall tiles, or of a small map's tiles: with AVX2, whose tall
    // tiles have 6 rows, 512 channels on 7x7 with cold weights ran 1.28 times as fast so.
    const bool few = own.tiles <= 2 * tile_heights[1];
    const index_t most = std::max(block_bytes(r.target()) / tile_bytes, max_tile_height);
    const bool maps =
        own.tiles % small_map_tiles == 0 && traffic(own, r, tile_bytes, small_map_tiles) <
                                                traffic(own, r, tile_bytes, most / max_tile_height * max_tile_height);
    const partition parts = cut({.rows = own.tiles,
                                 .panels = r.kernel().panels(),
                                 .unit = few    ? (own.transform_first ? own.tiles : ceil_div(own.tiles, p.threads))
                                         : maps ? small_map_tiles
                                                : max_tile_height,
                                 .most_rows = few    ? own.tiles
                                              : maps ? small_map_tiles
                                                     : most,
                                 .panel_rows = 0.5,
                                 .block_panels = own.transform_first ? 0.02 : 0.15},
                                p.threads);
    own.block_tiles = parts.block_rows;
    own.blocks = parts.blocks;
    own.chunk_panels = parts.chunk_panels;
    own.chunks = parts.chunks;
    p.tasks = checked_mul(parts.blocks, parts.chunks, r.where);
}

/// A plan of F(m x m, 3x3).
[[nodiscard]] KDNA_COLD conv::plan make_plan(const plan_request& r, int m) {
    conv::plan p = begin_plan(r, names[index_of(m)]);
    plan& own = own_plan<plan>(p);
    own.m = m;
    own.tile_rows = ceil_div(r.out.h, m);
    own.tile_columns = ceil_div(r.out.w, m);
    own.transforms_panels = transforms_panels(r.layer, m);
    own.format = r.layer.prepared_format;
    own.one_kernel = r.layer.one_kernel();
    own.tiles =
        checked_mul(checked_mul(own.tile_rows, own.tile_columns, r.where), own.transforms_panels ? 1 : r.in.n, r.where);
    own.row_floats = padded_row(r.map.c);
    own.part_channels = r.map.c;
    if (own.transforms_panels) share_out_transforms(p, own, r);
    const index_t positions = own.positions(),
                  tile_bytes = checked_mul(positions * own.row_floats,
                                           own.input_parts * static_cast<index_t>(sizeof(float)), r.where),
                  all_tiles = own.all_tiles(r.in.n);
    own.transform_first =
        p.threads > 1 && checked_mul(all_tiles, tile_bytes, r.where) <= transform_first_bytes(r.target());
    if (!own.transforms_panels) share_out_tiles(p, own, r, tile_bytes);

    workspace_regions w;
    // Tiles of a task, and those whose products are kept at a time.
    index_t tiles = own.block_tiles, products = own.block_tiles;
    if (own.transforms_panels) {
        tiles = checked_mul(own.task_samples, std::min(own.task_blocks * own.block_tiles, own.tiles), r.where);
        products = own.part_channels < r.map.c ? tiles : own.block_tiles;
        own.assembled_at = w.thread.add<float>(r.layer.source.scratch_floats());
        own.weights_at = w.thread.add<float>(positions * own.weights_stride());
    } else if (own.format != number_format::float32) {
        own.widened_at = w.thread.add<float>(checked_mul(r.map.c, panel_layout::width, r.where));
    }
    own.row_pointers_at = w.thread.add<const float*>(checked_mul(positions, tiles, r.where));
    const index_t tile_floats = tile_bytes / static_cast<index_t>(sizeof(float));
    if (own.transform_first)
        own.transformed_input_at = w.shared.add<float>(checked_mul(all_tiles, tile_floats, r.where));
    else
        own.task_input_at = w.thread.add<float>(checked_mul(tiles, tile_floats, r.where));
    own.products_at =
        w.thread.add<float>(checked_mul(checked_mul(positions, products, r.where), panel_layout::width, r.where));
    if (r.map_order == input_order::any) plan_stage(p, r, staging::if_strided, r.map.c, 0);
    plan_means(p, r, own.tile_rows * own.tile_columns);
    finish_workspace(p, r, w);
    p.predicted_cycles = cost::real(r.in.n) * cost::sample(r, m);
    return p;
}

/// 3x3 kernels of one group with stride and dilation 1 and at least a vector of channels and filters, unless the budget
/// forbids it. Not F(6x6) for a kernel that is kept in 16 bits, whose rounding it makes 20 times as large.
KDNA_COLD void offers(const plan_request& r, offer_list& all) {
    const kernel_shape& k = r.shape();
    if (r.layer.transform_budget <= 0 || k.kh != 3 || k.kw != 3 || k.groups != 1 || r.params.stride != extent2(1) ||
        r.params.dilation != extent2(1) || std::min(k.i, k.o) < simd::lanes)
        return;
    for (const int m : variants) {
        if (m == 6 && r.layer.prepared_format != number_format::float32 && !transforms_panels(r.layer, m)) continue;
        const bool pays = m < 6 || ceil_div(r.out.h, m) * ceil_div(r.out.w, m) >= cost::fewest_tiles_of_6;
        all.push_back({.name = names[index_of(m)],
                       .cost = cost::sample(r, m),
                       .share = !pays   ? 0.0
                                : m < 6 ? 1.0
                                        : cost::share_of_6,
                       .variant = m});
    }
}

}  // namespace kdna::inline KDNA_ABI::conv::winograd

#include <kdna/core/macros_pop.hpp>
