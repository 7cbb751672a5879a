// The plan of one convolution: algorithm, tiles, and the workspace they need.
#pragma once

#include <algorithm>
#include <string>

#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/micro_kernel.hpp>
#include <kdna/core/executor.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// What a plan needs to know of a layer.
struct problem {
    const panel_layout* kernel = nullptr;
    index_t source_scratch = 0;  ///< floats of one assembled panel, 0 for a stored kernel
    conv_params params{};
    bool channel_factor = false;  ///< a gate g[C] is applied
    bool spatial_factor = false;  ///< s[KH*KW] is applied
};

enum class algorithm { direct, im2col, depthwise };

[[nodiscard]] constexpr const char* to_string(algorithm a) noexcept {
    return a == algorithm::direct ? "direct" : a == algorithm::im2col ? "im2col" : "depthwise";
}

/// Order the input is promised to have. `any` serves every stride; `nhwc` promises neighbouring channels side by side
/// (stride.c == 1), which lets the plan read rows in place.
enum class input_order { any, nhwc };

/// Decisions of one convolution for one input shape. Made once, read by any thread.
struct plan {
    algorithm algo = algorithm::im2col;
    input_order order = input_order::any;
    shape4 in{}, out{};
    index_t pixel_block = 1;   ///< output pixels whose rows are prepared together
    index_t pixel_blocks = 1;  ///< blocks per sample
    index_t panel_chunk = 1;   ///< panels (depthwise: channel panels) per task
    index_t panel_chunks = 1;  ///< chunks per group
    index_t tasks = 1;
    index_t threads = 1;
    // Workspace of one thread, offsets in bytes; see gemm_nest.hpp and depthwise_nest.hpp.
    index_t rows_at = 0, depth_at = 0, packed_at = 0, assembled_at = 0;
    index_t thread_bytes = 0;
    // Shared by the threads: one run of zeros, for rows that lie in the padding.
    index_t zeros_at = 0, zeros_floats = 0;
    index_t workspace_bytes = 0;
};

/// Rows of packed input that are kept while the panels pass over them: a third of a typical L2, so that a panel fits beside.
inline constexpr index_t packed_bytes_target = 320 * 1024;
/// A source that assembles panels gets larger blocks, since every block assembles all of them again.
inline constexpr index_t packed_bytes_assembled = 4 * 1024 * 1024;
/// Shortest run of channels that is worth reading through a table of row pointers; below, im2col makes one long run of the
/// taps. The stem's three channels are the case in point.
inline constexpr index_t shortest_direct_run = 8;

[[nodiscard]] inline index_t ceil_div(index_t a, index_t b) noexcept { return (a + b - 1) / b; }

