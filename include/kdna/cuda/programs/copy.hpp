// Copies on the device: elements to another place in another order, and elements around a value.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/programs/nest.hpp>
#include <kdna/nn/ops/pad.hpp>

namespace kdna::inline KDNA_ABI::cuda {

template <class T>
struct copy_arguments {
    device_span<T> y{};
    device_span<const T> x{};
    device_nest nest{};
};

/// y = x, whatever the strides of both. A thread copies Width elements.
template <class T, int Width>
struct copy_program : elementwise_program {
    using arguments = copy_arguments<T>;
    static constexpr const char* name = "copy_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const bool repeats = a.nest.repeats(1);
        for_each(block, a.nest.items, [&](int item) {
            const device_nest::place at = a.nest.of(item);
            a.y.template store<Width>(at.at[0], detail::load_item<Width>(a.x, at.at[1], repeats));
        });
    }
};

/// An axis of a padded value.
struct padded_axis {
    int extent = 1, x_extent = 1;  ///< of y and of x
    int before = 0;                ///< elements of y before those of x; negative: of x that are cut off
    int y_stride = 0, x_stride = 0;
};

template <class T>
struct pad_arguments {
    static constexpr int most = 5;
    device_span<T> y{};
    device_span<const T> x{};
    padded_axis axes[most]{};  ///< the innermost first; with packs, it counts packs and is not padded
    int rank = 0, items = 1;
    ops::pad_mode mode = ops::pad_mode::constant;
    float value = 0.0F;
};

/// y = x with elements around it. A thread makes Width elements of y.
template <class T, int Width>
struct pad_program : elementwise_program {
    using arguments = pad_arguments<T>;
    static constexpr const char* name = "pad_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.items, [&](int item) {
            int y_at = 0, x_at = 0;
            bool inside = true;
            KDNA_DEVICE_NO_UNROLL
            for (int i = 0; i < a.rank; ++i) {
                const padded_axis& axis = a.axes[i];
                const int index = item % axis.extent, from = source(index - axis.before, axis.x_extent, a.mode);
                item /= axis.extent;
                y_at += index * axis.y_stride;
                x_at += from * axis.x_stride;
                inside = inside && from >= 0 && from < axis.x_extent;
            }
            pack<T, Width> v;
            if (inside) {
                v = a.x.template load<Width>(x_at);
            } else {
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < Width; ++e) v.v[e] = from_float<T>(a.value);
            }
            a.y.template store<Width>(y_at, v);
        });
    }

private:
    /// The element of x that element i of its axis is; with pad_mode::constant i itself, which may be none.
    KDNA_DEVICE static int source(int i, int extent, ops::pad_mode mode) {
        if (mode == ops::pad_mode::constant || (i >= 0 && i < extent)) return i;
        if (mode == ops::pad_mode::replicate) return i < 0 ? 0 : extent - 1;
        if (mode == ops::pad_mode::circular) return i < 0 ? i + extent : i - extent;
        return i < 0 ? -i : 2 * (extent - 1) - i;
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
