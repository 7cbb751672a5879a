// The networks of models/, and those that are written like them, to be trained: the same functions, with another builder.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <kdna/models/arch.hpp>
#include <kdna/models/module_builder.hpp>
#include <kdna/train/network.hpp>

namespace kdna::inline KDNA_ABI {

namespace backend {
/// The backend that a network's functions are called with when it is to be trained. Convolutions are computed as on the CPU.
struct training : cpu {};
}  // namespace backend

namespace models {

/// The builder of networks that are trained: it hands down tensors instead of folding them into layers. Plain convolutions and
/// KernelDNA's; others throw kdna::error.
template <>
class module_builder<backend::training> : public module_tensors {
public:
    module_builder(train::network_builder& net, state_dict_reader weights)
        : module_tensors(std::move(weights)), net_(&net) {}

    [[nodiscard]] module_builder child(std::string_view name) const {
        return module_builder(*net_, weights_.scope(concat(name, ".")));
    }
    [[nodiscard]] train::network_builder& net() const noexcept { return *net_; }
    [[nodiscard]] parent_kernel kernel(std::string_view name, const kernel_shape& k) const {
        const std::string weight = concat(name, ".weight");
        static_cast<void>(weights_.take(weight, {k.o, k.channels_per_group(), k.kh, k.kw}));
        return net_->kernel(full_name(weight), k);
    }
    [[nodiscard]] squeeze_excite_weights gate(std::string_view name, index_t channels, index_t hidden) const {
        return gate_tensors(name, channels, hidden);
    }

    value conv_bn(const value& x, const parent_kernel& k, std::string_view name, std::string_view bn_name,
                  const layer_call& call) const {
        return child(name).add_tensors(x, k, with_bn(call, bn_name, k.shape().o), {});
    }
    value conv_bn(const value& x, std::string_view name, std::string_view bn_name, const kernel_shape& k,
                  const layer_call& call = {}) const {
        return conv_bn(x, kernel(name, k), name, bn_name, call);
    }
    value conv_bn(const layer_maker<backend::training>& make, const value& x, std::string_view name,
                  std::string_view bn_name, const kernel_shape& k, const layer_call& call = {}) const {
        return make(child(name), x, k, with_bn(call, bn_name, k.o));
    }
    value child_bn(const value& x, const parent_kernel& parent, const static_adapter& adapter,
                   const squeeze_excite_weights& gate, std::string_view name, std::string_view bn_name,
                   const layer_call& call = {}) const {
        return child(name).add_tensors(x, parent, with_bn(call, bn_name, parent.shape().o),
                                       {.spatial = adapter.spatial, .filter = adapter.filter, .se = gate});
    }
    value linear(const value& x, std::string_view name, index_t outputs) const {
        const std::string weight = concat(name, ".weight");
        static_cast<void>(weights_.take(weight, {outputs, x.channels}));
        const dense_kernel k =
            net_->kernel(full_name(weight), {.o = outputs, .i = x.channels}, train::role::classifier);
        return net_->add(full_name(name), k, {}, {.bias = weights_.take(concat(name, ".bias"), {outputs})}, x,
                         activation::none, std::nullopt, train::role::classifier);
    }
    value linear(const value& x, std::string_view name) const {
        return linear(x, name, weights_.extent(concat(name, ".weight"), 0, 2));
    }

    /// The convolution that is this module, with a kernel that `kernel` has not made: that of its tensor "weight".
    template <class Source, class Router = no_router>
    value add(const value& x, const Source& source, const layer_call& call, const Router& = {},
              std::span<const float> bias = {}) const {
        if constexpr (std::is_same_v<Source, dense_kernel> && std::is_same_v<Router, no_router>)
            return add_tensors(x, net_->kernel(full_name("weight"), source.shape()), call, {.bias = bias});
        else
            train::network_builder::unknown(name());
    }

private:
    value add_tensors(const value& x, const dense_kernel& k, const layer_call& call,
                      train::convolution_tensors tensors) const {
        tensors.bn = call.bn;
        return net_->add(name(), k, params(k.shape(), call), tensors, x, call.act, call.residual);
    }
    train::network_builder* net_;
};

}  // namespace models

namespace train {

namespace detail {

/// All tensors, those that float32 can be made of as float32.
[[nodiscard]] KDNA_FUNC state_dict as_float32(state_dict weights);

/// build() of tensors whose names had `prefix` before them.
template <class Make>
[[nodiscard]] network build_stripped(state_dict weights, std::string prefix, index_t input_channels, Make&& make,
                                     const selection& trained) {
    const state_dict tensors = as_float32(std::move(weights));
    const state_dict_reader reader(tensors);
    network_builder net(tensors, input_channels, trained);
    const network_builder::value last =
        std::forward<Make>(make)(models::module_builder<backend::training>(net, reader), net.input());
    reader.finish();
    network out = std::move(net).build(last, std::move(prefix));
    if (out.parameters().trained() == 0) throw error("network", "at least one parameter that is trained", "none");
    return out;
}

}  // namespace detail

/// Builds a network to be trained from its state_dict, as models::build builds one to be run: `make(builder, input)` adds the layers
/// and returns the output. `trained` says which parameters are trained. Throws kdna::error as models::build does, for a layer that
/// cannot be trained, and if nothing is trained.
template <class Make>
[[nodiscard]] network build(state_dict weights, index_t input_channels, Make&& make,
                            const selection& trained = adapters_gates_and_norms) {
    std::string prefix = weights.strip_prefixes(models::wrapper_prefixes);
    return detail::build_stripped(std::move(weights), std::move(prefix), input_channels, std::forward<Make>(make),
                                  trained);
}

/// A published network to be trained, in its plain form or KernelDNA's. Throws kdna::error as models::load and build do.
[[nodiscard]] KDNA_FUNC network load(models::arch a, models::form f, state_dict weights,
                                     const selection& trained = adapters_gates_and_norms);

}  // namespace train

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/train/models.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
