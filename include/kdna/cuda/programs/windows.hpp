// The largest values and the means of windows over images.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <limits>

#include <kdna/cuda/programs/elementwise.hpp>
#include <kdna/cuda/programs/image.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How a window moves along an axis.
struct device_window {
    int size = 1, stride = 1, before = 0, after = 0, dilation = 1;

    /// The taps of one window that lie in the map: the first one's coordinate, how many there are, and the elements of the window
    /// that lie in the map or its padding.
    struct taps {
        int first, count, padded;
    };
    KDNA_DEVICE taps at(int i, int extent) const {
        const int start = i * stride - before, reach = (size - 1) * dilation + 1;
        const int skipped = start < 0 ? (dilation - 1 - start) / dilation : 0;
        const int end = start < extent ? (extent - start + dilation - 1) / dilation : 0;
        const int last = end < size ? end : size,
                  padded = start + reach < extent + after ? reach : extent + after - start;
        return {start + skipped * dilation, last > skipped ? last - skipped : 0, padded};
    }
};

template <class T>
struct windows_arguments {
    device_image<const T> x{};
    device_image<T> y{};
    int channels = 1, items = 1;
    device_window rows{}, columns{};
    bool adaptive = false;       ///< as many windows as y has pixels, which share the map (image.hpp)
    bool mean = false;           ///< the mean, or the largest value
    bool counts_padding = true;  ///< whether a mean's divisor is the elements in map and padding, or those in the map
    float divisor = 0.0F;        ///< of a mean, instead of what is counted; 0: none
};

/// Padding never wins, NaN always does; a window that meets only padding gives -infinity, or a mean of 0. A thread computes Width
/// channels of a pixel, row by row and then over the rows, so that a rounding error grows with the sum of both.
template <class T, int Width>
struct windows_program : elementwise_program {
    using arguments = windows_arguments<T>;
    static constexpr const char* name = "windows_program";
    static constexpr float lowest = -std::numeric_limits<float>::infinity();

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.items, [&](int item) {
            const int packs = a.channels / Width, c = item % packs * Width, pixel = item / packs;
            const int ow = pixel % a.y.w, oh = pixel / a.y.w % a.y.h, n = pixel / a.y.w / a.y.h;
            const device_window::taps rows = taps_of(a, a.rows, oh, a.x.h, a.y.h),
                                      columns = taps_of(a, a.columns, ow, a.x.w, a.y.w);
            float all[Width];
            KDNA_DEVICE_UNROLL
            for (int e = 0; e < Width; ++e) all[e] = a.mean ? 0.0F : lowest;
            KDNA_DEVICE_NO_UNROLL
            for (int i = 0; i < rows.count; ++i) {
                float row[Width];
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < Width; ++e) row[e] = a.mean ? 0.0F : lowest;
                KDNA_DEVICE_NO_UNROLL
                for (int j = 0; j < columns.count; ++j) {
                    const auto v = a.x.data.template load<Width>(
                        a.x.at(n, rows.first + i * a.rows.dilation, columns.first + j * a.columns.dilation) + c);
                    KDNA_DEVICE_UNROLL
                    for (int e = 0; e < Width; ++e) row[e] = with(row[e], to_float(v.v[e]), a.mean);
                }
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < Width; ++e) all[e] = with(all[e], row[e], a.mean);
            }
            const float divisor = divisor_of(a, rows, columns);
            pack<T, Width> y;
            KDNA_DEVICE_UNROLL
            for (int e = 0; e < Width; ++e) y.v[e] = from_float<T>(a.mean ? all[e] / divisor : all[e]);
            a.y.data.template store<Width>(a.y.at(n, oh, ow) + c, y);
        });
    }

private:
    KDNA_DEVICE static device_window::taps taps_of(const arguments& a, const device_window& w, int i, int extent,
                                                   int count) {
        if (!a.adaptive) return w.at(i, extent);
        const int first = detail::window_begin(i, extent, count), size = detail::window_end(i, extent, count) - first;
        return {first, size, size};
    }
    /// The sum, or the larger of two: NaN if either is.
    KDNA_DEVICE static float with(float now, float next, bool mean) {
        if (mean) return now + next;
        return now == now && !(next <= now) ? next : now;
    }
    KDNA_DEVICE static float divisor_of(const arguments& a, const device_window::taps& rows,
                                        const device_window::taps& columns) {
        if (a.divisor != 0.0F) return a.divisor;
        const int counted = a.counts_padding ? rows.padded * columns.padded : rows.count * columns.count;
        return static_cast<float>(counted > 1 ? counted : 1);
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
