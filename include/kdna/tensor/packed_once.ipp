// Definitions of packed_once.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>
#include <cstring>
#include <string>

#include <kdna/core/error.hpp>
#include <kdna/tensor/packed_once.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC_COLD void round_weights(std::span<const float> weights, number_format format, std::byte* to,
                                  std::string_view where) {
    if (format == number_format::float32) {
        if (!weights.empty()) std::memcpy(to, weights.data(), weights.size_bytes());
        return;
    }
    for (const float w : weights) {
        const std::uint16_t bits =
            format == number_format::float16 ? narrow<float16>(w).bits : narrow<bfloat16>(w).bits;
        const float stored = format == number_format::float16 ? widen(float16{bits}) : widen(bfloat16{bits});
        if (std::isfinite(w) && !std::isfinite(stored))
            throw error(std::string(where), concat("weights within the range of ", to_string(format)), concat(w));
        std::memcpy(to, &bits, sizeof(bits));
        to += sizeof(bits);
    }
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
