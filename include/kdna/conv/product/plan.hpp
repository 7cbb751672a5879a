// The plan of a convolution as a matrix product.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/conv/algorithm.hpp>
#include <kdna/conv/product/tile.hpp>

namespace kdna::inline KDNA_ABI::conv::product {

/// What stands in the rows of the left matrix.
enum class input_rows {
    in_place,      ///< pointers to the input, one run of channels for each tap
    kernel_rows,   ///< the same with one run for each row of the kernel, on a copy of the input with a border
    windows,       ///< copies of the windows (im2col)
    mixed_windows  ///< n copies of each window, each times its kernel's coefficient: all n kernels are one deep product
};

/// Pixels are the rows of the product, filters its columns, taps times channels its depth. A task is a block of pixels
/// of one sample and group (of several samples where `task_samples` says so) times a chunk of panels.
struct plan {
    input_rows rows = input_rows::in_place;
    index_t block_pixels = 1, blocks = 1;  ///< blocks per sample and group
    index_t chunk_panels = 1, chunks = 1;  ///< chunks per group
    index_t task_samples = 1;
    index_t tallest = max_tile_height;  ///< height of the tallest tile
    index_t remnant = 0;                ///< this many pixels, left over, join the last block
    bool gate_in_panel = false;         ///< g[c] is multiplied into a copy of each panel, not into the input
    bool one_kernel = false;            ///< a panel that is assembled serves all samples of a task
    bool tiles_outside = false;         ///< each tile meets all panels before the next tile, not the reverse
    index_t mixes = 0;                  ///< kernels of mixed_windows
    index_t packed_row_floats = 0;      ///< of a copied window

    index_t zeros_at = 0, zeros_floats = 0;  ///< shared: a run of zeros, which pointers into the padding point at
    // Of each thread. All but the panels are arrays over the pixels, or the tiles, of a block.
    index_t row_pointers_at = 0;       ///< [pixel][run]
    index_t output_pointers_at = 0;    ///< [pixel]
    index_t residual_pointers_at = 0;  ///< [pixel]
    index_t run_depths_at = 0;         ///< [tile][run], where each run's weights begin
    index_t run_factors_at = 0;        ///< [tile][run]
    index_t packed_rows_at = 0;        ///< [pixel][packed_row_floats]
    index_t assembled_panel_at = 0, modulated_panel_at = 0;

    /// Whether rows are copies of windows, one run each.
    [[nodiscard]] bool packs() const noexcept { return rows == input_rows::windows || mixes_input(); }
    [[nodiscard]] bool mixes_input() const noexcept { return rows == input_rows::mixed_windows; }
};

}  // namespace kdna::inline KDNA_ABI::conv::product

#include <kdna/core/macros_pop.hpp>
