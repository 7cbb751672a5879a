// The layers of the dynamic methods from a state_dict, under the names of their public code. Each function takes the tensors
// of one layer's module and adds the layer; sizes that the kernel's shape does not give follow from the tensors.
//
// Training's temperatures are 1 here, whatever they were: no state_dict has them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/acdc.hpp>
#include <kdna/dna/condconv.hpp>
#include <kdna/dna/dcd.hpp>
#include <kdna/dna/dyconv.hpp>
#include <kdna/dna/dymn.hpp>
#include <kdna/dna/fdconv.hpp>
#include <kdna/dna/kernel_warehouse.hpp>
#include <kdna/dna/modulated.hpp>
#include <kdna/dna/odconv.hpp>
#include <kdna/dna/sparse_kernel.hpp>
#include <kdna/models/module_builder.hpp>
#include <kdna/nn/dcd_conv2d.hpp>
#include <kdna/nn/frequency_bands.hpp>
#include <kdna/nn/given_position_conv2d.hpp>
#include <kdna/nn/network_functions.hpp>
#include <kdna/nn/route_operation.hpp>

namespace kdna::inline KDNA_ABI::models {

namespace detail {

/// "weight" [n, O, I/groups, KH, KW], any n.
template <conv_backend B>
[[nodiscard]] std::span<const float> kernels(const module_builder<B>& m, const kernel_shape& k) {
    return m.weights().take("weight", {m.weights().extent("weight", 0, 5), k.o, k.channels_per_group(), k.kh, k.kw});
}
/// "weight" as a mixture, and "bias" [n, O] if the layer has one.
template <conv_backend B>
[[nodiscard]] mixture_kernel mixture(const module_builder<B>& m, const kernel_shape& k, bool with_bias) {
    const index_t n = m.weights().extent("weight", 0, 5);
    const auto biases = with_bias ? m.weights().take("bias", {n, k.o}) : std::span<const float>();
    return mixture_kernel::pack(n, k, kernels(m, k), biases, m.name(), m.weights().storage_of("weight"));
}
/// "name.{weight [outputs, inputs, 1, 1], bias [outputs]}".
template <conv_backend B>
[[nodiscard]] linear_weights head(const module_builder<B>& m, std::string_view name, index_t outputs, index_t inputs) {
    return {.weight = m.weights().take(concat(name, ".weight"), {outputs, inputs, 1, 1}),
            .bias = m.weights().take(concat(name, ".bias"), {outputs})};
}
}  // namespace detail

/// Keys weight [n, O, I/groups, KH, KW], routing.{weight [n, C], bias [n]} [, bias [n, O]].
template <conv_backend B>
value condconv_layer(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call) {
    const index_t n = m.weights().extent("weight", 0, 5);
    condconv_router routing(m.weights().take("routing.weight", {n, k.i}), m.weights().take("routing.bias", {n}), k.i,
                            m.name());
    return m.add(x, detail::mixture(m, k, call.bias), call, std::move(routing));
}

/// Keys weight [n, O, I/groups, KH, KW], attention.{fc1.weight [h, C, 1, 1], fc2.{weight, bias}} [, bias [n, O]].
template <conv_backend B>
value dyconv_layer(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call) {
    const module_builder<B> attention = m.child("attention");
    const index_t n = m.weights().extent("weight", 0, 5), hidden = attention.weights().extent("fc1.weight", 0, 4);
    dyconv_router routing(attention.weights().take("fc1.weight", {hidden, k.i, 1, 1}),
                          detail::head(attention, "fc2", n, hidden), k.i, attention.name());
    return m.add(x, detail::mixture(m, k, call.bias), call, std::move(routing));
}

/// Keys weight [n, O, I/groups, KH, KW], attention.{fc.weight [h, C, 1, 1], bn, channel_fc} and, except for a depthwise
/// kernel, attention.filter_fc, for more than one tap attention.spatial_fc, for more than one kernel attention.kernel_fc
/// [, bias].
template <conv_backend B>
value odconv_layer(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call) {
    const module_builder<B> attention = m.child("attention");
    const index_t n = m.weights().extent("weight", 0, 5), hidden = attention.weights().extent("fc.weight", 0, 4);
    const bool depthwise = k.groups == k.i && k.groups == k.o;
    const auto head = [&](bool there, std::string_view name, index_t outputs) {
        return there ? detail::head(attention, name, outputs, hidden) : linear_weights();
    };
    odconv_router routing({.fc = attention.weights().take("fc.weight", {hidden, k.i, 1, 1}),
                           .bn = attention.bn("bn", hidden),
                           .channel = head(true, "channel_fc", k.i),
                           .filter = head(!depthwise, "filter_fc", k.o),
                           .spatial = head(k.taps() > 1, "spatial_fc", k.taps()),
                           .kernel = head(n > 1, "kernel_fc", n)},
                          attention.name());
    const auto bias = m.static_bias(k, call);
    if (n > 1) return m.add(x, detail::mixture(m, k, false), call, std::move(routing), bias);
    return m.add(x, dense_kernel::pack(k, detail::kernels(m, k), m.name(), m.weights().storage_of("weight")), call,
                 std::move(routing), bias);
}

/// DyMN's, by a context [N, D]. Keys weight [n, O, I/groups, KH, KW], residuals.0.{weight [n, D], bias [n]} [, bias [n, O]].
template <conv_backend B>
value dymn_layer(const module_builder<B>& m, const value& x, const value& context, const kernel_shape& k,
                 const layer_call& call, double temperature = 1.0) {
    const index_t n = m.weights().extent("weight", 0, 5), width = m.weights().extent("residuals.0.weight", 1, 2);
    dymn_router routing({.weight = m.weights().take("residuals.0.weight", {n, width}),
                         .bias = m.weights().take("residuals.0.bias", {n})},
                        width, temperature, m.name());
    return m.add(x, context, detail::mixture(m, k, call.bias), call, std::move(routing));
}

/// StyleGAN2's, by a style [N, I], or by a context [N, D] of which affine.{weight [I, D], bias [I]} makes the style. Keys weight
/// [O, I/groups, KH, KW] [, affine] [, bias].
template <conv_backend B>
value modulated_layer(const module_builder<B>& m, const value& x, const value& context, const kernel_shape& k,
                      const layer_call& call, modulation how = {}) {
    const auto kernel = dense_kernel::pack(k, m.weights().take("weight", {k.o, k.channels_per_group(), k.kh, k.kw}),
                                           m.name(), m.weights().storage_of("weight"));
    if (m.weights().contains("affine.weight"))
        how.affine = {.weight = m.weights().take("affine.weight", {k.i, m.weights().extent("affine.weight", 1, 2)}),
                      .bias = m.weights().take("affine.bias", {k.i})};
    return m.add(x, context, kernel, call, modulated_router(kernel, how, m.name()), m.static_bias(k, call));
}

/// Warehouse i, warehouse_manager.weights.i [n, o_e, c_e, kh_e, kw_e]; of layers on vectors (`spatial` = 1) [n, o_e, c_e, 1].
template <conv_backend B>
[[nodiscard]] warehouse take_warehouse(const module_builder<B>& m, index_t i, std::size_t spatial = 2) {
    const module_builder<B> manager = m.child("warehouse_manager.weights");
    const std::string name = concat(i);
    const std::size_t rank = 3 + spatial;
    const auto extent = [&](std::size_t axis) { return manager.weights().extent(name, axis, rank); };
    cell_shape s{.n = extent(0), .o = extent(1), .c = extent(2)};
    std::vector<index_t> shape{s.n, s.o, s.c};
    if (spatial == 2) shape.push_back(s.kh = extent(3));
    shape.push_back(s.kw = extent(rank - 1));
    return warehouse::pack(s, manager.weights().take(name, shape), manager.full_name(name),
                           manager.weights().storage_of(name));
}
/// The first `count` warehouses of convolutions.
template <conv_backend B>
[[nodiscard]] std::vector<warehouse> take_warehouses(const module_builder<B>& m, index_t count) {
    std::vector<warehouse> out;
    for (index_t i = 0; i < count; ++i) out.push_back(take_warehouse(m, i));
    return out;
}

/// How many of a warehouse's cells a layer of m combinations claims as its own, which is where the next layer's begin:
/// ratio * m, and below one those on the diagonals of p x p squares, p = 1 / ratio.
[[nodiscard]] inline index_t claimed_cells(index_t combinations, double ratio) {
    if (ratio >= 1.0) return static_cast<index_t>(ratio) * combinations;
    const auto p = static_cast<index_t>(1.0 / ratio);
    index_t count = 0;
    for (index_t i = 0; i < combinations; ++i) count += i % p == i / p % p ? 1 : 0;
    return count;
}

/// A layer whose kernel is assembled from a warehouse's cells. Keys attention.{fc1.weight [h, C], norm1, fc2.{weight
/// [m * (n + 1), h], bias}} [, bias]; in the basis variant attention.{fc2.weight [m * (local + b + 1), h], fc3.weight
/// [n - local, b], basis_bias [m * (n + 1)]}, where the layer's own cells begin at `first_local`.
template <conv_backend B>
value warehouse_layer(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call,
                      const warehouse& cells, index_t first_local = 0) {
    const module_builder<B> attention = m.child("attention");
    const state_dict_reader& a = attention.weights();
    warehouse_kernel kernel(cells, k, m.name());
    const index_t combinations = kernel.combinations(), n = cells.shape().n, hidden = a.extent("fc1.weight", 0, 2);
    warehouse_weights w{.fc1 = a.take("fc1.weight", {hidden, k.i}), .norm = attention.bn("norm1", hidden)};
    if (a.contains("fc3.weight")) {
        const index_t others = a.extent("fc3.weight", 0, 2), basis = a.extent("fc3.weight", 1, 2);
        if (others > n)
            throw error(attention.full_name("fc3.weight"), concat("at most ", n, " rows, one for each cell"),
                        concat(others));
        w.local = n - others;
        w.first_local = std::min(first_local, others);
        w.fc2.weight = a.take("fc2.weight", {combinations * (w.local + basis + 1), hidden});
        w.fc3 = a.take("fc3.weight", {others, basis});
        w.basis_bias = a.take("basis_bias", {combinations * (n + 1)});
    } else {
        w.fc2 = {.weight = a.take("fc2.weight", {combinations * (n + 1), hidden}),
                 .bias = a.take("fc2.bias", {combinations * (n + 1)})};
    }
    warehouse_router routing(w, combinations, n, k.i, attention.name());
    return m.add(x, std::move(kernel), call, std::move(routing), m.static_bias(k, call));
}

/// The warehouses of a network. In the basis variant each layer has some cells of its own, and where they begin follows from the
/// layers that were registered before it over the same warehouse: layers are asked for in that order.
template <conv_backend B>
class shared_warehouses {
public:
    shared_warehouses(const module_builder<B>& m, std::vector<warehouse> cells) : network_(m) {
        for (warehouse& w : cells) entries_.push_back({std::move(w)});
    }
    /// What makes the layer `name` of `m` from warehouse i.
    [[nodiscard]] layer_maker<B> layer(const module_builder<B>& m, std::string_view name, std::size_t i) {
        entry& e = entries_.at(i);
        const state_dict_reader a = m.child(concat(name, ".attention")).weights();
        const index_t first = e.claimed;
        if (a.contains("fc3.weight")) {
            const index_t n = e.cells.shape().n, combinations = a.extent("basis_bias", 0, 1) / (n + 1),
                          local = n - a.extent("fc3.weight", 0, 2);
            e.basis = true;
            if (combinations > 0 && local > 0)
                e.claimed +=
                    claimed_cells(combinations, static_cast<double>(local) / static_cast<double>(combinations));
        }
        return [cells = e.cells, first](const module_builder<B>& layer, const value& x, const kernel_shape& k,
                                        const layer_call& call) {
            return warehouse_layer(layer, x, k, call, cells, first);
        };
    }
    /// Throws kdna::error if layers have cells of their own, but not all cells are some layer's.
    void finish() const {
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            const entry& e = entries_[i];
            if (e.basis && e.claimed != e.cells.shape().n)
                throw error(network_.full_name(concat("warehouse_manager.weights.", i)),
                            concat(e.claimed, " cells, as its layers have of their own"), concat(e.cells.shape().n));
        }
    }

private:
    struct entry {
        warehouse cells;
        index_t claimed = 0;
        bool basis = false;
    };
    module_builder<B> network_;
    std::vector<entry> entries_{};
};

