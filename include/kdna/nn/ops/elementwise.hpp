// Operations element by element: of two operands with PyTorch's broadcasting, of one, and activations.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <limits>
#include <string_view>
#include <vector>

#include <kdna/core/activation.hpp>
#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

enum class binary_kind : int { add, sub, mul, div, maximum, minimum };

/// y = a op b, of two inputs that are broadcast to a common shape, or of one and a scalar. maximum and minimum are NaN where
/// either operand is. y may be an input that has y's shape and strides.
class binary {
public:
    static constexpr bool keeps_order = true;

    /// Of two inputs.
    explicit binary(binary_kind kind) noexcept : kind_(kind) {}
    /// Of one input and a scalar, which is the first operand if `scalar_first`.
    binary(binary_kind kind, float scalar, bool scalar_first = false) noexcept
        : kind_(kind), scalar_(scalar), inputs_(1), scalar_first_(scalar_first) {}

    /// Throws kdna::error, naming `where`, for another number of inputs and for shapes that cannot be broadcast.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    [[nodiscard]] binary_kind kind() const noexcept { return kind_; }
    /// 2, or 1 beside a scalar.
    [[nodiscard]] index_t inputs() const noexcept { return inputs_; }
    [[nodiscard]] float scalar() const noexcept { return scalar_; }
    [[nodiscard]] bool scalar_first() const noexcept { return scalar_first_; }

private:
    binary_kind kind_;
    float scalar_ = 0.0F;
    index_t inputs_ = 2;
    bool scalar_first_ = false;
};

enum class unary_kind : int { clamp, pow, abs, neg, exp, log, sqrt, rsqrt };

/// y = f(x), x of any rank. NaN stays NaN, except in x ** 0. y may be x if it has the same strides.
class unary {
public:
    static constexpr bool keeps_order = true;

    /// min(max(x, low), high). Leave a bound at its infinity where there is none. Throws kdna::error, naming `where`, for a
    /// bound that is NaN.
    [[nodiscard]] KDNA_FUNC static unary clamp(float low, float high, std::string_view where = "clamp");
    /// x ** exponent.
    [[nodiscard]] static unary pow(float exponent) noexcept { return {unary_kind::pow, exponent, 0.0F}; }
    /// A function without parameters. Throws kdna::error, naming `where`, for clamp and pow.
    KDNA_FUNC explicit unary(unary_kind kind, std::string_view where = "unary");

    /// The input's shape.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;

    [[nodiscard]] unary_kind kind() const noexcept { return kind_; }
    /// The bounds of a clamp.
    [[nodiscard]] float low() const noexcept { return a_; }
    [[nodiscard]] float high() const noexcept { return b_; }

private:
    unary(unary_kind kind, float a, float b) noexcept : kind_(kind), a_(a), b_(b) {}
    unary_kind kind_;
    float a_ = 0.0F, b_ = 0.0F;  // bounds, or the exponent
};

/// y = act(x), x of any rank. prelu has one slope, or one for each channel, which axis 1 counts. y may be x if it has the same
/// strides.
class activate {
public:
    static constexpr bool keeps_order = true;

    /// Copies the parameters of channels. Throws kdna::error, naming `where`, if a prelu has none or another function has some.
    KDNA_FUNC explicit activate(const activation& act, std::string_view where = "activation");

    /// The input's shape. Throws kdna::error, naming `where`, if it does not have as many channels as there are slopes.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    /// In place, `count` floats of each of a few rows, `stride` apart, the first of channel `channel` and each one `step` channels
    /// further than the one before.
    KDNA_FUNC void run_rows(float* const* rows, index_t row_count, index_t stride, index_t count, index_t channel,
                            index_t step) const noexcept;
    template <class F>
    void for_each_parameter(const F& f) const {
        if (channels_ > 0) f(std::span(slopes_));
    }
    /// The function; its parameters of channels are valid while this object lives.
    [[nodiscard]] activation act() const noexcept {
        return {kind_, number_, std::span(slopes_).first(static_cast<std::size_t>(channels_))};
    }

private:
    activation_kind kind_;
    float number_;
    index_t channels_;
    std::vector<float> slopes_;  // readable for whole vectors
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/elementwise.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
