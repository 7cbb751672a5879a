// Definitions of condconv.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/condconv.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC void condconv_router::operator()(const float* pooled, const route& out, float*) const noexcept {
    routing_(pooled, out.mixture);
    simd::activate(activation_kind::sigmoid, out.mixture, routing_.outputs());
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
