// What the launches of one call of a layer have in common.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/device.hpp>
#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/layers/kernel_store.hpp>
#include <kdna/cuda/layers/layer_description.hpp>
#include <kdna/cuda/layers/layer_factors.hpp>
#include <kdna/cuda/layers/layer_plan.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

/// Elements of so many pixels, from the first channel of the first to the last channel of the last.
[[nodiscard]] constexpr int span_of_pixels(index_t pixels, index_t distance, index_t channels) noexcept {
    return known_int((pixels - 1) * distance + channels);
}

/// One call of a layer. routing.hpp, sample_kernels.hpp and layer.hpp launch its programs.
template <device_api Device>
struct layer_call {
    Device& device;
    const layer_description& layer;
    const layer_factors<Device>& factors;
    const typename kernel_store<Device>::kernel* stored;  ///< null where the kernel comes with the call
    const device_conv_plan& plan;
    const device_conv_call& tensors;
    typename Device::stream stream;

    template <class Program>
    void launch(const grid_size& grid, const typename Program::arguments& a) const {
        device.template launch<Program>(grid, a, stream);
    }
    /// For programs whose grid follows from their arguments.
    template <class Program>
    void launch(const typename Program::arguments& a) const {
        launch<Program>(Program::grid(a), a);
    }

    /// The whole input.
    template <class T>
    [[nodiscard]] device_span<const T> x() const {
        const index_t pixels = plan.in.n * plan.in.h * plan.in.w;
        return {static_cast<const T*>(tensors.x), span_of_pixels(pixels, plan.geometry.pixel, layer.in_channels())};
    }
    /// `count` elements of the scratch from byte `at` on.
    template <class T>
    [[nodiscard]] device_span<T> scratch(index_t at, index_t count) const {
        return {reinterpret_cast<T*>(tensors.scratch + at), known_int(count)};
    }
    /// Routes of the samples from `first` on, which begin `at` floats from a sample's own.
    [[nodiscard]] device_factors routes(index_t first, int at) const {
        return {scratch<const float>(plan.routes_at + (first * plan.route_floats + at) * 4,
                                     (plan.in.n - first) * plan.route_floats - at),
                plan.route_floats};
    }
    /// The same for what a head of the router gives, or nothing where the router does not have it.
    [[nodiscard]] device_factors routes(index_t first, const dense_recipe& head, int at) const {
        return head.outputs == 0 ? device_factors{} : routes(first, at);
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
