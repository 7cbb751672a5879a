// The steps that the planners of all algorithms share.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <string_view>

#include <kdna/conv/algorithm.hpp>
#include <kdna/core/arithmetic.hpp>
#include <kdna/simd/lanes.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// A plan's workspace while it is made.
struct workspace_regions {
    workspace_layout shared{};  ///< once
    workspace_layout thread{};  ///< for each thread
};

/// A plan for a request in which nothing is decided.
[[nodiscard]] KDNA_COLD plan begin_plan(const plan_request& r, std::string_view name) {
    plan p;
    p.name = name;
    p.in = r.in;
    p.out = r.out;
    p.order = r.order;
    p.threads = r.threads;
    return p;
}

/// Gives a plan its algorithm's part, of type Own, to be filled in.
template <class Own>
[[nodiscard]] Own& own_plan(plan& p) {
    const std::shared_ptr<Own> own(new Own());
    p.own = own;
    return *own;
}

/// Plans the copy of the input, with a border of zeros. A copy with a circular border is made in any case; its border
/// is the request's.
KDNA_COLD void plan_stage(plan& p, const plan_request& r, staging when, index_t pixel_floats, const padding& border) {
    p.stage = r.circular ? staging::always : when;
    p.staged = r.circular ? stage_layout{r.in, r.layer.params.pad, pixel_floats, true}
                          : stage_layout{r.in, border, pixel_floats};
}

/// Makes room for the sums of `parts` parts of each sample, if channel means are wanted.
KDNA_COLD void plan_means(plan& p, const plan_request& r, index_t parts) {
    if (!r.layer.channel_means) return;
    p.parts = parts;
    p.part_floats = ceil_div(r.out.c, simd::lanes) * simd::lanes;
}

/// Adds the regions that all algorithms have, and the total.
KDNA_COLD void finish_workspace(plan& p, const plan_request& r, workspace_regions& w) {
    if (p.stage != staging::never) p.staged_at = w.shared.add<float>(p.staged.floats());
    if (p.parts > 0)
        p.part_sums_at =
            w.shared.add<float>(checked_mul(checked_mul(p.out.n, p.parts, r.where), p.part_floats, r.where));
    p.thread_bytes = w.thread.bytes();
    p.workspace_bytes = checked_add(w.shared.bytes(), checked_mul(p.threads, p.thread_bytes, r.where), r.where);
}

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
