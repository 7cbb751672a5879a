// Layers from a state_dict: takes tensors by the names PyTorch gives them and adds layers to a network.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <kdna/dna/kernel_dna.hpp>
#include <kdna/io/state_dict.hpp>
#include <kdna/nn/network_builder.hpp>

namespace kdna::inline KDNA_ABI::models {

using value = network::value;

/// What a layer's call adds to its tensors: how it moves, and what follows: act( BN( layer(x) ) + residual ).
struct layer_call {
    index_t stride = 1;
    activation act = activation::none;
    std::optional<value> residual{};
    std::optional<padding> pad{};  ///< absent: as much as keeps the extent at a stride of one
    index_t dilation = 1;
    bool bias = false;  ///< "bias" is among the layer's tensors
    std::optional<batch_norm> bn{};
};

/// The tensors of one module, by the names that PyTorch gives them: what builders of networks have in common.
class module_tensors {
public:
    explicit module_tensors(state_dict_reader weights) : weights_(std::move(weights)) {}

    [[nodiscard]] const state_dict_reader& weights() const noexcept { return weights_; }
    /// The full name of a layer, for messages.
    [[nodiscard]] std::string full_name(std::string_view layer) const { return concat(weights_.prefix(), layer); }
    /// The full name of this module, for messages; "layer" if it is the whole file.
    [[nodiscard]] std::string name() const {
        const std::string& prefix = weights_.prefix();
        return prefix.empty() ? "layer" : prefix.substr(0, prefix.size() - 1);
    }

    /// "name.{weight, bias, running_mean, running_var}", and num_batches_tracked if it is there.
    [[nodiscard]] batch_norm bn(std::string_view name, index_t channels) const {
        weights_.take_count(concat(name, ".num_batches_tracked"));
        return {.weight = weights_.take(concat(name, ".weight"), {channels}),
                .bias = weights_.take(concat(name, ".bias"), {channels}),
                .mean = weights_.take(concat(name, ".running_mean"), {channels}),
                .var = weights_.take(concat(name, ".running_var"), {channels})};
    }

    /// "name.se.{fc1, bn, fc2}": those of a gate over `channels` channels with `hidden` units.
    [[nodiscard]] squeeze_excite_weights gate_tensors(std::string_view name, index_t channels, index_t hidden) const {
        const module_tensors se(weights_.scope(concat(name, ".se.")));
        return {.fc1 = se.weights().take("fc1.weight", {hidden, channels, 1, 1}),
                .bn = se.bn("bn", hidden),
                .fc2 = se.weights().take("fc2.weight", {channels, hidden, 1, 1}),
                .fc2_bias = se.weights().take("fc2.bias", {channels})};
    }

    /// How a layer moves over its input.
    [[nodiscard]] static conv_params params(const kernel_shape& k, const layer_call& call) {
        const auto keeping = [&](index_t extent) { return call.dilation * (extent / 2); };
        return {.stride = call.stride,
                .pad = call.pad ? *call.pad : padding(keeping(k.kh), keeping(k.kw)),
                .dilation = call.dilation};
    }
    /// What follows it. `bias` may be empty.
    [[nodiscard]] conv_options options(const layer_call& call, std::span<const float> bias = {}) const {
        return {.bn = call.bn, .bias = bias, .residual = call.residual.has_value(), .act = call.act, .name = name()};
    }
    /// "bias" [O], if the layer has one that is not routed.
    [[nodiscard]] std::span<const float> static_bias(const kernel_shape& k, const layer_call& call) const {
        return call.bias ? weights_.take("bias", {k.o}) : std::span<const float>();
    }

protected:
    /// The same call with the BatchNorm of that name.
    [[nodiscard]] layer_call with_bn(const layer_call& call, std::string_view name, index_t channels) const {
        layer_call out = call;
        out.bn = bn(name, channels);
        return out;
    }

