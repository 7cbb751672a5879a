// Images of another size.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/cuda/programs/elementwise.hpp>
#include <kdna/cuda/programs/image.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How the elements of an axis of the output follow from those of the input (nn/ops/resize.hpp).
struct resized_axis {
    float factor = 1.0F;
    bool align_corners = false;

    KDNA_DEVICE int nearest(int i, int extent) const {
        const auto at = static_cast<int>(floorf(static_cast<float>(i) * factor));
        return at < extent - 1 ? at : extent - 1;
    }
    /// Two elements, and the share of the second.
    struct pair {
        int first, second;
        float share;
    };
    KDNA_DEVICE pair linear(int i, int extent, int size) const {
        if (size == extent) return {i, i, 0.0F};
        float at = align_corners ? factor * static_cast<float>(i) : factor * (static_cast<float>(i) + 0.5F) - 0.5F;
        at = at > 0.0F ? at : 0.0F;
        const auto below = static_cast<int>(floorf(at));
        const int first = below < extent - 1 ? below : extent - 1;
        const float share = at - static_cast<float>(first);
        return {first, first < extent - 1 ? first + 1 : first, share > 1.0F ? 1.0F : share};
    }
};

template <class T>
struct resize_arguments {
    device_image<const T> x{};
    device_image<T> y{};
    int channels = 1, items = 1;
    resized_axis rows{}, columns{};
    bool bilinear = false;
};

/// The nearest pixel, or a mixture of the four pixels around. A thread computes Width channels of a pixel.
template <class T, int Width>
struct resize_program : elementwise_program {
    using arguments = resize_arguments<T>;
    static constexpr const char* name = "resize_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.items, [&](int item) {
            const int packs = a.channels / Width, c = item % packs * Width, pixel = item / packs;
            const int ow = pixel % a.y.w, oh = pixel / a.y.w % a.y.h, n = pixel / a.y.w / a.y.h;
            const auto load = [&](int h, int w) { return a.x.data.template load<Width>(a.x.at(n, h, w) + c); };
            pack<T, Width> y;
            if (!a.bilinear) {
                y = load(a.rows.nearest(oh, a.x.h), a.columns.nearest(ow, a.x.w));
            } else {
                const resized_axis::pair row = a.rows.linear(oh, a.x.h, a.y.h),
                                         column = a.columns.linear(ow, a.x.w, a.y.w);
                const auto upper_left = load(row.first, column.first), upper_right = load(row.first, column.second),
                           lower_left = load(row.second, column.first), lower_right = load(row.second, column.second);
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < Width; ++e) {
                    const float upper = (1.0F - column.share) * to_float(upper_left.v[e]) +
                                        column.share * to_float(upper_right.v[e]),
                                lower = (1.0F - column.share) * to_float(lower_left.v[e]) +
                                        column.share * to_float(lower_right.v[e]);
                    y.v[e] = from_float<T>((1.0F - row.share) * upper + row.share * lower);
                }
            }
            a.y.data.template store<Width>(a.y.at(n, oh, ow) + c, y);
        });
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
