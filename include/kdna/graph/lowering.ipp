// Definitions of graph/lowering.hpp: the table of operations, and what all of them need.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <utility>

#include <kdna/graph/lower_dynamic.ipp>
#include <kdna/graph/lower_layers.ipp>
#include <kdna/graph/lower_values.ipp>
#include <kdna/graph/lower_windows.ipp>
#include <kdna/graph/lowering.hpp>

namespace kdna::inline KDNA_ABI::graph {

KDNA_FUNC lowering::lowering(const description& net, const state_dict& weights, shared_weights& shared,
                             const fusion* fused)
    : net_(&net), all_(&weights), weights_(weights), shared_(&shared), fused_(fused) {
    for (const auto& [name, tensor] : weights.tensors()) all_bytes_ += static_cast<index_t>(tensor.bytes().size());
}

KDNA_FUNC const std::map<std::string_view, lowering::adder>& lowering::adders() {
    static const std::map<std::string_view, adder> all{
        {"conv2d", &lowering::add_plain_layer},
        {"conv_transpose2d", &lowering::add_plain_layer},
        {"linear", &lowering::add_plain_layer},
        {"position_conv2d", &lowering::add_plain_layer},
        {"constant", &lowering::add_constant},
        {"batch_norm", &lowering::add_plain_layer},
        {"layer_norm", &lowering::add_layer_norm},
        {"group_norm", &lowering::add_group_norm},
        {"activation", &lowering::add_activation},
        {"clamp", &lowering::add_clamp},
        {"add", &lowering::add_binary},
        {"sub", &lowering::add_binary},
        {"mul", &lowering::add_binary},
        {"div", &lowering::add_binary},
        {"maximum", &lowering::add_binary},
        {"minimum", &lowering::add_binary},
        {"pow", &lowering::add_unary},
        {"abs", &lowering::add_unary},
        {"neg", &lowering::add_unary},
        {"exp", &lowering::add_unary},
        {"log", &lowering::add_unary},
        {"sqrt", &lowering::add_unary},
        {"rsqrt", &lowering::add_unary},
        {"reshape", &lowering::add_reshape},
        {"flatten", &lowering::add_flatten},
        {"squeeze", &lowering::add_squeeze},
        {"unsqueeze", &lowering::add_unsqueeze},
        {"permute", &lowering::add_permute},
        {"expand", &lowering::add_expand},
        {"concat", &lowering::add_concat},
        {"slice", &lowering::add_slice},
        {"pixel_shuffle", &lowering::add_shuffle},
        {"pixel_unshuffle", &lowering::add_shuffle},
        {"channel_shuffle", &lowering::add_shuffle},
        {"pad", &lowering::add_pad},
        {"max_pool2d", &lowering::add_pool},
        {"avg_pool2d", &lowering::add_pool},
        {"adaptive_avg_pool2d", &lowering::add_adaptive_pool},
        {"adaptive_max_pool2d", &lowering::add_adaptive_pool},
        {"frequency_bands", &lowering::add_frequency_bands},
        {"resize", &lowering::add_resize},
        {"mean", &lowering::add_reduce},
        {"sum", &lowering::add_reduce},
        {"max", &lowering::add_reduce},
        {"min", &lowering::add_reduce},
        {"softmax", &lowering::add_softmax},
        {"dynamic_relu", &lowering::add_dynamic_relu},
        {"log_softmax", &lowering::add_softmax},
        {"matmul", &lowering::add_matmul},
    };
    return all;
}

namespace detail {

/// What the steps of one network may copy of its tensors, beside the kernels that they share: this many times all tensors.
inline constexpr index_t most_copies = 16, always_copied = index_t{1} << 28;

/// A place inside a node's step as a message names it, the node first.
[[nodiscard]] KDNA_FUNC std::string at_node(const node& n, const std::string& where) {
    if (where.starts_with("node ")) return where;
    if (where == n.name || where.starts_with(n.name + " ")) return concat(n.where(), where.substr(n.name.size()));
    return concat(n.where(), ", ", where);
}

}  // namespace detail

KDNA_FUNC void lowering::add_nodes(const std::vector<nd_shape>& inputs) {
    for (std::size_t i = 0; i < net_->inputs.size(); ++i) {
        const input_port& p = net_->inputs[i];
        static_cast<void>(element_count(inputs[i], concat("input ", p.name)));
        values_.emplace(p.name, builder_.input(p.name, p.extents));
        shapes_.emplace(p.name, inputs[i]);
    }
    for (const node& n : net_->nodes) {
        const fused_layer* f = fused_ != nullptr ? fused_->at(n) : nullptr;
        try {
            count_copies(n);
            if (fused_ != nullptr && fused_->part_of_another(n)) continue;
            if (f != nullptr)
                add_layer(*f);
            else
                add_node(n);
        } catch (const error& e) {
            throw error(detail::at_node(n, e.where()), e.expected(), e.found());
        }
    }
}

/// Throws kdna::error if nodes that name a tensor again and again would fill the memory.
KDNA_FUNC void lowering::count_copies(const node& n) {
    const bool shares = n.op == "conv2d" || n.op == "linear";
    for (const auto& [role, tensor] : n.tensors) {
        const auto found = all_->tensors().find(tensor);
        if (found == all_->tensors().end() || (shares && (role == "weight" || role == "cells"))) continue;
        copied_ += static_cast<index_t>(found->second.bytes().size());
    }
    if (copied_ / detail::most_copies > all_bytes_ + detail::always_copied / detail::most_copies)
        throw error(n.where(), concat("nodes that copy at most ", detail::most_copies, " times the network's tensors"),
                    concat(copied_, " bytes"));
}

KDNA_FUNC void lowering::add_node(const node& n) {
    const auto found = adders().find(n.op);
    if (found == adders().end())
        throw error(n.where(), "an operation that kdna knows (docs/graph-file.md)", detail::in_quotes(n.op));
    const bool counted = n.op == "concat" || n.op == "constant" || n.op == "matmul" || n.op == "dynamic_relu";
    const bool two = n.in.size() == 2 && (n.op == "add" || n.op == "sub" || n.op == "mul" || n.op == "div" ||
                                          n.op == "maximum" || n.op == "minimum");
    const std::string_view second = n.op == "frequency_bands" ? "maps" : detail::given_of(n);
    if (!second.empty() && n.in.size() != 2)
        throw error(n.where(), concat("two inputs, an image and ", second), concat(n.in.size()));
    if (!counted && !two && second.empty() && n.in.size() != 1)
        throw error(n.where(), "one input", concat(n.in.size()));
    attributes a(n);
    (this->*found->second)(n, a);
}

KDNA_FUNC network lowering::build() && {
    weights_.finish();
    std::vector<network_builder::output> outputs;
    for (const output_port& o : net_->outputs) outputs.push_back({o.name, value_of(o.value)});
    return std::move(builder_).build(outputs);
}

KDNA_FUNC void lowering::push(const std::string& out, std::unique_ptr<operation> op,
                              const std::vector<std::string>& inputs, const std::vector<std::string>& shapes) {
    std::vector<nd_shape> in;
    std::vector<value> values, others;
    for (const std::string& name : inputs) {
        in.push_back(shape_of(name));
        values.push_back(value_of(name));
    }
    for (const std::string& name : shapes) {
        const auto found = shapes_.find(name);
        if (found == shapes_.end())
            throw error(std::string(op->name()), "extents of a value made before", detail::in_quotes(name));
        in.push_back(found->second);
        others.push_back(value_of(name));
    }
    const nd_shape shape = op->output_shape(in);
    static_cast<void>(element_count(shape, op->name()));
    made(out, builder_.add(std::move(op), values, others, shape.rank() > 1 ? shape[1] : 0), shape);
}

KDNA_FUNC void lowering::made(const std::string& out, const value& v, const nd_shape& shape) {
    values_.insert_or_assign(out, v);
    shapes_.insert_or_assign(out, shape);
}

KDNA_FUNC void lowering::only_roles(const node& n, std::initializer_list<std::string_view> roles) const {
    for (const auto& [role, tensor] : n.tensors)
        if (std::find(roles.begin(), roles.end(), role) == roles.end()) {
            std::string names;
            for (const std::string_view r : roles) names += concat(names.empty() ? "" : ", ", r);
            throw error(concat(n.where(), ", tensors"), names.empty() ? "none" : concat("the roles ", names),
                        detail::in_quotes(role));
        }
}

KDNA_FUNC const std::string& lowering::tensor_of(const node& n, const std::string& role) const {
    const auto found = n.tensors.find(role);
    if (found == n.tensors.end()) throw error(concat(n.where(), ", tensors"), concat("the role ", role), "none");
    return found->second;
}

KDNA_FUNC const std::vector<index_t>& lowering::tensor_shape(const node& n, const std::string& role) const {
    return weights_.shape_of(tensor_of(n, role));
}

KDNA_FUNC std::span<const float> lowering::take(const node& n, const std::string& role) const {
    return weights_.take(tensor_of(n, role), tensor_shape(n, role));
}

KDNA_FUNC std::span<const float> lowering::take(const node& n, const std::string& role,
                                                const std::vector<index_t>& shape) const {
    std::vector<index_t> found = tensor_shape(n, role), expected = shape;
    std::erase(found, 1);
    std::erase(expected, 1);
    // Names the tensor, and what it has to be.
    return found == expected ? take(n, role) : weights_.take(tensor_of(n, role), shape);
}

KDNA_FUNC std::span<const float> lowering::take_if(const node& n, const std::string& role,
                                                   const std::vector<index_t>& shape) const {
    return has(n, role) ? take(n, role, shape) : std::span<const float>();
}

KDNA_FUNC std::span<const float> lowering::kept(std::vector<float> values) {
    kept_.push_back(std::move(values));
    return kept_.back();
}

KDNA_FUNC batch_norm lowering::take_bn(const node& n, std::string_view prefix, index_t channels, double eps) {
    const auto role = [&](std::string_view name) { return concat(prefix, name); };
    const auto count = static_cast<std::size_t>(channels);
    batch_norm bn{.weight = take_if(n, role("weight"), {channels}),
                  .bias = take_if(n, role("bias"), {channels}),
                  .mean = take(n, role("mean"), {channels}),
                  .var = take(n, role("var"), {channels}),
                  .eps = eps};
    if (bn.weight.empty()) bn.weight = kept(std::vector<float>(count, 1.0F));
    if (bn.bias.empty()) bn.bias = kept(std::vector<float>(count, 0.0F));
    return bn;
}

KDNA_FUNC activation lowering::take_activation(const node& n, index_t channels) {
    attributes a(n);
    const std::string kind = a.text("kind");
    activation act;
    bool known = false;
    for (int i = 1; i < activation_kinds; ++i) {
        const auto candidate = static_cast<activation_kind>(i);
        if (kind == to_string(candidate)) {
            act.kind = candidate;
            known = true;
        }
    }
    if (!known) throw error(concat(a.where(), ", kind"), "an activation that kdna knows", detail::in_quotes(kind));
    if (act.kind == activation_kind::elu) act.number = static_cast<float>(a.number("a", 1.0));
    if (act.kind == activation_kind::leaky_relu) act.number = static_cast<float>(a.number("a", 0.01));
    if (act.kind == activation_kind::squared_relu) act.number = static_cast<float>(a.number("a", 1.0));
    only_roles(n, takes_channels(act.kind) ? std::initializer_list<std::string_view>{"a"}
                                           : std::initializer_list<std::string_view>{});
    if (takes_channels(act.kind)) {
        const std::span<const float> slopes = take(n, "a");
        const auto count = static_cast<std::size_t>(channels);
        if (slopes.size() != 1 && slopes.size() != count)
            throw error(concat(a.where(), ", a"), concat("1 or ", channels, " slopes"), concat(slopes.size()));
        act.of_channel = slopes.size() == 1 ? kept(std::vector<float>(count, slopes[0])) : slopes;
    }
    a.finish();
    return act;
}

}  // namespace kdna::inline KDNA_ABI::graph

#include <kdna/core/macros_pop.hpp>
