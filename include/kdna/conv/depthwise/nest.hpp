// The loop nest of a depthwise convolution: one filter per channel, channels in the vectors.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <type_traits>

#include <kdna/conv/depthwise/plan.hpp>
#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/modulate.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv::depthwise {
namespace detail {

using conv::detail::modulate_panel;
using conv::detail::part_sums;

// Every variant below sums the taps of an output in one order, column by column and each from the top, so that results
// do not depend on which of them runs: the layout of the output decides that.

/// Neighbouring output pixels of one row whose windows lie on the same `rows` x `columns` taps; the other taps are
/// padding. Strides in floats.
struct span {
    const float* x;  ///< under the first tap of the first pixel
    index_t rows, columns;
    index_t row_stride, column_stride;  ///< between taps of the input
    index_t pixel_stride;               ///< between the windows of neighbouring pixels
    const float* w;                     ///< weights of the first tap
    index_t w_row_stride;               ///< between rows of taps
    index_t pixels;
    float* y;
    index_t y_pixel_stride, y_stride;
    const float* residual;  ///< null: none
    index_t residual_pixel_stride, residual_stride;
    const float* scale;
    const float* shift;
    index_t filters;
    activation act;
    float* sums;  ///< [filters], the finished outputs are added to it; null: not wanted, or act is no clamp
};

/// Vectors of channels that are computed at the same time: two hide each other's latency and leave room for the weights
/// of nine taps where there are 32 registers.
inline constexpr int vectors_at_once = simd::registers >= 32 ? 2 : 1;

/// `Vectors` vectors of channels of a span. `Rows` x `Columns` are its taps, whose weights then stay in registers; 0 x
/// 0 stands for the span's own. `Simple`: a channels-last output without a residual.
template <int Rows, int Columns, int Vectors, bool Simple>
void whole_vectors_of(const span& s, index_t first, index_t width) noexcept {
    constexpr int taps = Rows * Columns;
    simd::vec w[taps > 0 ? taps : 1][Vectors];
    if constexpr (taps > 0) {
        KDNA_UNROLL
        for (int t = 0; t < taps; ++t) {
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j)
                w[t][j] =
                    simd::load(s.w + first + j * simd::lanes + t / Columns * s.w_row_stride + t % Columns * width);
        }
    }
    const clamp_range range = range_of(s.act);
    const finisher finish0(s.scale + first, s.shift + first, range);
    const finisher finish1(s.scale + first + (Vectors - 1) * simd::lanes, s.shift + first + (Vectors - 1) * simd::lanes,
                           range);
    const float* x = s.x + first;
    float* y = s.y + first * s.y_stride;
    const float* residual = s.residual != nullptr ? s.residual + first * s.residual_stride : nullptr;
    const index_t row_stride = s.row_stride, column_stride = s.column_stride, pixel_stride = s.pixel_stride,
                  y_pixel_stride = s.y_pixel_stride;
    simd::vec sum[Vectors];
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) sum[j] = simd::zero();
    for (index_t p = 0; p < s.pixels; ++p) {
        simd::vec acc[Vectors];
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) acc[j] = simd::zero();
        if constexpr (taps > 0) {
            KDNA_UNROLL
            for (int c = 0; c < Columns; ++c) {
                KDNA_UNROLL
                for (int i = 0; i < Rows; ++i) {
                    const float* from = x + i * row_stride + c * column_stride;
                    KDNA_UNROLL
                    for (int j = 0; j < Vectors; ++j)
                        acc[j] = simd::multiply_add(simd::load(from + j * simd::lanes), w[i * Columns + c][j], acc[j]);
                }
            }
        } else {
            for (index_t c = 0; c < s.columns; ++c)
                for (index_t i = 0; i < s.rows; ++i) {
                    KDNA_UNROLL
                    for (int j = 0; j < Vectors; ++j)
                        acc[j] = simd::multiply_add(
                            simd::load(x + i * s.row_stride + c * s.column_stride + j * simd::lanes),
                            simd::load(s.w + first + j * simd::lanes + i * s.w_row_stride + c * width), acc[j]);
                }
        }
        if constexpr (Simple) {
            sum[0] = sum[0] + finish0(acc[0], y);
            if constexpr (Vectors == 2) sum[1] = sum[1] + finish1(acc[1], y + simd::lanes);
        } else {
            static_assert(Vectors == 1);
            sum[0] = sum[0] + finish0(acc[0], residual, s.residual_stride, y, s.y_stride, simd::lanes);
        }
        x += pixel_stride;
        y += y_pixel_stride;
        if (!Simple && residual != nullptr) residual += s.residual_pixel_stride;
    }
    if (s.sums != nullptr) {
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) add_to(s.sums + first + j * simd::lanes, sum[j], simd::lanes);
    }
}

