// Definitions of reduce.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <limits>

#include <kdna/nn/ops/pixels.hpp>
#include <kdna/nn/ops/reduce.hpp>
#include <kdna/nn/ops/sums.hpp>

namespace kdna::inline KDNA_ABI::ops {
namespace detail {

/// Elements that are worth a thread.
inline constexpr index_t reduce_grain = 16384;

/// The smallest or largest element, and NaN before all others.
template <bool Max>
[[nodiscard]] KDNA_INLINE simd::vec extreme_of(const simd::vec& a, const simd::vec& b) noexcept {
    if constexpr (Max) return simd::max_keep_nan(a, b);
    return xsimd::select(a == a, xsimd::select(b >= a, a, b), a);
}
template <bool Max>
inline constexpr float worst = Max ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();

/// Sum of the elements of a nest, whose operand 0 is x.
[[nodiscard]] inline double sum_of(const nest& reduced, const float* x) noexcept {
    double sum = 0.0;
    const index_t row = reduced.rows().stride[0], column = reduced.columns().stride[0];
    if (reduced.rank() == 1 && column == 1)
        return line_sum(x + reduced.start()[0], reduced.columns().extent, [](const simd::vec& v) { return v; });
    reduced.all([&](const per_operand& at, index_t rows, index_t, index_t columns) {
        sum += block_sum(x + at[0], rows, columns, row, column, [](const simd::vec& v) { return v; });
    });
    return sum;
}
template <bool Max>
[[nodiscard]] float extreme_of_all(const nest& reduced, const float* x) noexcept {
    using simd::lanes, simd::vec;
    const index_t row = reduced.rows().stride[0], column = reduced.columns().stride[0];
    vec best = simd::broadcast(worst<Max>);
    reduced.all([&](const per_operand& at, index_t rows, index_t, index_t columns) {
        const index_t whole = columns / lanes * lanes, rest = columns - whole;
        const auto counts = select_first(rest);
        for (index_t r = 0; r < rows; ++r) {
            const float* const from = x + at[0] + r * row;
            for (index_t i = 0; i < whole; i += lanes)
                best = extreme_of<Max>(best, simd::load_strided(from + i * column, column, lanes));
            if (rest > 0)
                best =
                    extreme_of<Max>(best, xsimd::select(counts, simd::load_strided(from + whole * column, column, rest),
                                                        simd::broadcast(worst<Max>)));
        }
    });
    constexpr auto fold = Max ? simd::lane_fold::max : simd::lane_fold::min;
    return xsimd::all(best == best) ? simd::fold_lanes<fold>(best) : std::numeric_limits<float>::quiet_NaN();
}

/// Calls f(element) for all elements of a nest, whose operand 0 is x.
template <class F>
void for_elements(const nest& reduced, const float* x, const F& f) noexcept {
    const index_t row = reduced.rows().stride[0], column = reduced.columns().stride[0];
    reduced.all([&](const per_operand& at, index_t rows, index_t, index_t columns) {
        for (index_t r = 0; r < rows; ++r) {
            const float* from = x + at[0] + r * row;
            for (index_t i = 0; i < columns; ++i, from += column) f(from);
        }
    });
}

/// Sums of V vectors of contiguous elements times `factor`.
template <int V, class Memory>
void sum_lanes(const nest& reduced, const float* x, double factor, float* y, const Memory& memory) noexcept {
    using simd::lanes, simd::vec;
    alignas(64) double sums[V * lanes] = {};
    alignas(64) float lane[V * lanes];
    vec all[V];
    index_t added = 0;
    const auto clear = [&] {
        KDNA_UNROLL
        for (int j = 0; j < V; ++j) all[j] = simd::zero();
        added = 0;
    };
    const auto flush = [&] {
        KDNA_UNROLL
        for (int j = 0; j < V; ++j) simd::store(lane + j * lanes, all[j]);
        for (index_t i = 0; i < V * lanes; ++i) sums[i] += static_cast<double>(lane[i]);
        clear();
    };
    clear();
    for_elements(reduced, x, [&](const float* from) {
        KDNA_UNROLL
        for (int j = 0; j < V; ++j) all[j] = all[j] + memory.load(from + j * lanes);
        if (++added == float_additions) flush();
    });
    flush();
    for (index_t i = 0; i < V * lanes; ++i) lane[i] = static_cast<float>(sums[i] * factor);
    KDNA_UNROLL
    for (int j = 0; j < V; ++j) memory.store(y + j * lanes, simd::load(lane + j * lanes));
}
template <bool Max, int V, class Memory>
void extreme_lanes(const nest& reduced, const float* x, float* y, const Memory& memory) noexcept {
    simd::vec best[V];
    KDNA_UNROLL
    for (int j = 0; j < V; ++j) best[j] = simd::broadcast(worst<Max>);
    for_elements(reduced, x, [&](const float* from) {
        KDNA_UNROLL
        for (int j = 0; j < V; ++j) best[j] = extreme_of<Max>(best[j], memory.load(from + j * simd::lanes));
    });
    KDNA_UNROLL
    for (int j = 0; j < V; ++j) memory.store(y + j * simd::lanes, best[j]);
}

}  // namespace detail

KDNA_FUNC reduce::reduce(reduce_kind kind, std::span<const index_t> axes, bool keep, std::string_view where)
    : kind_(kind), count_(static_cast<index_t>(axes.size())), keep_(keep) {
    if (count_ < 1 || count_ > most_axes) throw error(std::string(where), "1 to 5 axes", concat(count_));
    std::copy(axes.begin(), axes.end(), axes_.begin());
}

KDNA_FUNC bool reduce::reduces(index_t axis, index_t rank) const noexcept {
    for (index_t i = 0; i < count_; ++i) {
        const index_t a = axes_[static_cast<std::size_t>(i)];
        if (a == axis || a == axis - rank) return true;
    }
    return false;
}

KDNA_FUNC nd_shape reduce::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, 1, most_axes, where);
    index_t seen[most_axes] = {};
    for (index_t i = 0; i < count_; ++i)
        if (seen[axis_of(axes_[static_cast<std::size_t>(i)], x.rank(), where)]++ > 0)
            throw error(std::string(where), "axes that differ", concat(axes_[static_cast<std::size_t>(i)], " twice"));
    axis_numbers out{};
    std::size_t rank = 0;
    for (index_t i = 0; i < x.rank(); ++i) {
        if (!reduces(i, x.rank()))
            out[rank++] = x[i];
        else if (keep_)
            out[rank++] = 1;
    }
    if (rank == 0)
        throw error(std::string(where), "an axis that is left, or `keep`",
                    concat(to_string(x), " with all axes reduced"));
    return nd_shape(std::span<const index_t>(out).first(rank), where);
}

