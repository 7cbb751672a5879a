// What a device layer decides for an input shape, and what a call of it brings.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <string>

#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/programs/convolution.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Kernels that a call brings: one for all samples, or one for each.
enum class given_kernels { one, each };

/// How the pixels of a tensor lie: from one to the next `distance` elements, 0 for as many as there are channels; the first one
/// `offset` elements from a multiple of 16 bytes.
struct pixel_row {
    index_t distance = 0, offset = 0;
};
/// The same for the tensors of a layer. Those that are parts of others have more channels between their own.
struct conv_pixels {
    pixel_row in{}, out{}, residual{};
};

/// What was decided for a layer and an input shape.
struct device_conv_plan {
    shape4 in{}, out{};
    int out_pixel = 0, residual_pixel = 0;  ///< from a pixel to the next, in elements
    bool whole_rows = false;                ///< whether their channels are whole packs of 16 bytes
    conv_geometry geometry{};
    tile_rows rows{};      ///< of the product
    tile_rows out_rows{};  ///< of the program that finishes it, and so of the sums it takes
    bool depthwise = false, wide_channels = false, large = false;
    bool own_kernels = false;               ///< whether every sample has a kernel of its own
    input_path input = input_path::copies;  ///< how the input gets into shared memory
    int depth_parts = 1;
    int chunk = 0;  ///< samples at a time; all of them where they share a kernel

    // Where the routes of a sample begin, in floats from the sample's own.
    int route_floats = 0, mixture_at = 0, kernel_filter_at = 0, channel_at = 0, spatial_at = 0, scale_at = 0,
        shift_at = 0;

    // Where everything lies in the scratch, in bytes.
    index_t routes_at = 0;        ///< float [N][route_floats]
    index_t sums_at = 0;          ///< of the input's channels, where the layer takes them itself
    index_t window_means_at = 0;  ///< float [N][C][grid][grid], where the router reads those
    index_t attended_at = 0;      ///< an X-volution's attention and residual, of the output's shape
    index_t assembly_at = 0;      ///< the kernels of a chunk of samples, or the given kernel
    index_t parts_at = 0;         ///< float [depth_parts][pixels][O]
    index_t scratch_bytes = 0;

    index_t parts_floats = 0, assembly_elements = 0;
    tile_rows pooled_rows{};  ///< of the sums of the input, where the layer takes them itself
    std::string text{};

    /// Floats of the sums of the output, where they are taken.
    [[nodiscard]] index_t sums_floats() const noexcept { return floats_of(out_rows, out); }
    [[nodiscard]] static index_t floats_of(const tile_rows& r, const shape4& s) noexcept {
        const index_t slices = s.n * r.pixels / r.slice_rows;
        return slices * r.tiles_per_slice * r.slots() * s.c;
    }
};

/// How explain() begins for a convolution.
[[nodiscard]] inline std::string plan_heading(const std::string& name, const kernel_shape& k, const shape4& in,
                                              precision numbers) {
    return concat(name, ": ", to_string(k), " on ", to_string(in), ", ", to_string(numbers), ": ");
}

/// The tensors of a call, in device memory: NHWC in the layer's numbers, with pixels as they were planned, `x` with the channels
/// that the layer was made for.
struct device_conv_call {
    const void* x = nullptr;
    void* y = nullptr;
    const void* residual = nullptr;
    device_sums x_sums{};  ///< of x, where the step that made it took them
    device_sums y_sums{};  ///< where to put those of y, or none; rows as in the plan
    std::byte* scratch = nullptr;
    /// The kernels of a layer whose kernels come with each call (nn/runtime_conv2d.hpp), as many as it was planned for.
    device_view<const float> kernels{};
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
