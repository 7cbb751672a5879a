// The loop nest of a depthwise convolution of few channels: neighbouring columns of one channel in the vectors.
//
// With channels in the vectors, an image of three leaves most lanes empty, and a kernel of 11x11 taps loads an input
// and a weight for each multiply-add. Here a vector holds output columns. A tile of some rows stays in registers, and
// an input vector, once loaded, goes to every row of the tile that has a tap on it.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/planes/copy.hpp>
#include <kdna/conv/planes/plan.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv::planes {
namespace detail {

using conv::detail::part_sums;

/// `count` rows of taps from `first` on, `step` apart. For one row of the output their windows lie where those of the
/// row above lie one row of taps earlier, so that both share what is loaded.
struct plane_taps {
    index_t first, step, count;
};

/// acc[tile_rows][Vectors] += `Rows` rows of `columns` taps. `x` lies under the first tap of the tile's first output,
/// and x_step is between the rows of inputs that neighbouring rows of outputs, or of taps, read. `at` [columns] says
/// where each column of taps reads. Weights [Rows][columns], w_step apart.
///
/// An output's taps are summed in an order that depends neither on its place in the tile nor on the tile's width.
template <int Rows, int Vectors>
void add_plane_taps(const float* x, index_t x_step, const index_t* at, index_t columns, const float* w, index_t w_step,
                    float* acc) noexcept {
    constexpr int outputs = static_cast<int>(tile_rows);
    simd::vec sum[outputs][Vectors];
    KDNA_UNROLL
    for (int a = 0; a < outputs; ++a) {
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v) sum[a][v] = simd::load(acc + (a * Vectors + v) * simd::lanes);
    }
    for (index_t j = 0; j < columns; ++j) {
        simd::vec weight[Rows];
        KDNA_UNROLL
        for (int b = 0; b < Rows; ++b) weight[b] = simd::broadcast(w[b * w_step + j]);
        const float* from = x + at[j];
        KDNA_UNROLL
        for (int row = 0; row < outputs + Rows - 1; ++row, from += x_step) {
            KDNA_UNROLL
            for (int v = 0; v < Vectors; ++v) {
                const simd::vec in = simd::load_once(from + v * simd::lanes);
                KDNA_UNROLL
                for (int b = 0; b < Rows; ++b)
                    if (row >= b && row - b < outputs)
                        sum[row - b][v] = simd::multiply_add(in, weight[b], sum[row - b][v]);
            }
        }
    }
    KDNA_UNROLL
    for (int a = 0; a < outputs; ++a) {
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v) simd::store(acc + (a * Vectors + v) * simd::lanes, sum[a][v]);
    }
}

using plane_kernel = void (*)(const float*, index_t, const index_t*, index_t, const float*, index_t, float*) noexcept;
template <int Vectors>
[[nodiscard]] plane_kernel plane_kernel_for(index_t rows) noexcept {
    switch (rows) {
        case 1: return add_plane_taps<1, Vectors>;
        case 2: return add_plane_taps<2, Vectors>;
        case 3: return add_plane_taps<3, Vectors>;
        case 4: return add_plane_taps<4, Vectors>;
        case 5: return add_plane_taps<5, Vectors>;
        default: break;
    }
    static_assert(tap_rows == 6);
    return add_plane_taps<6, Vectors>;
}

/// One channel of one sample, ready to be computed.
struct plane_task {
    const conv::plan* p;
    const plan* own;
    const call* c;
    const workspace_view* space;
    index_t n, channel;
    const float* rows;       ///< the copy of the block's inputs
    index_t first;           ///< row of the output, the block's first
    const float* weights;    ///< [KH][KW]
    const index_t* columns;  ///< [KW], where each column of taps reads
    const float* scale;      ///< the channel's, in every lane
    const float* shift;
};

/// Calls f(plane_taps) for every group of tap rows that share their loads, at most tap_rows each.
template <class F>
void for_plane_taps(const kernel_shape& k, const conv_params& params, F&& f) noexcept {
    // Without a common step each row of taps is by itself.
    const index_t step = params.stride.h % params.dilation.h == 0 ? params.stride.h / params.dilation.h : k.kh;
    for (index_t phase = 0; phase < std::min(step, k.kh); ++phase) {
        const index_t rows = ceil_div(k.kh - phase, step), parts = ceil_div(rows, tap_rows);
        for (index_t part = 0; part < parts; ++part) {
            const index_t begin = rows * part / parts, end = rows * (part + 1) / parts;
            f(plane_taps{phase + begin * step, step, end - begin});
        }
    }
}

