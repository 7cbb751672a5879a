// Definitions of softmax.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <kdna/nn/ops/pixels.hpp>
#include <kdna/nn/ops/softmax.hpp>
#include <kdna/nn/ops/sums.hpp>

namespace kdna::inline KDNA_ABI::ops {
namespace detail {

/// Elements that are worth a thread.
inline constexpr index_t softmax_grain = 2048;

/// An axis of `count` elements in x and y.
struct softmax_axis {
    index_t count, x, y;
};

/// One axis, its own elements in the lanes. The largest element may miss a NaN: that makes the sum one, and so all results.
inline void softmax_line(const float* x, float* y, const softmax_axis& a, bool logarithm) noexcept {
    using simd::lanes, simd::vec;
    constexpr float none = -std::numeric_limits<float>::infinity();
    const index_t whole = a.count / lanes * lanes, rest = a.count - whole;
    const auto counts = select_first(rest);
    vec best = simd::broadcast(none);
    for (index_t i = 0; i < whole; i += lanes) best = xsimd::max(best, simd::load_strided(x + i * a.x, a.x, lanes));
    if (rest > 0)
        best = simd::max_keep_nan(
            best, xsimd::select(counts, simd::load_strided(x + whole * a.x, a.x, rest), simd::broadcast(none)));
    const vec m = simd::broadcast(simd::fold_lanes<simd::lane_fold::max>(best));
    double sum = 0.0;
    vec all = simd::zero();
    for (index_t i = 0; i < whole; i += lanes) {
        const vec e = xsimd::exp(simd::load_strided(x + i * a.x, a.x, lanes) - m);
        if (!logarithm) simd::store_strided(y + i * a.y, e, a.y, lanes);
        all = all + e;
        if (i / lanes % 32 == 31) {
            sum += static_cast<double>(simd::sum(all));
            all = simd::zero();
        }
    }
    if (rest > 0) {
        const vec e = xsimd::exp(simd::load_strided(x + whole * a.x, a.x, rest) - m);
        if (!logarithm) simd::store_strided(y + whole * a.y, e, a.y, rest);
        all = all + xsimd::select(counts, e, simd::zero());
    }
    sum += static_cast<double>(simd::sum(all));
    const vec last = simd::broadcast(static_cast<float>(logarithm ? std::log(sum) : 1.0 / sum));
    for (index_t i = 0; i < a.count; i += lanes) {
        const index_t some = std::min(lanes, a.count - i);
        const vec v = logarithm ? simd::load_strided(x + i * a.x, a.x, some) - m - last
                                : simd::load_strided(y + i * a.y, a.y, some) * last;
        simd::store_strided(y + i * a.y, v, a.y, some);
    }
}

/// A vector of axes, one in each lane.
template <class Memory>
void softmax_lanes(const float* x, float* y, const softmax_axis& a, bool logarithm, const Memory& memory) noexcept {
    using simd::vec;
    vec m = simd::broadcast(-std::numeric_limits<float>::infinity());
    for (index_t i = 0; i < a.count; ++i) m = xsimd::max(m, memory.load(x + i * a.x));
    vec total = simd::zero();
    for (index_t first = 0; first < a.count;) {
        vec all = simd::zero();
        for (const index_t last = std::min(a.count, first + 64); first < last; ++first) {
            const vec e = xsimd::exp(memory.load(x + first * a.x) - m);
            if (!logarithm) memory.store(y + first * a.y, e);
            all = all + e;
        }
        total = total + all;
    }
    if (logarithm) {
        const vec log_sum = simd::log(total);
        for (index_t i = 0; i < a.count; ++i) memory.store(y + i * a.y, memory.load(x + i * a.x) - m - log_sum);
    } else {
        const vec share = simd::broadcast(1.0F) / total;
        const Memory& m_y = memory;
        for (index_t i = 0; i < a.count; ++i) m_y.store(y + i * a.y, m_y.load_result(y + i * a.y) * share);
    }
}

struct whole_columns : whole_vector {
    [[nodiscard]] KDNA_INLINE simd::vec load_result(const float* from) const noexcept { return simd::load(from); }
};
struct part_columns : part_vector {
    [[nodiscard]] simd::vec load_result(const float* from) const noexcept {
        return simd::load_strided(from, y_stride, count);
    }
};

}  // namespace detail

KDNA_FUNC nd_shape softmax::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, 1, most_axes, where);
    static_cast<void>(axis_of(axis_, x.rank(), where));
    return x;
}

KDNA_FUNC void softmax::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    using simd::lanes;
    const nd_view<const float>& x = in.front();
    const index_t axis = axis_ < 0 ? axis_ + x.rank() : axis_;
    const auto k = static_cast<std::size_t>(axis);
    const detail::softmax_axis a{x.shape[axis], x.stride[k], y.stride[k]};
    detail::nest others;
    for (index_t i = 0; i < x.rank(); ++i)
        if (i != axis)
            others.add(x.shape[i], {y.stride[static_cast<std::size_t>(i)], x.stride[static_cast<std::size_t>(i)], 0});
    others.arrange();
    const detail::per_operand row = others.rows().stride, column = others.columns().stride;
    const index_t grain = std::max<index_t>(detail::softmax_grain / a.count, 1);
    // The lanes are the axis' elements where those are contiguous, or where there is nothing else to fill them.
    const bool lines = (a.x == 1 && a.y == 1 && a.count >= 4) || others.columns().extent == 1 ||
                       ((column[0] != 1 || column[1] != 1) && a.count >= lanes);
    others.run(executor, grain, [&](const detail::per_operand& at, index_t rows, index_t, index_t columns) {
        for (index_t r = 0; r < rows; ++r) {
            float* const to = y.data + at[0] + r * row[0];
            const float* const from = x.data + at[1] + r * row[1];
            if (lines) {
                for (index_t i = 0; i < columns; ++i)
                    detail::softmax_line(from + i * column[1], to + i * column[0], a, logarithm_);
                continue;
            }
            for (index_t i = 0; i < columns; i += lanes) {
                const index_t some = std::min(lanes, columns - i);
                if (some == lanes && column[0] == 1 && column[1] == 1)
                    detail::softmax_lanes(from + i, to + i, a, logarithm_, detail::whole_columns{});
                else
                    detail::softmax_lanes(from + i * column[1], to + i * column[0], a, logarithm_,
                                          detail::part_columns{{column[1], column[0], some}});
            }
        }
    });
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
