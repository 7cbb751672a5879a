// The activations as PyTorch defines them, in double, and what a test says about each of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <kdna/core/activation.hpp>

#include "support/random.hpp"

namespace kdna_test {

/// Every kind of the list.
inline std::vector<kdna::activation_kind> all_activation_kinds() {
    std::vector<kdna::activation_kind> out;
    for (int i = 0; i < kdna::activation_kinds; ++i) out.push_back(static_cast<kdna::activation_kind>(i));
    return out;
}

/// PyTorch's definition, as its documentation has it. Written independently of the library; a new kind does not compile without
/// its own here.
inline double pytorch_activation(kdna::activation_kind kind, double x, double a) {
    using k = kdna::activation_kind;
    const auto clip = [](double v, double low, double high) { return v < low ? low : v > high ? high : v; };
    switch (kind) {
        case k::none: return x;
        case k::relu: return clip(x, 0.0, INFINITY);
        case k::relu6: return clip(x, 0.0, 6.0);
        case k::sigmoid: return 1.0 / (1.0 + std::exp(-x));
        case k::silu: return x * (1.0 / (1.0 + std::exp(-x)));
        case k::hard_sigmoid: return clip(x + 3.0, 0.0, 6.0) / 6.0;
        case k::hard_swish: return x * clip(x + 3.0, 0.0, 6.0) / 6.0;
        case k::tanh: return std::tanh(x);
        // Where 1 + erf loses its digits, erfc has them.
        case k::gelu: return x * 0.5 * (x > -1.0 ? 1.0 + std::erf(x / std::sqrt(2.0)) : std::erfc(-x / std::sqrt(2.0)));
        case k::gelu_tanh: {
            const double u = std::sqrt(2.0 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
            return 0.5 * x * (u > -1.0 ? 1.0 + std::tanh(u) : 2.0 * std::exp(2.0 * u) / (1.0 + std::exp(2.0 * u)));
        }
        case k::mish: return x * std::tanh(std::log1p(std::exp(x)));
        case k::elu: return x > 0.0 ? x : a * std::expm1(x);
        case k::leaky_relu: return x > 0.0 ? x : a * x;
        case k::prelu: return x > 0.0 ? x : a * x;
        case k::squared_relu: return a * std::pow(std::max(x, 0.0), 2.0);
    }
    return NAN;
}

/// How far from double the library's float32 functions may be at x: units in the last place of the result. What underflows on
/// the way, or is 0 because exp(x) is below float32, is held to the absolute error activation_underflow instead.
inline double activation_ulps(kdna::activation_kind kind, double x) {
    using k = kdna::activation_kind;
#ifdef __ARM_NEON
    constexpr double division = 0.5;  // xsimd 8 multiplies by a reciprocal
#else
    constexpr double division = 0.0;
#endif
    switch (kind) {
        case k::none:
        case k::relu:
        case k::relu6: return 0.0;
        case k::leaky_relu:
        case k::prelu: return 0.5;
        case k::hard_sigmoid: return 1.0 + division;
        case k::tanh: return 1.5 + division;
        case k::elu: return 1.5;
        case k::squared_relu: return 1.5;
        case k::hard_swish: return 2.0 + division;
        case k::sigmoid:
        case k::silu: return 2.5 + division;
        case k::mish: return 4.0 + division;
        // An exponential of -x^2, whose relative error is that of x^2 in units of one.
        case k::gelu:
        case k::gelu_tanh: return x < 0.0 ? 6.0 + 2.5 * x * x : 6.0;
    }
    return 0.0;
}
inline constexpr double activation_underflow = 1e-36;

/// An activation that keeps its own parameters of channels. Use it as an activation while it lives.
struct kept_activation {
    kdna::activation_kind kind = kdna::activation_kind::none;
    float number = 0.0F;
    std::vector<float> of_channel{};

    kept_activation() = default;
    kept_activation(const kdna::activation& act)
        : kind(act.kind), number(act.number), of_channel(act.of_channel.begin(), act.of_channel.end()) {}
    /// Of that kind, with random parameters.
    kept_activation(rng& r, kdna::activation_kind k, index_t channels)
        : kind(k), number(static_cast<float>(r.real(-0.5, 1.5))) {
        if (kdna::takes_channels(k)) of_channel = r.floats(channels);
    }
    operator kdna::activation() const { return {kind, number, of_channel}; }

    /// What comes of a value that is `error` off, and how far off it may be then, in float32. All derivatives are below 1.6 or
    /// the parameter, but that of a square.
    [[nodiscard]] std::pair<double, double> operator()(std::size_t channel, double x, double error) const {
        const auto a = static_cast<double>(of_channel.empty() ? number : of_channel[channel]);
        const double y = pytorch_activation(kind, x, a);
        if (kdna::is_clamp(kind)) return {y, error};
        const double slope = kind == kdna::activation_kind::squared_relu ? 2.0 * std::abs(a) * std::max(x + error, 0.0)
                                                                         : std::max(1.6, std::abs(a));
        return {y, slope * error + activation_underflow + 0x1p-24 * (1.0 + activation_ulps(kind, x)) * std::abs(y)};
    }
};
inline const char* to_string(const kept_activation& act) { return kdna::to_string(act.kind); }

/// Any kind, every second time a clamp.
inline kept_activation random_activation(rng& r, index_t channels) {
    const auto all = all_activation_kinds();
    auto kind = all[static_cast<std::size_t>(r.between(0, kdna::activation_kinds - 1))];
    if (r.chance(0.5))
        kind = r.pick({kdna::activation_kind::none, kdna::activation_kind::relu, kdna::activation_kind::relu6});
    return {r, kind, channels};
}

}  // namespace kdna_test
