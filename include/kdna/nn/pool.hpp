// Pooling.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>

#include <kdna/core/executor.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI {

/// Mean over H and W of channels [first, last) of sample n, to mean[first] ... Any strides; allocates nothing.
KDNA_FUNC void global_average(const tensor_view<const float>& x, index_t n, float* mean, index_t first,
                              index_t last) noexcept;
/// All channels, to mean[C].
KDNA_FUNC void global_average(const tensor_view<const float>& x, index_t n, float* mean) noexcept;

/// Means over H and W of the channels of every sample, those of sample n to mean + n * stride. Channels are shared out where
/// there are more threads than samples.
KDNA_FUNC void pool_samples(const tensor_view<const float>& x, float* mean, index_t stride,
                            const executor_ref& executor) noexcept;

/// Means over `grid` x `grid` windows of the map, mean[C][grid][grid], as PyTorch's adaptive average pooling makes them: window
/// i of an axis reaches from floor(i * extent / grid) to ceil((i + 1) * extent / grid), so they may overlap, and repeat where
/// the map is smaller than the grid. `scratch` [C].
KDNA_FUNC void adaptive_average(const tensor_view<const float>& x, index_t n, index_t grid, float* mean,
                                float* scratch) noexcept;

/// Largest value under a window; padding never wins, NaN always does (as in PyTorch).
class max_pool2d {
public:
    /// Throws kdna::error unless the padding is less than the window on every side, so that each window has an input.
    KDNA_FUNC max_pool2d(extent2 window, extent2 stride, padding pad);

    /// Throws kdna::error, naming `where`, where the window does not fit.
    [[nodiscard]] KDNA_FUNC shape4 output_shape(const shape4& in, std::string_view where = "max_pool2d") const;

    /// x [N, C, H, W] to y [output_shape(x.shape)], any strides.
    KDNA_FUNC void run(const tensor_view<const float>& x, const tensor_view<float>& y) const noexcept;
    /// One output row. Row 0 of x and y may be rows x_first and y_first of the maps whose shapes they have.
    KDNA_FUNC void run_row(const tensor_view<const float>& x, const tensor_view<float>& y, index_t n, index_t h,
                           index_t x_first = 0, index_t y_first = 0) const noexcept;
    [[nodiscard]] const extent2& window() const noexcept { return window_; }
    [[nodiscard]] const extent2& stride() const noexcept { return stride_; }
    [[nodiscard]] const padding& pad() const noexcept { return pad_; }

private:
    /// Pixel (h, w) of view y from rows [top, bottom) of view x.
    KDNA_FUNC void pixel(const tensor_view<const float>& x, const tensor_view<float>& y, index_t n, index_t top,
                         index_t bottom, index_t h, index_t w) const noexcept;
    extent2 window_, stride_;
    padding pad_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/pool.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
