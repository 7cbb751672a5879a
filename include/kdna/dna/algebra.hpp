// Folding everything that is constant along the other axes into one scale and one shift per filter.
#pragma once

#include <cmath>
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
[[nodiscard]] inline scale_shift fold(const batch_norm& bn, index_t channels, std::string_view where) {
    const auto count = static_cast<std::size_t>(channels);
    const auto require = [&](std::span<const float> values, std::string_view part) {
        if (values.size() != count)
            throw error(concat(where, ".", part), concat(count, " values"), concat(values.size()));
    };
    require(bn.weight, "weight");
    require(bn.bias, "bias");
    require(bn.mean, "running_mean");
    require(bn.var, "running_var");
    scale_shift out{std::vector<double>(count), std::vector<double>(count)};
    for (std::size_t c = 0; c < count; ++c) {
        const double variance = static_cast<double>(bn.var[c]) + bn.eps;
        if (!(variance > 0.0))
            throw error(concat(where, ".running_var"), "a variance with var + eps > 0",
                        concat(bn.var[c], " at channel ", c));
        out.scale[c] = static_cast<double>(bn.weight[c]) / std::sqrt(variance);
        out.shift[c] = static_cast<double>(bn.bias[c]) - static_cast<double>(bn.mean[c]) * out.scale[c];
    }
    return out;
}

/// m and b of a convolution: m = bn_scale * filter, b = bn_scale * bias + bn_shift. The bias is added after the filter
/// modulation and before BatchNorm (the order of the reference implementations). Empty spans and an absent BatchNorm mean
/// one and zero. Throws kdna::error naming the part whose length is wrong.
[[nodiscard]] inline scale_shift fold(const std::optional<batch_norm>& bn, std::span<const float> filter,
                                      std::span<const float> bias, index_t filters, std::string_view where) {
    const auto count = static_cast<std::size_t>(filters);
    if (!bias.empty() && bias.size() != count)
        throw error(concat(where, " bias"), concat(count, " values"), concat(bias.size()));
    scale_shift out = bn ? fold(*bn, filters, concat(where, " bn"))
                         : scale_shift{std::vector<double>(count, 1.0), std::vector<double>(count, 0.0)};
    for (std::size_t o = 0; o < count; ++o) {
        if (!bias.empty()) out.shift[o] += out.scale[o] * static_cast<double>(bias[o]);
        if (!filter.empty()) out.scale[o] *= static_cast<double>(filter[o]);
    }
    return out;
}

/// As floats, with `more` zeros behind them: whole vectors, or panels, are read from any element on.
[[nodiscard]] inline std::vector<float> padded_floats(const std::vector<double>& values, index_t more) {
    std::vector<float> out(values.size() + static_cast<std::size_t>(more), 0.0F);
    for (std::size_t i = 0; i < values.size(); ++i) out[i] = static_cast<float>(values[i]);
    return out;
}

/// A layer's activation, with a copy of the parameters of its channels that is padded like scale and shift.
class layer_activation {
public:
    /// `more`: zeros behind the parameters. Throws kdna::error, naming the layer, if the activation has parameters of channels and
    /// they are not `channels`, or if it has none and some are given.
    layer_activation(const activation& act, index_t channels, index_t more, std::string_view where)
        : kind_(act.kind), number_(act.number), of_channel_(act.of_channel.begin(), act.of_channel.end()) {
        const auto count = static_cast<std::size_t>(takes_channels(act.kind) ? channels : 0);
        if (of_channel_.size() != count)
            throw error(concat(where, " ", to_string(act)), concat(count, " parameters of channels"),
                        concat(of_channel_.size()));
        if (count > 0) of_channel_.resize(count + static_cast<std::size_t>(more), 0.0F);
        channels_ = count;
    }
    /// None.
    layer_activation() = default;
    /// Floats in memory.
    [[nodiscard]] index_t floats() const noexcept { return static_cast<index_t>(of_channel_.size()); }
    /// Refers to this object's parameters.
    [[nodiscard]] activation value() const noexcept {
        return {kind_, number_, std::span(of_channel_).first(channels_)};
    }

private:
    activation_kind kind_ = activation_kind::none;
    float number_ = 0.0F;
    std::vector<float> of_channel_{};
    std::size_t channels_ = 0;
};

}  // namespace kdna::inline KDNA_ABI