/// The last channels, fewer than a vector: each lane is read on its own, so nothing past them is touched.
inline void last_channels(const span& s, index_t first, index_t width) noexcept {
    const index_t count = std::min(s.filters - first, simd::lanes);
    const finisher finish(s.scale + first, s.shift + first, range_of(s.act));
    simd::vec sum = simd::zero();
    for (index_t p = 0; p < s.pixels; ++p) {
        const float* x = s.x + first + p * s.pixel_stride;
        simd::vec acc = simd::zero();
        for (index_t c = 0; c < s.columns; ++c)
            for (index_t i = 0; i < s.rows; ++i)
                acc = simd::multiply_add(simd::load_strided(x + i * s.row_stride + c * s.column_stride, 1, count),
                                         simd::load(s.w + first + i * s.w_row_stride + c * width), acc);
        sum = sum + finish(acc,
                           s.residual != nullptr ? s.residual + first * s.residual_stride + p * s.residual_pixel_stride
                                                 : nullptr,
                           s.residual_stride, s.y + first * s.y_stride + p * s.y_pixel_stride, s.y_stride, count);
    }
    if (s.sums != nullptr) add_to(s.sums + first, sum, count);
}

[[nodiscard]] inline bool simple_output(const span& s) noexcept { return s.y_stride == 1 && s.residual == nullptr; }

template <int Rows, int Columns>
void run_panel(const span& s, index_t width) noexcept {
    const index_t whole = s.filters / simd::lanes * simd::lanes;
    const bool simple = simple_output(s);
    index_t first = 0;
    for (; simple && first + vectors_at_once * simd::lanes <= whole; first += vectors_at_once * simd::lanes)
        whole_vectors_of<Rows, Columns, vectors_at_once, true>(s, first, width);
    for (; first < whole; first += simd::lanes) whole_vectors_of<0, 0, 1, false>(s, first, width);
    if (first < s.filters) last_channels(s, first, width);
}

/// Whole output rows whose windows lie on the same rows of taps. The span is the first of them with all of its pixels; its
/// `x` is under column 0 of the map, its weights begin with the kernel's first column.
struct row_block {
    span first{};
    index_t rows;
    index_t x_stride, y_stride, sums_stride;  ///< between them
    index_t map_columns, pad;                 ///< columns of the map, and of padding to its left
};

/// One vector of channels of a block of rows; the kernel is `Taps` wide and as high at most. Each input vector is loaded
/// once and goes to all outputs of its row whose windows hold it. `Rows`: rows of taps that lie on the map, unrolled; 0: the
/// span's. For channels-last outputs without a residual.
template <int Taps, int Stride, int Rows>
void slide(const row_block& b, index_t channel, index_t width) noexcept {
    constexpr int unfinished = (Taps + Stride - 1) / Stride;  // outputs whose windows hold a column
    const span& s = b.first;
    const index_t rows = Rows > 0 ? Rows : s.rows;
    simd::vec w[Taps][Taps];
    for (index_t i = 0; i < rows; ++i) {
        KDNA_UNROLL
        for (int t = 0; t < Taps; ++t) w[i][t] = simd::load(s.w + channel + i * s.w_row_stride + t * width);
    }
    const finisher finish(s.scale + channel, s.shift + channel, range_of(s.act));
    const index_t row_stride = s.row_stride, column_stride = s.column_stride, y_stride = s.y_pixel_stride,
                  map_columns = b.map_columns, steps = s.pixels + unfinished - 1;
    for (index_t r = 0; r < b.rows; ++r) {
        const float* const x = s.x + channel + r * b.x_stride;
        float* y = s.y + channel + r * b.y_stride;
        simd::vec acc[unfinished], sum = simd::zero();  // of outputs, the oldest last
        KDNA_UNROLL
        for (int m = 0; m < unfinished; ++m) acc[m] = simd::zero();
        // Column `column` + T of the map, if it is one, meets the outputs whose windows hold it.
        const auto meet = [&]<int T>(std::integral_constant<int, T>, index_t column) {
            if (column + T < 0 || column + T >= map_columns) return;
            const float* const at = x + (column + T) * column_stride;
            const auto add_row = [&](index_t i) {
                const simd::vec v = simd::load_once(at + i * row_stride);
                KDNA_UNROLL
                for (int m = 0; m < unfinished; ++m)
                    if (T + m * Stride < Taps) acc[m] = simd::multiply_add(v, w[i][T + m * Stride], acc[m]);
            };
            if constexpr (Rows > 0) {
                KDNA_UNROLL
                for (int i = 0; i < Rows; ++i) add_row(i);
            } else {
                for (index_t i = 0; i < rows; ++i) add_row(i);
            }
        };
        // Output `step` begins, and the oldest one meets its last columns; before the first, it is none.
        for (index_t step = 0, column = -b.pad; step < steps; ++step, column += Stride) {
            meet(std::integral_constant<int, 0>(), column);
            if constexpr (Stride == 2) meet(std::integral_constant<int, 1>(), column);
            if (step >= unfinished - 1) {
                sum = sum + finish(acc[unfinished - 1], y);
                y += y_stride;
            }
            KDNA_UNROLL
            for (int m = unfinished - 1; m > 0; --m) acc[m] = acc[m - 1];
            acc[0] = simd::zero();
        }
        if (s.sums != nullptr) add_to(s.sums + channel + r * b.sums_stride, sum, simd::lanes);
    }
}

