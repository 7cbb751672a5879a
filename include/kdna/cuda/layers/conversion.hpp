// Between the caller's tensors, float32 in any order, and a layer's or network's: channels last, in its numbers.
#pragma once

#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/programs/pooling.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// y = x, both dense of shape `shape` in device memory. The shape has fewer than 2^31 elements.
template <class From, class To, device_api Device>
void enqueue_conversion(Device& device, const From* x, layout x_order, To* y, layout y_order, const shape4& shape,
                        typename Device::stream s) {
    const strides4 a = dense_strides(shape, x_order), b = dense_strides(shape, y_order);
    const auto number_of = [](index_t v) { return static_cast<int>(v); };
    const int items = number_of(element_count(shape));
    const conversion_arguments<From, To> arguments{
        {x, items},     {y, items},     number_of(shape.c), number_of(shape.h), number_of(shape.w), number_of(a.n),
        number_of(a.c), number_of(a.h), number_of(a.w),     number_of(b.n),     number_of(b.c),     number_of(b.h),
        number_of(b.w), items};
    device.template launch<conversion_program<From, To>>(elementwise_program::grid(items), arguments, s);
}

/// The same to channels last, each pixel stored with `channels` of them, a multiple of four; those that x has not are zeros.
template <class To, device_api Device>
void enqueue_conversion_in_fours(Device& device, const device_view<const float>& x, To* y, index_t channels,
                                 typename Device::stream s) {
    const shape4& shape = x.shape();
    const strides4 strides = dense_strides(shape, x.order());
    const auto number_of = [](index_t v) { return static_cast<int>(v); };
    typename fours_program<float, To>::arguments a;
    a.pixels = number_of(shape.n * shape.h * shape.w);
    a.channels = number_of(channels);
    a.x_channels = number_of(shape.c);
    a.h = number_of(shape.h);
    a.w = number_of(shape.w);
    a.x = {x.device_pointer(), number_of(element_count(shape))};
    a.y = {y, a.pixels * a.channels};
    a.x_n = number_of(strides.n);
    a.x_c = number_of(strides.c);
    a.x_h = number_of(strides.h);
    a.x_w = number_of(strides.w);
    device.template launch<fours_program<float, To>>(elementwise_program::grid(a.y.size / 4), a, s);
}

}  // namespace kdna::inline KDNA_ABI::cuda
