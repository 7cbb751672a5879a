// Launches of the steps of a planned network.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/layers/network_plan.hpp>
#include <kdna/cuda/layers/network_steps.hpp>
#include <kdna/cuda/programs/pooling.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

template <class Number, device_api Device>
void enqueue_average(Device& device, const step_plan<Device>& p, typename Device::stream s) {
    using T = typename Number::element;
    using sums = channel_sums_program<Number>;
    using means = mean_program<Number>;
    const device_operand& x = p.inputs.front();
    if (!p.takes_sums)
        device.template launch<sums>(sums::grid(p.x_sums), {x.template span<const T>(), p.x_sums, x.pixel()}, s);
    const shape4 in = x.image();
    device.template launch<means>(means::grid(known_int(in.n * in.c)),
                                  {p.x_sums, p.output.template span<T>(), known_int(in.n), p.output.pixel()}, s);
}

/// One step of a network.
template <class Number, device_api Device>
void enqueue_step(Device& device, const device_step<Device>& step, const network_state<Device>& state,
                  const step_plan<Device>& p, typename Device::stream s) {
    using T = typename Number::element;
    if (const auto* conv = step.conv()) {
        const device_conv_call call{p.inputs.front().data,
                                    p.output.data,
                                    p.inputs.size() > 1 ? p.inputs[1].data : nullptr,
                                    p.x_sums,
                                    p.y_sums,
                                    static_cast<std::byte*>(state.scratch.data())};
        if constexpr (has_library<Device>)
            if (p.library != nullptr) return p.library->run(conv->layer.plain_call(call), s);
        conv->layer.enqueue(p.conv, call, s);
    } else if (p.operation != nullptr) {
        p.operation->enqueue({device, s, p.inputs, p.output}, Number::value);
    } else if (step.is_average()) {
        enqueue_average<Number>(device, p, s);
    } else {
        for (const planned_copy& c : p.copies)
            enqueue_copy<T>(step_call<Device>{device, s, p.inputs, p.output}, c.nest, c.x, c.y);
    }
}

template <device_api Device>
void enqueue_steps(const basic_context<Device>& where, const std::vector<device_step<Device>>& steps,
                   const network_state<Device>& state, typename Device::stream s) {
    with_number(where.options().numbers, [&]<class Number>(Number) {
        for (std::size_t i = 0; i < steps.size(); ++i)
            enqueue_step<Number>(where.device(), steps[i], state, state.steps[i], s);
    });
}

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
