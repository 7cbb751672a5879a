// Definitions of position_kernel.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/position_kernel.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC dot_product_attention::dot_product_attention(index_t channels, const extent2& window, float w_q, float w_k,
                                                       float w_v, std::string_view where)
    : channels_(channels), window_(window), factor_(w_q * w_k * w_v) {
    if (channels < 1) throw error(std::string(where), "at least one channel", concat(channels));
    if (window.h < 1 || window.w < 1 || window.h % 2 == 0 || window.w % 2 == 0)
        throw error(std::string(where), "an odd window", concat(window.h, "x", window.w));
}

template <int Count>
void dot_product_attention::products(const neighbourhood& at, index_t first, float* weights) const noexcept {
    simd::vec sum[Count];
    KDNA_UNROLL
    for (int i = 0; i < Count; ++i) sum[i] = simd::zero();
    index_t c = 0;
    for (; c + simd::lanes <= channels_; c += simd::lanes) {
        const simd::vec x0 = simd::load(at.centre + c);
        KDNA_UNROLL
        for (int i = 0; i < Count; ++i) sum[i] = simd::multiply_add(x0, simd::load(at.around[first + i] + c), sum[i]);
    }
    if (c < channels_) {
        const simd::lane_mask rest = simd::first_lanes(channels_ - c);
        const simd::vec x0 = simd::load_masked(at.centre + c, rest);
        KDNA_UNROLL
        for (int i = 0; i < Count; ++i)
            sum[i] = simd::multiply_add(x0, simd::load_masked(at.around[first + i] + c, rest), sum[i]);
    }
    for (int i = 0; i < Count; ++i) weights[first + i] = factor_ * simd::sum(sum[i]);
}

KDNA_FUNC void dot_product_attention::operator()(const neighbourhood& at, float* weights) const noexcept {
    const index_t taps = window_.h * window_.w;
    index_t i = 0;
    for (; i + 8 <= taps; i += 8) products<8>(at, i, weights);
    for (; i < taps; ++i) products<1>(at, i, weights);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
