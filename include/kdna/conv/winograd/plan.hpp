// The plan of a Winograd convolution.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <string_view>

#include <kdna/conv/algorithm.hpp>
#include <kdna/core/number_format.hpp>
#include <kdna/simd/lanes.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd {

/// The variants F(m x m, 3x3) that there are, in the order of all tables of them.
inline constexpr std::array<int, 3> variants{2, 4, 6};
inline constexpr std::array<std::string_view, 3> names{"winograd F(2x2)", "winograd F(4x4)", "winograd F(6x6)"};
/// The place of F(m x m) among them.
[[nodiscard]] constexpr std::size_t index_of(int m) noexcept { return static_cast<std::size_t>(m / 2 - 1); }
/// The name under which a kernel that is kept transformed is kept.
[[nodiscard]] constexpr std::string_view kernel_name(int m, number_format format) noexcept {
    constexpr std::array<std::array<std::string_view, 3>, 3> all{
        {{names[0], "winograd F(2x2) float16", "winograd F(2x2) bfloat16"},
         {names[1], "winograd F(4x4) float16", "winograd F(4x4) bfloat16"},
         {names[2], "winograd F(6x6) float16", "winograd F(6x6) bfloat16"}}};
    return all[index_of(m)][static_cast<std::size_t>(format)];
}
/// Positions of a transformed tile, each of which is a matrix product.
[[nodiscard]] constexpr index_t positions_of(int m) noexcept { return static_cast<index_t>(m + 2) * (m + 2); }

/// A tile is m x m outputs, and its transformed input one row of the product at each position. A task is a block of
/// tiles times a chunk of panels.
///
/// The kernel is kept transformed (plan::prepared), or each task transforms the panels that it multiplies by. In the
/// first case blocks are of the tiles of all samples. In the second a block is of the tiles of one sample, and a task
/// is `task_blocks` blocks of each of `task_samples` samples, so that it transforms a panel once for all of them.
struct plan {
    int m = 2;
    index_t tile_rows = 1, tile_columns = 1;  ///< of one sample
    index_t tiles = 1;                        ///< that blocks are cut from: of all samples, or of one
    index_t block_tiles = 1, blocks = 1;
    index_t chunk_panels = 1, chunks = 1;

    bool transforms_panels = false;                 ///< the kernel is not kept transformed
    number_format format = number_format::float32;  ///< in which it is kept
    index_t task_blocks = 1, task_samples = 1;
    index_t part_channels = 0;  ///< channels of a panel that are transformed at a time
    bool one_kernel = false;    ///< which serves all samples of a task

    /// The transformed input of a tile is [part][position][row_floats], a part being `part_channels` channels.
    index_t input_parts = 1, row_floats = 0;
    bool transform_first = false;  ///< all tiles are transformed before the first task, for all threads

    index_t transformed_input_at = 0;  ///< shared, where all tiles are transformed first
    // Of each thread.
    index_t row_pointers_at = 0;  ///< [tile of a task][position]
    index_t task_input_at = 0;    ///< transformed input of a task
    index_t products_at = 0;      ///< [position][tile][filter]
    index_t assembled_at = 0;     ///< where panels are transformed: some channels of an assembled panel
    index_t weights_at = 0;       ///< likewise: [position][channel][filter], positions weights_stride() apart
    index_t widened_at = 0;       ///< a kernel kept in 16 bits: one position of a panel

    [[nodiscard]] index_t positions() const noexcept { return positions_of(m); }
    /// Floats between two positions of transformed weights; a line more than they take, since positions 4 or 8 KiB
    /// apart would share a few sets of L1.
    [[nodiscard]] index_t weights_stride() const noexcept {
        return part_channels * panel_layout::width + simd::line_floats;
    }
    /// Floats of one tile's transformed input.
    [[nodiscard]] index_t tile_floats() const noexcept { return positions() * row_floats * input_parts; }
    /// Tiles of `samples` samples.
    [[nodiscard]] index_t all_tiles(index_t samples) const noexcept { return samples * tile_rows * tile_columns; }
};

}  // namespace kdna::inline KDNA_ABI::conv::winograd

#include <kdna/core/macros_pop.hpp>
