// Definitions of nn/network_builder.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/nn/network_builder.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC network::value network_builder::input(index_t channels) {
    if (channels < 1) throw error("network input", "at least one channel", concat(channels));
    if (!widths_.empty()) throw error("network input", "one input", "a second");
    widths_.push_back(channels);
    net_.channels_ = channels;
    return {0, channels};
}

KDNA_FUNC network::value network_builder::add(const max_pool2d& pool, const value& x) {
    return push(std::make_unique<max_pool_operation>(pool), x, std::nullopt, x.channels);
}

KDNA_FUNC network::value network_builder::add_global_average(const value& x) {
    return push(std::make_unique<global_average_operation>(), x, std::nullopt, x.channels);
}

KDNA_FUNC network::value network_builder::add(std::unique_ptr<operation> op, const value& x, index_t channels) {
    return add(std::move(op), std::vector<value>{x}, channels);
}

KDNA_FUNC network::value network_builder::add(std::unique_ptr<operation> op, const std::vector<value>& inputs,
                                              index_t channels) {
    if (op == nullptr) throw error("network step", "an operation", "a null pointer");
    const auto found = static_cast<index_t>(inputs.size());
    if (op->inputs() < 1 || op->inputs() > most_inputs)
        throw error(concat(op->name(), " inputs"), concat("1 to ", most_inputs), concat(op->inputs()));
    if (found != op->inputs()) throw error(concat(op->name(), " inputs"), concat(op->inputs()), concat(found));
    std::vector<index_t> ids;
    for (const value& v : inputs) {
        check_known(op->name(), "input", v);
        ids.push_back(v.id);
    }
    if (channels < 1) throw error(std::string(op->name()), "at least one channel", concat(channels));
    widths_.push_back(channels);
    net_.steps_.push_back({std::move(op), std::move(ids)});
    return {static_cast<index_t>(net_.steps_.size()), channels};
}

KDNA_FUNC network network_builder::build(const value& output) && {
    if (net_.steps_.empty() || output.id != static_cast<index_t>(net_.steps_.size()))
        throw error("network", concat("the last value, ", net_.steps_.size(), ", as its output"),
                    concat("value ", output.id));
    net_.output_channels_ = output.channels;
    return std::move(net_);
}

KDNA_FUNC void network_builder::check_convolution(const std::string& name, const kernel_shape& k, bool takes_residual,
                                                  const value& x, const std::optional<value>& residual) const {
    check_channels(name, "input", x, k.i);
    if (takes_residual != residual.has_value())
        throw error(concat(name, " residual"), takes_residual ? "one" : "none", residual ? "one" : "none");
    if (residual) check_channels(name, "residual", *residual, k.o);
}

KDNA_FUNC void network_builder::check_fully_connected(const std::string& name, const kernel_shape& k,
                                                      const conv_params& params, bool takes_residual,
                                                      const value& x) const {
    check_channels(name, "input", x, k.i);
    if (k.taps() != 1) throw error(name, "a 1x1 kernel", to_string(k));
    if (params.stride != 1 || params.pad != 0)
        throw error(name, "stride 1 and no padding in a fully connected layer", "others");
    if (takes_residual) throw error(concat(name, " residual"), "none in a fully connected layer", "one");
}

KDNA_FUNC void network_builder::check_channels(const std::string& name, std::string_view what, const value& v,
                                               index_t channels) const {
    check_known(name, what, v);
    if (v.channels != channels) throw error(concat(name, " ", what), concat(channels, " channels"), concat(v.channels));
}

KDNA_FUNC void network_builder::check_known(std::string_view name, std::string_view what, const value& v) const {
    if (v.id < 0 || v.id >= static_cast<index_t>(widths_.size()) ||
        widths_[static_cast<std::size_t>(v.id)] != v.channels)
        throw error(concat(name, " ", what), "a value of this network",
                    concat("value ", v.id, " of ", v.channels, " channels"));
}

KDNA_FUNC network::value network_builder::push(std::unique_ptr<operation> op, const value& x,
                                               const std::optional<value>& second, index_t channels) {
    std::vector<value> inputs{x};
    if (second) inputs.push_back(*second);
    return add(std::move(op), inputs, channels);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
