// Definitions of plan.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/position/plan.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/simd/lanes.hpp>

namespace kdna::inline KDNA_ABI::conv::position {

KDNA_FUNC_COLD plan make_plan(const shape4& in, const shape4& out, const given_position_weights& weights,
                              input_order order, index_t threads, std::string_view where) {
    plan p;
    p.in = in;
    p.out = out;
    p.window = weights.window;
    p.groups = weights.groups;
    p.sharing = weights.sharing;
    p.weights_pitch = checked_add(p.groups, 2 * simd::lanes, where);
    p.threads = std::clamp<index_t>(threads, 1, checked_mul(in.n, std::min(in.h, out.h), where));
    p.stages = order == input_order::any;
    p.staged = {.in = in, .pixel_floats = in.c};
    const index_t taps = checked_mul(p.window.h, p.window.w, where);
    workspace_layout shared, thread;
    p.zeros_at = shared.add<float>(in.c);
    if (p.stages) p.staged_at = shared.add<float>(p.staged.floats());
    p.neighbours_at = thread.add<const float*>(taps);
    static_cast<void>(checked_mul(taps, p.weights_pitch, where));
    p.weights_at = thread.add<float>(p.weights_floats());
    p.threads_at = shared.bytes();
    p.thread_bytes = thread.bytes();
    p.workspace_bytes = checked_add(p.threads_at, checked_mul(p.threads, p.thread_bytes, where), where);
    return p;
}

KDNA_FUNC_COLD std::string explain(const plan& p) {
    return concat(p.window.h, "x", p.window.w, " kernel per position, ", p.groups, p.groups == 1 ? " group" : " groups",
                  p.sharing == weight_sharing::interleaved ? " of interleaved channels" : "", " on ", to_string(p.in),
                  p.stages ? ", input copied if strided" : "", ", ", p.threads, p.threads == 1 ? " thread" : " threads",
                  ", workspace ", (p.workspace_bytes + 1023) / 1024, " KiB");
}

}  // namespace kdna::inline KDNA_ABI::conv::position

#include <kdna/core/macros_pop.hpp>
