// Windows over images: the largest value or the mean, of windows of a fixed size or of as many as the output has pixels.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <optional>
#include <string_view>

#include <kdna/core/shape.hpp>
#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

/// How a window moves over an image [N, C, H, W]. All numbers are below 2^31.
struct pool_window {
    extent2 window = 1, stride = 1;
    padding pad = 0;
    extent2 dilation = 1;
    /// Whether a window that reaches past the padding makes a last row or column too. It has to begin in the map or in the
    /// padding before it.
    bool ceil_mode = false;

    /// Throws kdna::error, naming `where`, unless windows, strides and dilations are positive, and padding is less than what a
    /// window reaches over.
    KDNA_FUNC void check(std::string_view where) const;
    /// [N, C, OH, OW]. Throws kdna::error, naming `where`, unless the input is an image in which the window fits.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    /// Whether every window is whole, lies in the padded image, and begins or ends in the map: what kdna::max_pool2d takes, which can
    /// run in bands.
    [[nodiscard]] KDNA_FUNC bool is_plain() const noexcept;
};

/// Largest value under each window. Padding never wins, NaN always does; a window that meets only padding gives -infinity.
class max_pool2d {
public:
    static constexpr bool keeps_order = true;

    /// Throws what pool_window::check throws.
    explicit max_pool2d(const pool_window& window, std::string_view where = "max_pool2d") : window_(window) {
        window_.check(where);
    }
    [[nodiscard]] nd_shape output_shape(input_shapes in, std::string_view where) const {
        return window_.output_shape(in, where);
    }
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    [[nodiscard]] const pool_window& window() const noexcept { return window_; }

private:
    pool_window window_;
};

/// Sum under each window, divided by `divisor`, or else by the pixels of the window: those in the map, and with
/// `count_include_pad` those in the padding too (but not those past it, where ceil_mode lets a window reach).
class avg_pool2d {
public:
    static constexpr bool keeps_order = true;

    /// Throws what pool_window::check throws, and kdna::error, naming `where`, for a dilation and for a divisor of 0.
    KDNA_FUNC explicit avg_pool2d(const pool_window& window, bool count_include_pad = true,
                                  std::optional<index_t> divisor = {}, std::string_view where = "avg_pool2d");
    [[nodiscard]] nd_shape output_shape(input_shapes in, std::string_view where) const {
        return window_.output_shape(in, where);
    }
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    [[nodiscard]] const pool_window& window() const noexcept { return window_; }
    [[nodiscard]] bool count_include_pad() const noexcept { return count_include_pad_; }
    [[nodiscard]] std::optional<index_t> divisor() const noexcept { return divisor_; }

private:
    pool_window window_;
    bool count_include_pad_;
    std::optional<index_t> divisor_;
};

/// Pooling to a given number of rows and columns: window i of an axis reaches from floor(i * extent / size) to
/// ceil((i + 1) * extent / size).
class adaptive_pool2d {
public:
    static constexpr bool keeps_order = true;

    /// Throws kdna::error, naming `where`, unless both sizes are from 1 to below 2^31.
    KDNA_FUNC adaptive_pool2d(extent2 size, std::string_view where);
    /// [N, C, size.h, size.w]. Throws kdna::error, naming `where`, unless the input is an image.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;

protected:
    extent2 size_;
};

/// Means of the windows.
class adaptive_avg_pool2d : public adaptive_pool2d {
public:
    explicit adaptive_avg_pool2d(extent2 size, std::string_view where = "adaptive_avg_pool2d")
        : adaptive_pool2d(size, where) {}
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
};

/// Largest values of the windows; NaN always wins.
class adaptive_max_pool2d : public adaptive_pool2d {
public:
    explicit adaptive_max_pool2d(extent2 size, std::string_view where = "adaptive_max_pool2d")
        : adaptive_pool2d(size, where) {}
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/pool2d.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
