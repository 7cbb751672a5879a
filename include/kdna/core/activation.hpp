// The activation functions that can follow a layer: their list, and the value that names one with its parameters.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <iterator>
#include <limits>
#include <span>

#include <kdna/core/config.hpp>

/// Every activation of the library, one line each. To add one is to add its line: its name, its value in `activation`, the
/// reference in double, the vectors of the CPU, the programs of devices and the cases of the tests follow from it.
///
///     CLAMP(name, low, high)            y = min(max(x, low), high), fused into the loop nests without a branch
///     PLAIN(name, formula)              y = a formula in x
///     NUMBER(name, a, formula)          y = a formula in x and in a number, whose default is given
///     CHANNELS(name, formula)           y = a formula in x and in a number a of which every channel has its own
///
/// Formulas are written in the operations of activation_operations (core/activation_functions.hpp). The definitions are
/// PyTorch's, in a form that loses no digits where the result is small: with erfc instead of 1 + erf, with an exponential
/// instead of 1 + tanh. NaN has to stay NaN.
// clang-format off
#define KDNA_ACTIVATIONS(CLAMP, PLAIN, NUMBER, CHANNELS)                                                          \
    CLAMP(none, -infinity, infinity)                                                                              \
    CLAMP(relu, 0.0F, infinity)                                                                                   \
    CLAMP(relu6, 0.0F, 6.0F)                                                                                      \
    PLAIN(sigmoid, of(1.0) / (of(1.0) + exp(-x)))                                                                 \
    PLAIN(silu, x / (of(1.0) + exp(-x)))                                                                          \
    PLAIN(hard_sigmoid, clamp(x + of(3.0), of(0.0), of(6.0)) / of(6.0))                                           \
    PLAIN(hard_swish, x * (clamp(x + of(3.0), of(0.0), of(6.0)) / of(6.0)))                                       \
    PLAIN(tanh, tanh(x))                                                                                          \
    PLAIN(gelu, of(0.5) * x * erfc(of(-0.70710678118654752440) * x))                                              \
    PLAIN(gelu_tanh, x / (of(1.0) + exp(of(-1.59576912160573071176) * (x + of(0.044715) * x * x * x))))           \
    PLAIN(mish, x / (of(1.0) + of(2.0) / (exp(x) * (exp(x) + of(2.0)))))                                          \
    NUMBER(elu, 1.0F, where_positive(x, x, a * expm1(x)))                                                         \
    NUMBER(leaky_relu, 0.01F, where_positive(x, x, a * x))                                                        \
    NUMBER(squared_relu, 1.0F, a * (clamp(x, of(0.0), of(infinity)) * clamp(x, of(0.0), of(infinity))))           \
    CHANNELS(prelu, where_positive(x, x, a * x))
// clang-format on

namespace kdna::inline KDNA_ABI {

#define KDNA_CLAMP(name, low, high) name,
#define KDNA_PLAIN(name, formula) name,
#define KDNA_NUMBER(name, a, formula) name,
#define KDNA_CHANNELS(name, formula) name,
/// Which function it is.
enum class activation_kind : int { KDNA_ACTIVATIONS(KDNA_CLAMP, KDNA_PLAIN, KDNA_NUMBER, KDNA_CHANNELS) };
#undef KDNA_CLAMP
#undef KDNA_PLAIN
#undef KDNA_NUMBER
#undef KDNA_CHANNELS

/// An activation with its parameters: activation::relu, activation::leaky_relu(0.1F), activation::prelu(slopes).
struct activation {
    activation_kind kind = activation_kind::none;
    float number = 0.0F;                  ///< a, where all channels have the same
    std::span<const float> of_channel{};  ///< a of each channel, where they differ; layers copy it when they are made

#define KDNA_CLAMP(name, low, high) static const activation name;
#define KDNA_PLAIN(name, formula) static const activation name;
#define KDNA_NUMBER(name, default_a, formula)                                      \
    [[nodiscard]] static constexpr activation name(float a = default_a) noexcept { \
        return {activation_kind::name, a, {}};                                     \
    }
#define KDNA_CHANNELS(name, formula)                                                    \
    [[nodiscard]] static constexpr activation name(std::span<const float> a) noexcept { \
        return {activation_kind::name, 0.0F, a};                                        \
    }
    KDNA_ACTIVATIONS(KDNA_CLAMP, KDNA_PLAIN, KDNA_NUMBER, KDNA_CHANNELS)
#undef KDNA_CLAMP
#undef KDNA_PLAIN
#undef KDNA_NUMBER
#undef KDNA_CHANNELS

