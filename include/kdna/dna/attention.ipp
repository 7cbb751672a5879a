// Definitions of attention.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/attention.hpp>
#include <kdna/simd/activation.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC void softmax(float* v, index_t count) noexcept {
    float largest = v[0];
    for (index_t i = 1; i < count; ++i) largest = std::max(largest, v[i]);
    float sum = 0.0F;
    for (index_t i = 0; i < count; ++i) sum += v[i] = std::exp(v[i] - largest);
    for (index_t i = 0; i < count; ++i) v[i] /= sum;
}

KDNA_FUNC squeeze::squeeze(std::span<const float> fc, const batch_norm& bn, index_t channels, std::string_view fc_name,
                           std::string_view bn_name)
    : fc_(fc, {}, channels, fc_name) {
    const scale_shift folded = fold(bn, fc_.outputs(), bn_name);
    fc_.then_affine(folded.scale, folded.shift);
}

KDNA_FUNC void squeeze::operator()(const float* pooled, float* z) const noexcept {
    fc_(pooled, z);
    simd::activate(activation_kind::relu, z, hidden());
}

KDNA_FUNC optional_head::optional_head(const linear_weights& w, index_t inputs, std::string_view where) {
    if (!w.weight.empty() || !w.bias.empty()) fc_.emplace(w.weight, w.bias, inputs, where);
}

KDNA_FUNC void optional_head::operator()(const float* z, float* y) const noexcept {
    if (fc_) (*fc_)(z, y);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
