// Launches that route the samples of a call: means of the input, then the router.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/layers/launch.hpp>
#include <kdna/cuda/programs/pooling.hpp>
#include <kdna/cuda/programs/router.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

/// The sums of the input's channels: those that the call brings, or else taken here.
template <class Number, device_api Device>
[[nodiscard]] device_sums sums_of_input(const layer_call<Device>& call) {
    if (call.tensors.x_sums) return call.tensors.x_sums;
    using program = channel_sums_program<Number>;
    const device_conv_plan& p = call.plan;
    const device_sums sums{call.template scratch<float>(p.sums_at, device_conv_plan::floats_of(p.pooled_rows, p.in)),
                           p.pooled_rows, known_int(p.in.c)};
    call.template launch<program>(program::grid(sums),
                                  {call.template x<typename Number::element>(), sums, p.geometry.pixel});
    return sums;
}

/// The means of the input's windows.
template <class Number, device_api Device>
[[nodiscard]] device_span<const float> window_means_of_input(const layer_call<Device>& call) {
    using program = window_mean_program<Number>;
    const device_conv_plan& p = call.plan;
    typename program::arguments a{call.template x<typename Number::element>(),
                                  call.template scratch<float>(p.window_means_at, p.in.n * call.layer.router_inputs())};
    a.h = p.geometry.in_h;
    a.w = p.geometry.in_w;
    a.channels = p.geometry.channels;
    a.pixel = p.geometry.pixel;
    a.grid = known_int(call.layer.recipe().router.grid);
    call.template launch<program>(program::grid(known_int(p.in.n), a), a);
    return a.means;
}

/// Pools the input unless its sums are known, and routes every sample.
template <class Number, device_api Device>
void enqueue_routing(const layer_call<Device>& call) {
    const device_conv_plan& p = call.plan;
    const layer_factors<Device>& f = call.factors;
    router_arguments a = call.layer.router_shape();
    f.add_weights(a);
    if (call.layer.reads_sums())
        a.sums = sums_of_input<Number>(call);
    else
        a.means = window_means_of_input<Number>(call);
    const auto put = [&](route_kind kind, int at, const device_span<const float>& times) {
        device_head& h = a.heads[static_cast<int>(kind)];
        h.at = at;
        h.times = times;
    };
    put(route_kind::mixture, p.mixture_at, {});
    put(route_kind::kernel_filter, p.kernel_filter_at, {});
    put(route_kind::channel, p.channel_at, {});
    put(route_kind::filter, p.scale_at, f.scale());
    put(route_kind::spatial, p.spatial_at, f.spatial());
    a.routes = call.template scratch<float>(p.routes_at, p.in.n * p.route_floats);
    a.stride = p.route_floats;
    a.filters = known_int(call.layer.kernel().o);
    if (call.layer.mixes_bias()) {
        a.shift = f.shift();
        a.bias_scale = f.mixed_bias_scale();
        a.biases = f.biases();
        a.kernel_bias = f.kernel_bias();
        a.shift_at = p.shift_at;
        const int mixture = known_int(call.layer.recipe().router.mixture.values());
        a.mixed_from = p.mixture_at + mixture - a.biases.size / a.filters;
    }
    call.template launch<router_program>({known_int(p.in.n), 1, 1}, a);
}

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
