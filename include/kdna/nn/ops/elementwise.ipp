// Definitions of elementwise.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>

#include <kdna/nn/ops/elementwise.hpp>
#include <kdna/simd/activation.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::ops {
namespace detail {

/// Elements that are worth a thread, for operations that cost next to nothing and for functions.
inline constexpr index_t cheap_grain = 16384, function_grain = 2048;

/// Rows and columns of an operation on up to two operands.
struct element_block {
    index_t rows, columns;
    float* y;
    const float *a, *b;
    per_operand row, column;  ///< strides of y, a and b
};

/// The operand of a block: its own vectors, or one element of a row for all columns.
template <index_t Step>
struct element_source {
    const float* from;
    simd::vec same = simd::zero();
    explicit element_source(const float* f) noexcept : from(f) {
        if constexpr (Step == 0) same = simd::broadcast(*f);
    }
    [[nodiscard]] KDNA_INLINE simd::vec at(index_t i) const noexcept {
        if constexpr (Step == 0) return same;
        return simd::load(from + i);
    }
    [[nodiscard]] KDNA_INLINE simd::vec some(index_t i, simd::lane_mask m) const noexcept {
        if constexpr (Step == 0) return same;
        return simd::load_masked(from + i, m);
    }
};

/// y = op(a, b) where the columns of y are contiguous, and those of a and b contiguous (1) or one element (0).
template <index_t A, index_t B, class Op>
void contiguous_elements(const element_block& t, const Op& op) noexcept {
    using simd::lanes;
    const index_t whole = t.columns / lanes * lanes;
    const simd::lane_mask mask = simd::first_lanes(t.columns - whole);
    for (index_t r = 0; r < t.rows; ++r) {
        float* const y = t.y + r * t.row[0];
        const element_source<A> a(t.a + r * t.row[1]);
        const element_source<B> b(t.b + r * t.row[2]);
        for (index_t i = 0; i < whole; i += lanes) simd::store(y + i, op(a.at(i), b.at(i)));
        if (whole < t.columns) simd::store_masked(y + whole, op(a.some(whole, mask), b.some(whole, mask)), mask);
    }
}

/// y = op(a, b) for any strides.
template <class Op>
void elements(const element_block& t, const Op& op) noexcept {
    using simd::lanes;
    const auto& [ys, as, bs] = t.column;
    if (ys == 1 && as == 1 && bs == 1) return contiguous_elements<1, 1>(t, op);
    if (ys == 1 && as == 1 && bs == 0) return contiguous_elements<1, 0>(t, op);
    if (ys == 1 && as == 0 && bs == 1) return contiguous_elements<0, 1>(t, op);
    for (index_t r = 0; r < t.rows; ++r)
        for (index_t i = 0; i < t.columns; i += lanes) {
            const index_t some = std::min(lanes, t.columns - i);
            simd::store_strided(t.y + r * t.row[0] + i * ys,
                                op(simd::load_strided(t.a + r * t.row[1] + i * as, as, some),
                                   simd::load_strided(t.b + r * t.row[2] + i * bs, bs, some)),
                                ys, some);
        }
}

template <class Op>
void run_elements(const nest& n, float* y, const float* a, const float* b, index_t grain, const executor_ref& executor,
                  const Op& op) noexcept {
    const per_operand row = n.rows().stride, column = n.columns().stride;
    n.run(executor, grain, [&](const per_operand& at, index_t rows, index_t, index_t columns) {
        elements({rows, columns, y + at[0], a + at[1], b + at[2], row, column}, op);
    });
}

/// y = op(x); the nest's operand 1 is x.
template <class Op>
void run_function(const nest& n, float* y, const float* x, index_t grain, const executor_ref& executor,
                  const Op& op) noexcept {
    static constexpr float nothing = 0.0F;
    run_elements(n, y, x, &nothing, grain, executor, [op](const simd::vec& v, const simd::vec&) { return op(v); });
}

[[nodiscard]] KDNA_INLINE simd::vec smaller_keep_nan(const simd::vec& a, const simd::vec& b) noexcept {
    return xsimd::select(a == a, xsimd::select(b >= a, a, b), a);
}

/// x ** exponent, one element at a time.
inline void run_pow(const nest& n, float* y, const float* x, float exponent, const executor_ref& executor) noexcept {
    const per_operand row = n.rows().stride, column = n.columns().stride;
    n.run(executor, function_grain, [&](const per_operand& at, index_t rows, index_t, index_t columns) {
        for (index_t r = 0; r < rows; ++r)
            for (index_t i = 0; i < columns; ++i)
                y[at[0] + r * row[0] + i * column[0]] = std::pow(x[at[1] + r * row[1] + i * column[1]], exponent);
    });
}

}  // namespace detail