KDNA_FUNC void reduce::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    const nd_view<const float>& x = in.front();
    detail::nest kept, reduced;  // operand 0 is x, 1 is y
    index_t y_axis = 0, nearest = std::numeric_limits<index_t>::max();
    bool lines = true;  // the nearest elements of x go into the same sum
    for (index_t i = 0; i < x.rank(); ++i) {
        const index_t s = x.stride[static_cast<std::size_t>(i)], distance = s < 0 ? -s : s;
        const bool gone = reduces(i, x.rank());
        if (x.shape[i] > 1 && distance != 0 && distance < nearest) {
            nearest = distance;
            lines = gone;
        }
        if (gone)
            reduced.add(x.shape[i], {s, 0, 0});
        else
            kept.add(x.shape[i], {s, y.stride[static_cast<std::size_t>(y_axis)], 0});
        if (!gone || keep_) ++y_axis;
    }
    kept.arrange();
    reduced.arrange();
    const index_t each = reduced.elements();
    const double factor = kind_ == reduce_kind::mean ? 1.0 / static_cast<double>(each) : 1.0;
    const detail::per_operand row = kept.rows().stride, column = kept.columns().stride;
    kept.run(executor, std::max<index_t>(detail::reduce_grain / each, 1),
             [&](const detail::per_operand& at, index_t rows, index_t, index_t columns) {
                 for (index_t r = 0; r < rows; ++r) {
                     const float* const from = x.data + at[0] + r * row[0];
                     float* const to = y.data + at[1] + r * row[1];
                     if (lines) {
                         for (index_t i = 0; i < columns; ++i) {
                             const float* const p = from + i * column[0];
                             to[i * column[1]] = kind_ == reduce_kind::max ? detail::extreme_of_all<true>(reduced, p)
                                                 : kind_ == reduce_kind::min
                                                     ? detail::extreme_of_all<false>(reduced, p)
                                                     : static_cast<float>(detail::sum_of(reduced, p) * factor);
                         }
                         continue;
                     }
                     detail::channel_vectors(0, columns, column[0], column[1],
                                             [&]<int V, class Memory>(index_t c, const Memory& memory) {
                                                 const float* const p = from + c * column[0];
                                                 float* const q = to + c * column[1];
                                                 if (kind_ == reduce_kind::max)
                                                     detail::extreme_lanes<true, V>(reduced, p, q, memory);
                                                 else if (kind_ == reduce_kind::min)
                                                     detail::extreme_lanes<false, V>(reduced, p, q, memory);
                                                 else
                                                     detail::sum_lanes<V>(reduced, p, factor, q, memory);
                                             });
                 }
             });
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
