// What an algorithm is expected to cost, and the choice that follows from it.
#pragma once

#include <algorithm>

#include <kdna/conv/plan.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Cycles of a vector multiply-add a cycle that an algorithm is expected to take. The transforms' cost per tile and vector
/// and the bytes per cycle are estimates from the 3x3 layers of bench/layers.cpp on one machine (Zen 4). For one sample, whatever the batch: a batch gives the bits that its samples give one by one.
struct cost_model {
    static constexpr double gemm_efficiency = 0.92;
    /// F(2x2), F(4x4), F(6x6): input, per tile and vector of channels; output, per tile and vector of filters. The larger
    /// two do not fit 16 registers.
    static constexpr bool roomy = simd::registers >= 32;
    static constexpr double input_transform[] = {120, roomy ? 260 : 330, roomy ? 570 : 750};
    static constexpr double output_transform[] = {100, roomy ? 260 : 330, roomy ? 570 : 750};
    /// F(6x6) has to be expected to take less than this share of the time of the others: its transformed kernel is the
    /// largest and its errors are. Nor is it for fewer tiles (12x12, 128 channels, 4 tiles: 5 % slower than F(4x4)).
    static constexpr double share_of_6 = 0.97;
    static constexpr index_t fewest_tiles_of_6 = 8;
    /// A transformed kernel up to these sizes comes from L2 or L3.
    static constexpr double l2_bytes = 512.0 * 1024, l3_bytes = 24.0 * 1024 * 1024;
    static constexpr double l3_bytes_per_cycle = 20.0, memory_bytes_per_cycle = 5.0;

    [[nodiscard]] static double direct(const plan& p, const kernel_shape& k) noexcept {
        // The taps of a 3x3 with one row and column of padding that lie on the map.
        const auto on_map = [](index_t extent) { return 1.0 - 2.0 / (3.0 * static_cast<double>(extent)); };
        const double taps = 9.0 * on_map(p.out.h) * on_map(p.out.w);
        return static_cast<double>(p.out.h * p.out.w * ceil_div(k.o, simd::lanes) * k.i) * taps / gemm_efficiency;
    }
    [[nodiscard]] static double winograd(const plan& p, const kernel_shape& k, int m,
                                         index_t transformed_bytes) noexcept {
        const std::size_t which = winograd_index(m);
        const index_t tiles = ceil_div(p.out.h, m) * ceil_div(p.out.w, m), vectors = ceil_div(k.o, simd::lanes);
        const auto bytes = static_cast<double>(transformed_bytes);
        // Tiles of one row take as long as those of two: they wait for their adds.
        index_t rows = 0;
        for (index_t left = tiles; left > 0; left -= tile_height_for(left))
            rows += std::max<index_t>(tile_height_for(left), 2);
        const double products = static_cast<double>((m + 2) * (m + 2) * rows * vectors * k.i) / gemm_efficiency;
        const double transforms = static_cast<double>(tiles * ceil_div(k.i, simd::lanes)) * input_transform[which] +
                                  static_cast<double>(tiles * vectors) * output_transform[which];
        // A kernel from memory bounds the products; one that comes from L3 while they run only holds them up.
        const double memory = bytes <= l3_bytes ? 0.0 : bytes / memory_bytes_per_cycle,
                     l3 = bytes <= l2_bytes ? 0.0 : bytes / l3_bytes_per_cycle;
        return std::max(products, memory) + l3 + transforms;
    }
};

/// The m of Winograd's F(m x m) that is allowed, affordable and expected to be fastest, else 0.
[[nodiscard]] inline int choose_winograd(const problem& q, const plan& p) {
    const kernel_shape& k = q.kernel->shape();
    if (!winograd_fits(k) || q.routed_kernel || q.params.stride != extent2(1) || q.params.dilation != extent2(1))
        return 0;
    if (std::min(k.i, k.o) < simd::lanes) return 0;
    int best = 0;
    double least = cost_model::direct(p, k);
    for (const int m : winograd_variants) {
        if (m == 6 && ceil_div(p.out.h, 6) * ceil_div(p.out.w, 6) < cost_model::fewest_tiles_of_6) continue;
        const index_t bytes = winograd_kernel::bytes_for(*q.kernel, m);
        if (bytes > q.transform_budget) continue;
        const double cost = cost_model::winograd(p, k, m, bytes);
        if (cost < least * (m == 6 ? cost_model::share_of_6 : 1.0)) {
            least = cost;
            best = m;
        }
    }
    return best;
}

}  // namespace kdna::inline KDNA_ABI::conv