    state_dict_reader weights_;
};

template <conv_backend Backend>
class module_builder;

/// A kind of convolution: adds a layer with a kernel of the given shape from the tensors of its own module (`m.weights()`
/// gives "weight", not "conv1.weight"). Blocks take these, so that a network's structure is written once for all methods.
template <conv_backend B>
using layer_maker =
    std::function<value(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call)>;

/// Adds layers under one name prefix to a network. Every function takes exactly the tensors its layer has, with exactly the
/// shape the widths imply, and throws kdna::error naming the tensor otherwise. Copies share the network and the record of
/// what was taken.
template <conv_backend Backend = backend::cpu>
class module_builder : public module_tensors {
public:
    module_builder(network_builder& net, state_dict_reader weights) : module_tensors(std::move(weights)), net_(&net) {}

    /// The module `name` inside this one: its tensors are called "name.xxx" here.
    [[nodiscard]] module_builder child(std::string_view name) const {
        return module_builder(*net_, weights_.scope(concat(name, ".")));
    }
    [[nodiscard]] network_builder& net() const noexcept { return *net_; }
    /// "name.weight" as a packed kernel.
    [[nodiscard]] parent_kernel kernel(std::string_view name, const kernel_shape& k) const {
        return parent_kernel::pack(k, weights_.take(concat(name, ".weight"), {k.o, k.channels_per_group(), k.kh, k.kw}),
                                   full_name(name), weights_.storage_of(concat(name, ".weight")));
    }

    /// "name.se.{fc1, bn, fc2}": the gate over `channels` channels with `hidden` units.
    [[nodiscard]] squeeze_excite gate(std::string_view name, index_t channels, index_t hidden) const {
        return squeeze_excite(gate_tensors(name, channels, hidden), full_name(name));
    }

    /// A plain layer, or a parent's own: act( BN( conv(x) ) + residual ), padded so that a stride of one keeps the extent.
    value conv_bn(const value& x, const parent_kernel& k, std::string_view name, std::string_view bn_name,
                  const layer_call& call) const {
        return child(name).add(x, k, with_bn(call, bn_name, k.shape().o));
    }
    value conv_bn(const value& x, std::string_view name, std::string_view bn_name, const kernel_shape& k,
                  const layer_call& call = {}) const {
        return conv_bn(x, kernel(name, k), name, bn_name, call);
    }
    /// The layer that `make` adds from the tensors of module `name`, followed by a BatchNorm.
    value conv_bn(const layer_maker<Backend>& make, const value& x, std::string_view name, std::string_view bn_name,
                  const kernel_shape& k, const layer_call& call = {}) const {
        return make(child(name), x, k, with_bn(call, bn_name, k.o));
    }

    /// A child of `parent` with its own adapter, gate and BatchNorm.
    value child_bn(const value& x, const parent_kernel& parent, const static_adapter& adapter, squeeze_excite gate,
                   std::string_view name, std::string_view bn_name, const layer_call& call = {}) const {
        return child(name).add(x, parent.child(adapter, full_name(name)), with_bn(call, bn_name, parent.shape().o),
                               std::move(gate));
    }

    /// "name.{weight [outputs, channels], bias [outputs]}" on a pooled input.
    value linear(const value& x, std::string_view name, index_t outputs) const {
        const auto weight = weights_.take(concat(name, ".weight"), {outputs, x.channels});
        const auto bias = weights_.take(concat(name, ".bias"), {outputs});
        return net_->add_linear(conv2d<dense_kernel, no_router, Backend>(
                                    dense_kernel::pack({.o = outputs, .i = x.channels}, weight, full_name(name),
                                                       weights_.storage_of(concat(name, ".weight"))),
                                    {}, {.bias = bias, .name = full_name(name)}),
                                x);
    }
    /// The same with as many outputs as "name.weight" has rows.
    value linear(const value& x, std::string_view name) const {
        return linear(x, name, weights_.extent(concat(name, ".weight"), 0, 2));
    }

    /// Adds the convolution that is this module. `bias` may be empty; the network copies it.
    template <kernel_source Source, router Router = no_router>
    value add(const value& x, adapted<Source> kernel, const layer_call& call, Router routing = {},
              std::span<const float> bias = {}) const {
        const conv_params moves = params(kernel.source.layout().shape(), call);
        return net_->add(
            conv2d<Source, Router, Backend>(std::move(kernel), moves, options(call, bias), std::move(routing)), x,
            call.residual);
    }
    template <kernel_source Source, router Router = no_router>
    value add(const value& x, Source kernel, const layer_call& call, Router routing = {},
              std::span<const float> bias = {}) const {
        return add(x, adapted<Source>{std::move(kernel), {}, {}}, call, std::move(routing), bias);
    }

