// Winograd's minimal filtering for 3x3 kernels.
#pragma once

#include <algorithm>
#include <memory>

#include <kdna/conv/winograd/nest.hpp>
#include <kdna/conv/winograd/planner.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd {

inline void plan::begin(const conv::plan& p, const call& c, std::byte* workspace,
                        const executor_ref& executor) const noexcept {
    if (!transform_first) return;
    auto* to = at_offset<float>(workspace, transformed_input_at);
    conv::detail::in_chunks(all_tiles(p.in.n), p.threads, executor, [&](index_t, index_t first, index_t last) {
        detail::transform_all(*this, c, first, last, to);
    });
}

inline void plan::run(const conv::plan& p, const call& c, const workspace_view& space, index_t first,
                      index_t last) const noexcept {
    for (index_t task = first; task < last; ++task) {
        if (!transforms_panels) {  // a thread's tasks are those of few panels and many blocks
            detail::run_task(p, *this, c, space, task % blocks, task / blocks);
            continue;
        }
        const index_t chunk = task % chunks, rest = task / chunks, groups = ceil_div(blocks, task_blocks);
        detail::run_transforming_task(p, *this, c, space, rest / groups * task_samples, rest % groups * task_blocks,
                                      chunk);
    }
}

KDNA_COLD std::shared_ptr<const prepared_kernel> plan::prepare(const problem& q, const conv::plan& p) const {
    if (transforms_panels) return nullptr;
    const struct {
        const problem* q;
        int m;
    } context{&q, m};
    using context_type = decltype(context);
    const auto make = [](const void* from) -> std::shared_ptr<const prepared_kernel> {
        const auto& [layer, variant] = *static_cast<context_type*>(from);
        return std::make_shared<const kernel>(layer->source, layer->static_spatial, variant);
    };
    return q.prepared == nullptr ? make(&context) : q.prepared->get(p.name, {make, &context});
}

KDNA_COLD explanation plan::explain(const problem& q, const conv::plan& p) const {
    const std::string weights =
        transforms_panels ? concat("panels transformed as they are used, ", part_channels, " channels at a time")
                          : concat("transformed kernel ", kernel_bytes(q.kernel(), m) / 1024, " KiB");
    return {.tiles = concat(p.name, ", blocks of ", std::min(block_tiles, tiles), " of ", tiles, " tiles, ", weights),
            .gate = "the input transform",
            .spatial = transforms_panels ? "in their transform" : "in the transformed kernel",
            .several = task_samples > 1 && one_kernel};
}

}  // namespace kdna::inline KDNA_ABI::conv::winograd
