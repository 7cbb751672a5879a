// Outputs that a Winograd tile cannot give, computed directly.
//
// The transforms add and subtract inputs that an output's own window does not contain. An infinity or NaN among them, or a sum
// that overflows, so spreads to outputs which are finite. Rows of a tile that are not finite are therefore computed once more,
// from the kernel itself: the results are those of a direct convolution, special values included.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/call.hpp>
#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/winograd/plan.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd::detail {

/// Where a tile of the output stands.
struct tile_place {
    index_t n, part, h, w;  ///< sample, number within it, first output row and column
};

/// Channels of an assembled panel that are worked on at a time: they are assembled into a scratch that stays in L1.
inline constexpr index_t assembled_channels = 8;

/// The weights [tap][channel][filter] of some channels of a panel, taps `tap_stride` floats apart.
struct panel_part {
    const float* weights;
    index_t tap_stride;
};
/// `scratch` [9][assembled_channels][width] is used where the kernel is not stored.
inline panel_part part_of(const source_ref& source, index_t panel, const float* mixture, const channel_range& channels,
                          float* scratch) noexcept {
    const panel_layout& layout = source.layout();
    const index_t width = layout.width_of(panel), tap_stride = channels.count * width;
    if (source.scratch_floats() == 0)
        return {source.panel(0, panel, mixture, nullptr) + channels.first * width, layout.shape().i * width};
    if (source.assembles_parts()) {
        source.assemble(0, panel, mixture, channels, scratch);
        return {scratch, tap_stride};
    }
    std::fill_n(scratch, 9 * tap_stride, 0.0F);
    for (index_t t = 0; t < 9; ++t)
        for (index_t c = 0; c < channels.count; ++c)
            for (index_t f = 0; f < layout.filters_of(panel); ++f)
                scratch[t * tap_stride + c * width + f] =
                    static_cast<float>(source.weight(panel * panel_layout::width + f, channels.first + c, t, mixture));
    return {scratch, tap_stride};
}

/// Computes, finishes and stores rows [first, rows) of a tile of `columns` columns, `count` filters from `filter` on. Returns the sums
/// of what it stored. Slow, which only matters where there are many special values: about a tenth of the speed of direct tiles.
KDNA_NOINLINE simd::vec finish_directly(const call& c, const tile_place& tile, index_t filter, index_t count,
                                        index_t first, index_t rows, index_t columns) noexcept {
    constexpr index_t most = 6;
    const panel_layout& layout = c.source.layout();
    const tensor_view<const float>& x = c.x;
    const index_t panel = filter / panel_layout::width, width = layout.width_of(panel), channels = layout.shape().i;
    const float* mixture = c.factors.mixture.of(tile.n);
    const float* spatial = c.factors.spatial.of(tile.n);
    const float* gate = c.factors.channel.of(tile.n);
    simd::vec sums[most * most];
    std::fill_n(sums, most * most, simd::zero());
    alignas(alignment) float scratch[9 * assembled_channels * panel_layout::width];
    for (index_t from = 0; from < channels; from += assembled_channels) {
        const channel_range some{from, std::min(assembled_channels, channels - from)};
        const panel_part part = part_of(c.source, panel, mixture, some, scratch);
        for (index_t i = first; i < rows; ++i)
            for (index_t j = 0; j < columns; ++j)
                for (index_t t = 0; t < 9; ++t) {
                    const index_t h = tile.h + i + t / 3 - c.params.pad.top, w = tile.w + j + t % 3 - c.params.pad.left;
                    if (h < 0 || h >= x.shape.h || w < 0 || w >= x.shape.w) continue;
                    const float* from_x = x.at(tile.n, 0, h, w) + from;
                    const float* weights = part.weights + t * part.tap_stride + filter % panel_layout::width;
                    const simd::vec s = simd::broadcast(spatial != nullptr ? spatial[t] : 1.0F);
                    simd::vec& sum = sums[i * most + j];
                    for (index_t ch = 0; ch < some.count; ++ch) {
                        const float v = gate != nullptr ? from_x[ch] * gate[from + ch] : from_x[ch];
                        sum = simd::multiply_add(simd::broadcast(v), s * simd::load(weights + ch * width), sum);
                    }
                }
    }
    const finisher finish(c.factors.scale.of(tile.n) + filter, c.factors.shift.of(tile.n) + filter, range_of(c.act));
    simd::vec total = simd::zero();
    for (index_t i = first; i < rows; ++i)
        for (index_t j = 0; j < columns; ++j) {
            const float* residual =
                c.residual.data != nullptr ? c.residual.at(tile.n, filter, tile.h + i, tile.w + j) : nullptr;
            total = total + finish(sums[i * most + j], residual, c.residual.stride.c,
                                   c.y.at(tile.n, filter, tile.h + i, tile.w + j), c.y.stride.c, count);
        }
    return total;
}

}  // namespace kdna::inline KDNA_ABI::conv::winograd::detail

#include <kdna/core/macros_pop.hpp>
