// Definitions of dna/dymn.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>
#include <vector>

#include <kdna/dna/dymn.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC dymn_router::dymn_router(const linear_weights& residuals, index_t context, double temperature,
                                   std::string_view where)
    : residuals_(residuals.weight, residuals.bias, context, concat(where, ".residuals")) {
    if (!(temperature > 0.0) || !std::isfinite(temperature))
        throw error(concat(where, ".temperature"), "a positive number", concat(temperature));
    const auto outputs = static_cast<std::size_t>(residuals_.outputs());
    residuals_.then_affine(std::vector<double>(outputs, 1.0 / temperature), std::vector<double>(outputs, 0.0));
}

KDNA_FUNC void dymn_router::operator()(const float* context, const route& out, float*) const noexcept {
    residuals_(context, out.mixture);
    softmax(out.mixture, residuals_.outputs());
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