/// Columns [w, w + Vectors * lanes) of output rows [h, row_end), at most tile_rows of them.
template <int Vectors>
void run_plane_tile(const plane_task& t, index_t h, index_t row_end, index_t w) noexcept {
    const call& c = *t.c;
    const kernel_shape& k = c.source.layout().shape();
    const index_t row_floats = t.own->copy.row_floats, stride = c.params.stride.h;
    alignas(alignment) float acc[tile_rows * Vectors * simd::lanes] = {};
    for_plane_taps(k, c.params, [&](const plane_taps& taps) {
        plane_kernel_for<Vectors>(taps.count)(
            t.rows + ((h - t.first) * stride + taps.first * c.params.dilation.h) * row_floats + w, stride * row_floats,
            t.columns, k.kw, t.weights + taps.first * k.kw, taps.step * k.kw, acc);
    });
    const finisher finish(t.scale, t.shift, range_of(c.act));
    for (index_t row = h; row < std::min(h + tile_rows, row_end); ++row)
        for (index_t v = 0; v < Vectors; ++v) {
            const index_t column = w + v * simd::lanes, count = std::min(t.p->out.w - column, simd::lanes);
            if (count <= 0) break;
            const float* residual = c.residual.data != nullptr ? c.residual.at(t.n, t.channel, row, column) : nullptr;
            const simd::vec y = finish(simd::load(acc + ((row - h) * Vectors + v) * simd::lanes), residual,
                                       c.residual.stride.w, c.y.at(t.n, t.channel, row, column), c.y.stride.w, count);
            if (float* sums = part_sums(*t.p, *t.space, t.n, row); sums != nullptr && is_clamp(c.act)) {
                alignas(alignment) float lane[simd::lanes];
                simd::store(lane, y);
                for (index_t i = 0; i < count; ++i) sums[t.channel] += lane[i];
            }
        }
}

/// Applies an activation that is no clamp to rows [first, last) of a channel's output, in place.
KDNA_NOINLINE void activate_plane(const conv::plan& p, const call& c, const workspace_view& space, index_t n,
                                  index_t channel, index_t first, index_t last) noexcept {
    for (index_t h = first; h < last; ++h) {
        simd::activate(c.act.kind, c.act.a(channel), nullptr, c.y.at(n, channel, h, 0), c.y.stride.w, p.out.w);
        if (float* sums = part_sums(p, space, n, h); sums != nullptr)
            for (index_t w = 0; w < p.out.w; ++w) sums[channel] += *c.y.at(n, channel, h, w);
    }
}

/// One task: a channel of sample n, one block of output rows.
inline void run_task(const conv::plan& p, const plan& own, const call& c, const workspace_view& space, index_t n,
                     index_t channel, index_t block) noexcept {
    const panel_layout& kernel = c.source.layout();
    const kernel_shape& k = kernel.shape();
    const index_t panel = channel / panel_layout::width, filter = channel % panel_layout::width,
                  width = kernel.width_of(panel);
    const float* packed = c.source.panel(0, panel, c.factors.mixture.of(n), space.at<float>(own.assembled_panel_at));
    const float* spatial = c.factors.spatial.of(n);
    auto* weights = space.at<float>(own.weights_at);
    for (index_t t = 0; t < k.taps(); ++t)
        weights[t] = packed[t * width + filter] * (spatial != nullptr ? spatial[t] : 1.0F);
    auto* columns = space.at<index_t>(own.columns_at);
    for (index_t j = 0; j < k.kw; ++j) {
        const index_t column = j * c.params.dilation.w;
        columns[j] = column % own.copy.phases * own.copy.phase_floats + column / own.copy.phases;
    }
    // A gate on a depthwise layer's input is one on its output, before the shift.
    const float* gate = c.factors.channel.of(n);
    alignas(alignment) float scale[simd::lanes], shift[simd::lanes];
    std::fill_n(scale, simd::lanes, c.factors.scale.of(n)[channel] * (gate != nullptr ? gate[channel] : 1.0F));
    std::fill_n(shift, simd::lanes, c.factors.shift.of(n)[channel]);
    const index_t row_begin = block * own.block_rows, row_end = std::min(row_begin + own.block_rows, p.out.h),
                  computed_rows = ceil_div(row_end - row_begin, tile_rows) * tile_rows;
    auto* rows = space.at<float>(own.copy_at);
    copy_rows(own.copy, c.x, n, channel, row_begin * c.params.stride.h,
              (computed_rows - 1) * c.params.stride.h + (k.kh - 1) * c.params.dilation.h + 1, rows,
              space.at<float>(own.line_at));
    const plane_task t{&p, &own, &c, &space, n, channel, rows, row_begin, weights, columns, scale, shift};
    for (index_t h = row_begin; h < row_end; h += tile_rows) {
        index_t w = 0;
        for (; w + simd::lanes < p.out.w; w += 2 * simd::lanes) run_plane_tile<2>(t, h, row_end, w);
        if (w < p.out.w) run_plane_tile<1>(t, h, row_end, w);
    }
    if (!is_clamp(c.act)) activate_plane(p, c, space, n, channel, row_begin, row_end);
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI::conv::planes

#include <kdna/core/macros_pop.hpp>
