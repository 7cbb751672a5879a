// Definitions of nn/network_builder.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/nn/network_builder.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC network::value network_builder::input(index_t channels) {
    if (channels < 1) throw error("network input", "at least one channel", concat(channels));
    return input(net_.inputs_.empty() ? "input" : concat("input", net_.inputs_.size()), {0, channels, 0, 0});
}

KDNA_FUNC network::value network_builder::input(std::string name, std::vector<index_t> extents) {
    if (!net_.steps_.empty()) throw error("network input", "all inputs before the first step", name);
    if (extents.empty() || static_cast<index_t>(extents.size()) > most_axes)
        throw error(concat("network input ", name), "a rank of 1 to 5", concat(extents.size()));
    for (const index_t e : extents)
        if (e < 0) throw error(concat("network input ", name), "extents >= 0", concat(e));
    for (const network::input_port& other : net_.inputs_)
        if (other.name == name) throw error("network input", "a name that no other has", concat("\"", name, "\""));
    const index_t channels = extents.size() > 1 ? extents[1] : 0;
    values_.push_back({channels, nd_shape(extents)});
    net_.inputs_.push_back({std::move(name), std::move(extents)});
    return {net_.input_count() - 1, channels};
}

KDNA_FUNC network::value network_builder::add(const max_pool2d& pool, const value& x) {
    return push(std::make_unique<max_pool_operation>(pool), {x}, std::nullopt, x.channels);
}

KDNA_FUNC network::value network_builder::add_global_average(const value& x) {
    const nd_shape& from = known_shape(x, "global_average");
    return add_step(std::make_unique<global_average_operation>(), {x}, {},
                    {x.channels, {from.rank() > 0 ? from[0] : 0, x.channels, 1, 1}});
}

KDNA_FUNC network::value network_builder::add(std::unique_ptr<operation> op, const value& x, index_t channels) {
    return add(std::move(op), std::vector<value>{x}, channels);
}

KDNA_FUNC network::value network_builder::add(std::unique_ptr<operation> op, const std::vector<value>& inputs,
                                              index_t channels) {
    if (op != nullptr && channels < 1) throw error(std::string(op->name()), "at least one channel", concat(channels));
    return add(std::move(op), inputs, {}, channels);
}

KDNA_FUNC network::value network_builder::add(std::unique_ptr<operation> op, const std::vector<value>& inputs,
                                              const std::vector<value>& shapes, index_t channels) {
    return add_step(std::move(op), inputs, shapes, {channels});
}

KDNA_FUNC network::value network_builder::add(std::unique_ptr<operation> op, const std::vector<value>& inputs,
                                              const std::vector<value>& shapes, const nd_shape& known) {
    return add_step(std::move(op), inputs, shapes, {known.rank() > 1 ? known[1] : 0, known});
}

KDNA_FUNC const nd_shape& network_builder::known_shape(const value& v, std::string_view where) const {
    check_known(where, "input", v);
    return values_[static_cast<std::size_t>(v.id)].shape;
}

KDNA_FUNC network::value network_builder::add_step(std::unique_ptr<operation> op, const std::vector<value>& inputs,
                                                   const std::vector<value>& shapes, const knowledge& known) {
    if (op == nullptr) throw error("network step", "an operation", "a null pointer");
    const auto found = static_cast<index_t>(inputs.size());
    if (op->inputs() < 0 || op->inputs() > most_inputs)
        throw error(concat(op->name(), " inputs"), concat("at most ", most_inputs), concat(op->inputs()));
    if (found != op->inputs()) throw error(concat(op->name(), " inputs"), concat(op->inputs()), concat(found));
    if (found == 0 && op->constant().data == nullptr)
        throw error(concat(op->name(), " inputs"), "at least one", "none");
    network::step s{std::move(op), {}, {}};
    for (const value& v : inputs) {
        check_known(s.op->name(), "input", v);
        s.inputs.push_back(v.id);
    }
    for (const value& v : shapes) {
        check_known(s.op->name(), "shape", v);
        s.shapes.push_back(v.id);
    }
    values_.push_back(known);
    net_.steps_.push_back(std::move(s));
    return {net_.value_of(net_.steps_.size() - 1), known.channels};
}

KDNA_FUNC network network_builder::build(const value& last) && {
    return std::move(*this).build(std::vector<network_builder::output>{{"output", last}});
}

KDNA_FUNC network network_builder::build(const std::vector<output>& outputs) && {
    if (outputs.empty()) throw error("network", "an output", "none");
    if (net_.inputs_.empty()) throw error("network", "at least one input", "none");
    for (const output& o : outputs) {
        check_known("network", "output", o.is);
        for (const network::output_port& other : net_.outputs_)
            if (other.name == o.name)
                throw error("network output", "a name that no other has", concat("\"", o.name, "\""));
        net_.outputs_.push_back({o.name, o.is.id, o.is.channels});
    }
    drop_unused();
    return std::move(net_);
}

/// Leaves out the steps on which no output depends, and numbers the values anew.
KDNA_FUNC void network_builder::drop_unused() {
    const auto at = [](index_t id) { return static_cast<std::size_t>(id); };
    const index_t inputs = net_.input_count();
    std::vector<bool> needed(values_.size(), false);
    for (const network::output_port& o : net_.outputs_) needed[at(o.id)] = true;
    for (std::size_t i = net_.steps_.size(); i-- > 0;) {
        if (!needed[at(net_.value_of(i))]) continue;
        for (const index_t id : net_.steps_[i].inputs) needed[at(id)] = true;
        for (const index_t id : net_.steps_[i].shapes) needed[at(id)] = true;
    }
    std::vector<index_t> renamed(values_.size(), 0);
    for (index_t id = 0; id < inputs; ++id) renamed[at(id)] = id;
    std::vector<network::step> kept;
    for (std::size_t i = 0; i < net_.steps_.size(); ++i) {
        const std::size_t v = at(net_.value_of(i));
        if (!needed[v]) continue;
        renamed[v] = inputs + static_cast<index_t>(kept.size());
        network::step& s = net_.steps_[i];
        for (index_t& id : s.inputs) id = renamed[at(id)];
        for (index_t& id : s.shapes) id = renamed[at(id)];
        kept.push_back(std::move(s));
    }
    net_.steps_ = std::move(kept);
    for (network::output_port& o : net_.outputs_) o.id = renamed[at(o.id)];
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
    // 0: known when shapes are. Plans check it then.
    if (v.channels != channels && v.channels != 0)
        throw error(concat(name, " ", what), concat(channels, " channels"), concat(v.channels));
}

KDNA_FUNC void network_builder::check_known(std::string_view name, std::string_view what, const value& v) const {
    if (v.id < 0 || v.id >= static_cast<index_t>(values_.size()) ||
        values_[static_cast<std::size_t>(v.id)].channels != v.channels)
        throw error(concat(name, " ", what), "a value of this network",
                    concat("value ", v.id, " of ", v.channels, " channels"));
}

/// A step whose output is an image.
KDNA_FUNC network::value network_builder::push(std::unique_ptr<operation> op, std::vector<value> inputs,
                                               const std::optional<value>& last, index_t channels) {
    const nd_shape from = known_shape(inputs.front(), op->name());
    if (last) inputs.push_back(*last);
    return add_step(std::move(op), inputs, {}, {channels, {from.rank() > 0 ? from[0] : 0, channels, 0, 0}});
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