KDNA_FUNC nd_shape binary::output_shape(input_shapes in, std::string_view where) const {
    require_inputs(in, static_cast<std::size_t>(inputs_), where);
    for (const nd_shape& s : in) static_cast<void>(element_count(s, where));
    const nd_shape out = inputs_ == 2 ? broadcast(in[0], in[1], where) : in[0];
    static_cast<void>(element_count(out, where));
    return out;
}

KDNA_FUNC void binary::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    using simd::vec;
    const index_t rank = y.rank();
    const float *a = in[0].data, *b = inputs_ == 2 ? in[1].data : &scalar_;
    axis_numbers as = detail::broadcast_strides(in[0], rank), bs{};
    if (inputs_ == 2) bs = detail::broadcast_strides(in[1], rank);
    if (scalar_first_) {
        std::swap(a, b);
        std::swap(as, bs);
    }
    detail::nest n = detail::nest_over(y, as, bs);
    n.arrange();
    const auto with = [&](const auto& op) { detail::run_elements(n, y.data, a, b, detail::cheap_grain, executor, op); };
    switch (kind_) {
        case binary_kind::add: return with([](const vec& p, const vec& q) { return p + q; });
        case binary_kind::sub: return with([](const vec& p, const vec& q) { return p - q; });
        case binary_kind::mul: return with([](const vec& p, const vec& q) { return p * q; });
        case binary_kind::div: return with([](const vec& p, const vec& q) { return simd::divide(p, q); });
        case binary_kind::maximum: return with([](const vec& p, const vec& q) { return simd::max_keep_nan(p, q); });
        case binary_kind::minimum:
            return with([](const vec& p, const vec& q) { return detail::smaller_keep_nan(p, q); });
    }
}

KDNA_FUNC unary unary::clamp(float low, float high, std::string_view where) {
    if (std::isnan(low) || std::isnan(high))
        throw error(std::string(where), "bounds that are numbers", concat(low, " and ", high));
    return {unary_kind::clamp, low, high};
}

KDNA_FUNC unary::unary(unary_kind kind, std::string_view where) : kind_(kind) {
    if (kind == unary_kind::clamp || kind == unary_kind::pow)
        throw error(std::string(where), "a function without parameters", kind == unary_kind::clamp ? "clamp" : "pow");
}

KDNA_FUNC nd_shape unary::output_shape(input_shapes in, std::string_view where) const {
    return require_one(in, 1, most_axes, where);
}

KDNA_FUNC void unary::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    using simd::vec;
    const nd_view<const float>& x = in.front();
    detail::nest n = detail::nest_over(y, x.stride);
    n.arrange();
    const auto with = [&](index_t grain, const auto& op) {
        detail::run_function(n, y.data, x.data, grain, executor, op);
    };
    constexpr index_t cheap = detail::cheap_grain, dear = detail::function_grain;
    const vec one = simd::broadcast(1.0F);
    switch (kind_) {
        case unary_kind::clamp: {
            const vec low = simd::broadcast(a_), high = simd::broadcast(b_);
            return with(cheap, [&](const vec& v) { return simd::clamp(v, low, high); });
        }
        case unary_kind::pow:
            // The exponents for which PyTorch has a shorter way too.
            if (a_ == 1.0F) return with(cheap, [](const vec& v) { return v; });
            if (a_ == 2.0F) return with(cheap, [](const vec& v) { return v * v; });
            if (a_ == 3.0F) return with(cheap, [](const vec& v) { return v * v * v; });
            if (a_ == 0.5F) return with(cheap, [](const vec& v) { return simd::sqrt(v); });
            if (a_ == -0.5F) return with(cheap, [&](const vec& v) { return simd::divide(one, simd::sqrt(v)); });
            if (a_ == -1.0F) return with(cheap, [&](const vec& v) { return simd::divide(one, v); });
            if (a_ == -2.0F) return with(cheap, [&](const vec& v) { return simd::divide(one, v * v); });
            return detail::run_pow(n, y.data, x.data, a_, executor);
        case unary_kind::abs: return with(cheap, [](const vec& v) { return xsimd::abs(v); });
        case unary_kind::neg: return with(cheap, [](const vec& v) { return -v; });
        case unary_kind::exp: return with(dear, [](const vec& v) { return xsimd::exp(v); });
        case unary_kind::log: return with(dear, [](const vec& v) { return simd::log(v); });
        case unary_kind::sqrt: return with(cheap, [](const vec& v) { return simd::sqrt(v); });
        case unary_kind::rsqrt: return with(cheap, [&](const vec& v) { return simd::divide(one, simd::sqrt(v)); });
    }
}