namespace detail {

/// The tensors of a DCD layer but for the static kernel, `flat`: without the two extents of 1x1 kernels.
template <conv_backend B>
[[nodiscard]] dcd_weights dcd_tensors(const module_builder<B>& m, const kernel_shape& k, index_t grid,
                                      std::string_view q, std::string_view p, bool flat) {
    const state_dict_reader& w = m.weights();
    const std::string q_name = concat(q, ".weight"), p_name = concat(p, ".weight");
    const index_t rank = w.extent(q_name, 0, flat ? 2 : 4), hidden = w.extent("fc.0.weight", 0, 2);
    const auto matrix = [&](const std::string& name, index_t rows, index_t columns) {
        return flat ? w.take(name, {rows, columns}) : w.take(name, {rows, columns, 1, 1});
    };
    return {.squeeze = w.take("fc.0.weight", {hidden, grid * grid * k.i}),
            .gate = w.take("fc.1.fc.0.weight", {hidden, hidden}),
            .phi = w.take("fc_phi.weight", {checked_mul(rank, rank, q_name), hidden}),
            .scale = w.take("fc_scale.weight", {k.o, hidden}),
            .q = matrix(q_name, rank, k.i),
            .p = matrix(p_name, k.o, rank),
            .bn1 = m.bn("bn1", rank),
            .bn2 = m.bn("bn2", rank),
            .grid = grid};
}

}  // namespace detail