    /// The same for a layer whose router reads a context.
    template <kernel_source Source, router Router>
    requires(origin_of<Router> == route_origin::context) value
        add(const value& x, const value& context, Source kernel, const layer_call& call, Router routing,
            std::span<const float> bias = {})
    const {
        const conv_params moves = params(kernel.layout().shape(), call);
        return net_->add(
            conv2d<Source, Router, Backend>(std::move(kernel), moves, options(call, bias), std::move(routing)), x,
            context, call.residual);
    }

private:
    network_builder* net_;
};

/// A plain convolution. Keys weight [, bias].
template <conv_backend B>
value plain_layer(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call) {
    const auto weight = m.weights().take("weight", {k.o, k.channels_per_group(), k.kh, k.kw});
    return m.add(x, dense_kernel::pack(k, weight, m.name(), m.weights().storage_of("weight")), call, no_router(),
                 m.static_bias(k, call));
}

/// The static adapters of a group of children, stored in one tensor per kind: a_sp [n, 1, 1, KH, KW] and a_f [n, O, 1, 1, 1].
class adapter_bank {
public:
    /// Takes static_filter_attn`suffix` and, for kernels with more than one tap, static_spatial_attn.
    template <conv_backend B>
    adapter_bank(const module_builder<B>& m, index_t children, const kernel_shape& k, std::string_view suffix = "")
        : filters_(k.o), taps_(k.taps()) {
        filter_ = m.weights().take(concat("static_filter_attn", suffix), {children, k.o, 1, 1, 1});
        if (taps_ > 1) spatial_ = m.weights().take("static_spatial_attn", {children, 1, 1, k.kh, k.kw});
    }
    [[nodiscard]] static_adapter of(index_t child) const {
        const auto part = [&](std::span<const float> all, index_t size) {
            return all.empty() ? all
                               : all.subspan(static_cast<std::size_t>(child * size), static_cast<std::size_t>(size));
        };
        return {.spatial = part(spatial_, taps_), .filter = part(filter_, filters_)};
    }

private:
    index_t filters_, taps_;
    std::span<const float> filter_{}, spatial_{};
};

/// What torch's wrappers (DataParallel, DistributedDataParallel, compile) put before every name.
inline constexpr std::array<std::string_view, 2> wrapper_prefixes{"module.", "_orig_mod."};

namespace detail {

/// build() with `channels(reader)` input channels, after the prefix was taken off.
template <layer_backend B, class Channels, class Make, class... Where>
[[nodiscard]] typename network_on<B>::type build_stripped(const state_dict& weights, Channels&& channels, Make&& make,
                                                          load_report& report, const Where&... where) {
    network_builder net;
    const state_dict_reader reader(weights);
    const value input = net.input(channels(reader));
    const value output = make(module_builder<typename network_on<B>::host_backend>(net, reader), input);
    reader.finish();
    report.converted = reader.conversions();
    return network_on<B>::make(std::move(net).build(output), where...);
}

}  // namespace detail

/// Builds a network from its state_dict, with or without a leading "module.", "_orig_mod." or both on every key.
/// `make(builder, input)` adds the layers and returns the output. Strict: throws kdna::error unless the tensors are exactly those
/// of the network. Nothing of `weights` is referred to afterwards. For the backend of a device the network is put there; `where`
/// is what the constructor of that backend's networks takes: a context and a stream, or nothing.
template <layer_backend B = backend::cpu, class Make, class... Where>
[[nodiscard]] typename network_on<B>::type build(state_dict weights, index_t input_channels, Make&& make,
                                                 const Where&... where) {
    load_report report;
    report.prefix = weights.strip_prefixes(wrapper_prefixes);
    return detail::build_stripped<B>(
        weights, [&](const state_dict_reader&) { return input_channels; }, std::forward<Make>(make), report, where...);
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
