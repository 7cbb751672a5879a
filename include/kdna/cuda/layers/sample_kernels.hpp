// Launches that give a chunk of samples its kernels: the stored one, or those assembled in scratch.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/layers/launch.hpp>
#include <kdna/cuda/programs/assembly.hpp>
#include <kdna/cuda/programs/convolution.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

/// Combinations of stored kernels or cells, w [sample][size of a kernel], for the samples from `first` on.
template <class T, device_api Device>
void enqueue_combination(const layer_call<Device>& call, index_t first, const device_span<T>& w) {
    const kernel_recipe& k = call.layer.recipe().kernel;
    const weight_layout& l = call.layer.layout();
    // Ends of filters that no cell covers. Whole kernels have theirs.
    if (k.cell && l.size != l.filters * l.channels * l.taps)
        call.template launch<zero_program<T>>(elementwise_program::grid(w.size / wide<T>), {w});
    combination_arguments<T> a{call.stored->template values<T>(),
                               call.routes(first, call.layer.recipe().router.mixture, call.plan.mixture_at), w};
    a.n = known_int(k.count);
    a.size = call.stored->size;
    a.kernel_size = known_int(l.size);
    a.m = known_int(k.combinations());
    a.all = checked_int(w.size / l.size * a.m, call.layer.name());
    a.places = places_of(k, l);
    const cell_places& p = a.places;
    const auto packed = [](auto... v) { return ((v % wide<T> == 0) && ...); };
    if (p.inner_stride == 1 &&
        packed(p.inner, p.middle_stride, p.outer_stride, p.piece_stride, p.filter_stride, p.channel_stride))
        call.template launch<combination_program<T, wide<T>>>(a);
    else
        call.template launch<combination_program<T, 1>>(a);
}

/// DCD's kernels, w [sample][size of a kernel], for the samples from `first` on.
template <class T, device_api Device>
void enqueue_decomposition(const layer_call<Device>& call, index_t first, const device_span<T>& w) {
    const router_recipe& r = call.layer.recipe().router;
    const weight_layout& l = call.layer.layout();
    decomposition_arguments<T> a{call.stored->template values<T>(),
                                 call.routes(first, r.kernel_filter, call.plan.kernel_filter_at),
                                 call.routes(first, r.mixture, call.plan.mixture_at),
                                 call.factors.biases(),
                                 call.factors.q(),
                                 w};
    a.filters = known_int(call.layer.kernel().o);
    a.depth = known_int(l.filter_stride);
    a.rank = known_int(call.layer.recipe().kernel.rank());
    a.first = known_int(call.layer.centre_first());
    a.centre = known_int(call.layer.centre_size());
    using program = decomposition_program<T>;
    call.template launch<program>(program::grid(known_int(w.size / l.size), a), a);
}

/// Kernels that the call brings, w [1 or sample][size of a kernel], for the samples from `first` on.
template <class T, device_api Device>
void enqueue_given(const layer_call<Device>& call, index_t first, const device_span<T>& w) {
    const kernel_recipe& k = call.layer.recipe().kernel;
    const weight_layout& l = call.layer.layout();
    given_kernel_arguments<T> a{{call.tensors.kernels.device_pointer() + (call.plan.own_kernels ? first * k.given : 0),
                                 known_int(w.size / l.size * k.given)},
                                w};
    a.given_size = known_int(k.given);
    a.size = known_int(l.size);
    a.filters = known_int(l.filters);
    a.channels = known_int(l.channels);
    a.taps = known_int(l.taps);
    a.filter_stride = known_int(l.filter_stride);
    a.tap_stride = known_int(l.tap_stride);
    a.depthwise = call.plan.depthwise;
    call.template launch<given_kernel_program<T>>(elementwise_program::grid(w.size), a);
}

/// The kernel of all samples, or those of samples [first, first + count).
template <class T, device_api Device>
[[nodiscard]] device_kernel<T> kernel_of_samples(const layer_call<Device>& call, index_t first, index_t count) {
    const weight_layout& l = call.layer.layout();
    const bool own = call.plan.own_kernels;
    device_kernel<T> out{{},
                         known_int(l.filter_stride),
                         known_int(call.layer.kernel().filters_per_group() * l.filter_stride),
                         own ? known_int(l.size) : 0};
    const kernel_form form = call.layer.recipe().kernel.form;
    if (form == kernel_form::stored) {
        out.w = call.stored->template values<T>();
        return out;
    }
    const device_span<T> w = call.template scratch<T>(call.plan.assembly_at, own ? count * l.size : l.size);
    if (form == kernel_form::combined) enqueue_combination(call, first, w);
    if (form == kernel_form::decomposed) enqueue_decomposition(call, first, w);
    if (form == kernel_form::given) enqueue_given(call, first, w);
    out.w = w;
    return out;
}

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