/// Keys conv.weight [O, C, KH, KW], q.weight [L, C, 1, 1], p.weight [O, L, 1, 1], fc.0, fc.1.fc.0, fc_phi, fc_scale (weights
/// only), bn1, bn2. The router reads grid x grid means of each channel: 2 in ResNet's basic blocks, 1 elsewhere.
template <conv_backend B>
value dcd_layer(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call,
                index_t grid) {
    const dcd_weights w = detail::dcd_tensors(m, k, grid, "q", "p", false);
    return m.net().add(basic_dcd_conv2d<B>(m.kernel("conv", k), w, m.params(k, call), m.options(call)), x,
                       call.residual);
}

/// A DCD layer instead of a fully connected one, on a pooled input. Keys cls.{weight [O, C], bias [O]}, cls_q.weight [L, C],
/// cls_p.weight [O, L], and the others of dcd_layer.
template <conv_backend B>
value dcd_classifier(const module_builder<B>& m, const value& x, index_t outputs) {
    const kernel_shape k{.o = outputs, .i = x.channels};
    const dcd_weights w = detail::dcd_tensors(m, k, 1, "cls_q", "cls_p", true);
    const auto weight = m.weights().take("cls.weight", {k.o, k.i}), bias = m.weights().take("cls.bias", {k.o});
    return m.net().add(
        basic_dcd_conv2d<B>(dense_kernel::pack(k, weight, m.name(), m.weights().storage_of("cls.weight")), w,
                            m.params(k, {}), m.options({}), bias),
        x);
}

