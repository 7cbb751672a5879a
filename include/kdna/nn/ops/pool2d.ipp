// Definitions of pool2d.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <limits>

#include <kdna/nn/ops/pixels.hpp>
#include <kdna/nn/ops/pool2d.hpp>

namespace kdna::inline KDNA_ABI::ops {
namespace detail {

/// Work that is worth a thread, in elements that are read.
inline constexpr index_t pool_grain = 16384;

/// The part of a window along one axis that lies in the map, and how far the window reaches in the map and its padding.
struct window_taps {
    index_t first, count, padded;
};
[[nodiscard]] inline window_taps taps_of(index_t i, index_t extent, index_t window, index_t stride, index_t before,
                                         index_t after, index_t dilation) noexcept {
    const index_t start = i * stride - before, reach = (window - 1) * dilation + 1;
    // Taps up to a distance. Most windows have no dilation, and divisions take longer than their sums.
    const auto taps_in = [&](index_t distance) {
        return dilation == 1 ? distance : (distance + dilation - 1) / dilation;
    };
    // The first tap that is not before the map, and the one after the last that is in it.
    const index_t skipped = start < 0 ? taps_in(-start) : 0,
                  end = start < extent ? std::min(window, taps_in(extent - start)) : 0;
    return {start + skipped * dilation, std::max<index_t>(end - skipped, 0),
            std::min(start + reach, extent + after) - start};
}
[[nodiscard]] inline window_taps adaptive_taps(index_t i, index_t extent, index_t size) noexcept {
    const index_t first = i * extent / size, count = ((i + 1) * extent + size - 1) / size - first;
    return {first, count, count};
}

/// Results of V vectors of channels for one window.
template <bool Max, int V, class Memory>
KDNA_INLINE void pool_vectors(const float* x, index_t rows, index_t row_step, index_t columns, index_t column_step,
                              const simd::vec& divisor, float* y, const Memory& memory) noexcept {
    const simd::vec none = simd::broadcast(Max ? -std::numeric_limits<float>::infinity() : 0.0F);
    simd::vec all[V];
    KDNA_UNROLL
    for (int j = 0; j < V; ++j) all[j] = none;
    for (index_t h = 0; h < rows; ++h) {
        const float* from = x + h * row_step;
        if constexpr (Max) {
            for (index_t w = 0; w < columns; ++w, from += column_step) {
                KDNA_UNROLL
                for (int j = 0; j < V; ++j) all[j] = simd::max_keep_nan(all[j], memory.load(from + j * simd::lanes));
            }
        } else {
            // Row by row and then over the rows: a rounding error grows with the sum of both, not with their product.
            simd::vec row[V];
            KDNA_UNROLL
            for (int j = 0; j < V; ++j) row[j] = none;
            for (index_t w = 0; w < columns; ++w, from += column_step) {
                KDNA_UNROLL
                for (int j = 0; j < V; ++j) row[j] = row[j] + memory.load(from + j * simd::lanes);
            }
            KDNA_UNROLL
            for (int j = 0; j < V; ++j) all[j] = all[j] + row[j];
        }
    }
    KDNA_UNROLL
    for (int j = 0; j < V; ++j) {
        if constexpr (!Max) all[j] = all[j] / divisor;
        memory.store(y + j * simd::lanes, all[j]);
    }
}

/// Pools every window of rows_of(h) and columns_of(w), whose taps are `dilation` apart. divisor_of(rows, columns) is the divisor.
template <bool Max, class Rows, class Columns, class Divisor>
void pool_windows(const nd_view<const float>& x, const nd_view<float>& y, const extent2& dilation, index_t work,
                  const executor_ref& executor, const Rows& rows_of, const Columns& columns_of,
                  const Divisor& divisor_of) noexcept {
    const axis_numbers &s = x.stride, &t = y.stride;
    share_rows(y.shape, work, pool_grain, executor, [&](index_t n, index_t h, index_t first, index_t last) {
        const window_taps rows = rows_of(h);
        for (index_t w = 0; w < y.shape[3]; ++w) {
            const window_taps columns = columns_of(w);
            const float* const from = x.data + n * s[0] + rows.first * s[2] + columns.first * s[3];
            float* const to = y.data + n * t[0] + h * t[2] + w * t[3];
            const simd::vec divisor = simd::broadcast(divisor_of(rows, columns));
            channel_vectors(first, last, s[1], t[1], [&]<int V, class Memory>(index_t c, const Memory& memory) {
                pool_vectors<Max, V>(from + c * s[1], rows.count, dilation.h * s[2], columns.count, dilation.w * s[3],
                                     divisor, to + c * t[1], memory);
            });
        }
    });
}

/// Pools with windows of a fixed size.
template <bool Max, class Divisor>
void pool_fixed(const pool_window& p, const nd_view<const float>& x, const nd_view<float>& y,
                const executor_ref& executor, const Divisor& divisor_of) noexcept {
    const index_t height = x.shape[2], width = x.shape[3];
    const index_t taps = std::min(p.window.h, height) * std::min(p.window.w, width);
    pool_windows<Max>(
        x, y, p.dilation, y.shape[1] * y.shape[3] * taps, executor,
        [&](index_t h) { return taps_of(h, height, p.window.h, p.stride.h, p.pad.top, p.pad.bottom, p.dilation.h); },
        [&](index_t w) { return taps_of(w, width, p.window.w, p.stride.w, p.pad.left, p.pad.right, p.dilation.w); },
        divisor_of);
}

/// Pools as many windows as y has pixels.
template <bool Max>
void pool_adaptive(const nd_view<const float>& x, const nd_view<float>& y, const executor_ref& executor) noexcept {
    const index_t height = x.shape[2], width = x.shape[3], rows = y.shape[2], columns = y.shape[3];
    pool_windows<Max>(
        x, y, extent2(1), y.shape[1] * std::max(width, columns) * ((height + rows - 1) / rows), executor,
        [&](index_t h) { return adaptive_taps(h, height, rows); },
        [&](index_t w) { return adaptive_taps(w, width, columns); },
        [](const window_taps& r, const window_taps& c) { return static_cast<float>(r.count * c.count); });
}

[[nodiscard]] inline index_t pooled_extent(index_t in, index_t window, index_t stride, index_t before, index_t after,
                                           index_t dilation, bool ceil_mode, std::string_view where) {
    const index_t padded = checked_add(in, before + after, where), reach = dilation * (window - 1) + 1;
    if (padded < reach)
        throw error(std::string(where), concat("an input of at least ", reach, " with its padding"), concat(padded));
    const index_t steps = (padded - reach) / stride;
    // One more step is only taken if it begins before the end of the map.
    const bool more = ceil_mode && (padded - reach) % stride != 0 && steps + 1 <= (in + before - 1) / stride;
    return steps + (more ? 2 : 1);
}

inline const nd_shape& require_image_below_limit(input_shapes in, std::string_view where) {
    const nd_shape& x = require_one(in, 4, 4, where);
    require_below_limit("rows", 1, x[2], where);
    require_below_limit("columns", 1, x[3], where);
    return x;
}

}  // namespace detail

KDNA_FUNC void pool_window::check(std::string_view where) const {
    for (const extent2& e : {window, stride, dilation})
        for (const index_t v : {e.h, e.w}) detail::require_below_limit("window, stride and dilation", 1, v, where);
    const extent2 reach{dilation.h * (window.h - 1) + 1, dilation.w * (window.w - 1) + 1};
    for (const index_t v : {pad.top, pad.bottom, pad.left, pad.right})
        detail::require_below_limit("padding", 0, v, where);
    if (std::max(pad.top, pad.bottom) >= reach.h || std::max(pad.left, pad.right) >= reach.w)
        throw error(std::string(where), concat("padding less than the window's ", reach.h, "x", reach.w),
                    concat(pad.top, ", ", pad.bottom, ", ", pad.left, ", ", pad.right));
}

KDNA_FUNC bool pool_window::is_plain() const noexcept {
    return !ceil_mode && dilation == extent2(1) && window.h > 0 && window.w > 0 && stride.h > 0 && stride.w > 0 &&
           pad.top < window.h && pad.bottom < window.h && pad.left < window.w && pad.right < window.w;
}

KDNA_FUNC nd_shape pool_window::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = detail::require_image_below_limit(in, where);
    const nd_shape out{
        x[0], x[1], detail::pooled_extent(x[2], window.h, stride.h, pad.top, pad.bottom, dilation.h, ceil_mode, where),
        detail::pooled_extent(x[3], window.w, stride.w, pad.left, pad.right, dilation.w, ceil_mode, where)};
    static_cast<void>(element_count(out, where));
    return out;
}

