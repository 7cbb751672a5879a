// The formulas of the activations, once for every type of number: double here, vectors in simd/, float on devices.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/core/activation.hpp>

namespace kdna::inline KDNA_ABI {

/// The operations that formulas are written in, for numbers of type N:
///
///     of(v)                           the constant v, given in double
///     exp(x), expm1(x), tanh(x), erfc(x)
///     clamp(x, low, high)             min(max(x, low), high); NaN stays NaN
///     where_positive(x, yes, no)      yes where x > 0, no elsewhere and for NaN
template <class N>
struct activation_operations;

template <>
struct activation_operations<double> {
    static double of(double v) noexcept { return v; }
    static double exp(double x) noexcept { return std::exp(x); }
    static double expm1(double x) noexcept { return std::expm1(x); }
    static double tanh(double x) noexcept { return std::tanh(x); }
    static double erfc(double x) noexcept { return std::erfc(x); }
    static double clamp(double x, double low, double high) noexcept { return x < low ? low : x > high ? high : x; }
    static double where_positive(double x, double yes, double no) noexcept { return x > 0.0 ? yes : no; }
};

/// For devices. On the host it is what the emulator runs.
template <>
struct activation_operations<float> {
    KDNA_HOST_DEVICE static float of(double v) noexcept { return static_cast<float>(v); }
    KDNA_HOST_DEVICE static float exp(float x) noexcept { return expf(x); }
    KDNA_HOST_DEVICE static float expm1(float x) noexcept { return expm1f(x); }
    KDNA_HOST_DEVICE static float tanh(float x) noexcept { return tanhf(x); }
    KDNA_HOST_DEVICE static float erfc(float x) noexcept { return erfcf(x); }
    KDNA_HOST_DEVICE static float clamp(float x, float low, float high) noexcept {
        return x < low ? low : x > high ? high : x;
    }
    KDNA_HOST_DEVICE static float where_positive(float x, float yes, float no) noexcept { return x > 0.0F ? yes : no; }
};

#define KDNA_CLAMP(name, low, high) \
    if constexpr (Kind == activation_kind::name) return clamp(x, of(low), of(high));
#define KDNA_PLAIN(name, formula) \
    if constexpr (Kind == activation_kind::name) return formula;
#define KDNA_NUMBER(name, default_a, formula) KDNA_PLAIN(name, formula)
#define KDNA_CHANNELS(name, formula) KDNA_PLAIN(name, formula)

/// The formulas of the list, over numbers of type N.
template <class N>
struct activation_formulas : activation_operations<N> {
    using operations = activation_operations<N>;
    using operations::clamp, operations::erfc, operations::exp, operations::expm1, operations::of, operations::tanh,
        operations::where_positive;

    /// The function of that kind at x; a is its parameter, if it has one.
    template <activation_kind Kind>
    static N apply([[maybe_unused]] const N& x, [[maybe_unused]] const N& a) noexcept {
        using detail::infinity;
        KDNA_ACTIVATIONS(KDNA_CLAMP, KDNA_PLAIN, KDNA_NUMBER, KDNA_CHANNELS)
    }
};
/// The same text for devices: what is marked for them can have no vectors among its arguments.
template <>
struct activation_formulas<float> : activation_operations<float> {
    template <activation_kind Kind>
    KDNA_HOST_DEVICE static float apply([[maybe_unused]] float x, [[maybe_unused]] float a) noexcept {
        using detail::infinity;
        KDNA_ACTIVATIONS(KDNA_CLAMP, KDNA_PLAIN, KDNA_NUMBER, KDNA_CHANNELS)
    }
};
#undef KDNA_CLAMP
#undef KDNA_PLAIN
#undef KDNA_NUMBER
#undef KDNA_CHANNELS

/// The function of that kind at x, for double and for float on devices; a is its parameter, if it has one.
template <class N>
[[nodiscard]] KDNA_HOST_DEVICE N activated(activation_kind kind, N x, N a) noexcept {
    switch (kind) {
#define KDNA_CLAMP(name, low, high) \
    case activation_kind::name:     \
        return activation_formulas<N>::template apply<activation_kind::name>(x, a);
#define KDNA_PLAIN(name, formula) KDNA_CLAMP(name, , )
#define KDNA_NUMBER(name, default_a, formula) KDNA_CLAMP(name, , )
#define KDNA_CHANNELS(name, formula) KDNA_CLAMP(name, , )
        KDNA_ACTIVATIONS(KDNA_CLAMP, KDNA_PLAIN, KDNA_NUMBER, KDNA_CHANNELS)
#undef KDNA_CLAMP
#undef KDNA_PLAIN
#undef KDNA_NUMBER
#undef KDNA_CHANNELS
    }
    return x;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