/// A layer over coefficients that others share. Keys atoms [M, KH, KW] [, bias].
template <conv_backend B>
value acdc_layer(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call,
                 const shared_coefficients& coefficients) {
    const auto atoms = m.weights().take("atoms", {coefficients.cells().shape().n, k.kh, k.kw});
    return m.add(x, acdc_kernel(coefficients, k, atoms, m.name()), call, no_router(), m.static_bias(k, call));
}

/// FDConv's convolution of `x`, whose attentions read the means of `routed` (x itself where there is no frequency band modulation).
/// Keys weight [n, O, C, KH, KW], the kernels of the groups of frequencies; KSM_Global.{fc.weight [h, C, 1, 1], bn, relu.{scale,
/// bias}} and as far as they are there KSM_Global.{channel_fc, filter_fc, spatial_fc, kernel_fc} and KSM_Local.{norm, conv.weight
/// [O*KH*KW, 1, K]} [, bias].
template <conv_backend B>
value fdconv_layer(const module_builder<B>& m, const value& x, const value& routed, const kernel_shape& k,
                   const layer_call& call) {
    const module_builder<B> global = m.child("KSM_Global"), local = m.child("KSM_Local");
    const state_dict_reader& g = global.weights();
    const index_t n = m.weights().extent("weight", 0, 5), hidden = g.extent("fc.weight", 0, 4);
    const auto head = [&](std::string_view name, index_t outputs) {
        return g.contains(concat(name, ".weight")) ? detail::head(global, name, outputs, hidden) : linear_weights();
    };
    fdconv_weights w{.fc = g.take("fc.weight", {hidden, k.i, 1, 1}),
                     .bn = global.bn("bn", hidden),
                     .scale = g.take("relu.scale", {1}).front(),
                     .shift = g.take("relu.bias", {1}).front(),
                     .channel = head("channel_fc", k.i),
                     .filter = head("filter_fc", k.o),
                     .spatial = head("spatial_fc", k.taps()),
                     .kernel = head("kernel_fc", n)};
    std::span<const float> rows;
    if (local.weights().contains("conv.weight")) {
        w.norm_weight = local.weights().take("norm.weight", {k.i});
        w.norm_bias = local.weights().take("norm.bias", {k.i});
        const index_t reach = local.weights().extent("conv.weight", 2, 3);
        rows = local.weights().take("conv.weight", {checked_mul(k.o, k.taps(), m.name()), 1, reach});
    }
    fdconv_kernel kernel(detail::mixture(m, k, false), rows, m.name());
    fdconv_router routing(w, kernel, global.name());
    const std::span<const float> bias = m.static_bias(k, call);
    if (routed.id == x.id) return m.add(x, std::move(kernel), call, std::move(routing), bias);
    const route_widths widths = routing.widths();
    const value route = m.net().add(
        std::make_unique<route_operation<fdconv_router>>(std::move(routing), concat(m.name(), " attention")), routed,
        widths.total());
    return m.net().add(
        conv2d<fdconv_kernel, given_mixture, B>(std::move(kernel), m.params(k, call), m.options(call, bias),
                                                given_mixture{widths.mixture, widths.filter}),
        x, route, call.residual);
}

