// Definitions of resize.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>

#include <kdna/nn/ops/copy_rows.hpp>
#include <kdna/nn/ops/pixels.hpp>
#include <kdna/nn/ops/resize.hpp>

namespace kdna::inline KDNA_ABI::ops {
namespace detail {

/// Elements of the output that are worth a thread.
inline constexpr index_t resize_grain = 8192;

/// Where an element of the output comes from: two elements, and the share of the second.
struct mixed_pair {
    index_t first, second;
    float share;
};

[[nodiscard]] inline index_t nearest_source(index_t i, float factor, index_t extent) noexcept {
    return std::min(static_cast<index_t>(std::floor(static_cast<float>(i) * factor)), extent - 1);
}
[[nodiscard]] inline mixed_pair linear_source(index_t i, float factor, index_t extent, index_t size,
                                              bool align_corners) noexcept {
    if (size == extent) return {i, i, 0.0F};
    const float at =
        align_corners ? factor * static_cast<float>(i) : std::max(factor * (static_cast<float>(i) + 0.5F) - 0.5F, 0.0F);
    const index_t first = std::min(static_cast<index_t>(std::floor(at)), extent - 1);
    return {first, first + (first < extent - 1 ? 1 : 0), std::clamp(at - static_cast<float>(first), 0.0F, 1.0F)};
}

/// Columns and channels of a row of the output, and where they lie: y[column * y_column + channel * y_channel].
struct row_part {
    float* y;
    index_t y_column, y_channel;
    index_t column, columns;    ///< the first, and how many
    index_t channel, channels;  ///< likewise
};

/// A row of nearest pixels of x. `source_of(column)` is the column of x. `narrow`: the image has too few channels for vectors.
template <class Source>
void nearest_row(const float* x, index_t x_column, index_t x_channel, const row_part& part, bool narrow,
                 const Source& source_of) noexcept {
    x += part.channel * x_channel;
    for (index_t i = 0; i < part.columns; ++i) {
        const float* const from = x + source_of(part.column + i) * x_column;
        float* const to = part.y + i * part.y_column;
        if (narrow) {
            for (index_t c = 0; c < part.channels; ++c) to[c * part.y_channel] = from[c * x_channel];
            continue;
        }
        channel_vectors(0, part.channels, x_channel, part.y_channel,
                        [&]<int V, class Memory>(index_t c, const Memory& memory) {
                            KDNA_UNROLL
                            for (int j = 0; j < V; ++j)
                                memory.store(to + c * part.y_channel + j * simd::lanes,
                                             memory.load(from + c * x_channel + j * simd::lanes));
                        });
    }
}

/// A row of mixed pixels. `top` and `bottom` are the rows of x it comes from, `share` that of the second; `source_of(column)` is
/// the pair of columns of x.
template <class Source>
void bilinear_row(const float* top, const float* bottom, float share, index_t x_column, index_t x_channel,
                  const row_part& part, bool narrow, const Source& source_of) noexcept {
    top += part.channel * x_channel;
    bottom += part.channel * x_channel;
    const simd::vec down = simd::broadcast(share), up = simd::broadcast(1.0F - share);
    // The sources of 64 columns are computed first, apart from the loops over channels.
    constexpr index_t together = 64;
    mixed_pair pairs[together];
    for (index_t begin = 0; begin < part.columns; begin += together) {
        const index_t some = std::min(together, part.columns - begin);
        for (index_t i = 0; i < some; ++i) pairs[i] = source_of(part.column + begin + i);
        float* to = part.y + begin * part.y_column;
        for (index_t i = 0; i < some; ++i, to += part.y_column) {
            const mixed_pair& pair = pairs[i];
            const index_t left = pair.first * x_column, right = pair.second * x_column;
            if (narrow) {
                const float a = 1.0F - pair.share, b = pair.share;
                for (index_t c = 0; c < part.channels; ++c) {
                    const float *const p = top + c * x_channel, *const q = bottom + c * x_channel;
                    to[c * part.y_channel] =
                        (1.0F - share) * (a * p[left] + b * p[right]) + share * (a * q[left] + b * q[right]);
                }
                continue;
            }
            const simd::vec b = simd::broadcast(pair.share), a = simd::broadcast(1.0F - pair.share);
            channel_vectors(
                0, part.channels, x_channel, part.y_channel, [&]<int V, class Memory>(index_t c, const Memory& memory) {
                    const float *const p = top + c * x_channel, *const q = bottom + c * x_channel;
                    KDNA_UNROLL
                    for (int j = 0; j < V; ++j) {
                        const index_t k = j * simd::lanes;
                        const simd::vec upper = simd::multiply_add(b, memory.load(p + right + k),
                                                                   a * memory.load(p + left + k)),
                                        lower = simd::multiply_add(b, memory.load(q + right + k),
                                                                   a * memory.load(q + left + k));
                        memory.store(to + c * part.y_channel + k, simd::multiply_add(down, lower, up * upper));
                    }
                });
        }
    }
}

/// Calls row(part) for a row of the output. Where channels are contiguous in x and columns in y (an NCHW output), parts are small
/// blocks with contiguous channels, which are transposed into y: vectors scattered over channels take five times as long.
template <class Row>
void in_parts(const row_part& all, index_t x_channel, const Row& row) noexcept {
    constexpr index_t most_columns = 64, most_channels = 32;
    if (x_channel != 1 || all.y_column != 1 || all.channels < 4) return row(all);
    alignas(64) float block[most_columns * most_channels];
    for (index_t column = 0; column < all.columns; column += most_columns)
        for (index_t channel = 0; channel < all.channels; channel += most_channels) {
            const row_part part{block,
                                most_channels,
                                1,
                                all.column + column,
                                std::min(most_columns, all.columns - column),
                                all.channel + channel,
                                std::min(most_channels, all.channels - channel)};
            row(part);
            copy_rows({part.channels, part.columns, all.y + column + channel * all.y_channel, block, all.y_channel, 1,
                       1, most_channels});
        }
}

}  // namespace detail

KDNA_FUNC resize::resize(resize_mode mode, extent2 size, bool align_corners, std::string_view where)
    : mode_(mode), size_(size), align_corners_(align_corners) {
    for (const index_t v : {size.h, size.w}) detail::require_below_limit("a size", 1, v, where);
    check(where);
}

KDNA_FUNC resize::resize(resize_mode mode, const std::array<double, 2>& scale, bool align_corners,
                         std::string_view where)
    : mode_(mode), scale_(scale), align_corners_(align_corners) {
    for (const double v : scale)
        if (!(v > 0.0) || std::isinf(v))
            throw error(std::string(where), "scales that are positive and finite", concat(v));
    check(where);
}

KDNA_FUNC void resize::check(std::string_view where) const {
    if (mode_ == resize_mode::nearest && align_corners_)
        throw error(std::string(where), "align_corners with bilinear only", "nearest");
}

KDNA_FUNC nd_shape resize::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, 4, 4, where);
    nd_shape out{x[0], x[1], size_.h, size_.w};
    for (std::size_t axis = 0; axis < 2; ++axis) {
        const index_t extent = x[static_cast<index_t>(axis) + 2];
        detail::require_below_limit("rows and columns", 1, extent, where);
        if (!scale_) continue;
        const double scaled = std::floor(static_cast<double>(extent) * (*scale_)[axis]);
        if (!(scaled >= 1.0) || scaled >= static_cast<double>(detail::image_limit))
            throw error(std::string(where), "an output with extents from 1 to 2^31 - 1",
                        concat(extent, " times ", (*scale_)[axis]));
        out[static_cast<index_t>(axis) + 2] = static_cast<index_t>(scaled);
    }
    static_cast<void>(element_count(out, where));
    return out;
}

