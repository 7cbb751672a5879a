// The CPU backend: planned loop nests on SIMD micro-kernels, spread over the caller's threads (conv/).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <string>
#include <string_view>

#include <kdna/backend/backend.hpp>
#include <kdna/conv/convolution.hpp>

namespace kdna::inline KDNA_ABI::backend {

struct cpu {
    using plan = conv::plan;

    [[nodiscard]] static plan make_plan(const conv::problem& q, const shape4& in, conv::input_order order,
                                        index_t threads, std::string_view where) {
        return conv::make_plan(q, in, order, threads, where);
    }
    static void run(const plan& p, const conv::call& c, std::byte* workspace, const executor_ref& executor) noexcept {
        conv::run(p, c, workspace, executor);
    }
    [[nodiscard]] static std::string explain(const conv::problem& q, const plan& p) { return conv::explain(q, p); }
};
static_assert(conv_backend<cpu>);

}  // namespace kdna::inline KDNA_ABI::backend

#include <kdna/core/macros_pop.hpp>