/// The frequency band modulation in front of an FDConv: keys FBM.freq_weight_conv_list.i.{weight [1, C, KH, KW], bias [1]} for each
/// of `bands`. `x` itself where there are none.
template <conv_backend B>
value fdconv_bands(const module_builder<B>& m, const value& x, const std::vector<index_t>& bands = {2, 4, 8}) {
    const module_builder<B> list = m.child("FBM.freq_weight_conv_list");
    if (!list.weights().contains("0.weight")) return x;
    const kernel_shape one{.o = static_cast<index_t>(bands.size()),
                           .i = x.channels,
                           .kh = list.weights().extent("0.weight", 2, 4),
                           .kw = list.weights().extent("0.weight", 3, 4)};
    std::vector<float> weight, bias;
    for (index_t i = 0; i < one.o; ++i) {
        const auto w = list.weights().take(concat(i, ".weight"), {1, one.i, one.kh, one.kw});
        weight.insert(weight.end(), w.begin(), w.end());
        bias.push_back(list.weights().take(concat(i, ".bias"), {1}).front());
    }
    value maps =
        list.add(x, dense_kernel::pack(one, weight, list.name()), {.act = activation::sigmoid}, no_router(), bias);
    maps = nn::mul(m.net(), maps, 2.0F, list.name());
    return m.net().add(std::make_unique<frequency_bands>(bands, concat(m.name(), ".FBM")), {x, maps}, x.channels);
}