using slide_fn = void (*)(const row_block&, index_t, index_t) noexcept;

/// Kernels of three taps are common, and so is a row of padding above and below their maps.
template <int Taps, int Stride>
[[nodiscard]] slide_fn slide_of_rows(index_t rows) noexcept {
    if constexpr (Taps == 3) {
        if (rows == 2) return slide<3, Stride, 2>;
    }
    return rows == Taps ? slide<Taps, Stride, Taps> : slide<Taps, Stride, 0>;
}
/// What slides a kernel that slides_over(), some rows of whose taps lie on the map.
[[nodiscard]] inline slide_fn slide_of(index_t taps, index_t stride, index_t rows) noexcept {
    if (taps == 3) return stride == 1 ? slide_of_rows<3, 1>(rows) : slide_of_rows<3, 2>(rows);
    if (taps == 5) return stride == 1 ? slide_of_rows<5, 1>(rows) : slide_of_rows<5, 2>(rows);
    return stride == 1 ? slide_of_rows<7, 1>(rows) : slide_of_rows<7, 2>(rows);
}

inline void run_span(const span& s, index_t width) noexcept {
    if (s.rows == 3 && s.columns == 3) return run_panel<3, 3>(s, width);
    run_panel<0, 0>(s, width);
}

/// Taps of an axis that lie on the map for the window starting at `origin`: [first, first + count).
struct tap_range {
    index_t first, count;
};
[[nodiscard]] inline tap_range taps_on_map(index_t origin, index_t taps, index_t dilation, index_t extent) noexcept {
    const index_t first = origin >= 0 ? 0 : ceil_div(-origin, dilation);
    const index_t end = origin >= extent ? 0 : std::min(taps, ceil_div(extent - origin, dilation));
    return {first, std::max<index_t>(end - first, 0)};
}

