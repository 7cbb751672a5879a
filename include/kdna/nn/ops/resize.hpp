// Images of another size, as PyTorch's interpolate makes them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <optional>
#include <string_view>

#include <kdna/core/shape.hpp>
#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

enum class resize_mode : int { nearest, bilinear };

/// [N, C, H, W] to [N, C, OH, OW].
///
/// nearest takes element floor(i * f) of an axis for element i of the output. bilinear mixes the two elements beside position
/// f * (i + 0.5) - 0.5, or f * i with align_corners. f is extent / size, or 1 / scale where a scale is given, or
/// (extent - 1) / (size - 1) with align_corners, in float32 as in PyTorch.
class resize {
public:
    static constexpr bool keeps_order = true;

    /// To a size. Throws kdna::error, naming `where`, unless both sizes are from 1 to below 2^31, and for align_corners with nearest.
    KDNA_FUNC resize(resize_mode mode, extent2 size, bool align_corners = false, std::string_view where = "resize");
    /// To extents times `scale` {rows, columns}, rounded down. Throws kdna::error, naming `where`, unless scales are positive and
    /// finite, and for align_corners with nearest.
    KDNA_FUNC resize(resize_mode mode, const std::array<double, 2>& scale, bool align_corners = false,
                     std::string_view where = "resize");

    /// Throws kdna::error, naming `where`, unless the input is an image and the output's extents are from 1 to below 2^31.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;

    [[nodiscard]] resize_mode mode() const noexcept { return mode_; }
    [[nodiscard]] bool align_corners() const noexcept { return align_corners_; }
    /// f of an axis, 0 for rows and 1 for columns, whose extents are those.
    [[nodiscard]] KDNA_FUNC float factor(std::size_t axis, index_t in, index_t out) const noexcept;

private:
    KDNA_FUNC void check(std::string_view where) const;

    resize_mode mode_;
    extent2 size_{1};
    std::optional<std::array<double, 2>> scale_;
    bool align_corners_;
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/resize.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