KDNA_FUNC activate::activate(const activation& act, std::string_view where)
    : kind_(act.kind), number_(act.number), channels_(static_cast<index_t>(act.of_channel.size())) {
    if ((channels_ > 0) != takes_channels(act.kind))
        throw error(concat(where, " ", to_string(act)),
                    channels_ > 0 ? "no parameters of channels" : "parameters of channels", concat(channels_));
    slopes_.assign(act.of_channel.begin(), act.of_channel.end());
    slopes_.resize(slopes_.size() + static_cast<std::size_t>(simd::lanes), 0.0F);
}

KDNA_FUNC nd_shape activate::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, 1, most_axes, where);
    if (channels_ > 1 && (x.rank() < 2 || x[1] != channels_))
        throw error(std::string(where), concat("an input of ", channels_, " channels"), to_string(x));
    return x;
}

KDNA_FUNC void activate::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    const nd_view<const float>& x = in.front();
    if (is_clamp(kind_)) {
        const simd::vec low = simd::broadcast(range_of(kind_).low), high = simd::broadcast(range_of(kind_).high);
        detail::nest both = detail::nest_over(y, x.stride);
        both.arrange();
        return detail::run_function(both, y.data, x.data, detail::cheap_grain, executor,
                                    [&](const simd::vec& v) { return simd::clamp(v, low, high); });
    }
    // Operand 2 is the channel.
    detail::nest n = detail::nest_over(y, x.stride, {0, channels_ > 1 ? 1 : 0, 0, 0, 0});
    n.arrange();
    const detail::per_operand row = n.rows().stride, column = n.columns().stride;
    const auto line = [&](float* to, const float* from, index_t channel, index_t count) {
        // A block is copied and then activated where it lies, while it is in L1.
        constexpr index_t block = 2048;
        for (index_t i = 0; i < count; i += block) {
            const index_t some = std::min(block, count - i);
            float* const part = to + i * column[0];
            const float* const source = from + i * column[1];
            if (part != source) {
                if (column[0] == 1 && column[1] == 1)
                    std::copy_n(source, some, part);
                else
                    for (index_t j = 0; j < some; ++j) part[j * column[0]] = source[j * column[1]];
            }
            run_rows(&part, 1, column[0], some, channel + i * column[2], column[2]);
        }
    };
    n.run(executor, detail::function_grain, [&](const detail::per_operand& at, index_t rows, index_t, index_t columns) {
        for (index_t r = 0; r < rows; ++r)
            line(y.data + at[0] + r * row[0], x.data + at[1] + r * row[1], at[2] + r * row[2], columns);
    });
}

KDNA_FUNC void activate::run_rows(float* const* rows, index_t row_count, index_t stride, index_t count, index_t channel,
                                  index_t step) const noexcept {
    if (kind_ == activation_kind::none) return;
    const auto a = [&](index_t c) { return channels_ > 0 ? slopes_[static_cast<std::size_t>(c)] : number_; };
    if (channels_ <= 1 || step == 0)
        return simd::activate(kind_, a(channels_ > 1 ? channel : 0), nullptr, rows, row_count, 0, stride, count);
    if (step == 1) return simd::activate(kind_, number_, slopes_.data() + channel, rows, row_count, 0, stride, count);
    for (index_t r = 0; r < row_count; ++r)
        for (index_t i = 0; i < count; ++i)
            simd::activate(kind_, a(channel + i * step), nullptr, rows[r] + i * stride, 1, 1);
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
