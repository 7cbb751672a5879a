// What the processor could do: multiply-adds on registers alone.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <kdna/simd/simd.hpp>

namespace kdna_bench {

inline constexpr int fma_chains = kdna::simd::registers >= 32 ? 16 : 12;  ///< enough of them to hide their latency

/// `rounds` times `fma_chains` vector multiply-adds, independent of each other within a round.
inline void multiply_adds(int rounds) {
    using namespace kdna;
    simd::vec sums[fma_chains];
    for (int i = 0; i < fma_chains; ++i) sums[i] = simd::vec(static_cast<float>(i));
    const simd::vec a(0.999F), b(0.001F);
    for (int r = 0; r < rounds; ++r) {
        KDNA_UNROLL
        for (int i = 0; i < fma_chains; ++i) sums[i] = simd::multiply_add(sums[i], a, b);
    }
    for (int i = 1; i < fma_chains; ++i) sums[0] = sums[0] + sums[i];
    float lanes[simd::lanes];
    simd::store(lanes, sums[0]);
    benchmark::DoNotOptimize(lanes[0]);
}

/// Vector multiply-adds a second on one thread, measured when first asked for. The best of many short runs, since a
/// neighbour or a clock that is still rising can only make it look lower.
[[nodiscard]] inline double peak_multiply_adds() {
    static const double best = [] {
        constexpr int rounds = 100'000, runs = 50;
        double most = 0.0;
        for (int i = 0; i < runs; ++i) {
            const auto start = std::chrono::steady_clock::now();
            multiply_adds(rounds);
            const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
            most = std::max(most, static_cast<double>(fma_chains) * rounds / seconds.count());
        }
        return most;
    }();
    return best;
}

/// The same in floating-point operations a second: a multiply-add is two.
[[nodiscard]] inline double peak_flops() { return 2.0 * static_cast<double>(kdna::simd::lanes) * peak_multiply_adds(); }

}  // namespace kdna_bench
