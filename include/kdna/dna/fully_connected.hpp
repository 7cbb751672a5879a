// The small dense layer that routers are made of.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI {

[[nodiscard]] inline float sigmoid(float v) noexcept { return 1.0F / (1.0F + std::exp(-v)); }

/// y = W x + b for one vector, W [outputs, inputs] as PyTorch stores it. Kept transposed, so that the inner loop runs over
/// outputs and vectorises without reordering a sum.
class fully_connected {
public:
    fully_connected() = default;
    /// `bias` may be empty. Throws kdna::error if `inputs` < 1 or the lengths do not fit.
    fully_connected(std::span<const float> weight, std::span<const float> bias, index_t inputs, std::string_view where)
        : inputs_(inputs) {
        const auto size = static_cast<index_t>(weight.size());
        if (inputs < 1 || size < inputs || size % inputs != 0)
            throw error(concat(where, ".weight"), concat("a positive multiple of ", inputs, " values"), concat(size));
        outputs_ = size / inputs;
        if (!bias.empty() && static_cast<index_t>(bias.size()) != outputs_)
            throw error(concat(where, ".bias"), concat(outputs_, " values"), concat(bias.size()));
        bias_.assign(static_cast<std::size_t>(outputs_), 0.0F);
        std::copy(bias.begin(), bias.end(), bias_.begin());
        transposed_.resize(weight.size());
        for (index_t o = 0; o < outputs_; ++o)
            for (index_t i = 0; i < inputs_; ++i)
                transposed_[at(i, o)] = weight[static_cast<std::size_t>(o * inputs_ + i)];
    }

    [[nodiscard]] index_t inputs() const noexcept { return inputs_; }
    [[nodiscard]] index_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] index_t floats() const noexcept { return static_cast<index_t>(transposed_.size() + bias_.size()); }

    void operator()(const float* x, float* y) const noexcept {
        std::copy(bias_.begin(), bias_.end(), y);
        for (index_t i = 0; i < inputs_; ++i) simd::axpy(x[i], transposed_.data() + i * outputs_, y, outputs_);
    }

    /// Makes this layer compute scale * (W x + b) + shift; how a BatchNorm behind it is folded in.
    void then_affine(std::span<const double> scale, std::span<const double> shift) {
        for (index_t o = 0; o < outputs_; ++o) {
            const double m = scale[static_cast<std::size_t>(o)];
            float& b = bias_[static_cast<std::size_t>(o)];
            b = static_cast<float>(m * static_cast<double>(b) + shift[static_cast<std::size_t>(o)]);
            for (index_t i = 0; i < inputs_; ++i)
                transposed_[at(i, o)] = static_cast<float>(m * static_cast<double>(transposed_[at(i, o)]));
        }
    }

private:
    [[nodiscard]] std::size_t at(index_t i, index_t o) const noexcept {
        return static_cast<std::size_t>(i * outputs_ + o);
    }
    index_t inputs_ = 0, outputs_ = 0;
    std::vector<float> transposed_, bias_;
};

}  // namespace kdna::inline KDNA_ABI
