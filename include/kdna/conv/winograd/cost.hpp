// What a Winograd convolution is expected to cost.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/conv/cost.hpp>
#include <kdna/conv/product/tile.hpp>
#include <kdna/conv/winograd/plan.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd {

/// Bytes of a kernel that is kept transformed for F(m x m).
[[nodiscard]] inline index_t kernel_bytes(const problem& q, int m) noexcept {
    return positions_of(m) * q.shape().i * q.kernel().padded_filters() * size_of(q.prepared_format);
}

/// Whether F(m x m) transforms panels as they are used: the kernel differs from sample to sample, or does not fit the
/// budget.
[[nodiscard]] inline bool transforms_panels(const problem& q, int m) noexcept {
    return q.routed_kernel || kernel_bytes(q, m) > q.transform_budget;
}

namespace cost {

using namespace conv::cost;

/// F(2x2), F(4x4), F(6x6), per tile and vector of channels, or of filters; with the calls of the products, which store
/// sums and finish nothing.
inline constexpr double input_transform[] = {by_instructions(125, 100, 95), by_instructions(330, 210, 190),
                                             by_instructions(640, 412, 380)};
inline constexpr double output_transform[] = {input_transform[0], input_transform[1], input_transform[2]};
/// To transform a vector of weights (nine taps) from a panel, which waits for its stores to L2 (AVX-512: Zen 4 105 to 150
/// for F(4x4)).
inline constexpr double kernel_transform[] = {by_instructions(65, 35, 20), by_instructions(160, 90, 42),
                                              by_instructions(280, 188, 95)};
/// F(6x6) has to be expected to take less than this share of the time of the others: its transformed kernel is the
/// largest and its errors are. Nor is it for fewer tiles (12x12, 128 channels, 4 tiles: 5 % slower than F(4x4)).
inline constexpr double share_of_6 = 0.97;
inline constexpr index_t fewest_tiles_of_6 = 8;

/// One sample with F(m x m).
[[nodiscard]] KDNA_COLD double sample(const plan_request& r, int m) noexcept {
    const kernel_shape& k = r.shape();
    const std::size_t which = index_of(m);
    const double tiles = real(ceil_div(r.out.h, m)) * real(ceil_div(r.out.w, m)), positions = (m + 2) * (m + 2),
                 inputs = tiles * real(ceil_div(k.i, simd::lanes)), outputs = tiles * real(ceil_div(k.o, simd::lanes)),
                 bytes = real(kernel_bytes(r.layer, m));
    // Tiles of few rows take as long as those of five: they wait for their adds.
    index_t rows = 0;
    for (auto left = static_cast<index_t>(tiles); left > 0; left -= product::tile_height_for(left))
        rows += std::max<index_t>(product::tile_height_for(left), 5);
    const double products = positions * outputs * real(k.i) * real(rows) / tiles * multiply_add_cycles(r.target()) /
                            product_efficiency,
                 transforms = inputs * input_transform[which] + outputs * output_transform[which] +
                              activations(r.map, r.out, r.target());
    if (!transforms_panels(r.layer, m)) {
        const index_t widened = r.layer.prepared_format == number_format::float32 ? 0 : kernel_bytes(r.layer, m) / 2;
        return with_weights(products, bytes, r.target()) + transforms + copy_cycles * real(widened) / simd::lanes;
    }
    const double vectors = real(r.kernel().floats()) / 9.0 / simd::lanes;
    return products + transforms + vectors * kernel_transform[which] + assembly(r.layer);
}

}  // namespace cost
}  // namespace kdna::inline KDNA_ABI::conv::winograd

#include <kdna/core/macros_pop.hpp>
