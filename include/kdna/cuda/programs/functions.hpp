// Functions of one and of two operands, element by element.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/cuda/programs/nest.hpp>
#include <kdna/cuda/programs/tile.hpp>
#include <kdna/nn/ops/elementwise.hpp>

namespace kdna::inline KDNA_ABI::cuda {

template <class T>
struct binary_arguments {
    device_span<T> y{};             ///< may be a
    device_span<const T> a{}, b{};  ///< none: the scalar
    device_nest nest{};
    ops::binary_kind kind = ops::binary_kind::add;
    float scalar = 0.0F;
};

/// y = a op b in float32; operands are broadcast by strides of 0. A thread computes Width elements.
template <class T, int Width>
struct binary_program : elementwise_program {
    using arguments = binary_arguments<T>;
    static constexpr const char* name = "binary_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& g) {
        const bool a_repeats = g.nest.repeats(1), b_repeats = g.nest.repeats(2);
        for_each(block, g.nest.items, [&](int item) {
            const device_nest::place at = g.nest.of(item);
            pack<T, Width> a{}, b{}, y;
            if (g.a) a = detail::load_item<Width>(g.a, at.at[1], a_repeats);
            if (g.b) b = detail::load_item<Width>(g.b, at.at[2], b_repeats);
            KDNA_DEVICE_UNROLL
            for (int e = 0; e < Width; ++e)
                y.v[e] =
                    from_float<T>(apply(g.kind, g.a ? to_float(a.v[e]) : g.scalar, g.b ? to_float(b.v[e]) : g.scalar));
            g.y.template store<Width>(at.at[0], y);
        });
    }

private:
    /// The larger and the smaller are NaN where either operand is.
    KDNA_DEVICE static float apply(ops::binary_kind kind, float a, float b) {
        switch (kind) {
            case ops::binary_kind::add: return a + b;
            case ops::binary_kind::sub: return a - b;
            case ops::binary_kind::mul: return a * b;
            case ops::binary_kind::div: return a / b;
            case ops::binary_kind::maximum: return a == a && !(b <= a) ? b : a;
            case ops::binary_kind::minimum: return a == a && !(b >= a) ? b : a;
        }
        return a;
    }
};

/// A function of one operand: an activation, after a scale and a shift of each channel where there are any, or another.
struct device_function {
    enum class family { activation, unary };
    family is = family::activation;
    device_activation act{};
    ops::unary_kind kind = ops::unary_kind::clamp;
    float low = 0.0F, high = 0.0F;              ///< the bounds of a clamp
    device_span<const float> scale{}, shift{};  ///< of each channel, or none

    KDNA_DEVICE float operator()(float v, int channel) const {
        if (is == family::activation) {
            if (scale) v = scale.load(channel) * v + shift.load(channel);
            return act.clamps ? act.clamp(v) : act(v, channel);
        }
        switch (kind) {
            case ops::unary_kind::clamp: return v < low ? low : v > high ? high : v;
            case ops::unary_kind::abs: return fabsf(v);
            case ops::unary_kind::neg: return -v;
            case ops::unary_kind::exp: return expf(v);
            case ops::unary_kind::log: return logf(v);
            case ops::unary_kind::sqrt: return sqrtf(v);
            case ops::unary_kind::rsqrt: return 1.0F / sqrtf(v);
            case ops::unary_kind::pow: break;  // refused when the network is put on the device
        }
        return v;
    }
};

template <class T>
struct unary_arguments {
    device_span<T> y{};  ///< may be x
    device_span<const T> x{};
    device_nest nest{};  ///< its operand 2 are the channels, 0 for all where the function asks for none
    device_function function{};
};

/// y = f(x) in float32. A thread computes Width elements.
template <class T, int Width>
struct unary_program : elementwise_program {
    using arguments = unary_arguments<T>;
    static constexpr const char* name = "unary_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int step = a.nest.repeats(2) ? 0 : 1;
        const bool repeats = a.nest.repeats(1);
        for_each(block, a.nest.items, [&](int item) {
            const device_nest::place at = a.nest.of(item);
            pack<T, Width> v = detail::load_item<Width>(a.x, at.at[1], repeats);
            // Unrolled, the function would be there Width times. The pack moves by one element each time, as registers have no
            // index that is known only at run time.
            KDNA_DEVICE_NO_UNROLL
            for (int e = 0; e < Width; ++e) {
                const T y = from_float<T>(a.function(to_float(v.v[0]), at.at[2] + e * step));
                KDNA_DEVICE_UNROLL
                for (int i = 0; i + 1 < Width; ++i) v.v[i] = v.v[i + 1];
                v.v[Width - 1] = y;
            }
            a.y.template store<Width>(at.at[0], v);
        });
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
