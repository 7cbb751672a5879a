// What routers are made of: a squeezed input, and heads that turn it into factors.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

#include <kdna/dna/algebra.hpp>
#include <kdna/dna/fully_connected.hpp>

namespace kdna::inline KDNA_ABI {

/// In place, v[i] = exp(v[i]) / sum of all exp(v[j]); the largest is subtracted first, so that nothing overflows.
/// Not an activation (core/activation.hpp): a result depends on all values.
KDNA_FUNC void softmax(float* v, index_t count) noexcept;

/// A dense layer as it stands in a state_dict: weight [outputs, inputs] (or [outputs, inputs, 1, 1]), bias [outputs] or
/// empty.
struct linear_weights {
    std::span<const float> weight{}, bias{};
};

/// z = ReLU( BN( fc pooled ) ): what most routers begin with.
class squeeze {
public:
    /// `fc` [h, C] without bias, `bn` [h]. Throws kdna::error naming the tensor that does not fit.
    KDNA_FUNC squeeze(std::span<const float> fc, const batch_norm& bn, index_t channels, std::string_view fc_name,
                      std::string_view bn_name);

    [[nodiscard]] index_t channels() const noexcept { return fc_.inputs(); }
    [[nodiscard]] index_t hidden() const noexcept { return fc_.outputs(); }
    /// The dense layer with its BatchNorm folded in.
    [[nodiscard]] const fully_connected& layer() const noexcept { return fc_; }
    [[nodiscard]] index_t floats() const noexcept { return fc_.floats(); }
    KDNA_FUNC void operator()(const float* pooled, float* z) const noexcept;

private:
    fully_connected fc_;
};

/// A fully connected layer that a router may have or not.
class optional_head {
public:
    /// Neither weights nor bias: no head. Throws kdna::error if the lengths do not fit.
    KDNA_FUNC optional_head(const linear_weights& w, index_t inputs, std::string_view where);
    [[nodiscard]] index_t outputs() const noexcept { return fc_ ? fc_->outputs() : 0; }
    /// Null: none.
    [[nodiscard]] const fully_connected* layer() const noexcept { return fc_ ? &*fc_ : nullptr; }
    [[nodiscard]] index_t floats() const noexcept { return fc_ ? fc_->floats() : 0; }
    /// y [outputs], unless there is no head.
    KDNA_FUNC void operator()(const float* z, float* y) const noexcept;

private:
    std::optional<fully_connected> fc_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/attention.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
