// The plan of one convolution: algorithm, tiles, and the workspace they need.
#pragma once

#include <algorithm>
#include <optional>
#include <string>

#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/partition.hpp>
#include <kdna/conv/planes/layout.hpp>
#include <kdna/conv/product/micro_kernel.hpp>
#include <kdna/conv/stage.hpp>
#include <kdna/conv/winograd/transforms.hpp>
#include <kdna/core/executor.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// What a plan needs to know of a layer.
struct problem {
    const panel_layout* kernel = nullptr;
    index_t source_scratch = 0;   ///< floats it takes to assemble one panel, 0 for a stored kernel
    index_t assembly_terms = 0;   ///< multiply-adds of each weight of an assembled panel
    bool assembles_parts = true;  ///< some channels of a panel can be had by themselves
    conv_params params{};
    bool channel_factor = false;   ///< a gate g[C] is applied
    bool spatial_factor = false;   ///< s[KH*KW] is applied
    bool routed_kernel = false;    ///< mixture or spatial factor differ from sample to sample
    bool equal_routes = false;     ///< they are promised not to: those of sample 0 serve all
    index_t mixes = 0;             ///< kernels that the input could be mixed for instead (source_ref::expanded), or 0
    bool channel_means = false;    ///< the means of the output's channels are wanted
    index_t transform_budget = 0;  ///< bytes that a kernel transformed for Winograd may take; 0 forbids it
    /// Not empty: this instead of the cost model's choice, where it is possible. 0: direct; m: F(m x m).
    std::optional<int> winograd{};
};

/// Some rows of the output map, and where the views of a call begin: a view may hold only the rows that are needed just now,
/// its row 0 being row `x_first` or `y_first` of the map (nn/bands.hpp). The residual is always whole.
struct row_band {
    index_t first = 0, count = 0;  ///< rows to compute; a count of 0: all
    index_t x_first = 0, y_first = 0;
};

enum class algorithm { direct, im2col, depthwise, planes, winograd };

[[nodiscard]] constexpr const char* to_string(algorithm a) noexcept {
    switch (a) {
        case algorithm::direct: return "direct";
        case algorithm::im2col: return "im2col";
        case algorithm::depthwise: return "depthwise";
        case algorithm::planes: return "planes";
        case algorithm::winograd: return "winograd";
    }
    return "?";
}

/// Order the input is promised to have. `any` serves every stride; `nhwc` promises neighbouring channels side by side
/// (stride.c == 1), which lets the plan read rows in place.
enum class input_order { any, nhwc };

/// Whether the input is copied, channels last, before the nest runs (stage.hpp).
enum class staging { never, if_strided, always };

/// Decisions of one convolution for one input shape. Made once, read by any thread.
struct plan {
    algorithm algo = algorithm::im2col;
    input_order order = input_order::any;
    shape4 in{}, out{};
    index_t pixel_block =
        1;  ///< output pixels prepared together; depthwise, planes: output rows; Winograd: tiles of any sample
    index_t pixel_blocks = 1;  ///< blocks per sample; Winograd: in all
    index_t panel_chunk = 1;   ///< panels per task
    index_t panel_chunks = 1;  ///< chunks per group
    index_t tasks = 1;         ///< of a call that computes all rows
    index_t threads = 1;
    int winograd_m = 0;  ///< Winograd: extent of an output tile
    index_t tile_rows = 0, tile_columns = 0, tile_count = 0, row_floats = 0;
    /// Winograd: the kernel is not kept transformed. Each task transforms the panels it multiplies by, some channels of a
    /// panel at a time (`transform_depth`), for `task_blocks` blocks of tiles of each of `task_samples` samples. A block is of
    /// one sample then, and `tile_count` the tiles of one.
    bool transforms_panels = false;
    index_t transform_depth = 0, task_blocks = 1, task_samples = 1;
    index_t input_parts = 1;  ///< of the transformed input, each of transform_depth channels
    /// Winograd: all input tiles are transformed first, for all threads, so that each needs to read only some panels.
    bool transform_first = false;
    staging stage = staging::never;
    stage_layout staged{};
    plane_layout planes{};              ///< planes: the copy that each task makes
    index_t tallest = max_tile_height;  ///< matrix products: height of the tallest tile
    index_t remnant = 0;                ///< so many pixels left over join the last block
    bool kernel_rows = false;           ///< direct: a kernel row is one run, on a staged input with a border
    bool gate_in_panel = false;  ///< matrix products: g[c] is multiplied into a copy of each panel, not into the input
    /// The kernel is the same for all samples: a task of several (task_samples) assembles each panel once.
    bool equal_kernels = false;
    /// Matrix products: the input is mixed, not the kernels: rows are [kernel][channel][tap] of packed windows, each times its
    /// kernel's coefficient, so that all kernels are one deep product. Tiles may hold pixels of several samples.
    bool mixes_input = false;
    index_t mixes = 0;
    bool tiles_outside = false;  ///< matrix products: each tile meets all panels before the next tile, not the reverse
    // Workspace of one thread, offsets in bytes; see the nests.
    index_t rows_at = 0, outputs_at = 0, residuals_at = 0, depth_at = 0, factors_at = 0, packed_at = 0,
            assembled_at = 0, modulated_at = 0;
    index_t thread_bytes = 0;
    // Shared by the threads: one run of zeros, for rows that lie in the padding, the staged and the transformed input.
    index_t zeros_at = 0, zeros_floats = 0, staged_at = 0, transformed_at = 0;
    // Where channel means are wanted: sums over the pixels of each part of a sample (a tile, or a row of a depthwise output),
    // part_sums[n][part][part_floats], so that the threads' work does not decide in which order a mean is added up.
    index_t part_sums_at = 0, parts = 0, part_floats = 0;
    index_t workspace_bytes = 0;
    double predicted_cycles = 0.0;  ///< of a run on one thread, see cost_model.hpp
};

/// Floats between two positions of a part of a transformed panel; a line more than it needs, since positions 4 or 8 KiB apart
/// would share a few sets of L1.
[[nodiscard]] inline index_t transformed_stride(const plan& p) noexcept {
    return p.transform_depth * panel_layout::width + simd::line_floats;
}

/// Winograd tiles of all samples.
[[nodiscard]] inline index_t all_tiles(const plan& p) noexcept {
    return p.transforms_panels ? p.in.n * p.tile_count : p.tile_count;
}

/// Planes: output rows of a register tile of two vectors of columns, and most rows of taps that it meets at a time, whose
/// weights are in registers too. A tile loads (rows + taps - 1) x 2 vectors for rows x taps x 2 multiply-adds.
inline constexpr index_t plane_tile_rows = simd::registers >= 32 ? 6 : 4;
inline constexpr index_t plane_tap_rows = 6;

/// Blocks of a matrix product have at most so many pixels and tiles.
inline constexpr index_t most_block_pixels = 64 * max_tile_height;
inline constexpr index_t most_tiles =
    most_block_pixels / aligned_tile_height + static_cast<index_t>(tile_heights.size()) + 2;

}  // namespace kdna::inline KDNA_ABI::conv
