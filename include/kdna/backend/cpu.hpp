// The CPU backend: planned loop nests on SIMD micro-kernels, spread over the caller's threads.
#pragma once

#include <kdna/backend/backend.hpp>
#include <kdna/conv/depthwise_nest.hpp>

namespace kdna::inline KDNA_ABI::backend {

struct cpu {
    using plan = conv::plan;

    [[nodiscard]] static plan make_plan(const conv::problem& q, const shape4& in, conv::input_order order, index_t threads,
                                        std::string_view where) {
        return conv::make_plan(q, in, order, threads, where);
    }

    static void run(const plan& p, const conv::call& c, std::byte* workspace, const executor_ref& executor) noexcept {
        auto* zeros = at_offset<float>(workspace, p.zeros_at);
        for (index_t i = 0; i < p.zeros_floats; ++i) zeros[i] = 0.0F;
        std::byte* spaces = workspace + (p.workspace_bytes - p.threads * p.thread_bytes);
        const index_t workers = std::min(p.threads, p.tasks);
        const auto work = [&](index_t worker) {
            const index_t first = p.tasks * worker / workers, last = p.tasks * (worker + 1) / workers;
            std::byte* space = spaces + worker * p.thread_bytes;
            if (p.algo == conv::algorithm::depthwise)
                conv::depthwise_nest(p, c, space, first, last);
            else
                conv::gemm_nest(p, c, zeros, space, first, last);
        };
        executor.parallel_for(workers, work);
    }

    [[nodiscard]] static std::string explain(const conv::problem& q, const plan& p) { return conv::explain(q, p); }
};
static_assert(conv_backend<cpu>);

}  // namespace kdna::inline KDNA_ABI::backend
