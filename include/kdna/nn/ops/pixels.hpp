// What operations on the pixels of images share: vectors of channels, and pixels shared out over threads.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <limits>

#include <kdna/nn/ops/nest.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::ops::detail {

/// Attributes of images are below this, so that sums and products of two of them fit.
inline constexpr index_t image_limit = index_t{1} << 31;

inline void require_below_limit(std::string_view what, index_t least, index_t value, std::string_view where) {
    if (value < least || value >= image_limit)
        throw error(std::string(where), concat(what, " from ", least, " to 2^31 - 1"), concat(value));
}

/// Calls f(n, h, first channel, last channel) for all rows of an image y [N, C, H, W] and all of its channels. A thread gets
/// work of at least `grain`, where a row of y costs `row_work`. Channels are shared out, by 64, where rows are few.
template <class F>
void share_rows(const nd_shape& y, index_t row_work, index_t grain, const executor_ref& executor, const F& f) {
    const index_t rows = y[0] * y[2], channels = y[1];
    const double work = static_cast<double>(rows) * static_cast<double>(row_work) / static_cast<double>(grain);
    const index_t threads = std::max<index_t>(executor.concurrency(), 1);
    if (threads == 1 || work < 2.0) {
        for (index_t row = 0; row < rows; ++row) f(row / y[2], row % y[2], index_t{0}, channels);
        return;
    }
    constexpr index_t unit = 64;
    const index_t units = (channels + unit - 1) / unit,
                  pieces = rows >= 2 * threads ? 1 : std::min(units, (2 * threads + rows - 1) / rows),
                  tasks = std::min(rows * pieces, 4 * threads);
    executor.parallel_for(tasks, [&](index_t task) {
        for (index_t i = rows * pieces * task / tasks; i < rows * pieces * (task + 1) / tasks; ++i) {
            const index_t row = i / pieces, piece = i % pieces;
            f(row / y[2], row % y[2], units * piece / pieces * unit,
              std::min(units * (piece + 1) / pieces * unit, channels));
        }
    });
}

/// Vectors of channels in memory: all lanes contiguous, the first lanes contiguous, or `count` lanes with a stride.
struct whole_vector {
    [[nodiscard]] KDNA_INLINE simd::vec load(const float* from) const noexcept { return simd::load(from); }
    KDNA_INLINE void store(float* to, const simd::vec& v) const noexcept { simd::store(to, v); }
};
struct masked_vector {
    simd::lane_mask mask;
    [[nodiscard]] KDNA_INLINE simd::vec load(const float* from) const noexcept { return simd::load_masked(from, mask); }
    KDNA_INLINE void store(float* to, const simd::vec& v) const noexcept { simd::store_masked(to, v, mask); }
};
struct part_vector {
    index_t x_stride, y_stride, count;
    [[nodiscard]] simd::vec load(const float* from) const noexcept { return simd::load_strided(from, x_stride, count); }
    void store(float* to, const simd::vec& v) const noexcept { simd::store_strided(to, v, y_stride, count); }
};

/// Calls f.template operator()<V>(c, memory) for channels [first, last): V = 4 and 1 whole vectors at c where channels are
/// contiguous in x and y, and one vector in parts for the rest.
template <class F>
KDNA_INLINE void channel_vectors(index_t first, index_t last, index_t x_stride, index_t y_stride, const F& f) {
    using simd::lanes;
    index_t c = first;
    if (x_stride == 1 && y_stride == 1) {
        for (; c + 4 * lanes <= last; c += 4 * lanes) f.template operator()<4>(c, whole_vector{});
        for (; c + lanes <= last; c += lanes) f.template operator()<1>(c, whole_vector{});
        if (c < last) f.template operator()<1>(c, masked_vector{simd::first_lanes(last - c)});
        return;
    }
    for (; c < last; c += lanes)
        f.template operator()<1>(c, part_vector{x_stride, y_stride, std::min(lanes, last - c)});
}

}  // namespace kdna::inline KDNA_ABI::ops::detail

#include <kdna/core/macros_pop.hpp>
