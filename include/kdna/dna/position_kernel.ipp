// Definitions of position_kernel.hpp.
#pragma once

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

KDNA_FUNC void dot_product_attention::operator()(const neighbourhood& at, float* weights) const noexcept {
    const index_t taps = window_.h * window_.w;
    index_t i = 0;
    for (; i + 8 <= taps; i += 8) products<8>(at, i, weights);
    for (; i < taps; ++i) products<1>(at, i, weights);
}

}  // namespace kdna::inline KDNA_ABI
