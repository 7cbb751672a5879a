// The products of Winograd's positions: transformed tiles times a transformed panel.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>

#include <kdna/conv/product/micro_kernel.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd::detail {

/// Tiles that one call of a micro-kernel multiplies at most; more would gain nothing.
inline constexpr index_t series_tiles = 16;

/// What a panel's products at all positions are made of: products[position][tile][filter] = rows times weights.
struct position_products {
    index_t positions, count, width;  ///< positions, tiles, filters
    const float* const* rows;         ///< [position][tile]
    index_t skip;                     ///< floats from where a row points to where it begins
    index_t depth;                    ///< channels
    bool add;                         ///< to what is there
    float* products;
};

/// `weights(position)` are [channel][filter], and `ahead(position, first tile, tiles)` is what to prefetch during those tiles,
/// contiguous.
template <class Weights, class Ahead>
void multiply_positions(const position_products& m, const Weights& weights, const Ahead& ahead) noexcept {
    const index_t vectors = m.width / simd::lanes, start = 0;
    product::tile tiles[series_tiles];
    for (index_t q = 0; q < m.positions; ++q) {
        const float* panel = weights(q);
        for (index_t i = 0; i < m.count;) {
            const index_t height = product::tile_height_for(m.count - i), first = i;
            index_t pairs = 0;
            do {
                tiles[pairs++] = {height, 1, m.rows + q * m.count + i, &start, nullptr, nullptr, nullptr, nullptr, 0};
                i += height;
            } while (i < m.count && pairs < series_tiles && product::tile_height_for(m.count - i) == height);
            const std::span<const float> wanted = product::as_lines(ahead(q, first, i - first));
            const index_t step = static_cast<index_t>(wanted.size()) / (m.depth * pairs);
            product::micro_kernel_for(
                height, vectors)({.tiles = tiles,
                                  .count = pairs,
                                  .run = m.depth,
                                  .skip = m.skip,
                                  .panel = panel,
                                  .ahead = wanted.empty() ? panel : wanted.data(),
                                  .ahead_step = step,
                                  .ahead_between = step * m.depth,
                                  .out = {.sums = m.products + (q * m.count + first) * m.width, .add_to_sums = m.add}});
        }
    }
}

}  // namespace kdna::inline KDNA_ABI::conv::winograd::detail

#include <kdna/core/macros_pop.hpp>
