// Definitions of algebra.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/dna/algebra.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC scale_shift fold(const batch_norm& bn, index_t channels, std::string_view where) {
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

KDNA_FUNC scale_shift fold(const std::optional<batch_norm>& bn, std::span<const float> filter,
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

KDNA_FUNC std::vector<float> padded_floats(const std::vector<double>& values, index_t more) {
    std::vector<float> out(values.size() + static_cast<std::size_t>(more), 0.0F);
    for (std::size_t i = 0; i < values.size(); ++i) out[i] = static_cast<float>(values[i]);
    return out;
}

KDNA_FUNC layer_activation::layer_activation(const activation& act, index_t channels, index_t more,
                                             std::string_view where)
    : kind_(act.kind), number_(act.number), of_channel_(act.of_channel.begin(), act.of_channel.end()) {
    const auto count = static_cast<std::size_t>(takes_channels(act.kind) ? channels : 0);
    if (of_channel_.size() != count)
        throw error(concat(where, " ", to_string(act)), concat(count, " parameters of channels"),
                    concat(of_channel_.size()));
    if (count > 0) of_channel_.resize(count + static_cast<std::size_t>(more), 0.0F);
    channels_ = count;
}

KDNA_FUNC activation layer_activation::value() const noexcept {
    return {kind_, number_, std::span(of_channel_).first(channels_)};
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
