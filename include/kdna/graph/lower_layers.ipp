// Definitions of graph/lowering.hpp: convolutions and fully connected layers, with what is fused into them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

#include <kdna/graph/lowering.hpp>
#include <kdna/nn/conv_transpose2d.hpp>
#include <kdna/nn/value_operations.hpp>

namespace kdna::inline KDNA_ABI::graph {

KDNA_FUNC void lowering::add_plain_layer(const node& n, attributes&) { add_layer(alone(n)); }

KDNA_FUNC void lowering::add_layer(const fused_layer& f) {
    attributes a(*f.layer);
    if (f.layer->op == "conv2d")
        add_conv2d(f, a);
    else if (f.layer->op == "conv_transpose2d")
        add_conv_transpose2d(f, a);
    else if (f.layer->op == "batch_norm")
        add_batch_norm(f, a);
    else if (f.layer->op == "position_conv2d")
        add_position(f, a);
    else
        add_linear(f, a);
}

/// BatchNorm and a factor of each channel, as one BatchNorm.
KDNA_FUNC conv_options lowering::options_of(const fused_layer& f, index_t channels) {
    conv_options out{.residual = f.add != nullptr, .name = f.layer->name};
    if (f.bn != nullptr) {
        attributes a(*f.bn);
        only_roles(*f.bn, {"weight", "bias", "mean", "var"});
        out.bn = take_bn(*f.bn, "", channels, a.number("eps", 1e-5));
        a.finish();
    }
    if (f.factor != nullptr) {
        attributes(*f.factor).finish();
        attributes(*f.scale).finish();
        const std::span<const float> c = take(*f.factor, "value");
        scale_shift affine{std::vector<double>(c.size(), 1.0), std::vector<double>(c.size(), 0.0)};
        if (out.bn) affine = fold(*out.bn, channels, f.layer->name);
        std::vector<float> scale, shift;
        for (std::size_t i = 0; i < c.size(); ++i) {
            scale.push_back(static_cast<float>(affine.scale[i] * static_cast<double>(c[i])));
            shift.push_back(static_cast<float>(affine.shift[i] * static_cast<double>(c[i])));
        }
        out.bn = batch_norm{.weight = kept(std::move(scale)),
                            .bias = kept(std::move(shift)),
                            .mean = kept(std::vector<float>(c.size(), 0.0F)),
                            .var = kept(std::vector<float>(c.size(), 1.0F)),
                            .eps = 0.0};
    }
    if (f.act != nullptr) out.act = take_activation(*f.act, channels);
    return out;
}

KDNA_FUNC channel_gate lowering::gate_of(const fused_gate& g, index_t channels) {
    channel_gate_weights w;
    const auto linear = [&](const node& n) {
        attributes a(n);
        static_cast<void>(a.text("method", "dense"));
        static_cast<void>(a.pair("stride", 1));
        static_cast<void>(a.sides("pad"));
        static_cast<void>(a.pair("dilation", 1));
        static_cast<void>(a.integer("groups", 1));
        static_cast<void>(a.text("pad_mode", "zeros"));
        a.finish();
        only_roles(n, {"weight", "bias"});
        return linear_weights{.weight = take(n, "weight"),
                              .bias = has(n, "bias") ? take(n, "bias") : std::span<const float>()};
    };
    w.fc1 = linear(*g.fc1);
    w.fc2 = linear(*g.fc2);
    if (g.bn1 != nullptr) {
        attributes a(*g.bn1);
        only_roles(*g.bn1, {"weight", "bias", "mean", "var"});
        w.bn = take_bn(*g.bn1, "", tensor_shape(*g.fc1, "weight").at(0), a.number("eps", 1e-5));
        a.finish();
    }
    w.hidden = take_activation(*g.act1, 1);
    w.gate = take_activation(*g.act2, 1);
    return channel_gate(w, channels, g.fc1->name);
}

/// The kernel of a tensor, which is packed once however many layers have it.
KDNA_FUNC dense_kernel lowering::shared_kernel(const node& n, const kernel_shape& k) const {
    const std::string& tensor = tensor_of(n, "weight");
    const std::string key = concat(tensor, '\n', to_string(k));
    const auto found = shared_->kernels.find(key);
    const std::span<const float> weights = take(n, "weight");
    if (found != shared_->kernels.end()) return found->second;
    return shared_->kernels.emplace(key, dense_kernel::pack(k, weights, n.name, storage_of(n, "weight"))).first->second;
}

/// The kernel of a layer, and its bias, with the weight and bias of the layer norm in front of it folded in if there is one.
KDNA_FUNC dense_kernel lowering::kernel_and_bias(const fused_layer& f, const kernel_shape& k,
                                                 std::span<const float>& bias) {
    const node& n = *f.layer;
    bias = take_if(n, "bias", {k.o});
    if (f.affine == nullptr) return shared_kernel(n, k);
    const std::span<const float> w = take(n, "weight"), scale = take_if(*f.affine, "weight", {k.i}),
                                 shift = take_if(*f.affine, "bias", {k.i});
    std::vector<float> kernel(w.begin(), w.end()), sums;
    const auto channels = static_cast<std::size_t>(k.i);
    for (std::size_t o = 0; o < static_cast<std::size_t>(k.o); ++o) {
        double sum = bias.empty() ? 0.0 : static_cast<double>(bias[o]);
        for (std::size_t c = 0; c < channels; ++c) {
            float& weight = kernel[o * channels + c];
            if (!shift.empty()) sum += static_cast<double>(weight) * static_cast<double>(shift[c]);
            if (!scale.empty()) weight *= scale[c];
        }
        sums.push_back(static_cast<float>(sum));
    }
    if (!bias.empty() || !shift.empty()) bias = kept(std::move(sums));
    return dense_kernel::pack(k, kernel, n.name, storage_of(n, "weight"));
}

/// The value that is added to what a layer makes.
KDNA_FUNC std::optional<lowering::value> lowering::residual_of(const fused_layer& f) const {
    if (f.add == nullptr) return std::nullopt;
    attributes(*f.add).finish();
    return value_of(f.residual);
}

KDNA_FUNC void lowering::add_conv2d(const fused_layer& f, attributes& a) {
    const std::string method = a.text("method", "dense");
    conv_params moves{.stride = a.pair("stride", 1), .pad = a.sides("pad"), .dilation = a.pair("dilation", 1)};
    const std::string mode = a.text("pad_mode", "zeros");
    if (mode != "zeros" && mode != "circular")
        throw error(concat(a.where(), ", pad_mode"), "zeros or circular", detail::in_quotes(mode));
    if (mode == "circular") moves.mode = padding_mode::circular;
    if (shape_of(f.input).rank() != 4) throw error(a.where(), "an image [N, C, H, W]", to_string(shape_of(f.input)));
    if (method == "dense" || method == "kernel_dna")
        add_dense(f, a, moves, method == "kernel_dna");
    else if (method == "mixture" || method == "dymn")
        add_mixture(f, a, moves, method == "dymn");
    else if (method == "modulated")
        add_modulated(f, a, moves);
    else
        add_dynamic(f, a, moves, method);
}

/// The kernel of a node whose tensor's last extents are [O, C / groups, KH, KW].
KDNA_FUNC kernel_shape lowering::shape_of_kernel(const std::vector<index_t>& weight, attributes& a) const {
    const index_t groups = a.integer("groups", 1);
    if (groups < 1 || groups > (index_t{1} << 30))
        throw error(concat(a.where(), ", groups"), "at least 1", concat(groups));
    const auto w = std::span(weight).last(4);
    const kernel_shape k{
        .o = w[0], .i = checked_mul(w[1], groups, a.where()), .kh = w[2], .kw = w[3], .groups = groups};
    static_cast<void>(weight_count(k, a.where()));
    return k;
}

KDNA_FUNC void lowering::add_dense(const fused_layer& f, attributes& a, const conv_params& moves, bool child) {
    const node& n = *f.layer;
    const std::vector<index_t>& w = tensor_shape(n, "weight");
    if (w.size() != 4) throw error(concat(a.where(), ", weight"), "[O, C / groups, KH, KW]", concat("rank ", w.size()));
    const kernel_shape k = shape_of_kernel(w, a);
    conv_options options = options_of(f, k.o);
    adapted<dense_kernel> kernel{kernel_and_bias(f, k, options.bias), {}, {}};
    std::optional<channel_gate> gate;
    if (child) {
        only_roles(n, {"weight", "bias", "spatial", "filter", "fc1", "fc1_bias", "fc2", "fc2_bias", "bn.weight",
                       "bn.bias", "bn.mean", "bn.var"});
        static_adapter adapter;
        if (has(n, "spatial")) adapter.spatial = take(n, "spatial");
        if (has(n, "filter")) adapter.filter = take(n, "filter");
        kernel = kernel.source.child(adapter, n.name);
        const double eps = a.number("bn_eps", 1e-5);
        const auto act = [&](std::string_view key, const char* otherwise) {
            const std::string name = a.text(key, otherwise);
            for (int i = 0; i < activation_kinds; ++i)
                if (name == to_string(static_cast<activation_kind>(i)) &&
                    !takes_channels(static_cast<activation_kind>(i)))
                    return activation{static_cast<activation_kind>(i), 0.0F, {}};
            throw error(concat(a.where(), ", ", key), "an activation without parameters", detail::in_quotes(name));
        };
        const activation hidden = act("hidden", "relu"), last = act("gate", "sigmoid");
        if (has(n, "fc1")) {
            const std::vector<index_t>& fc1 = tensor_shape(n, "fc1");
            if (fc1.size() != 2 && fc1.size() != 4)
                throw error(concat(a.where(), ", fc1"), "[h, C] or [h, C, 1, 1]", concat("rank ", fc1.size()));
            const index_t h = fc1[0];
            if (h < 1) throw error(concat(a.where(), ", fc1"), "extents >= 1", concat(h));
            channel_gate_weights g{.fc1 = {take(n, "fc1", {h, k.i}), take_if(n, "fc1_bias", {h})},
                                   .hidden = hidden,
                                   .fc2 = {take(n, "fc2", {k.i, h}), take_if(n, "fc2_bias", {k.i})},
                                   .gate = last};
            if (has(n, "bn.mean")) g.bn = take_bn(n, "bn.", h, eps);
            gate.emplace(g, k.i, n.name);
        }
    } else {
        only_roles(n, {"weight", "bias"});
        if (f.gate) gate = gate_of(*f.gate, k.i);
    }
    a.finish();
    const shape4 out = output_shape(image_shape(shape_of(f.input), n.name), k, moves, n.name);
    const std::optional<value> residual = residual_of(f);
    const value y =
        gate ? builder_.add(conv2d<dense_kernel, channel_gate>(std::move(kernel), moves, options, *std::move(gate)),
                            value_of(f.input), residual)
             : builder_.add(conv2d<dense_kernel>(std::move(kernel), moves, options), value_of(f.input), residual);
    made(f.out, y, nd_shape(out));
}

KDNA_FUNC void lowering::add_conv_transpose2d(const fused_layer& f, attributes& a) {
    const node& n = *f.layer;
    only_roles(n, {"weight", "bias"});
    const conv_transpose_params moves{.stride = a.pair("stride", 1),
                                      .pad = a.pair("pad", 0),
                                      .output_pad = a.pair("output_pad", 0),
                                      .dilation = a.pair("dilation", 1),
                                      .groups = a.integer("groups", 1)};
    a.finish();
    const std::vector<index_t>& w = tensor_shape(n, "weight");
    if (w.size() != 4) throw error(concat(a.where(), ", weight"), "[C, O / groups, KH, KW]", concat("rank ", w.size()));
    const index_t filters = checked_mul(w[1], std::max<index_t>(moves.groups, 1), a.where());
    conv_options options = options_of(f, filters);
    options.bias = take_if(n, "bias", {filters});
    std::vector<std::string> inputs{f.input};
    if (residual_of(f)) inputs.push_back(f.residual);
    push(f.out, std::make_unique<conv_transpose2d_operation>(w, take(n, "weight"), moves, options), inputs);
}

KDNA_FUNC void lowering::add_linear(const fused_layer& f, attributes& a) {
    const node& n = *f.layer;
    only_roles(n, {"weight", "bias"});
    a.finish();
    const std::vector<index_t>& w = tensor_shape(n, "weight");
    if (w.size() != 2) throw error(concat(a.where(), ", weight"), "[O, C]", concat("rank ", w.size()));
    const kernel_shape k{.o = w[0], .i = w[1]};
    static_cast<void>(weight_count(k, a.where()));
    const nd_shape x = shape_of(f.input);
    if (x.rank() < 2 || x[x.rank() - 1] != k.i)
        throw error(a.where(), concat("an input of rank 2 to 5 whose last extent is ", k.i), to_string(x));
    conv_options options = options_of(f, k.o);
    dense_kernel kernel = kernel_and_bias(f, k, options.bias);
    conv2d<dense_kernel> layer(std::move(kernel), {}, options);
    if (x.rank() == 2) {
        made(f.out, builder_.add_linear(std::move(layer), value_of(f.input)), nd_shape{x[0], k.o});
        return;
    }
    // A 1x1 convolution of an image [N, C, rows, columns], which is a view of the input.
    std::string from = f.input;
    int inside = 0;
    const auto step = [&](std::unique_ptr<operation> op) {
        const std::string to = inner(f.out, inside++);
        push(to, std::move(op), {from});
        from = to;
    };
    const auto shaped = [&](std::vector<extent> extents) {
        return std::make_unique<reshape_operation>(
            [extents = std::move(extents), name = n.name](std::span<const nd_shape> in) {
                return nd_shape(extents_of(extents, in, name), name);
            },
            n.name);
    };
    if (x.rank() == 3) step(shaped({extent::dim(0, 0), extent::dim(0, 1), 1, extent::dim(0, 2)}));
    if (x.rank() == 5)
        step(shaped({extent::dim(0, 0), extent::dim(0, 1) * extent::dim(0, 2), extent::dim(0, 3), extent::dim(0, 4)}));
    step(std::make_unique<permute_operation>(std::vector<index_t>{0, 3, 1, 2}, n.name));
    if (f.permute != nullptr) {
        attributes permuted(*f.permute);
        static_cast<void>(permuted.integers("axes"));
        permuted.finish();
        const std::optional<value> residual = residual_of(f);
        const nd_shape& image = shape_of(from);
        made(f.out, builder_.add(std::move(layer), value_of(from), residual),
             nd_shape{image[0], k.o, image[2], image[3]});
        return;
    }
    const nd_shape image = shape_of(from);
    const std::string conv = inner(f.out, inside++);
    made(conv, builder_.add(std::move(layer), value_of(from)), nd_shape{image[0], k.o, image[2], image[3]});
    from = conv;
    if (x.rank() == 4) {
        push(f.out, std::make_unique<permute_operation>(std::vector<index_t>{0, 2, 3, 1}, n.name), {from});
        return;
    }
    step(std::make_unique<permute_operation>(std::vector<index_t>{0, 2, 3, 1}, n.name));
    std::vector<extent> back;
    for (index_t i = 0; i + 1 < x.rank(); ++i) back.push_back(extent::dim(1, i));
    back.push_back(extent::dim(0, -1));
    push(f.out, shaped(std::move(back)), {from}, {f.input});
}

}  // namespace kdna::inline KDNA_ABI::graph

#include <kdna/core/macros_pop.hpp>
