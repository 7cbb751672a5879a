// Copies between tensors of different orders and numbers.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/span.hpp>
#include <kdna/cuda/programs/elementwise.hpp>

namespace kdna::inline KDNA_ABI::cuda {

template <class From, class To>
struct conversion_arguments {
    device_span<const From> x{};
    device_span<To> y{};
    int channels = 1, h = 1, w = 1;          ///< of y's order, NHWC
    int x_n = 0, x_c = 0, x_h = 0, x_w = 0;  ///< strides of x
    int y_n = 0, y_c = 0, y_h = 0, y_w = 0;  ///< strides of y
    int items = 0;
};

/// y = x, to NHWC with `channels` channels a pixel, a multiple of four; channels that x does not have become zeros. A
/// thread converts four channels of a pixel, and the threads next to it the same channels of the next pixels, which are
/// contiguous in NCHW.
template <class From, class To>
struct fours_program : elementwise_program {
    struct arguments {
        device_span<const From> x{};
        device_span<To> y{};  ///< [N][H][W][channels]
        int channels = 4, x_channels = 1, h = 1, w = 1;
        int x_n = 0, x_c = 0, x_h = 0, x_w = 0;  ///< strides of x
        int pixels = 1;                          ///< of all samples
    };
    static constexpr const char* name = "fours_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.y.size / 4, [&](int i) {
            const int pixel = i % a.pixels, c = i / a.pixels * 4;
            const int w = pixel % a.w, h = pixel / a.w % a.h, n = pixel / a.w / a.h;
            const int from = n * a.x_n + c * a.x_c + h * a.x_h + w * a.x_w;
            pack<To, 4> v{};
            KDNA_DEVICE_UNROLL
            for (int e = 0; e < 4; ++e)
                if (c + e < a.x_channels) v.v[e] = from_float<To>(to_float(a.x.load(from + e * a.x_c)));
            a.y.template store<4>(pixel * a.channels + c, v);
        });
    }
};

/// y = x, between any orders and numbers. A thread converts an element.
template <class From, class To>
struct conversion_program : elementwise_program {
    using arguments = conversion_arguments<From, To>;
    static constexpr const char* name = "conversion_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.items, [&](int i) {
            const int c = i % a.channels, w = i / a.channels % a.w, h = i / a.channels / a.w % a.h,
                      n = i / a.channels / a.w / a.h;
            const From v = a.x.load(n * a.x_n + c * a.x_c + h * a.x_h + w * a.x_w);
            a.y.store(n * a.y_n + c * a.y_c + h * a.y_h + w * a.y_w, from_float<To>(to_float(v)));
        });
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