KDNA_FUNC float resize::factor(std::size_t axis, index_t in, index_t out) const noexcept {
    if (align_corners_) return out > 1 ? static_cast<float>(in - 1) / static_cast<float>(out - 1) : 0.0F;
    if (scale_) return static_cast<float>(1.0 / (*scale_)[axis]);
    return static_cast<float>(in) / static_cast<float>(out);
}

KDNA_FUNC void resize::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    const nd_view<const float>& x = in.front();
    const axis_numbers &s = x.stride, &t = y.stride;
    const index_t height = x.shape[2], width = x.shape[3], rows = y.shape[2], columns = y.shape[3];
    const bool narrow = y.shape[1] < 4;
    const float row_factor = factor(0, height, rows), column_factor = factor(1, width, columns);
    detail::share_rows(
        y.shape, y.shape[1] * columns, detail::resize_grain, executor,
        [&](index_t n, index_t h, index_t first, index_t last) {
            const float* const image = x.data + n * s[0];
            const detail::row_part all{
                y.data + n * t[0] + h * t[2] + first * t[1], t[3], t[1], 0, columns, first, last - first};
            if (mode_ == resize_mode::nearest) {
                const float* const from = image + detail::nearest_source(h, row_factor, height) * s[2];
                detail::in_parts(all, s[1], [&](const detail::row_part& part) {
                    detail::nearest_row(from, s[3], s[1], part, narrow,
                                        [&](index_t w) { return detail::nearest_source(w, column_factor, width); });
                });
            } else {
                const detail::mixed_pair row = detail::linear_source(h, row_factor, height, rows, align_corners_);
                detail::in_parts(all, s[1], [&](const detail::row_part& part) {
                    detail::bilinear_row(image + row.first * s[2], image + row.second * s[2], row.share, s[3], s[1],
                                         part, narrow, [&](index_t w) {
                                             return detail::linear_source(w, column_factor, width, columns,
                                                                          align_corners_);
                                         });
                });
            }
        });
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
