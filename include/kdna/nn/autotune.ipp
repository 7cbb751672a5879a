// Definitions of autotune.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include <kdna/nn/autotune.hpp>

#ifndef TIME_UTC
#include <chrono>
#endif

namespace kdna::inline KDNA_ABI::detail {

KDNA_FUNC_COLD tuning::tuning(const conv::problem& q, const shape4& in, conv::input_order order, index_t threads,
                              std::string_view where)
    : candidates_(conv::candidates(q, in, order, threads, where)) {
    double best = candidates_.front().predicted_cycles;
    for (const conv::plan& p : candidates_) best = std::min(best, p.predicted_cycles);
    std::erase_if(candidates_, [&](const conv::plan& p) { return p.predicted_cycles > hopeless * best; });
    for (conv::plan& p : candidates_) conv::prepare(q, p, where);
}

/// Numbers between -1 and 1: no denormals, nothing that a clamp or a gate makes special.
KDNA_COLD void fill_for_tuning(tensor<float>& t) {
    unsigned state = 1;
    for (float& v : t.span()) {
        state = state * 1664525U + 1013904223U;
        v = static_cast<float>(state >> 8U) * (2.0F / 16777216.0F) - 1.0F;
    }
}

KDNA_FUNC_COLD void tuning::make_tensors(bool with_residual, bool with_means) {
    const conv::plan& p = candidates_.front();
    const layout order = p.order == conv::input_order::nhwc ? layout::nhwc : layout::nchw;
    x_ = tensor<float>(p.in, order);
    y_ = tensor<float>(p.out, order);
    fill_for_tuning(x_);
    if (with_residual) {
        residual_ = tensor<float>(p.out, order);
        fill_for_tuning(residual_);
    }
    if (with_means) means_ = buffer<float>(p.out.n * p.out.c);
    index_t bytes = 0;
    for (const conv::plan& c : candidates_) bytes = std::max(bytes, c.workspace_bytes);
    workspace_ = buffer<std::byte>(bytes);
}

KDNA_FUNC_COLD tensor_view<const float> tuning::residual() const {
    return residual_.size() > 0 ? residual_.view() : tensor_view<const float>{};
}

/// Milliseconds since some point in the past. Where C11's clock is there (MinGW may not have it), it is preferred:
/// <chrono> takes a good part of the time that this file takes to compile. A clock that is set meanwhile makes a wrong
/// choice, not a wrong result.
KDNA_COLD double milliseconds_now() {
#ifdef TIME_UTC
    timespec t{};
    static_cast<void>(timespec_get(&t, TIME_UTC));
    return 1e3 * static_cast<double>(t.tv_sec % 1'000'000) + 1e-6 * static_cast<double>(t.tv_nsec);
#else
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(since).count();
#endif
}

KDNA_FUNC_COLD std::size_t tuning::fastest(const task_ref& run) {
    milliseconds_.assign(candidates_.size(), 0.0);
    for (int round = 0; round <= rounds; ++round)
        for (std::size_t i = 0; i < candidates_.size(); ++i) {
            const double start = milliseconds_now();
            run(static_cast<index_t>(i));
            const double taken = milliseconds_now() - start;
            if (round <= 1 || taken < milliseconds_[i]) milliseconds_[i] = taken;
        }
    return static_cast<std::size_t>(std::min_element(milliseconds_.begin(), milliseconds_.end()) -
                                    milliseconds_.begin());
}

KDNA_FUNC_COLD std::string tuning::text() const {
    std::string out;
    for (std::size_t i = 0; i < milliseconds_.size(); ++i) {
        char entry[96];
        const std::string_view name = candidates_[i].name;
        std::snprintf(entry, sizeof(entry), "%s %.*s %.*f ms", out.empty() ? ", tuned:" : ",",
                      static_cast<int>(name.size()), name.data(), milliseconds_[i] < 0.1 ? 4 : 2, milliseconds_[i]);
        out += entry;
    }
    return out;
}

}  // namespace kdna::inline KDNA_ABI::detail

#include <kdna/core/macros_pop.hpp>