KDNA_FUNC void max_pool2d::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    detail::pool_fixed<true>(window_, in.front(), y, executor,
                             [](const detail::window_taps&, const detail::window_taps&) { return 1.0F; });
}

KDNA_FUNC avg_pool2d::avg_pool2d(const pool_window& window, bool count_include_pad, std::optional<index_t> divisor,
                                 std::string_view where)
    : window_(window), count_include_pad_(count_include_pad), divisor_(divisor) {
    window_.check(where);
    if (window.dilation != extent2(1))
        throw error(std::string(where), "no dilation", concat(window.dilation.h, "x", window.dilation.w));
    if (divisor == index_t{0}) throw error(std::string(where), "a divisor other than 0", "0");
}

KDNA_FUNC void avg_pool2d::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    detail::pool_fixed<false>(
        window_, in.front(), y, executor, [&](const detail::window_taps& r, const detail::window_taps& c) {
            if (divisor_) return static_cast<float>(*divisor_);
            return static_cast<float>(count_include_pad_ ? r.padded * c.padded
                                                         : std::max<index_t>(r.count * c.count, 1));
        });
}

KDNA_FUNC adaptive_pool2d::adaptive_pool2d(extent2 size, std::string_view where) : size_(size) {
    for (const index_t v : {size.h, size.w}) detail::require_below_limit("a size", 1, v, where);
}

KDNA_FUNC nd_shape adaptive_pool2d::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = detail::require_image_below_limit(in, where);
    const nd_shape out{x[0], x[1], size_.h, size_.w};
    static_cast<void>(element_count(out, where));
    return out;
}

KDNA_FUNC void adaptive_avg_pool2d::run(input_views in, const nd_view<float>& y,
                                        const executor_ref& executor) const noexcept {
    detail::pool_adaptive<false>(in.front(), y, executor);
}

KDNA_FUNC void adaptive_max_pool2d::run(input_views in, const nd_view<float>& y,
                                        const executor_ref& executor) const noexcept {
    detail::pool_adaptive<true>(in.front(), y, executor);
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
