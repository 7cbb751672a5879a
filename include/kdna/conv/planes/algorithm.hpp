// Convolution of each channel with a filter of its own, neighbouring columns in the vectors: for few channels.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/partition.hpp>
#include <kdna/conv/planes/cost.hpp>
#include <kdna/conv/planes/nest.hpp>
#include <kdna/conv/planning.hpp>

namespace kdna::inline KDNA_ABI::conv::planes {

/// Copied input of a block of one channel: three sixteenths of L2.
[[nodiscard]] inline index_t block_bytes(const machine& m) noexcept { return m.l2_bytes / 16 * 3; }

/// The copy has the padding, zeros or circular, in any case; so this is planned on the call's input.
[[nodiscard]] KDNA_COLD conv::plan make_plan(const plan_request& r, int) {
    const kernel_shape& k = r.shape();
    const auto& [stride, pad, dilation, mode] = r.layer.params;
    conv::plan p = begin_plan(r, "planes");
    plan& own = own_plan<plan>(p);
    plane_layout& s = own.copy;
    s.border = pad;
    s.circular = mode == padding_mode::circular;
    s.columns = r.in.w + pad.left + pad.right;
    s.phases = stride.w;
    // Of each phase, what the taps read for whole vectors of outputs, or what there is if that is more.
    const auto whole = [](index_t floats, index_t unit) { return ceil_div(floats, unit) * unit; };
    const index_t read = checked_add(whole(r.out.w, simd::lanes), (k.kw - 1) * dilation.w / stride.w, r.where);
    s.phase_floats = whole(std::max(read, ceil_div(s.columns, s.phases)), simd::lanes);
    const index_t lines = ceil_div(checked_mul(s.phases, s.phase_floats, r.where), simd::line_floats);
    s.row_floats = (lines | 1) * simd::line_floats;
    const index_t row_bytes = checked_mul(checked_mul(s.row_floats, stride.h, r.where), sizeof(float), r.where);
    const nest_work work{.outer = checked_mul(r.in.n, r.in.c, r.where),
                         .rows = r.out.h,
                         .unit = tile_rows,
                         .most_rows = std::max(block_bytes(r.target()) / row_bytes, 4 * tile_rows)};
    const partition parts = cut(work, p.threads);
    own.block_rows = parts.block_rows;
    own.blocks = parts.blocks;
    p.tasks = checked_mul(work.outer, parts.blocks, r.where);
    s.rows = checked_add(checked_mul(own.block_rows - 1, stride.h, r.where), (k.kh - 1) * dilation.h + 1, r.where);
    workspace_regions w;
    own.copy_at = w.thread.add<float>(s.floats(r.where));
    own.line_at = w.thread.add<float>(s.line_floats());
    own.assembled_panel_at = w.thread.add<float>(r.layer.source.scratch_floats());
    own.weights_at = w.thread.add<float>(k.taps());
    own.columns_at = w.thread.add<index_t>(k.kw);
    plan_means(p, r, r.out.h);
    finish_workspace(p, r, w);
    p.predicted_cycles = cost::real(r.in.n) * cost::sample(r);
    return p;
}

/// Kernels with one filter for each channel, and for a single channel, but for 1x1.
KDNA_COLD void offers(const plan_request& r, offer_list& all) {
    const kernel_shape& k = r.shape();
    if (k.groups != k.i || k.o != k.i || k.taps() == 1) return;
    all.push_back({.name = "planes", .cost = cost::sample_of_either_order(r)});
}

/// Results do not depend on the number of threads.
inline void run_tasks(const conv::plan& p, const call& c, const workspace_view& space, index_t first,
                      index_t last) noexcept {
    const plan& own = own_of<plan>(p);
    for (index_t task = first; task < last; ++task) {
        const index_t plane = task / own.blocks;
        detail::run_task(p, own, c, space, plane / p.in.c, plane % p.in.c, task % own.blocks);
    }
}

KDNA_COLD explanation explain(const problem& q, const conv::plan& p) {
    return {.tiles = concat(p.name, ", tile ", tile_rows, " rows of ", 2 * simd::lanes,
                            " columns, each channel copied with its ",
                            q.params.mode == padding_mode::circular ? "circular padding" : "padding"),
            .gate = "the scale",
            .spatial = "in a panel copy"};
}

inline constexpr algorithm functions{.offers = offers, .make_plan = make_plan, .run = run_tasks, .explain = explain};

}  // namespace kdna::inline KDNA_ABI::conv::planes

#include <kdna/core/macros_pop.hpp>