    /// a of one channel.
    [[nodiscard]] constexpr float a(index_t channel) const noexcept {
        return of_channel.empty() ? number : of_channel[static_cast<std::size_t>(channel)];
    }
    /// The function of one channel, which needs no a of others.
    [[nodiscard]] constexpr activation at(index_t channel) const noexcept { return {kind, a(channel), {}}; }

    /// The same function with the same parameters.
    [[nodiscard]] friend constexpr bool operator==(const activation& x, const activation& y) noexcept {
        if (x.kind != y.kind || x.number != y.number || x.of_channel.size() != y.of_channel.size()) return false;
        for (std::size_t i = 0; i < x.of_channel.size(); ++i)
            if (x.of_channel[i] != y.of_channel[i]) return false;
        return true;
    }
};

#define KDNA_CLAMP(name, low, high) inline constexpr activation activation::name{activation_kind::name, 0.0F, {}};
#define KDNA_PLAIN(name, formula) inline constexpr activation activation::name{activation_kind::name, 0.0F, {}};
#define KDNA_NUMBER(name, a, formula)
#define KDNA_CHANNELS(name, formula)
KDNA_ACTIVATIONS(KDNA_CLAMP, KDNA_PLAIN, KDNA_NUMBER, KDNA_CHANNELS)
#undef KDNA_CLAMP
#undef KDNA_PLAIN
#undef KDNA_NUMBER
#undef KDNA_CHANNELS

/// A clamp as the interval it clamps to. Of other functions all numbers: what clamps to it leaves them to be applied later.
struct clamp_range {
    float low, high;
};

namespace detail {

/// What the list says of an activation, apart from its formula.
struct activation_facts {
    const char* name;
    clamp_range range;
    bool clamps, takes_channels;
};
inline constexpr float infinity = std::numeric_limits<float>::infinity();
inline constexpr activation_facts facts_of_activations[] = {
#define KDNA_CLAMP(name, low, high) {#name, {low, high}, true, false},
#define KDNA_PLAIN(name, formula) {#name, {-infinity, infinity}, false, false},
#define KDNA_NUMBER(name, a, formula) {#name, {-infinity, infinity}, false, false},
#define KDNA_CHANNELS(name, formula) {#name, {-infinity, infinity}, false, true},
    KDNA_ACTIVATIONS(KDNA_CLAMP, KDNA_PLAIN, KDNA_NUMBER, KDNA_CHANNELS)
#undef KDNA_CLAMP
#undef KDNA_PLAIN
#undef KDNA_NUMBER
#undef KDNA_CHANNELS
};
[[nodiscard]] constexpr const activation_facts& facts_of(activation_kind kind) noexcept {
    return facts_of_activations[static_cast<std::size_t>(kind)];
}

}  // namespace detail

/// How many there are; activation_kind counts them from 0 on.
inline constexpr int activation_kinds = static_cast<int>(std::size(detail::facts_of_activations));

/// The name in the list, without parameters.
[[nodiscard]] constexpr const char* to_string(activation_kind kind) noexcept { return detail::facts_of(kind).name; }
[[nodiscard]] constexpr const char* to_string(const activation& act) noexcept { return to_string(act.kind); }

/// Whether a clamp_range says all about it.
[[nodiscard]] constexpr bool is_clamp(activation_kind kind) noexcept { return detail::facts_of(kind).clamps; }
[[nodiscard]] constexpr bool is_clamp(const activation& act) noexcept { return is_clamp(act.kind); }
/// Whether every channel has a parameter of its own.
[[nodiscard]] constexpr bool takes_channels(activation_kind kind) noexcept {
    return detail::facts_of(kind).takes_channels;
}
[[nodiscard]] constexpr clamp_range range_of(activation_kind kind) noexcept { return detail::facts_of(kind).range; }
[[nodiscard]] constexpr clamp_range range_of(const activation& act) noexcept { return range_of(act.kind); }

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
