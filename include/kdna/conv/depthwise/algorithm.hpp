// Convolution of each channel with a filter of its own, channels in the vectors.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/depthwise/cost.hpp>
#include <kdna/conv/depthwise/nest.hpp>
#include <kdna/conv/partition.hpp>
#include <kdna/conv/planning.hpp>

namespace kdna::inline KDNA_ABI::conv::depthwise {

/// Input rows of a block stay in cache while the panels pass over them: half of L2.
[[nodiscard]] inline index_t block_bytes(const machine& m) noexcept { return m.l2_bytes / 2; }

[[nodiscard]] KDNA_COLD conv::plan make_plan(const plan_request& r, int) {
    conv::plan p = begin_plan(r, "depthwise");
    plan& own = own_plan<plan>(p);
    const index_t row_bytes = checked_mul(checked_mul(r.map.w, r.map.c, r.where),
                                          static_cast<index_t>(sizeof(float)) * r.params.stride.h, r.where);
    const partition parts = cut({.outer = r.in.n,
                                 .rows = r.out.h,
                                 .most_rows = std::clamp<index_t>(block_bytes(r.target()) / row_bytes, 1, r.out.h)},
                                p.threads);
    own.block_rows = parts.block_rows;
    p.tasks = checked_mul(r.in.n, parts.blocks, r.where);
    if (r.map_order == input_order::any) plan_stage(p, r, staging::if_strided, r.in.c, 0);
    workspace_regions w;
    own.assembled_panel_at = w.thread.add<float>(r.layer.source.scratch_floats());
    if (r.layer.spatial_factor) own.modulated_panel_at = w.thread.add<float>(r.kernel().panel_floats());
    plan_means(p, r, r.out.h);
    finish_workspace(p, r, w);
    p.predicted_cycles = cost::real(r.in.n) * cost::sample(r);
    return p;
}

/// Depthwise kernels.
KDNA_COLD void offers(const plan_request& r, offer_list& all) {
    if (r.shape().depthwise()) all.push_back({.name = "depthwise", .cost = cost::sample_of_either_order(r)});
}

inline index_t count_tasks(const conv::plan& p, const call& c) noexcept {
    return p.in.n * ceil_div(c.rows.count, own_of<plan>(p).block_rows);
}

inline index_t row_multiple(const conv::plan&) noexcept { return 1; }

/// Results do not depend on the number of threads.
inline void run_tasks(const conv::plan& p, const call& c, const workspace_view& space, index_t first,
                      index_t last) noexcept {
    const plan& own = own_of<plan>(p);
    const index_t blocks = ceil_div(c.rows.count, own.block_rows);
    for (index_t task = first; task < last; ++task) detail::run_task(p, own, c, space, task / blocks, task % blocks);
}

KDNA_COLD explanation explain(const problem& q, const conv::plan& p) {
    const index_t filters = ceil_div(q.shape().o, simd::lanes) * simd::lanes;
    return {.tiles = concat(p.name, ", channels in panels of ", std::min(panel_layout::width, filters)),
            .gate = "the scale",
            .spatial = "in a panel copy"};
}

inline constexpr algorithm functions{.offers = offers,
                                     .make_plan = make_plan,
                                     .tasks = count_tasks,
                                     .row_multiple = row_multiple,
                                     .run = run_tasks,
                                     .explain = explain};

}  // namespace kdna::inline KDNA_ABI::conv::depthwise

#include <kdna/core/macros_pop.hpp>