/// LSNet's layer, y = bn( sum over taps of w(p, t) x(p + t) ) + x, with a small network's weights w. Keys lkp.{cv1, cv2, cv3}.{c.weight,
/// bn}, lkp.cv4.{weight [G*k*k, C/2, 1, 1], bias}, lkp.norm.{weight, bias}, bn. `window` is k x k.
template <conv_backend B>
value lsconv_layer(const module_builder<B>& m, const value& x, const extent2& window) {
    const module_builder<B> lkp = m.child("lkp");
    const index_t half = lkp.weights().extent("cv1.c.weight", 0, 4), large = lkp.weights().extent("cv2.c.weight", 2, 4),
                  rows = lkp.weights().extent("cv4.weight", 0, 4), taps = checked_mul(window.h, window.w, m.name());
    if (taps < 1 || rows % taps != 0)
        throw error(lkp.full_name("cv4.weight"), concat("rows for ", taps, " taps"), concat(rows));
    value w = lkp.conv_bn(x, "cv1.c", "cv1.bn", {.o = half, .i = x.channels}, {.act = activation::relu});
    const kernel_shape depthwise{.o = half, .i = half, .kh = large, .kw = large, .groups = half};
    w = lkp.conv_bn(w, "cv2.c", "cv2.bn", depthwise);
    w = lkp.conv_bn(w, "cv3.c", "cv3.bn", {.o = half, .i = half}, {.act = activation::relu});
    w = plain_layer(lkp.child("cv4"), w, {.o = rows, .i = half}, {.bias = true});
    w = nn::group_norm(
        m.net(), w, rows / taps,
        {.weight = lkp.weights().take("norm.weight", {rows}), .bias = lkp.weights().take("norm.bias", {rows})},
        lkp.full_name("norm"));
    given_position_conv2d layer(
        {.channels = x.channels, .groups = rows / taps, .window = window, .sharing = weight_sharing::interleaved},
        {.pad = {window.h / 2, window.w / 2}}, {.bn = m.bn("bn", x.channels), .residual = true, .name = m.name()});
    return m.net().add(std::make_unique<given_position_operation>(std::move(layer)), {x, w, x}, x.channels);
}

/// Keys codebook [n, KH, KW] of +-1, index (uint8, log2(n) bits for each of the O * I/groups slices), alpha [O] [, bias].
template <conv_backend B>
value sparse_kernel_layer(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call) {
    const index_t n = m.weights().extent("codebook", 0, 3);
    if (n < 1 || !std::has_single_bit(static_cast<std::size_t>(n)))
        throw error(m.full_name("codebook"), "a power of two of codewords", concat(n));
    const index_t bits = std::countr_zero(static_cast<std::size_t>(n)),
                  slices = checked_mul(k.o, k.channels_per_group(), m.name()),
                  bytes = (checked_mul(slices, bits, m.name()) + 7) / 8;
    const auto index = m.weights().template take<std::uint8_t>("index", {bytes});
    const auto codebook = m.weights().take("codebook", {n, k.kh, k.kw}), alpha = m.weights().take("alpha", {k.o});
    return m.add(x, codebook_kernel::pack(k, codebook, index, m.name()).scaled(alpha, m.name()), call, no_router(),
                 m.static_bias(k, call));
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
