// What an algorithm is expected to cost, and the choice that follows from it.
#pragma once

#include <algorithm>

#include <kdna/conv/plan.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Cycles of a vector multiply-add a cycle that an algorithm is expected to take. The transforms' cost per tile and vector
/// and the bytes per cycle are estimates from the 3x3 layers of bench/layers.cpp on one machine (Zen 4). For one sample, whatever the batch: a batch gives the bits that its samples give one by one.
struct cost_model {
    static constexpr double gemm_efficiency = 0.92;
    static constexpr double input_transform[2] = {120, 400};   ///< F(2x2), F(4x4), per tile and vector of channels
    static constexpr double output_transform[2] = {100, 400};  ///< per tile and vector of filters
    static constexpr double l3_bytes = 24.0 * 1024 * 1024;     ///< a transformed kernel up to this size comes from L3
    static constexpr double l3_bytes_per_cycle = 20.0, memory_bytes_per_cycle = 5.0;

    [[nodiscard]] static double direct(const plan& p, const kernel_shape& k) noexcept {
        // The taps of a 3x3 with one row and column of padding that lie on the map.
        const auto on_map = [](index_t extent) { return 1.0 - 2.0 / (3.0 * static_cast<double>(extent)); };
        const double taps = 9.0 * on_map(p.out.h) * on_map(p.out.w);
        return static_cast<double>(p.out.h * p.out.w * ceil_div(k.o, simd::lanes) * k.i) * taps / gemm_efficiency;
    }
    [[nodiscard]] static double winograd(const plan& p, const kernel_shape& k, int m,
                                         index_t transformed_bytes) noexcept {
        const int which = m == 2 ? 0 : 1;
        const index_t tiles = ceil_div(p.out.h, m) * ceil_div(p.out.w, m), vectors = ceil_div(k.o, simd::lanes);
        const auto bytes = static_cast<double>(transformed_bytes);
        const double products = static_cast<double>((m + 2) * (m + 2) * tiles * vectors * k.i) / gemm_efficiency;
        const double transforms = static_cast<double>(tiles * ceil_div(k.i, simd::lanes)) * input_transform[which] +
                                  static_cast<double>(tiles * vectors) * output_transform[which];
        const double weights = bytes / (bytes <= l3_bytes ? l3_bytes_per_cycle : memory_bytes_per_cycle);
        return std::max(products, weights) + transforms;
    }
};

/// 4 or 2 if Winograd's F(4x4) or F(2x2) is allowed, affordable and expected to be fastest, else 0.
[[nodiscard]] inline int choose_winograd(const problem& q, const plan& p) {
    const kernel_shape& k = q.kernel->shape();
    if (!winograd_fits(k) || q.routed_kernel || q.params.stride != extent2(1) || q.params.dilation != extent2(1))
        return 0;
    if (std::min(k.i, k.o) < simd::lanes) return 0;
    int best = 0;
    double least = cost_model::direct(p, k);
    for (const int m : {2, 4}) {
        const index_t bytes = winograd_kernel::bytes_for(*q.kernel, m);
        if (bytes > q.transform_budget) continue;
        if (const double cost = cost_model::winograd(p, k, m, bytes); cost < least) {
            least = cost;
            best = m;
        }
    }
    return best;
}

}  // namespace kdna::inline KDNA_ABI::conv
