// The activations as PyTorch defines them, in double, and what a test says about each of them.
#pragma once

#include <cmath>
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
    }
    return NAN;
}

/// How far from double the library's float32 functions may be at x: units in the last place of the result. What underflows on
/// the way, or is 0 because exp(x) is below float32, is held to the absolute error activation_underflow instead.
inline double activation_ulps(kdna::activation_kind kind, double x) {
    using k = kdna::activation_kind;
    switch (kind) {
        case k::none:
        case k::relu:
        case k::relu6: return 0.0;
        case k::leaky_relu:
        case k::prelu: return 0.5;
        case k::hard_sigmoid: return 1.0;
        case k::tanh:
        case k::elu: return 1.5;
        case k::hard_swish: return 2.0;
        case k::sigmoid:
        case k::silu: return 2.5;
        case k::mish: return 4.0;
        // An exponential of -x^2, whose relative error is that of x^2 in units of one.
        case k::gelu:
        case k::gelu_tanh: return x < 0.0 ? 6.0 + 2.5 * x * x : 6.0;
    }
    return 0.0;
}
inline constexpr double activation_underflow = 1e-36;

/// An upper bound of the derivative, for tests of a sum's rounding through an activation.
inline double activation_slope(double a) { return std::max(1.2, std::abs(a)); }

/// An activation of that kind with random parameters. `slopes` keeps them; of `channels` channels.
inline kdna::activation random_activation(rng& r, kdna::activation_kind kind, index_t channels,
                                          std::vector<float>& slopes) {
    kdna::activation act{kind, static_cast<float>(r.real(-0.5, 1.5)), {}};
    if (kdna::takes_channels(kind)) {
        slopes = r.floats(channels);
        act.number = 0.0F;
        act.of_channel = slopes;
    }
    return act;
}

}  // namespace kdna_test
