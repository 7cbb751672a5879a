// Images as programs see them, and the windows of adaptive pooling.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/span.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// [N][H][W] pixels of contiguous channels; the memory may hold other channels between those of two pixels.
template <class T>
struct device_image {
    device_span<T> data{};
    int h = 1, w = 1;
    int pixel = 1;  ///< from a pixel to the next, in elements

    /// Where the channels of a pixel begin.
    KDNA_DEVICE int at(int n, int row, int column) const { return ((n * h + row) * w + column) * pixel; }
};

namespace detail {

// Window i of `count` along an axis reaches from floor( i * extent / count ) to ceil( (i + 1) * extent / count ), computed without
// a product that may overflow 32 bits.
KDNA_DEVICE int window_begin(int i, int extent, int count) { return extent / count * i + extent % count * i / count; }
KDNA_DEVICE int window_end(int i, int extent, int count) {
    return extent / count * (i + 1) + (extent % count * (i + 1) + count - 1) / count;
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
