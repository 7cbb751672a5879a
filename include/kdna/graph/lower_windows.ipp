// Definitions of graph/lowering.hpp: kernels per position, bands of frequencies, pooling, resizing and reductions.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <utility>

#include <kdna/graph/lowering.hpp>
#include <kdna/nn/frequency_bands.hpp>
#include <kdna/nn/given_position_conv2d.hpp>
#include <kdna/nn/ops/pool2d.hpp>
#include <kdna/nn/ops/reduce.hpp>
#include <kdna/nn/ops/resize.hpp>

namespace kdna::inline KDNA_ABI::graph {

KDNA_FUNC void lowering::add_pool(const node& n, attributes& a) {
    only_roles(n, {});
    ops::pool_window w{
        .window = a.pair("window", std::nullopt), .stride = a.pair("stride", std::nullopt), .pad = a.sides("pad")};
    w.ceil_mode = a.boolean("ceil_mode", false);
    if (n.op == "avg_pool2d") {
        const bool count_pad = a.boolean("count_include_pad", true);
        std::optional<index_t> divisor;
        if (a.contains("divisor")) divisor = a.integer("divisor");
        a.finish();
        push_value(n, ops::avg_pool2d(w, count_pad, divisor, n.name), true);
        return;
    }
    w.dilation = a.pair("dilation", 1);
    a.finish();
    if (w.is_plain() && shape_of(n.in.front()).rank() == 4)  // this one can run in bands
        push(n.out, std::make_unique<max_pool_operation>(kdna::max_pool2d(w.window, w.stride, w.pad), n.name), n.in);
    else
        push_value(n, ops::max_pool2d(w, n.name), true);
}

KDNA_FUNC void lowering::add_adaptive_pool(const node& n, attributes& a) {
    only_roles(n, {});
    std::vector<std::string> shapes;
    const std::vector<extent> size = a.extents("size", shapes, 1);
    a.finish();
    if (size.size() != 2) throw error(concat(a.where(), ", size"), "two extents", concat(size.size()));
    const auto sized = [size, name = n.name](std::span<const nd_shape> in) {
        const std::vector<index_t> s = extents_of(size, in, name);
        return extent2(s[0], s[1]);
    };
    const bool one = size[0].is_number() && size[1].is_number() && sized({}) == extent2(1);
    if (n.op == "adaptive_max_pool2d")
        push_shaped<ops::adaptive_max_pool2d>(
            n, [=, name = n.name](std::span<const nd_shape> in) { return ops::adaptive_max_pool2d(sized(in), name); },
            shapes);
    else if (one && shape_of(n.in.front()).rank() == 4)  // this one can use the means that a convolution takes
        push(n.out, std::make_unique<global_average_operation>(n.name), n.in);
    else
        push_shaped<ops::adaptive_avg_pool2d>(
            n, [=, name = n.name](std::span<const nd_shape> in) { return ops::adaptive_avg_pool2d(sized(in), name); },
            shapes);
}

/// Kernels of every position that are a value of the network.
KDNA_FUNC void lowering::add_position(const fused_layer& f, attributes& a) {
    const node& n = *f.layer;
    only_roles(n, {});
    const nd_shape& x = shape_of(f.input);
    if (x.rank() != 4) throw error(a.where(), "an image [N, C, H, W]", to_string(x));
    given_position_weights weights{
        .channels = x[1], .groups = a.integer("groups", 1), .window = a.pair("window", std::nullopt)};
    const std::string sharing = a.text("sharing", "neighbours");
    if (sharing != "neighbours" && sharing != "interleaved")
        throw error(concat(a.where(), ", sharing"), "neighbours or interleaved", detail::in_quotes(sharing));
    if (sharing == "interleaved") weights.sharing = weight_sharing::interleaved;
    const conv_params moves{.stride = a.pair("stride", 1), .pad = a.sides("pad"), .dilation = a.pair("dilation", 1)};
    a.finish();
    std::vector<std::string> inputs{f.input, f.given};
    if (residual_of(f)) inputs.push_back(f.residual);
    push(f.out, std::make_unique<given_position_operation>(given_position_conv2d(weights, moves, options_of(f, x[1]))),
         inputs);
}

KDNA_FUNC void lowering::add_frequency_bands(const node& n, attributes& a) {
    only_roles(n, {});
    std::vector<index_t> bands = a.integers("bands");
    a.finish();
    push(n.out, std::make_unique<frequency_bands>(std::move(bands), n.name), n.in);
}

KDNA_FUNC void lowering::add_resize(const node& n, attributes& a) {
    only_roles(n, {});
    const std::string mode = a.text("mode");
    if (mode != "nearest" && mode != "bilinear")
        throw error(concat(a.where(), ", mode"), "nearest or bilinear", detail::in_quotes(mode));
    const auto kind = mode == "nearest" ? ops::resize_mode::nearest : ops::resize_mode::bilinear;
    const bool corners = a.boolean("align_corners", false);
    if (a.contains("scale")) {
        const std::vector<double> scale = a.numbers("scale");
        a.finish();
        if (scale.size() != 2) throw error(concat(a.where(), ", scale"), "two numbers", concat(scale.size()));
        push_value(n, ops::resize(kind, std::array<double, 2>{scale[0], scale[1]}, corners, n.name), true);
        return;
    }
    std::vector<std::string> shapes;
    const std::vector<extent> size = a.extents("size", shapes, 1);
    a.finish();
    if (size.size() != 2) throw error(concat(a.where(), ", size"), "two extents", concat(size.size()));
    const auto make = [=, name = n.name](std::span<const nd_shape> in) {
        const std::vector<index_t> s = extents_of(size, in, name);
        return ops::resize(kind, extent2(s[0], s[1]), corners, name);
    };
    push_shaped<ops::resize>(n, make, shapes);
}

KDNA_FUNC void lowering::add_reduce(const node& n, attributes& a) {
    only_roles(n, {});
    std::vector<index_t> axes = a.integers("axes");
    const bool keep = a.boolean("keep", false);
    a.finish();
    const index_t rank = shape_of(n.in.front()).rank();
    for (index_t& axis : axes) axis = axis_of(axis, rank, n.where());
    std::sort(axes.begin(), axes.end());
    if (n.op == "mean" && keep && rank == 4 && axes == std::vector<index_t>{2, 3}) {
        push(n.out, std::make_unique<global_average_operation>(n.name), n.in);
        return;
    }
    constexpr std::string_view names[] = {"mean", "sum", "max", "min"};
    const auto kind =
        static_cast<ops::reduce_kind>(std::find(std::begin(names), std::end(names), n.op) - std::begin(names));
    push_value(n, ops::reduce(kind, axes, keep, n.name), axes.empty() || axes.front() != 0);
}

}  // namespace kdna::inline KDNA_ABI::graph

#include <kdna/core/macros_pop.hpp>
