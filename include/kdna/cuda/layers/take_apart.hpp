// Takes layers of the host apart into recipes (recipe.hpp).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <kdna/backend/reference.hpp>
#include <kdna/core/any_ref.hpp>
#include <kdna/cuda/layers/recipe.hpp>
#include <kdna/dna/acdc.hpp>
#include <kdna/dna/channel_gate.hpp>
#include <kdna/dna/condconv.hpp>
#include <kdna/dna/dcd.hpp>
#include <kdna/dna/dyconv.hpp>
#include <kdna/dna/kernel_warehouse.hpp>
#include <kdna/dna/odconv.hpp>
#include <kdna/dna/sparse_kernel.hpp>
#include <kdna/dna/squeeze_excite.hpp>
#include <kdna/nn/dcd_conv2d.hpp>
#include <kdna/nn/runtime_conv2d.hpp>
#include <kdna/nn/x_volution.hpp>

namespace kdna::inline KDNA_ABI::cuda {

namespace detail {

[[nodiscard]] inline dense_recipe dense_parts(const fully_connected& fc, dense_function act) {
    dense_recipe r{{}, {}, fc.inputs(), fc.outputs(), act};
    for (index_t i = 0; i < r.inputs; ++i)
        for (index_t o = 0; o < r.outputs; ++o) r.w.push_back(fc.weight(o, i));
    for (index_t o = 0; o < r.outputs; ++o) r.bias.push_back(fc.bias(o));
    return r;
}
[[nodiscard]] inline dense_recipe dense_parts(const fully_connected* fc, dense_function act) {
    return fc == nullptr ? dense_recipe{} : dense_parts(*fc, act);
}

}  // namespace detail

/// The routers that have a device form. A router of your own has one if it consists of a hidden layer and heads: write
/// a `router_recipe take_apart(const your_router&)` beside it, and name its layers in basic_network (network.hpp).
[[nodiscard]] inline router_recipe take_apart(const no_router&) { return {}; }
[[nodiscard]] inline router_recipe take_apart(const given_mixture&) { return {}; }
[[nodiscard]] inline router_recipe take_apart(const squeeze_excite& r) {
    return {.hidden = detail::dense_parts(r.squeezing(), activation_kind::relu),
            .channel = detail::dense_parts(r.exciting(), activation_kind::sigmoid)};
}
[[nodiscard]] inline router_recipe take_apart(const channel_gate& r) {
    return {.hidden = detail::dense_parts(r.squeezing(), r.hidden_activation()),
            .channel = detail::dense_parts(r.exciting(), r.gate_activation())};
}
[[nodiscard]] inline router_recipe take_apart(const condconv_router& r) {
    return {.mixture = detail::dense_parts(r.routing(), activation_kind::sigmoid)};
}
[[nodiscard]] inline router_recipe take_apart(const dyconv_router& r) {
    return {.hidden = detail::dense_parts(r.fc1(), activation_kind::relu),
            .mixture = detail::dense_parts(r.fc2(), group_function::softmax)};
}
[[nodiscard]] inline router_recipe take_apart(const odconv_router& r) {
    return {.hidden = detail::dense_parts(r.squeezing(), activation_kind::relu),
            .mixture = detail::dense_parts(r.kernel_head(), group_function::softmax),
            .channel = detail::dense_parts(r.channel_head(), activation_kind::sigmoid),
            .filter = detail::dense_parts(r.filter_head(), activation_kind::sigmoid),
            .spatial = detail::dense_parts(r.spatial_head(), activation_kind::sigmoid)};
}
[[nodiscard]] inline router_recipe take_apart(const warehouse_router& r) {
    router_recipe out{.hidden = detail::dense_parts(r.squeezing(), activation_kind::relu),
                      .mixture = detail::dense_parts(r.fc2(), group_function::signed_share)};
    out.mixture.group = r.cells() + 1;
    return out;
}
[[nodiscard]] inline router_recipe take_apart(const dcd_router& r) {
    return {.hidden = detail::dense_parts(r.squeezing(), activation_kind::none),
            .gate = detail::dense_parts(r.gate(), {activation_kind::hard_sigmoid, 2.0F}),
            .mixture = detail::dense_parts(r.core_head(), activation_kind::none),
            .kernel_filter = detail::dense_parts(r.filter_head(), {activation_kind::hard_sigmoid, 2.0F}),
            .grid = r.pool_grid()};
}

/// Kernel sources: mixtures, cells of a warehouse, DCD's, kernels that come with each call, and every source whose
/// weights are the same for all samples. The recipe keeps a copy of the source, which is a handle. Throws kdna::error
/// for any other source.
template <kernel_source Source>
[[nodiscard]] kernel_recipe take_apart_kernel(const Source& source, std::string_view where) {
    kernel_recipe r;
    r.shape = source.layout().shape();
    source.for_each_storage([&](const void* address, index_t) {
        if (r.storage == nullptr) r.storage = address;
    });
    const auto read_from = [&](const auto& stored) {
        r.copy_weights = [stored](std::span<float> to) { copy_weights(stored, to); };
    };
    if constexpr (std::is_same_v<Source, mixture_kernel>) {
        r.form = kernel_form::combined;
        r.count = source.mixture_size();
        read_from(source);
        if (source.has_bias())
            for (index_t i = 0; i < r.count; ++i)
                for (index_t o = 0; o < r.shape.o; ++o) r.biases.push_back(source.kernel_bias(i, o));
    } else if constexpr (std::is_same_v<Source, warehouse_kernel>) {
        r.form = kernel_form::combined;
        r.count = source.cells().shape().n;
        r.cell = source.cells().shape();
        read_from(source.cells());
    } else if constexpr (std::is_same_v<Source, dcd_kernel>) {
        r.form = kernel_form::decomposed;
        read_from(source.w0());
        const low_rank_factors& low = *source.low_rank();
        std::vector<float> p(static_cast<std::size_t>(r.shape.o * low.rank()));
        low.copy_p(p);
        for (index_t j = 0; j < low.rank(); ++j) {
            for (index_t o = 0; o < r.shape.o; ++o) r.biases.push_back(p[static_cast<std::size_t>(o * low.rank() + j)]);
            for (index_t c = 0; c < r.shape.i; ++c) r.q.push_back(low.q(j, c));
        }
        r.kernel_bias.assign(source.static_bias().begin(), source.static_bias().end());
    } else if constexpr (std::is_same_v<Source, runtime_kernel>) {
        r.form = kernel_form::given;
        r.given = source.mixture_size();
    } else {
        if (source.mixture_size() > 0)
            throw error(std::string(where),
                        "a kernel source with a device form: static, a mixture, a warehouse's or DCD's",
                        concat("one that is assembled from ", source.mixture_size(), " coefficients"));
        // Where a static kernel is assembled from shared parts, the result is the layer's own.
        if constexpr (!std::is_same_v<Source, dense_kernel>) r.storage = nullptr;
        read_from(source);
    }
    return r;
}

/// The recipe of a layer. Throws kdna::error, naming the layer, where its kernel has no device form.
template <kernel_source Source, router Router, conv_backend Backend>
[[nodiscard]] conv_recipe take_apart(const conv2d<Source, Router, Backend>& layer) {
    const auto copy = [](std::span<const float> v) { return std::vector<float>(v.begin(), v.end()); };
    conv_recipe r;
    r.name = layer.name();
    r.kernel = take_apart_kernel(layer.source(), layer.name());
    r.params = layer.params();
    r.spatial = copy(layer.spatial());
    r.scale = copy(layer.scale());
    r.shift = copy(layer.shift());
    r.mixed_bias_scale = copy(layer.mixed_bias_scale());
    r.router = take_apart(layer.routing());
    r.residual = layer.takes_residual();
    r.act = layer_activation(layer.act(), r.kernel.shape.o, 0, r.name);
    return r;
}

template <conv_backend Backend>
[[nodiscard]] conv_recipe take_apart(const basic_dcd_conv2d<Backend>& layer) {
    return take_apart(layer.as_one_kernel());
}
template <conv_backend Backend>
[[nodiscard]] conv_recipe take_apart(const basic_runtime_conv2d<Backend>& layer) {
    return take_apart(layer.layer());
}

[[nodiscard]] inline conv_recipe take_apart(const x_volution& layer) {
    conv_recipe r = take_apart(layer.convolution());
    r.attention = layer.attention().position().factor();
    r.residual = layer.attention().takes_residual();
    return r;
}

namespace detail {

template <class Layer>
[[nodiscard]] std::optional<conv_recipe> take_apart_if(const any_ref& layer) {
    const auto* found = layer.as<Layer>();
    return found == nullptr ? std::nullopt : std::optional(cuda::take_apart(*found));
}
/// The recipe of a layer if it is of one of these types.
template <class... Layers>
[[nodiscard]] std::optional<conv_recipe> take_apart_any(const any_ref& layer) {
    std::optional<conv_recipe> found;
    static_cast<void>(((found = take_apart_if<Layers>(layer)).has_value() || ...));
    return found;
}
template <conv_backend B>
[[nodiscard]] std::optional<conv_recipe> take_apart_known(const any_ref& layer) {
    return take_apart_any<conv2d<dense_kernel, no_router, B>, conv2d<dense_kernel, squeeze_excite, B>,
                          conv2d<dense_kernel, channel_gate, B>, conv2d<dense_kernel, odconv_router, B>,
                          conv2d<mixture_kernel, condconv_router, B>, conv2d<mixture_kernel, dyconv_router, B>,
                          conv2d<mixture_kernel, odconv_router, B>, conv2d<warehouse_kernel, warehouse_router, B>,
                          basic_dcd_conv2d<B>, conv2d<dcd_kernel, dcd_router, B>, conv2d<acdc_kernel, no_router, B>,
                          conv2d<codebook_kernel, no_router, B>, x_volution>(layer);
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
