// Launches of the steps of a planned network.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/layers/network_plan.hpp>
#include <kdna/cuda/layers/network_steps.hpp>
#include <kdna/cuda/programs/pooling.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

template <class Number, device_api Device, class T = typename Number::element>
void enqueue_max_pool(Device& device, const max_pool2d& pool, const shape4& in, const shape4& out,
                      const device_span<const T>& x, const device_span<T>& y, typename Device::stream s) {
    max_pool_arguments<T> a{x, y};
    a.in_h = known_int(in.h);
    a.in_w = known_int(in.w);
    a.channels = known_int(in.c);
    a.out_h = known_int(out.h);
    a.out_w = known_int(out.w);
    a.window_h = known_int(pool.window().h);
    a.window_w = known_int(pool.window().w);
    a.stride_h = known_int(pool.stride().h);
    a.stride_w = known_int(pool.stride().w);
    a.pad_top = known_int(pool.pad().top);
    a.pad_left = known_int(pool.pad().left);
    if (in.c % wide<T> == 0)
        device.template launch<max_pool_program<Number, wide<T>>>(elementwise_program::grid(y.size / wide<T>), a, s);
    else
        device.template launch<max_pool_program<Number, 1>>(elementwise_program::grid(y.size), a, s);
}

/// Step i of a network, whose value it makes in the arena.
template <class Number, device_api Device>
void enqueue_step(Device& device, const device_step<Device>& step, const network_state<Device>& state, std::size_t i,
                  typename Device::stream s) {
    using T = typename Number::element;
    const step_plan<Device>& p = state.steps[i];
    const shape4 &in = state.shape(step.input), &out = state.shapes[i + 1];
    void *x = state.value(step.input), *y = state.value(static_cast<index_t>(i) + 1);
    const device_span<const T> from{static_cast<const T*>(x), known_int(element_count(in))};
    const device_span<T> to{static_cast<T*>(y), known_int(element_count(out))};
    if (const auto* conv = step.conv()) {
        const device_conv_call call{x,        y,        step.residual < 0 ? nullptr : state.value(step.residual),
                                    p.x_sums, p.y_sums, static_cast<std::byte*>(state.scratch.data())};
        if constexpr (has_library<Device>)
            if (p.library != nullptr) return p.library->run(conv->layer.plain_call(call), s);
        conv->layer.enqueue(p.conv, call, s);
    } else if (const auto* pool = step.pool()) {
        enqueue_max_pool<Number>(device, *pool, in, out, from, to, s);
    } else {
        using sums = channel_sums_program<Number>;
        if (!p.takes_sums) device.template launch<sums>(sums::grid(p.x_sums), {from, p.x_sums}, s);
        device.template launch<mean_program<Number>>(elementwise_program::grid(to.size), {p.x_sums, to}, s);
    }
}

template <device_api Device>
void enqueue_steps(const basic_context<Device>& where, const std::vector<device_step<Device>>& steps,
                   const network_state<Device>& state, typename Device::stream s) {
    for (std::size_t i = 0; i < steps.size(); ++i)
        with_number(where.options().numbers,
                    [&]<class Number>(Number) { enqueue_step<Number>(where.device(), steps[i], state, i, s); });
}

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
