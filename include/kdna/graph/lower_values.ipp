// Definitions of graph/lowering.hpp: operations that are no layers.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <limits>
#include <utility>

#include <kdna/graph/lowering.hpp>
#include <kdna/nn/ops/dynamic_relu.hpp>
#include <kdna/nn/ops/elementwise.hpp>
#include <kdna/nn/ops/matmul.hpp>
#include <kdna/nn/ops/norm.hpp>
#include <kdna/nn/ops/pad.hpp>
#include <kdna/nn/ops/softmax.hpp>

namespace kdna::inline KDNA_ABI::graph {

KDNA_FUNC void lowering::add_constant(const node& n, attributes& a) {
    if (!n.in.empty()) throw error(n.where(), "no inputs", concat(n.in.size()));
    only_roles(n, {"value"});
    a.finish();
    std::vector<index_t> shape = tensor_shape(n, "value");
    if (shape.empty()) shape.push_back(1);  // a number
    push(n.out, std::make_unique<constant_operation>(nd_shape(shape, n.where()), take(n, "value"), n.name), {});
}

KDNA_FUNC void lowering::add_batch_norm(const fused_layer& f, attributes& a) {
    const node& n = *f.layer;
    only_roles(n, {"weight", "bias", "mean", "var"});
    const nd_shape& x = shape_of(n.in.front());
    if (x.rank() < 2) throw error(n.where(), "an input of rank 2 to 5", to_string(x));
    const batch_norm bn = take_bn(n, "", x[1], a.number("eps", 1e-5));
    a.finish();
    const activation act = f.act != nullptr ? take_activation(*f.act, x[1]) : activation::none;
    ops::batch_norm op(bn.weight, bn.bias, bn.mean, bn.var, static_cast<float>(bn.eps), n.name, act);
    push(f.out,
         std::make_unique<value_operation<ops::batch_norm>>(
             std::move(op), value_step{.name = n.name,
                                       .what = f.act != nullptr ? concat("batch_norm and ", to_string(act)) : n.op,
                                       .in_place = true}),
         {f.input});
}

KDNA_FUNC void lowering::add_layer_norm(const node& n, attributes& a) {
    only_roles(n, {"weight", "bias"});
    const index_t axes = a.integer("axes");
    const auto eps = static_cast<float>(a.number("eps", 1e-5));
    a.finish();
    const nd_shape& x = shape_of(n.in.front());
    if (axes < 1 || axes > x.rank()) throw error(concat(a.where(), ", axes"), concat("1 to ", x.rank()), concat(axes));
    const auto last = x.extents().last(static_cast<std::size_t>(axes));
    const std::vector<index_t> normalised(last.begin(), last.end());
    const auto weight = take_if(n, "weight", normalised), bias = take_if(n, "bias", normalised);
    if (fused_ != nullptr && fused_->gives_affine_away(n))
        return push_value(n, ops::layer_norm(nd_shape(normalised), {}, {}, eps, n.name), true, true,
                          "layer_norm, weight and bias in the kernels behind it,");
    if (!weight.empty() || !bias.empty())
        return push_value(n, ops::layer_norm(nd_shape(normalised), weight, bias, eps, n.name), axes < x.rank(), true);
    const auto make = [=, name = n.name](std::span<const nd_shape> in) {
        const auto extents = in.front().extents();
        return ops::layer_norm(nd_shape(extents.last(static_cast<std::size_t>(axes))), {}, {}, eps, name);
    };
    push_shaped<ops::layer_norm>(n, make, {}, axes < x.rank());
}

KDNA_FUNC void lowering::add_group_norm(const node& n, attributes& a) {
    only_roles(n, {"weight", "bias"});
    const nd_shape& x = shape_of(n.in.front());
    if (x.rank() < 2) throw error(n.where(), "an input of rank 2 to 5", to_string(x));
    const index_t groups = a.integer("groups");
    const auto eps = static_cast<float>(a.number("eps", 1e-5));
    a.finish();
    push_value(n, ops::group_norm(groups, take_if(n, "weight", {x[1]}), take_if(n, "bias", {x[1]}), eps, n.name), true);
}

KDNA_FUNC void lowering::add_activation(const node& n, attributes&) {
    const nd_shape& x = shape_of(n.in.front());
    push_value(n, ops::activate(take_activation(n, x.rank() > 1 ? x[1] : 1), n.name), true, true);
}

KDNA_FUNC void lowering::add_clamp(const node& n, attributes& a) {
    only_roles(n, {});
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double low = a.number("low", -infinity), high = a.number("high", infinity);
    a.finish();
    push_value(n, ops::unary::clamp(static_cast<float>(low), static_cast<float>(high), n.name), true, true);
}

KDNA_FUNC void lowering::add_binary(const node& n, attributes& a) {
    only_roles(n, {});
    constexpr std::string_view names[] = {"add", "sub", "mul", "div", "maximum", "minimum"};
    const auto kind =
        static_cast<ops::binary_kind>(std::find(std::begin(names), std::end(names), n.op) - std::begin(names));
    if (n.in.size() == 2) {
        a.finish();
        push_value(n, ops::binary(kind), true, shape_of(n.in[0]).rank() >= shape_of(n.in[1]).rank());
        return;
    }
    const auto scalar = static_cast<float>(a.number("scalar"));
    const bool first = a.boolean("scalar_first", false);
    a.finish();
    push_value(n, ops::binary(kind, scalar, first), true, true);
}

KDNA_FUNC void lowering::add_unary(const node& n, attributes& a) {
    only_roles(n, {});
    if (n.op == "pow") {
        const auto exponent = static_cast<float>(a.number("exponent"));
        a.finish();
        push_value(n, ops::unary::pow(exponent), true, true);
        return;
    }
    a.finish();
    constexpr std::pair<std::string_view, ops::unary_kind> kinds[] = {
        {"abs", ops::unary_kind::abs}, {"neg", ops::unary_kind::neg},   {"exp", ops::unary_kind::exp},
        {"log", ops::unary_kind::log}, {"sqrt", ops::unary_kind::sqrt}, {"rsqrt", ops::unary_kind::rsqrt}};
    for (const auto& [name, kind] : kinds)
        if (n.op == name) push_value(n, ops::unary(kind, n.name), true, true);
}

namespace detail {

/// A reshape whose output's extents follow from the input's.
template <class Rule>
[[nodiscard]] std::unique_ptr<operation> reshaping(const node& n, Rule rule) {
    return std::make_unique<reshape_operation>(std::move(rule), n.name);
}

}  // namespace detail

KDNA_FUNC void lowering::add_reshape(const node& n, attributes& a) {
    only_roles(n, {});
    std::vector<std::string> shapes;
    std::vector<extent> extents = a.extents("shape", shapes, 1);
    a.finish();
    push(n.out, detail::reshaping(n, reshape_operation::to_extents(std::move(extents), n.name)), n.in, shapes);
}

KDNA_FUNC void lowering::add_flatten(const node& n, attributes& a) {
    only_roles(n, {});
    const index_t first = a.integer("first", 0), last = a.integer("last", -1);
    a.finish();
    push(n.out, detail::reshaping(n, reshape_operation::flattened(first, last, n.name)), n.in);
}

KDNA_FUNC void lowering::add_squeeze(const node& n, attributes& a) {
    only_roles(n, {});
    const index_t rank = shape_of(n.in.front()).rank();
    std::set<index_t> axes;
    for (const index_t axis : a.integers("axes")) axes.insert(axis_of(axis, rank, a.where()));
    a.finish();
    const auto rule = [=, name = n.name](std::span<const nd_shape> in) {
        std::vector<index_t> to;
        for (index_t i = 0; i < in.front().rank(); ++i) {
            if (!axes.contains(i)) {
                to.push_back(in.front()[i]);
            } else if (in.front()[i] != 1) {
                throw error(name, concat("an extent of 1 on axis ", i), to_string(in.front()));
            }
        }
        return nd_shape(to, name);
    };
    push(n.out, detail::reshaping(n, rule), n.in);
}

KDNA_FUNC void lowering::add_unsqueeze(const node& n, attributes& a) {
    only_roles(n, {});
    const std::vector<index_t> given = a.integers("axes");
    a.finish();
    const index_t rank = shape_of(n.in.front()).rank() + static_cast<index_t>(given.size());
    if (rank > most_axes) throw error(n.where(), "a rank of 1 to 5", concat(rank));
    std::set<index_t> axes;
    for (const index_t axis : given) axes.insert(axis_of(axis, rank, n.where()));
    if (axes.size() != given.size()) throw error(n.where(), "every axis once", "one twice");
    const auto rule = [=, name = n.name](std::span<const nd_shape> in) {
        std::vector<index_t> to;
        for (index_t i = 0, from = 0; i < rank; ++i) to.push_back(axes.contains(i) ? 1 : in.front()[from++]);
        return nd_shape(to, name);
    };
    push(n.out, detail::reshaping(n, rule), n.in);
}

KDNA_FUNC void lowering::add_permute(const node& n, attributes& a) {
    only_roles(n, {});
    auto op = std::make_unique<permute_operation>(a.integers("axes"), n.name);
    a.finish();
    push(n.out, std::move(op), n.in);
}

KDNA_FUNC void lowering::add_expand(const node& n, attributes& a) {
    only_roles(n, {});
    std::vector<std::string> shapes;
    const std::vector<extent> extents = a.extents("shape", shapes, 1);
    a.finish();
    const auto rule = [extents, name = n.name](std::span<const nd_shape> in) {
        std::vector<index_t> to = extents_of(extents, in, name);
        const index_t rank = in.front().rank(), more = static_cast<index_t>(to.size()) - rank;
        for (std::size_t i = 0; i < to.size(); ++i)  // -1: as it is
            if (to[i] == -1 && static_cast<index_t>(i) >= more) to[i] = in.front()[static_cast<index_t>(i) - more];
        return nd_shape(to, name);
    };
    push(n.out, std::make_unique<expand_operation>(rule, n.name), n.in, shapes);
}

KDNA_FUNC void lowering::add_concat(const node& n, attributes& a) {
    only_roles(n, {});
    if (n.in.empty()) throw error(n.where(), "at least one input", "none");
    const index_t axis = axis_of(a.integer("axis"), shape_of(n.in.front()).rank(), a.where());
    a.finish();
    push(n.out, std::make_unique<concat_operation>(axis, static_cast<index_t>(n.in.size()), n.name), n.in);
}

KDNA_FUNC void lowering::add_slice(const node& n, attributes& a) {
    only_roles(n, {});
    const index_t axis = axis_of(a.integer("axis"), shape_of(n.in.front()).rank(), a.where()),
                  step = a.integer("step", 1);
    std::vector<std::string> shapes;
    extent start = 0;
    std::optional<extent> stop;
    if (a.contains("start")) start = a.one_extent("start", shapes, 1);
    if (a.contains("stop")) stop = a.one_extent("stop", shapes, 1);
    a.finish();
    push(n.out, std::make_unique<slice_operation>(axis, std::move(start), std::move(stop), step, n.name), n.in, shapes);
}

KDNA_FUNC void lowering::add_shuffle(const node& n, attributes& a) {
    only_roles(n, {});
    const index_t by = a.integer(n.op == "channel_shuffle" ? "groups" : "factor");
    a.finish();
    if (n.op == "channel_shuffle")
        push_value(n, ops::channel_shuffle(by, n.name), true);
    else if (n.op == "pixel_shuffle")
        push_value(n, ops::pixel_shuffle(by, n.name), true);
    else
        push_value(n, ops::pixel_unshuffle(by, n.name), true);
}

KDNA_FUNC void lowering::add_pad(const node& n, attributes& a) {
    only_roles(n, {});
    std::vector<std::string> shapes;
    const std::vector<extent> before = a.extents("before", shapes, 1), after = a.extents("after", shapes, 1);
    constexpr std::string_view names[] = {"constant", "reflect", "replicate", "circular"};
    const std::string mode = a.text("mode", "constant");
    const auto* found = std::find(std::begin(names), std::end(names), mode);
    if (found == std::end(names))
        throw error(concat(a.where(), ", mode"), "constant, reflect, replicate or circular", detail::in_quotes(mode));
    const auto filler = static_cast<float>(a.number("value", 0.0));
    a.finish();
    const auto kind = static_cast<ops::pad_mode>(found - std::begin(names));
    const auto make = [=, name = n.name](std::span<const nd_shape> in) {
        return ops::pad(extents_of(before, in, name), extents_of(after, in, name), kind, filler, name);
    };
    const auto is_zero = [](const std::vector<extent>& e) {
        return !e.empty() && e.front().is_number() && e.front().of({}, "pad") == 0;
    };
    push_shaped<ops::pad>(n, make, shapes, is_zero(before) && is_zero(after));
}

KDNA_FUNC void lowering::add_softmax(const node& n, attributes& a) {
    only_roles(n, {});
    const index_t axis = axis_of(a.integer("axis"), shape_of(n.in.front()).rank(), a.where());
    a.finish();
    push_value(n, ops::softmax(axis, n.op == "log_softmax"), axis != 0);
}

KDNA_FUNC void lowering::add_matmul(const node& n, attributes& a) {
    only_roles(n, {});
    a.finish();
    if (n.in.size() != 2) throw error(n.where(), "two inputs", concat(n.in.size()));
    push_value(n, ops::matmul(), ops::matmul::samplewise(shape_of(n.in[0]).rank(), shape_of(n.in[1]).rank()));
}

KDNA_FUNC void lowering::add_dynamic_relu(const node& n, attributes& a) {
    only_roles(n, {});
    a.finish();
    if (n.in.size() != 2) throw error(n.where(), "two inputs, an image and coefficients", concat(n.in.size()));
    push_value(n, ops::dynamic_relu(), true, true);
}

}  // namespace kdna::inline KDNA_ABI::graph

#include <kdna/core/macros_pop.hpp>