/// Plans a convolution of `in`; throws kdna::error where the shapes do not fit.
[[nodiscard]] inline plan make_plan(const problem& q, const shape4& in, input_order order, index_t threads,
                                    std::string_view where) {
    const panel_layout& kernel = *q.kernel;
    const kernel_shape& k = kernel.shape();
    plan p;
    p.in = in;
    p.order = order;
    p.out = output_shape(in, k, q.params, where);
    p.threads = std::max<index_t>(threads, 1);
    const index_t pixels = checked_mul(p.out.h, p.out.w, where), taps = k.taps();
    const bool modulated = q.channel_factor || q.spatial_factor;

    workspace_layout shared, thread;
    if (k.depthwise()) {
        p.algo = algorithm::depthwise;
        p.pixel_block = p.out.w;  // one output row at a time
        p.pixel_blocks = p.out.h;
        p.panel_chunk = 1;
        p.rows_at = thread.add<const float*>(taps);
        p.depth_at = thread.add<index_t>(taps);
        p.assembled_at = thread.add<float>((q.spatial_factor ? 2 : 1) * kernel.panel_floats());
        if (order == input_order::any)  // one panel's channels of the whole map, side by side
            p.packed_at = thread.add<float>(checked_mul(checked_mul(in.h, in.w, where), panel_layout::width, where));
        p.panel_chunks = kernel.panels();
        p.tasks = in.n * p.panel_chunks;
        if (p.tasks < p.threads) {  // few channels: cut the map as well
            p.pixel_blocks = std::min(p.out.h, ceil_div(p.threads, p.tasks));
            p.pixel_block = ceil_div(p.out.h, p.pixel_blocks) * p.out.w;
            p.pixel_blocks = ceil_div(pixels, p.pixel_block);
        } else {
            p.pixel_block = pixels;
            p.pixel_blocks = 1;
        }
        p.tasks = checked_mul(p.tasks, p.pixel_blocks, where);
        p.zeros_floats = panel_layout::width;
    } else {
        const index_t channels = k.channels_per_group();
        const bool direct = order == input_order::nhwc && !modulated && (channels >= shortest_direct_run || taps == 1);
        p.algo = direct ? algorithm::direct : algorithm::im2col;
        const index_t row_bytes = checked_mul(direct ? channels : kernel.depth(), static_cast<index_t>(sizeof(float)), where);
        const index_t target = q.source_scratch > 0 ? packed_bytes_assembled : packed_bytes_target;
        const index_t block_tiles = std::clamp<index_t>(target / row_bytes / max_tile_height, 1, 64);
        p.pixel_block = std::min(pixels, block_tiles * max_tile_height);
        if (p.pixel_block > max_tile_height && in.n * k.groups * ceil_div(pixels, p.pixel_block) < p.threads)
            p.pixel_block = std::max(max_tile_height, ceil_div(ceil_div(pixels, p.threads), max_tile_height) * max_tile_height);
        p.pixel_block = std::min(p.pixel_block, pixels);
        p.pixel_blocks = ceil_div(pixels, p.pixel_block);
        const index_t outer = checked_mul(checked_mul(in.n, kernel.groups(), where), p.pixel_blocks, where);
        p.panel_chunks = outer >= p.threads ? 1 : std::min(kernel.panels(), ceil_div(p.threads, outer));
        p.panel_chunk = ceil_div(kernel.panels(), p.panel_chunks);
        p.panel_chunks = ceil_div(kernel.panels(), p.panel_chunk);
        p.tasks = checked_mul(outer, p.panel_chunks, where);
        // A block of b pixels is cut into at most b / tallest + the number of heights tiles, and its rows are at most b.
        const index_t rows = direct ? checked_mul(p.pixel_block, taps, where) : p.pixel_block;
        p.rows_at = thread.add<const float*>(rows);
        p.depth_at = thread.add<index_t>((p.pixel_block / max_tile_height + static_cast<index_t>(tile_heights.size())) * (direct ? taps : 1));
        if (!direct) p.packed_at = thread.add<float>(checked_mul(p.pixel_block, kernel.depth(), where));
        if (q.source_scratch > 0) p.assembled_at = thread.add<float>(q.source_scratch);
        p.zeros_floats = direct ? channels : 0;
    }
    p.zeros_at = shared.add<float>(p.zeros_floats);
    p.thread_bytes = thread.bytes();
    p.workspace_bytes = checked_add(shared.bytes(), checked_mul(p.threads, p.thread_bytes, where), where);
    return p;
}

/// Where each factor is applied and what was chosen, in one line.
[[nodiscard]] inline std::string explain(const problem& q, const plan& p) {
    const kernel_shape& k = q.kernel->shape();
    std::string text = concat(to_string(p.algo), ", ");
    if (p.algo == algorithm::depthwise)
        text += concat("channels in panels of ", std::min(panel_layout::width, ceil_div(k.o, simd::lanes) * simd::lanes));
    else
        text += concat("tile ", std::min(max_tile_height, tile_height_for(p.out.h * p.out.w)), "x",
                       q.kernel->width_of(0), ", blocks of ", p.pixel_block, " pixels");
    if (q.channel_factor) text += p.algo == algorithm::depthwise ? ", gate in the scale" : ", gate in im2col";
    if (q.spatial_factor) text += p.algo == algorithm::depthwise ? ", spatial in a panel copy" : ", spatial in im2col";
    if (q.source_scratch > 0) text += concat(", panels assembled in ", q.source_scratch * static_cast<index_t>(sizeof(float)) / 1024, " KiB");
    return text + concat(", ", p.tasks, p.tasks == 1 ? " task on " : " tasks on ", p.threads, p.threads == 1 ? " thread" : " threads", ", workspace ",
                         (p.workspace_bytes + 1023) / 1024, " KiB");
}

}  // namespace kdna::inline KDNA_ABI::conv
