// Definitions of graph/lowering.hpp: convolutions by the methods of other papers than KernelDNA.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <utility>

#include <kdna/dna/dymn.hpp>
#include <kdna/dna/modulated.hpp>
#include <kdna/graph/lowering.hpp>
#include <kdna/models/dynamic_layers.hpp>

namespace kdna::inline KDNA_ABI::graph {

/// The n kernels of a tensor, and their biases, which are packed once however many layers mix them.
KDNA_FUNC mixture_kernel lowering::shared_mixture(const node& n, index_t count, const kernel_shape& k) const {
    const std::span<const float> weights = take(n, "weight"), biases = take_if(n, "bias", {count, k.o});
    const std::string key =
        concat(tensor_of(n, "weight"), '\n', to_string(k), '\n', biases.empty() ? "" : tensor_of(n, "bias"));
    const auto found = shared_->mixtures.find(key);
    if (found != shared_->mixtures.end()) return found->second;
    return shared_->mixtures
        .emplace(key, mixture_kernel::pack(count, k, weights, biases, n.name, storage_of(n, "weight")))
        .first->second;
}

/// A sum of kernels whose coefficients are a value of the network, or are routed by a context that is one.
KDNA_FUNC void lowering::add_mixture(const fused_layer& f, attributes& a, const conv_params& moves, bool routed) {
    const node& n = *f.layer;
    if (routed)
        only_roles(n, {"weight", "bias", "residuals.weight", "residuals.bias"});
    else
        only_roles(n, {"weight", "bias"});
    const std::vector<index_t>& w = tensor_shape(n, "weight");
    if (w.size() != 5)
        throw error(concat(a.where(), ", weight"), "[n, O, C / groups, KH, KW]", concat("rank ", w.size()));
    const kernel_shape k = shape_of_kernel(w, a);
    a.finish();
    mixture_kernel kernel = shared_mixture(n, w[0], k);
    const conv_options options = options_of(f, k.o);
    if (!routed)
        return push_given(f, std::make_unique<const conv2d<mixture_kernel, given_mixture>>(
                                 std::move(kernel), moves, options, given_mixture{w[0]}));
    const index_t context = context_of(n, "residuals.weight", w[0]);
    dymn_router routing({.weight = take(n, "residuals.weight"), .bias = take_if(n, "residuals.bias", {w[0]})}, context,
                        1.0, n.name);
    push_given(f, std::make_unique<const conv2d<mixture_kernel, dymn_router>>(std::move(kernel), moves, options,
                                                                              std::move(routing)));
}

/// StyleGAN2's, by a style or by what an affine layer makes a style of.
KDNA_FUNC void lowering::add_modulated(const fused_layer& f, attributes& a, const conv_params& moves) {
    const node& n = *f.layer;
    only_roles(n, {"weight", "bias", "affine.weight", "affine.bias"});
    const std::vector<index_t>& w = tensor_shape(n, "weight");
    if (w.size() != 4) throw error(concat(a.where(), ", weight"), "[O, C / groups, KH, KW]", concat("rank ", w.size()));
    const kernel_shape k = shape_of_kernel(w, a);
    modulation m{.demodulate = a.boolean("demodulate", true), .eps = a.number("eps", 1e-8)};
    a.finish();
    if (has(n, "affine.weight")) {
        static_cast<void>(context_of(n, "affine.weight", k.i));
        m.affine = {.weight = take(n, "affine.weight"), .bias = take_if(n, "affine.bias", {k.i})};
    } else if (has(n, "affine.bias")) {
        throw error(concat(a.where(), ", affine.bias"), "no bias without an affine.weight", "one");
    }
    conv_options options = options_of(f, k.o);
    options.bias = take_if(n, "bias", {k.o});
    const dense_kernel kernel = shared_kernel(n, k);
    modulated_router routing(kernel, m, n.name);
    push_given(
        f, std::make_unique<const conv2d<dense_kernel, modulated_router>>(kernel, moves, options, std::move(routing)));
}

/// The length D of a context, from a matrix [rows, D] that it is multiplied by.
KDNA_FUNC index_t lowering::context_of(const node& n, const std::string& role, index_t rows) const {
    const std::vector<index_t>& s = tensor_shape(n, role);
    const bool pixels = s.size() == 4 && s[2] == 1 && s[3] == 1;
    if ((s.size() != 2 && !pixels) || s[0] != rows || s[1] < 1)
        throw error(concat(n.where(), ", ", role), concat("[", rows, ", D]"), to_string(nd_shape(s, n.name)));
    return s[1];
}

/// Adds a layer with what is given to it for each sample.
KDNA_FUNC void lowering::push_given(const fused_layer& f, std::unique_ptr<const conv_layer<backend::cpu>> layer) {
    std::vector<std::string> inputs{f.input, f.given};
    if (residual_of(f)) inputs.push_back(f.residual);
    push(f.out, std::make_unique<convolution_operation<backend::cpu>>(std::move(layer)), inputs);
}

KDNA_FUNC void lowering::add_dynamic(const fused_layer& f, attributes& a, const conv_params& moves,
                                     const std::string& method) {
    const node& n = *f.layer;
    constexpr std::string_view methods[] = {"condconv", "dyconv",           "odconv", "dcd",
                                            "acdc",     "kernel_warehouse", "sparse", "fdconv"};
    if (std::find(std::begin(methods), std::end(methods), method) == std::end(methods))
        throw error(
            concat(a.where(), ", method"),
            "dense, kernel_dna, mixture, condconv, dyconv, odconv, dcd, acdc, kernel_warehouse, sparse, fdconv, dymn "
            "or modulated",
            detail::in_quotes(method));
    const std::vector<index_t> extents = a.integers("kernel");
    if (extents.size() != 4)
        throw error(concat(a.where(), ", kernel"), "[O, C, KH, KW]", concat(extents.size(), " numbers"));
    const kernel_shape k{
        .o = extents[0], .i = extents[1], .kh = extents[2], .kw = extents[3], .groups = a.integer("groups", 1)};
    static_cast<void>(weight_count(k, a.where()));
    if (moves.stride.h != moves.stride.w || moves.dilation.h != moves.dilation.w || moves.mode != padding_mode::zeros)
        throw error(a.where(),
                    "a dynamic layer with the same stride and dilation of rows and columns, and zeros around it",
                    "another");
    std::map<std::string, std::string> names;
    for (const auto& [role, tensor] : n.tensors) names.emplace(concat(n.name, ".", role), tensor);
    const state_dict_reader own = weights_.renamed(std::move(names));
    const builder m(builder_, own.scope(concat(n.name, ".")));
    const conv_options epilogue = options_of(f, k.o);
    models::layer_call call{.stride = moves.stride.h,
                            .act = epilogue.act,
                            .residual = residual_of(f),
                            .pad = moves.pad,
                            .dilation = moves.dilation.h,
                            .bn = epilogue.bn};
    const value& x = value_of(f.input);
    const bool has_bias = method != "dcd" && a.boolean("bias", false);
    call.bias = has_bias;
    value y;
    if (method == "condconv") {
        y = models::condconv_layer(m, x, k, call);
    } else if (method == "dyconv") {
        y = models::dyconv_layer(m, x, k, call);
    } else if (method == "odconv") {
        y = models::odconv_layer(m, x, k, call);
    } else if (method == "fdconv") {
        y = models::fdconv_layer(m, x, value_of(f.given.empty() ? f.input : f.given), k, call);
    } else if (method == "sparse") {
        y = models::sparse_kernel_layer(m, x, k, call);
    } else if (method == "acdc") {
        const std::string& tensor = tensor_of(n, "coefficients");
        const std::vector<index_t>& s = tensor_shape(n, "coefficients");
        if (s.size() != 3)
            throw error(concat(a.where(), ", coefficients"), "[O, C / groups, M]", concat("rank ", s.size()));
        const std::span<const float> values = take(n, "coefficients");
        static_cast<void>(own.contains(concat(n.name, ".coefficients")));
        auto found = shared_->coefficients.find(tensor);
        if (found == shared_->coefficients.end())
            found = shared_->coefficients.emplace(tensor, shared_coefficients::pack(s[0], s[1], s[2], values, tensor))
                        .first;
        y = models::acdc_layer(m, x, k, call, found->second);
    } else if (method == "dcd") {
        y = models::dcd_layer(m, x, k, call, a.integer("grid", 1));
    } else if (method == "kernel_warehouse") {
        const std::string& tensor = tensor_of(n, "cells");
        auto found = shared_->warehouses.find(tensor);
        const std::vector<index_t>& s = tensor_shape(n, "cells");
        if (s.size() != 5) throw error(concat(a.where(), ", cells"), "[n, o, c, kh, kw]", concat("rank ", s.size()));
        const std::span<const float> cells = take(n, "cells");
        static_cast<void>(own.contains(concat(n.name, ".cells")));
        if (found == shared_->warehouses.end())
            found = shared_->warehouses
                        .emplace(tensor, warehouse::pack({.n = s[0], .o = s[1], .c = s[2], .kh = s[3], .kw = s[4]},
                                                         cells, tensor, storage_of(n, "cells")))
                        .first;
        y = models::warehouse_layer(m, x, k, call, found->second, a.integer("first_local", 0));
    }
    a.finish();
    own.finish_renamed();
    made(f.out, y, nd_shape(output_shape(image_shape(shape_of(f.input), n.name), k, moves, n.name)));
}

}  // namespace kdna::inline KDNA_ABI::graph

#include <kdna/core/macros_pop.hpp>
