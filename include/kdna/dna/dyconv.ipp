// Definitions of dyconv.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/dyconv.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC void dyconv_router::operator()(const float* pooled, const route& out, float* scratch) const noexcept {
    fc1_(pooled, scratch);
    simd::activate(activation_kind::relu, scratch, fc1_.outputs());
    fc2_(scratch, out.mixture);
    softmax(out.mixture, fc2_.outputs());
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
