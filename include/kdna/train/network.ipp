// Definitions of train/network.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/nn/conv2d.hpp>
#include <kdna/train/network.hpp>

namespace kdna::inline KDNA_ABI::train {

KDNA_FUNC kernel_shape shared_kernel::transposed_shape(const kernel_shape& k) noexcept {
    return {.o = k.i * k.taps(), .i = k.o, .kh = 1, .kw = 1, .groups = k.groups};
}

KDNA_FUNC void shared_kernel::transpose(const kernel_shape& k, const float* weights, float* to) noexcept {
    const index_t channels = k.channels_per_group(), filters = k.filters_per_group(), taps = k.taps();
    for (index_t o = 0; o < k.o; ++o)
        for (index_t c = 0; c < channels; ++c)
            for (index_t t = 0; t < taps; ++t)
                to[((o / filters * taps + t) * channels + c) * filters + o % filters] =
                    weights[(o * channels + c) * taps + t];
}

KDNA_FUNC const dense_kernel& shared_kernel::transposed() {
    if (!transposed_) {
        const auto count = static_cast<std::size_t>(shape_.o * shape_.channels_per_group() * shape_.taps());
        std::vector<float> weights(count), turned(count);
        packed_.copy_weights(weights);
        transpose(shape_, weights.data(), turned.data());
        transposed_ = dense_kernel::pack(transposed_shape(shape_), turned, "transposed kernel");
    }
    return *transposed_;
}

KDNA_FUNC void shared_kernel::order_by_tap(const kernel_shape& k, const float* weights, float* to) noexcept {
    const index_t taps = k.taps();
    for (index_t c = 0; c < k.o; ++c)
        for (index_t t = 0; t < taps; ++t) to[t * k.o + c] = weights[c * taps + t];
}

KDNA_FUNC std::span<const float> shared_kernel::by_tap() {
    if (by_tap_.empty()) {
        std::vector<float> weights(static_cast<std::size_t>(shape_.o * shape_.taps()));
        packed_.copy_weights(weights);
        by_tap_.resize(weights.size());
        order_by_tap(shape_, weights.data(), by_tap_.data());
    }
    return by_tap_;
}

KDNA_FUNC network_builder::network_builder(const state_dict& weights, index_t input_channels, selection trained)
    : weights_(&weights), trained_(std::move(trained)), channels_{input_channels} {
    net_.input_channels_ = input_channels;
}

KDNA_FUNC void network_builder::unknown(std::string_view layer) {
    throw error(std::string(layer),
                "a layer that can be trained: a plain convolution, KernelDNA's parents and children",
                "a layer of another method");
}

/// The part of the network's parameters that these values are.
KDNA_FUNC part network_builder::locate(std::span<const float> values, role is) {
    if (values.empty()) return {};
    const std::less_equal<const float*> before{};
    for (const auto& [name, tensor] : weights_->tensors()) {
        if (tensor.type() != dtype::f32) continue;
        const std::span<const float> all = tensor.values<float>(name);
        const float* end = all.data() + all.size();
        if (!before(all.data(), values.data()) || !before(values.data() + values.size(), end)) continue;
        return {net_.parameters_.add(name, is, tensor.shape(), all, trained_), values.data() - all.data()};
    }
    throw error("network_builder", "values of a float32 tensor that it was given", "others");
}

KDNA_FUNC norm network_builder::norm_of(const batch_norm& bn, role is) {
    return {.weight = locate(bn.weight, is),
            .bias = locate(bn.bias, is),
            .mean = locate(bn.mean, role::statistic),
            .var = locate(bn.var, role::statistic),
            .channels = static_cast<index_t>(bn.mean.size()),
            .eps = bn.eps};
}

KDNA_FUNC dense_kernel network_builder::kernel(const std::string& name, const kernel_shape& k, role is) {
    const std::span<const float> weights = weights_->at(name).values<float>(name);
    dense_kernel packed = dense_kernel::pack(k, weights, name);
    const part weight = locate(weights, is);
    packed.for_each_storage(
        [&](const void* place, index_t) { kernels_.emplace(place, std::make_shared<shared_kernel>(packed, weight)); });
    return packed;
}

KDNA_FUNC network_builder::value network_builder::add(std::string name, const dense_kernel& kernel,
                                                      const conv_params& params, const convolution_tensors& tensors,
                                                      const value& x, const activation& act,
                                                      const std::optional<value>& residual, role bias) {
    const kernel_shape& k = kernel.shape();
    check_value(name, x);
    if (residual) check_value(concat(name, " residual"), *residual);
    if (x.channels != k.i) throw error(name, concat("an input of ", k.i, " channels"), concat(x.channels));
    if (residual && residual->channels != k.o)
        throw error(concat(name, " residual"), concat(k.o, " channels"), concat(residual->channels));
    if (!is_clamp(act)) throw error(name, "no activation, ReLU or ReLU6, to be trained", to_string(act));
    if (params.mode != padding_mode::zeros) throw error(name, "padding of zeros, to be trained", "circular padding");
    // The layer as it is deployed checks all that it is made of.
    const adapted<dense_kernel> child = kernel.child({.spatial = tensors.spatial, .filter = tensors.filter}, name);
    const conv_options options{.bn = tensors.bn, .bias = tensors.bias, .act = act, .name = name};
    if (tensors.se)
        static_cast<void>(conv2d(child, params, options, squeeze_excite(*tensors.se, concat(name, ".se"))));
    else
        static_cast<void>(conv2d(child, params, options));
    convolution c{.name = std::move(name), .kernel = {}, .params = params, .act = act};
    kernel.for_each_storage([&](const void* place, index_t) {
        const auto found = kernels_.find(place);
        if (found == kernels_.end()) throw error(c.name, "a kernel that this builder has made", "another");
        c.kernel = found->second;
    });
    c.spatial = locate(tensors.spatial, role::spatial);
    c.filter = locate(tensors.filter, role::filter);
    c.bias = locate(tensors.bias, bias);
    if (tensors.bn) c.bn = norm_of(*tensors.bn, role::norm);
    if (const auto& se = tensors.se)
        c.se = gate{.fc1 = locate(se->fc1, role::gate),
                    .fc2 = locate(se->fc2, role::gate),
                    .fc2_bias = locate(se->fc2_bias, role::gate),
                    .bn = norm_of(se->bn, role::gate),
                    .channels = k.i};
    return push({std::move(c), x.id, residual ? residual->id : -1}, k.o);
}

KDNA_FUNC void network_builder::check_value(std::string_view where, const value& x) const {
    if (x.id < 0 || x.id >= static_cast<index_t>(channels_.size()) ||
        channels_[static_cast<std::size_t>(x.id)] != x.channels)
        throw error(std::string(where), "a value of this network", "one of another");
}

KDNA_FUNC network_builder::value network_builder::add(const max_pool2d& pool, const value& x) {
    check_value("max_pool2d", x);
    return push({pool, x.id}, x.channels);
}

KDNA_FUNC network_builder::value network_builder::add_global_average(const value& x) {
    check_value("global_average", x);
    return push({global_average{}, x.id}, x.channels);
}

KDNA_FUNC network_builder::value network_builder::push(step s, index_t channels) {
    net_.steps_.push_back(std::move(s));
    channels_.push_back(channels);
    return {static_cast<index_t>(net_.steps_.size()), channels};
}

KDNA_FUNC network network_builder::build(const value& last, std::string prefix) && {
    if (last.id != static_cast<index_t>(net_.steps_.size()) || last.id == 0)
        throw error("network", "an output that its last step makes", concat("value ", last.id));
    net_.parameters_.prefix_ = std::move(prefix);
    return std::move(net_);
}

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
