// Folding everything that is constant along the other axes into one scale and one shift per filter.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/core/activation.hpp>
#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI {

/// Inference BatchNorm over C channels: weight * (x - mean) / sqrt(var + eps) + bias. All spans have C elements.
struct batch_norm {
    std::span<const float> weight{}, bias{}, mean{}, var{};
    double eps = 1e-5;
};

/// A per-channel affine map, y = scale * x + shift.
struct scale_shift {
    std::vector<double> scale, shift;
};

/// BatchNorm as an affine map, computed in double. Throws kdna::error if a length is not `channels` or var + eps is not
/// positive.
[[nodiscard]] KDNA_FUNC scale_shift fold(const batch_norm& bn, index_t channels, std::string_view where);

/// m and b of a convolution: m = bn_scale * filter, b = bn_scale * bias + bn_shift. The bias is added after the filter
/// modulation and before BatchNorm (the order of the reference implementations). Empty spans and an absent BatchNorm mean
/// one and zero. Throws kdna::error naming the part whose length is wrong.
[[nodiscard]] KDNA_FUNC scale_shift fold(const std::optional<batch_norm>& bn, std::span<const float> filter,
                                         std::span<const float> bias, index_t filters, std::string_view where);

/// As floats, with `more` zeros behind them: whole vectors, or panels, are read from any element on.
[[nodiscard]] KDNA_FUNC std::vector<float> padded_floats(const std::vector<double>& values, index_t more);

/// A layer's activation, with a copy of the parameters of its channels that is padded like scale and shift.
class layer_activation {
public:
    /// `more`: zeros behind the parameters. Throws kdna::error, naming the layer, if the activation has parameters of channels and
    /// they are not `channels`, or if it has none and some are given.
    KDNA_FUNC layer_activation(const activation& act, index_t channels, index_t more, std::string_view where);
    /// None.
    layer_activation() = default;
    /// Floats in memory.
    [[nodiscard]] index_t floats() const noexcept { return static_cast<index_t>(of_channel_.size()); }
    /// Refers to this object's parameters.
    [[nodiscard]] KDNA_FUNC activation value() const noexcept;

private:
    activation_kind kind_ = activation_kind::none;
    float number_ = 0.0F;
    std::vector<float> of_channel_{};
    std::size_t channels_ = 0;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/algebra.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
