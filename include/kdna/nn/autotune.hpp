// Timing the candidates of a plan, once, where the caller does not want to rely on the cost model.
#pragma once

#include <array>
#include <chrono>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>

#include <kdna/conv/planner.hpp>
#include <kdna/core/executor.hpp>
#include <kdna/tensor/tensor.hpp>

namespace kdna::inline KDNA_ABI::detail {

/// What the timing of one layer's variants needs, but for the runs, which only the layer can make. Cold and out of line:
/// every program that includes a layer compiles it.
class tuning {
public:
    static constexpr std::size_t count = conv::variants.size();
    /// Variants that the cost model expects to take longer than this many times the best are not tried: it is seldom off by
    /// a third (docs/cost-model.md), and their kernels would be transformed for nothing.
    static constexpr double hopeless = 2.0;
    /// After one run each to warm up. The least of several counts, since everything that disturbs makes a run longer.
    static constexpr int rounds = 5;

    std::array<conv::plan, count> plans{};
    std::array<std::shared_ptr<const conv::winograd_kernel>, count> kernels{};
    tensor<float> x, y, residual;
    buffer<std::byte> workspace;
    buffer<float> means;

    /// Whether variant i, whose plan has been set, is the one it should be and not hopeless.
    [[nodiscard]] KDNA_COLD bool worth_trying(std::size_t i) const {
        double best = std::numeric_limits<double>::max();
        for (std::size_t j = 0; j < count; ++j)
            if (possible(j) && plans[j].predicted_cycles < best) best = plans[j].predicted_cycles;
        return possible(i) && plans[i].predicted_cycles <= hopeless * best;
    }
    /// Makes up everything that runs read, and room for what they write.
    KDNA_COLD void prepare(bool with_residual, bool with_means) {
        const conv::plan& p = plans.front();
        const layout order = p.order == conv::input_order::nhwc ? layout::nhwc : layout::nchw;
        x = tensor<float>(p.in, order);
        y = tensor<float>(p.out, order);
        fill(x);
        if (with_residual) {
            residual = tensor<float>(p.out, order);
            fill(residual);
        }
        if (with_means) means = buffer<float>(p.out.n * p.out.c);
        index_t bytes = 0;
        for (std::size_t i = 0; i < count; ++i)
            if (worth_trying(i) && plans[i].workspace_bytes > bytes) bytes = plans[i].workspace_bytes;
        workspace = buffer<std::byte>(bytes);
    }
    /// The fastest variant. They run in turns, so that what slows the machine down for a while slows all of them.
    [[nodiscard]] KDNA_COLD std::size_t fastest(const task_ref& run) {
        for (int round = 0; round <= rounds; ++round)
            for (std::size_t i = 0; i < count; ++i) {
                if (!worth_trying(i)) continue;
                const double start = now();
                run(static_cast<index_t>(i));
                const double taken = now() - start;
                if (round <= 1 || taken < milliseconds_[i]) milliseconds_[i] = taken;
            }
        std::size_t best = count;
        for (std::size_t i = 0; i < count; ++i)
            if (worth_trying(i) && (best == count || milliseconds_[i] < milliseconds_[best])) best = i;
        return best;
    }
    /// ", tuned: direct 2.05 ms, F(4x4) 0.65 ms", behind the plan's own line.
    [[nodiscard]] KDNA_COLD std::string text() const {
        std::string out;
        for (std::size_t i = 0; i < count; ++i) {
            if (!worth_trying(i)) continue;
            const int m = conv::variants[i];
            char name[40], entry[80];
            std::snprintf(name, sizeof(name), m == 0 ? "direct" : "F(%dx%d)", m, m);
            std::snprintf(entry, sizeof(entry), "%s %s %.*f ms", out.empty() ? ", tuned:" : ",", name,
                          milliseconds_[i] < 0.1 ? 4 : 2, milliseconds_[i]);
            out += entry;
        }
        return out;
    }

private:
    [[nodiscard]] bool possible(std::size_t i) const noexcept { return plans[i].winograd_m == conv::variants[i]; }
    /// Milliseconds since some point in the past.
    [[nodiscard]] KDNA_COLD static double now() {
        const std::chrono::duration<double, std::milli> since = std::chrono::steady_clock::now().time_since_epoch();
        return since.count();
    }
    /// Numbers between -1 and 1: no denormals, nothing that a clamp or a gate makes special.
    KDNA_COLD static void fill(tensor<float>& t) {
        unsigned state = 1;
        for (float& v : t.span()) {
            state = state * 1664525U + 1013904223U;
            v = static_cast<float>(state >> 8U) * (2.0F / 16777216.0F) - 1.0F;
        }
    }
    std::array<double, count> milliseconds_{};
};

}  // namespace kdna::inline KDNA_ABI::detail
