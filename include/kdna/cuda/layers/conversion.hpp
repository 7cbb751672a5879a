// Launches that convert between the caller's tensors, float32 in any order, and those of a layer or network: channels
// last, in its numbers.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/programs/conversion.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// y = x, both of shape `shape` in device memory, which reach over less than 2^31 elements.
template <class From, class To, device_api Device>
void enqueue_conversion(Device& device, const device_span<const From>& x, const strides4& a, const device_span<To>& y,
                        const strides4& b, const shape4& shape, typename Device::stream s) {
    conversion_arguments<From, To> arguments{x, y};
    arguments.channels = detail::known_int(shape.c);
    arguments.h = detail::known_int(shape.h);
    arguments.w = detail::known_int(shape.w);
    arguments.x_n = detail::known_int(a.n);
    arguments.x_c = detail::known_int(a.c);
    arguments.x_h = detail::known_int(a.h);
    arguments.x_w = detail::known_int(a.w);
    arguments.y_n = detail::known_int(b.n);
    arguments.y_c = detail::known_int(b.c);
    arguments.y_h = detail::known_int(b.h);
    arguments.y_w = detail::known_int(b.w);
    arguments.items = detail::known_int(element_count(shape));
    device.template launch<conversion_program<From, To>>(elementwise_program::grid(arguments.items), arguments, s);
}

/// The same, both dense.
template <class From, class To, device_api Device>
void enqueue_conversion(Device& device, const From* x, layout x_order, To* y, layout y_order, const shape4& shape,
                        typename Device::stream s) {
    const int items = detail::known_int(element_count(shape));
    enqueue_conversion(device, device_span<const From>{x, items}, dense_strides(shape, x_order),
                       device_span<To>{y, items}, dense_strides(shape, y_order), shape, s);
}

/// The same to channels last, each pixel stored with `channels` channels, a multiple of four; channels that x does not
/// have are zeros.
template <class To, device_api Device>
void enqueue_conversion_in_fours(Device& device, const device_view<const float>& x, To* y, index_t channels,
                                 typename Device::stream s) {
    const shape4& shape = x.shape();
    const strides4 strides = dense_strides(shape, x.order());
    typename fours_program<float, To>::arguments a;
    a.pixels = detail::known_int(shape.n * shape.h * shape.w);
    a.channels = detail::known_int(channels);
    a.x_channels = detail::known_int(shape.c);
    a.h = detail::known_int(shape.h);
    a.w = detail::known_int(shape.w);
    a.x = {x.device_pointer(), detail::known_int(element_count(shape))};
    a.y = {y, a.pixels * a.channels};
    a.x_n = detail::known_int(strides.n);
    a.x_c = detail::known_int(strides.c);
    a.x_h = detail::known_int(strides.h);
    a.x_w = detail::known_int(strides.w);
    device.template launch<fours_program<float, To>>(elementwise_program::grid(a.y.size / 4), a, s);
}

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
