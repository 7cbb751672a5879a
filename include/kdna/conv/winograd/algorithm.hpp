// Winograd's minimal filtering for 3x3 kernels.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <memory>

#include <kdna/conv/winograd/nest.hpp>
#include <kdna/conv/winograd/planner.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd {

/// Transforms all tiles of the input, where the threads share them.
inline void begin(const conv::plan& p, const call& c, std::byte* workspace, const executor_ref& executor) noexcept {
    const plan& own = own_of<plan>(p);
    if (!own.transform_first) return;
    auto* to = at_offset<float>(workspace, own.transformed_input_at);
    conv::detail::in_chunks(own.all_tiles(p.in.n), p.threads, executor, [&](index_t, index_t first, index_t last) {
        detail::transform_all(own, c, first, last, to);
    });
}

/// Results do not depend on the number of threads. A thread's tasks are those of few panels and many blocks.
inline void run_tasks(const conv::plan& p, const call& c, const workspace_view& space, index_t first,
                      index_t last) noexcept {
    const plan& own = own_of<plan>(p);
    for (index_t task = first; task < last; ++task) {
        if (!own.transforms_panels) {
            detail::run_task(p, own, c, space, task % own.blocks, task / own.blocks);
            continue;
        }
        const index_t chunk = task % own.chunks, rest = task / own.chunks,
                      groups = ceil_div(own.blocks, own.task_blocks);
        detail::run_transforming_task(p, own, c, space, rest / groups * own.task_samples,
                                      rest % groups * own.task_blocks, chunk);
    }
}

/// The transformed kernel, for a plan that wants it kept.
KDNA_COLD std::shared_ptr<const prepared_kernel> prepare(const problem& q, const conv::plan& p) {
    const plan& own = own_of<plan>(p);
    if (own.transforms_panels) return nullptr;
    struct wanted {
        const problem& layer;
        const plan& own;
    };
    const wanted w{q, own};
    const auto make = [](const void* context) -> std::shared_ptr<const prepared_kernel> {
        const auto& of = *static_cast<const wanted*>(context);
        return std::shared_ptr<const kernel>(
            new kernel(of.layer.source, of.layer.static_spatial, of.own.m, of.own.format));
    };
    return q.prepared == nullptr ? make(&w) : q.prepared->get(kernel_name(own.m, own.format), {make, &w});
}

KDNA_COLD explanation explain(const problem& q, const conv::plan& p) {
    const plan& own = own_of<plan>(p);
    const std::string weights =
        own.transforms_panels
            ? concat("panels transformed as they are used, ", own.part_channels, " channels at a time")
            : concat("transformed kernel ", kernel_bytes(q, own.m) / 1024, " KiB",
                     own.format == number_format::float32 ? std::string() : concat(" of ", to_string(own.format)));
    return {.tiles = concat(p.name, ", blocks of ", std::min(own.block_tiles, own.tiles), " of ", own.tiles, " tiles, ",
                            weights),
            .gate = "the input transform",
            .spatial = own.transforms_panels ? "in their transform" : "in the transformed kernel",
            .several = own.task_samples > 1 && own.one_kernel};
}

inline constexpr algorithm functions{
    .offers = offers, .make_plan = make_plan, .prepare = prepare, .begin = begin, .run = run_tasks, .explain = explain};

}  // namespace kdna::inline KDNA_ABI::conv::winograd

#include <kdna/core/macros_pop.hpp>