/// One task: sample n, one block of output rows, all channels.
inline void run_task(const conv::plan& p, const plan& own, const call& c, const workspace_view& space, index_t n,
                     index_t block) noexcept {
    const panel_layout& kernel = c.source.layout();
    const kernel_shape& k = kernel.shape();
    const bool slides = slides_over(k, c.params) && c.y.stride.c == 1 && c.residual.data == nullptr;
    const index_t row_begin = c.rows.first + block * own.block_rows,
                  row_end = std::min(row_begin + own.block_rows, c.rows.first + c.rows.count);
    for (index_t panel = 0; panel < kernel.panels(); ++panel) {
        const index_t filter = panel * panel_layout::width, channels = kernel.filters_of(panel),
                      width = kernel.width_of(panel);
        tensor_view<const float> x = c.x;
        x.data = c.x.at(n, filter, 0, 0);
        auto* scratch = space.at<float>(own.assembled_panel_at);
        const float* weights = c.source.panel(0, panel, c.factors.mixture.of(n), scratch);
        if (const float* spatial = c.factors.spatial.of(n); spatial != nullptr)
            weights =
                modulate_panel(weights, spatial, nullptr, k.taps(), 1, width, space.at<float>(own.modulated_panel_at));
        // A gate on a depthwise layer's input is one on its output, before the shift.
        alignas(alignment) float scale[panel_layout::width] = {};
        const float* gate = c.factors.channel.of(n);
        for (index_t f = 0; f < channels; ++f)
            scale[f] = c.factors.scale.of(n)[filter + f] * (gate != nullptr ? gate[filter + f] : 1.0F);

        // One block for all rows: copied for each, the copy would wait for the stores of its parts.
        row_block b{.rows = 1,
                    .x_stride = c.params.stride.h * x.stride.h,
                    .y_stride = c.y.stride.h,
                    .sums_stride = p.part_floats,
                    .map_columns = x.shape.w,
                    .pad = c.params.pad.left};
        span& s = b.first;
        s.row_stride = c.params.dilation.h * x.stride.h;
        s.column_stride = c.params.dilation.w * x.stride.w;
        s.pixel_stride = c.params.stride.w * x.stride.w;
        s.w_row_stride = k.kw * width;
        s.y_pixel_stride = c.y.stride.w;
        s.y_stride = c.y.stride.c;
        s.residual_pixel_stride = c.residual.stride.w;
        s.residual_stride = c.residual.stride.c;
        s.scale = scale;
        s.shift = c.factors.shift.of(n) + filter;
        s.filters = channels;
        s.act = c.act;
        for (index_t h = row_begin; h < row_end; ++h) {
            s.sums = is_clamp(c.act) ? part_sums(p, space, n, h) : nullptr;
            if (s.sums != nullptr) s.sums += filter;
            const index_t top = h * c.params.stride.h - c.params.pad.top;
            const tap_range rows = taps_on_map(top, k.kh, c.params.dilation.h, x.shape.h);
            if (slides && channels % simd::lanes == 0) {
                s.pixels = p.out.w;
                s.rows = rows.count;
                s.x = x.data;
                if (s.rows > 0) s.x += (top + rows.first * c.params.dilation.h - c.rows.x_first) * x.stride.h;
                s.w = weights + rows.first * k.kw * width;
                s.y = c.y.at(n, filter, h - c.rows.y_first, 0);
                b.rows = 1;
                while (rows.count == k.kh && h + b.rows < row_end &&
                       top + b.rows * c.params.stride.h + (k.kh - 1) * c.params.dilation.h < x.shape.h)
                    ++b.rows;
                const slide_fn slide_vector = slide_of(k.kw, c.params.stride.w, rows.count);
                for (index_t first = 0; first < channels; first += simd::lanes) slide_vector(b, first, width);
                h += b.rows - 1;
                continue;
            }
            for (index_t w = 0; w < p.out.w; w += s.pixels) {
                const index_t left = w * c.params.stride.w - c.params.pad.left;
                const tap_range columns = taps_on_map(left, k.kw, c.params.dilation.w, x.shape.w);
                s.pixels = 1;
                if (columns.count == k.kw) {  // all windows up to the right border
                    const index_t reach = (k.kw - 1) * c.params.dilation.w + 1;
                    s.pixels = std::min(p.out.w - w, (x.shape.w - reach - left) / c.params.stride.w + 1);
                }
                s.rows = columns.count > 0 ? rows.count : 0;
                s.columns = rows.count > 0 ? columns.count : 0;
                s.x = x.data;
                if (s.rows > 0)
                    s.x += (top + rows.first * c.params.dilation.h - c.rows.x_first) * x.stride.h +
                           (left + columns.first * c.params.dilation.w) * x.stride.w;
                s.w = weights + (rows.first * k.kw + columns.first) * width;
                s.y = c.y.at(n, filter, h - c.rows.y_first, w);
                s.residual = c.residual.data != nullptr ? c.residual.at(n, filter, h, w) : nullptr;
                run_span(s, width);
            }
        }
        for (index_t h = row_begin; h < row_end && !is_clamp(c.act); ++h)
            activate(c.act, c.y.at(n, 0, h - c.rows.y_first, 0), p.out.w, c.y.stride.w, c.y.stride.c, filter, channels,
                     part_sums(p, space, n, h));
    }
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI::conv::depthwise

#include <kdna/core/macros_pop.hpp>
