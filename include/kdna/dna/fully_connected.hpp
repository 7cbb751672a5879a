// The small dense layer that routers are made of.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI {

/// y = W x + b for one vector, W [outputs, inputs] as PyTorch stores it. Kept transposed, in rows of whole vectors: outputs
/// lie in the vectors, and a sum is added up in the order of its inputs.
class fully_connected {
public:
    fully_connected() = default;
    /// `bias` may be empty. Throws kdna::error if `inputs` < 1 or the lengths do not fit.
    KDNA_FUNC fully_connected(std::span<const float> weight, std::span<const float> bias, index_t inputs,
                              std::string_view where);

    [[nodiscard]] index_t inputs() const noexcept { return inputs_; }
    [[nodiscard]] index_t outputs() const noexcept { return outputs_; }
    /// One weight and one bias, with what was folded in.
    [[nodiscard]] float weight(index_t o, index_t i) const noexcept { return transposed_[at(i, o)]; }
    [[nodiscard]] float bias(index_t o) const noexcept { return bias_[static_cast<std::size_t>(o)]; }
    /// Floats in memory: weights and bias, in whole vectors.
    [[nodiscard]] index_t floats() const noexcept { return static_cast<index_t>(transposed_.size() + bias_.size()); }

    KDNA_FUNC void operator()(const float* x, float* y) const noexcept;

    /// Makes this layer compute scale * (W x + b) + shift; how a BatchNorm behind it is folded in.
    KDNA_FUNC void then_affine(std::span<const double> scale, std::span<const double> shift);

private:
    [[nodiscard]] KDNA_FUNC std::size_t at(index_t i, index_t o) const noexcept;
    /// Outputs [o, o + Vectors * lanes), kept in registers while the inputs pass by. Two sums each, of even and odd inputs:
    /// one would wait for its own additions.
    template <int Vectors>
    void columns(const float* x, float* y, index_t o) const noexcept;

    index_t inputs_ = 0, outputs_ = 0, padded_ = 0;
    std::vector<float> transposed_, bias_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/fully_connected.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
