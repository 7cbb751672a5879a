// Timing the candidates of a plan, once, where the caller does not want to rely on the cost model.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string>
#include <string_view>
#include <vector>

#include <kdna/conv/convolution.hpp>
#include <kdna/core/executor.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/tensor/tensor.hpp>

namespace kdna::inline KDNA_ABI::detail {

/// Everything that the timing of one layer's candidates needs, but for the runs, which only the layer can make.
class tuning {
public:
    /// Candidates that the cost model expects to take longer than this many times the best are not tried: it is seldom
    /// off by a third (docs/cost-model.md), and their kernels would be prepared for nothing.
    static constexpr double hopeless = 2.0;
    /// After one run each to warm up. The least of several counts, since everything that disturbs makes a run longer.
    static constexpr int rounds = 5;

    /// Plans the candidates that are worth trying and prepares their kernels. Throws as conv::make_plan.
    tuning(const conv::problem& q, const shape4& in, conv::input_order order, index_t threads, std::string_view where);

    /// At least one.
    [[nodiscard]] std::size_t count() const noexcept { return candidates_.size(); }
    [[nodiscard]] const conv::plan& candidate(std::size_t i) const noexcept { return candidates_[i]; }
    /// Makes up everything that runs read, and room for what they write.
    void make_tensors(bool with_residual, bool with_means);
    [[nodiscard]] tensor_view<const float> x() const { return x_.view(); }
    [[nodiscard]] tensor_view<float> y() { return y_.view(); }
    /// Null without a residual, or without means.
    [[nodiscard]] tensor_view<const float> residual() const;
    [[nodiscard]] float* means() noexcept { return means_.data(); }
    /// Enough for each candidate.
    [[nodiscard]] std::byte* workspace() noexcept { return workspace_.data(); }
    /// The fastest candidate, where run(i) runs candidate i. They run in turns, so that what slows the machine down for
    /// a while slows all of them.
    [[nodiscard]] std::size_t fastest(const task_ref& run);
    /// ", tuned: direct 2.05 ms, winograd F(4x4) 0.65 ms", for the end of the plan's own line; empty if nothing was
    /// timed.
    [[nodiscard]] std::string text() const;
    /// Releases the candidates' kernels.
    void drop_candidates() noexcept { candidates_.clear(); }

private:
    std::vector<conv::plan> candidates_;
    std::vector<double> milliseconds_;
    tensor<float> x_, y_, residual_;
    buffer<std::byte> workspace_;
    buffer<float> means_;
};

}  // namespace kdna::inline KDNA_ABI::detail

#ifndef KDNA_COMPILED
#include <kdna/nn/autotune.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
