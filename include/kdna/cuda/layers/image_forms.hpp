// Device forms of pooling and resizing.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string>

#include <kdna/cuda/layers/step_forms.hpp>
#include <kdna/cuda/programs/resize.hpp>
#include <kdna/cuda/programs/windows.hpp>
#include <kdna/nn/ops/pool2d.hpp>
#include <kdna/nn/ops/resize.hpp>
#include <kdna/nn/pool.hpp>

namespace kdna::inline KDNA_ABI::cuda {

namespace detail {

/// Launches Program with arguments that have two images, by packs of channels where they are whole.
template <template <class, int> class Program, class T, device_api Device, class Arguments>
void launch_images(const step_call<Device>& call, Arguments a) {
    const device_operand &x = call.inputs.front(), &y = call.output;
    a.x = x.template as_image<const T>();
    a.y = y.template as_image<T>();
    a.channels = known_int(y.shape[1]);
    a.items = known_int(element_count(y.shape));
    if (x.template has_whole_pixels<T>() && y.template has_whole_pixels<T>()) {
        a.items /= wide<T>;
        call.template launch<Program<T, wide<T>>>(a.items, a);
    } else {
        call.template launch<Program<T, 1>>(a.items, a);
    }
}

[[nodiscard]] inline device_window window_along(index_t size, index_t stride, index_t before, index_t after,
                                                index_t dilation) noexcept {
    return {known_int(size), known_int(stride), known_int(before), known_int(after), known_int(dilation)};
}
template <class T>
[[nodiscard]] windows_arguments<T> arguments_of(const ops::pool_window& w) noexcept {
    windows_arguments<T> a;
    a.rows = window_along(w.window.h, w.stride.h, w.pad.top, w.pad.bottom, w.dilation.h);
    a.columns = window_along(w.window.w, w.stride.w, w.pad.left, w.pad.right, w.dilation.w);
    return a;
}
/// Coordinates are added up in 32 bits.
inline void check_windows(const ops::pool_window& w, const nd_shape& x, const std::string& where) {
    const auto check = [&](index_t extent, index_t size, index_t stride, index_t before, index_t after,
                           index_t dilation) {
        constexpr index_t most = index_t{1} << 28;
        for (const index_t v : {extent, stride, before, after, checked_mul(size, dilation, where)})
            if (v > most) throw error(where, "windows, strides, padding and maps below 2^28 on a device", concat(v));
    };
    check(x[2], w.window.h, w.stride.h, w.pad.top, w.pad.bottom, w.dilation.h);
    check(x[3], w.window.w, w.stride.w, w.pad.left, w.pad.right, w.dilation.w);
}

/// Pooling with windows of a fixed size.
template <class Op>
struct fixed_pooling {
    static void check_shapes(const Op& op, std::span<const nd_shape> in, const nd_shape&, const std::string& where) {
        check_windows(op.window(), in.front(), where);
    }
};
/// Pooling to a number of rows and columns.
template <class Op, bool Mean>
struct adaptive_pooling {
    static void check_shapes(const Op&, std::span<const nd_shape>, const nd_shape& out, const std::string& where) {
        constexpr index_t most = 46340;  // whose square has 31 bits
        if (out[2] > most || out[3] > most)
            throw error(where, concat("at most ", most, " rows and columns on a device"), to_string(out));
    }
    template <class T, device_api Device>
    static void enqueue(const Op&, const step_call<Device>& call) {
        windows_arguments<T> a;
        a.adaptive = true;
        a.mean = Mean;
        launch_images<windows_program, T>(call, a);
    }
};

}  // namespace detail

template <>
struct device_form<ops::max_pool2d> : detail::fixed_pooling<ops::max_pool2d> {
    template <class T, device_api Device>
    static void enqueue(const ops::max_pool2d& op, const step_call<Device>& call) {
        detail::launch_images<windows_program, T>(call, detail::arguments_of<T>(op.window()));
    }
};

/// The pool that runs in bands on the host.
template <>
struct device_form<max_pool2d> {
    [[nodiscard]] static ops::max_pool2d pool(const max_pool2d& op) {
        return ops::max_pool2d({.window = op.window(), .stride = op.stride(), .pad = op.pad()});
    }
    static void check_shapes(const max_pool2d& op, std::span<const nd_shape> in, const nd_shape& out,
                             const std::string& where) {
        device_form<ops::max_pool2d>::check_shapes(pool(op), in, out, where);
    }
    template <class T, device_api Device>
    static void enqueue(const max_pool2d& op, const step_call<Device>& call) {
        device_form<ops::max_pool2d>::enqueue<T>(pool(op), call);
    }
};

template <>
struct device_form<ops::avg_pool2d> : detail::fixed_pooling<ops::avg_pool2d> {
    template <class T, device_api Device>
    static void enqueue(const ops::avg_pool2d& op, const step_call<Device>& call) {
        windows_arguments<T> a = detail::arguments_of<T>(op.window());
        a.mean = true;
        a.counts_padding = op.count_include_pad();
        a.divisor = static_cast<float>(op.divisor().value_or(0));
        detail::launch_images<windows_program, T>(call, a);
    }
};

template <>
struct device_form<ops::adaptive_max_pool2d> : detail::adaptive_pooling<ops::adaptive_max_pool2d, false> {};
template <>
struct device_form<ops::adaptive_avg_pool2d> : detail::adaptive_pooling<ops::adaptive_avg_pool2d, true> {};

template <>
struct device_form<ops::resize> {
    template <class T, device_api Device>
    static void enqueue(const ops::resize& op, const step_call<Device>& call) {
        const nd_shape &x = call.inputs.front().shape, &y = call.output.shape;
        resize_arguments<T> a;
        a.rows = {op.factor(0, x[2], y[2]), op.align_corners()};
        a.columns = {op.factor(1, x[3], y[3]), op.align_corners()};
        a.bilinear = op.mode() == ops::resize_mode::bilinear;
        detail::launch_images<resize_program, T>(call, a);
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
