// What routers are made of: a squeezed input, and heads that turn it into factors.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

#include <kdna/dna/algebra.hpp>
#include <kdna/dna/fully_connected.hpp>
#include <kdna/simd/activation.hpp>

namespace kdna::inline KDNA_ABI {

/// In place, v[i] = exp(v[i]) / sum of all exp(v[j]); the largest is subtracted first, so that nothing overflows.
/// Not an activation (core/activation.hpp): a result depends on all values.
inline void softmax(float* v, index_t count) noexcept {
    float largest = v[0];
    for (index_t i = 1; i < count; ++i) largest = std::max(largest, v[i]);
    float sum = 0.0F;
    for (index_t i = 0; i < count; ++i) sum += v[i] = std::exp(v[i] - largest);
    for (index_t i = 0; i < count; ++i) v[i] /= sum;
}

/// A dense layer as it stands in a state_dict: weight [outputs, inputs] (or [outputs, inputs, 1, 1]), bias [outputs] or
/// empty.
struct linear_weights {
    std::span<const float> weight{}, bias{};
};

/// z = ReLU( BN( fc pooled ) ): what most routers begin with.
class squeeze {
public:
    /// `fc` [h, C] without bias, `bn` [h]. Throws kdna::error naming the tensor that does not fit.
    squeeze(std::span<const float> fc, const batch_norm& bn, index_t channels, std::string_view fc_name,
            std::string_view bn_name)
        : fc_(fc, {}, channels, fc_name) {
        const scale_shift folded = fold(bn, fc_.outputs(), bn_name);
        fc_.then_affine(folded.scale, folded.shift);
    }

    [[nodiscard]] index_t channels() const noexcept { return fc_.inputs(); }
    [[nodiscard]] index_t hidden() const noexcept { return fc_.outputs(); }
    /// The dense layer with its BatchNorm folded in.
    [[nodiscard]] const fully_connected& layer() const noexcept { return fc_; }
    [[nodiscard]] index_t floats() const noexcept { return fc_.floats(); }
    void operator()(const float* pooled, float* z) const noexcept {
        fc_(pooled, z);
        simd::activate(activation_kind::relu, z, hidden());
    }

private:
    fully_connected fc_;
};

/// A dense layer that a router may lack.
class optional_head {
public:
    /// Neither weights nor bias: no head. Throws kdna::error if the lengths do not fit.
    optional_head(const linear_weights& w, index_t inputs, std::string_view where) {
        if (!w.weight.empty() || !w.bias.empty()) fc_.emplace(w.weight, w.bias, inputs, where);
    }
    [[nodiscard]] index_t outputs() const noexcept { return fc_ ? fc_->outputs() : 0; }
    /// Null: none.
    [[nodiscard]] const fully_connected* layer() const noexcept { return fc_ ? &*fc_ : nullptr; }
    [[nodiscard]] index_t floats() const noexcept { return fc_ ? fc_->floats() : 0; }
    /// y [outputs], unless there is no head.
    void operator()(const float* z, float* y) const noexcept {
        if (fc_) (*fc_)(z, y);
    }

private:
    std::optional<fully_connected> fc_;
};

}  // namespace kdna::inline KDNA_ABI
