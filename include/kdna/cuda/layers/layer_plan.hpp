// What a device layer decides for an input shape, and what a call of it brings.
#pragma once

#include <cstddef>
#include <string>

#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/programs/convolution.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Kernels that a call brings: one for all samples, or one for each.
enum class given_kernels { one, each };

/// What was decided for a layer and an input shape.
struct device_conv_plan {
    shape4 in{}, out{};
    conv_geometry geometry{};
    tile_rows rows{};      ///< of the product
    tile_rows out_rows{};  ///< of what finishes it, and so of the sums it takes
    bool depthwise = false, wide_channels = false, large = false;
    bool own_kernels = false;               ///< whether every sample has a kernel of its own
    input_path input = input_path::copies;  ///< how it gets into shared memory
    int depth_parts = 1, chunk = 0;         ///< samples at a time; all of them where they share a kernel
    // Routes of a sample, in floats from its own, and everything's place in the scratch, in bytes.
    int route_floats = 0, mixture_at = 0, kernel_filter_at = 0, channel_at = 0, spatial_at = 0, scale_at = 0,
        shift_at = 0;
    index_t routes_at = 0, parts_at = 0, assembly_at = 0, sums_at = 0, window_means_at = 0, attended_at = 0,
            scratch_bytes = 0;
    index_t parts_floats = 0, assembly_elements = 0;
    tile_rows pooled_rows{};  ///< of the sums of the input, where the layer takes them itself
    std::string text{};

    /// Floats of the sums of the output, for those who want them.
    [[nodiscard]] index_t sums_floats() const noexcept { return floats_of(out_rows, out); }
    [[nodiscard]] static index_t floats_of(const tile_rows& r, const shape4& s) noexcept {
        const index_t slices = s.n * r.pixels / r.slice_rows;
        return slices * r.tiles_per_slice * r.slots() * s.c;
    }
};

/// The tensors of a call, in device memory. `x` and `residual` dense NHWC in the layer's numbers, `x` with the channels that the
/// layer was made for.
struct device_conv_call {
    const void* x = nullptr;
    void* y = nullptr;
    const void* residual = nullptr;
    device_sums x_sums{};  ///< of x, where its maker took them
    device_sums y_sums{};  ///< where to put those of y, or none; rows as in the plan
    std::byte* scratch = nullptr;
    /// Of a layer whose kernels come with each call (nn/runtime_conv2d.hpp): theirs, as many as it was planned for.
    device_view<const float> kernels{};
};

}  // namespace kdna::inline KDNA_ABI::cuda
