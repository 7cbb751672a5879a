// MobileNetV2 at width 1.0 and 0.5: plain (torchvision's keys), KernelDNA and the dynamic methods (the keys of their public
// code).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>

#include <kdna/models/resnet.hpp>

namespace kdna::inline KDNA_ABI::models {

/// How an inverted residual makes its two 1x1 convolutions, and the one between them.
template <conv_backend B>
struct inverted_layers {
    layer_maker<B> pointwise = plain_layer<B>, depthwise = plain_layer<B>;
};

/// Inverted residual of torchvision. Keys conv.{0.0, 0.1, 1.0, 1.1, 2, 3}, without the expansion (t = 1) conv.{0.0, 0.1, 1, 2}.
template <conv_backend B>
value inverted_residual(const module_builder<B>& m, const value& x, index_t width, index_t stride, index_t expansion,
                        const inverted_layers<B>& layers = {}) {
    const module_builder<B> c = m.child("conv");
    const index_t hidden = x.channels * expansion;
    const auto residual = stride == 1 && x.channels == width ? std::optional<value>(x) : std::nullopt;
    index_t part = 0;
    const auto name = [&](std::string_view suffix) { return concat(part, suffix); };
    value h = x;
    if (expansion != 1) {
        h = c.conv_bn(layers.pointwise, h, name(".0"), name(".1"), {.o = hidden, .i = x.channels},
                      {1, activation::relu6});
        ++part;
    }
    h = c.conv_bn(layers.depthwise, h, name(".0"), name(".1"),
                  {.o = hidden, .i = hidden, .kh = 3, .kw = 3, .groups = hidden}, {stride, activation::relu6});
    ++part;
    return c.conv_bn(layers.pointwise, h, name(""), concat(part + 1), {.o = width, .i = hidden},
                     {1, activation::none, residual});
}

/// Block of a KernelDNA cluster that owns its kernels (transition, or the parent). Keys pw1, bn1, dw, bn2, pw2, bn3.
template <conv_backend B>
value cluster_block(const module_builder<B>& m, const value& x, const parent_kernel& pw1, const parent_kernel& pw2,
                    index_t stride, std::optional<value> residual) {
    const index_t hidden = pw1.shape().o;
    value h = m.conv_bn(x, pw1, "pw1", "bn1", {1, activation::relu6});
    h = m.conv_bn(h, "dw", "bn2", {.o = hidden, .i = hidden, .kh = 3, .kw = 3, .groups = hidden},
                  {stride, activation::relu6});
    return m.conv_bn(h, pw2, "pw2", "bn3", {1, activation::none, residual});
}

/// KernelDNA's cluster of inverted residuals: a transition with kernels of its own, children whose two 1x1 convolutions are
/// gated and adapted copies of the last block's, and that last block, the parent. Depthwise kernels are never shared.
///     static_filter_attn1, static_filter_attn3, transition.layers, blocks.i.{dwconv, bn1, bn2, bn3, se1, se3}, last_block.layers
template <conv_backend B>
value dna_cluster(const module_builder<B>& m, const value& x, index_t width, index_t stride, index_t children) {
    const index_t hidden = 6 * width, gate_hidden = width / 4;
    const module_builder<B> last = m.child("last_block.layers"), transition = m.child("transition.layers");
    const parent_kernel pw1 = last.kernel("pw1", {.o = hidden, .i = width}),
                        pw2 = last.kernel("pw2", {.o = width, .i = hidden});
    const adapter_bank adapters1(m, children, pw1.shape(), "1"), adapters3(m, children, pw2.shape(), "3");

    const index_t expanded = 6 * x.channels;
    value h = cluster_block(transition, x, transition.kernel("pw1", {.o = expanded, .i = x.channels}),
                            transition.kernel("pw2", {.o = width, .i = expanded}), stride, std::nullopt);
    for (index_t i = 0; i < children; ++i) {
        const module_builder<B> kid = m.child(concat("blocks.", i));
        const value identity = h;
        h = kid.child_bn(h, pw1, adapters1.of(i), kid.gate("se1", width, gate_hidden), "child1", "bn1",
                         {1, activation::relu6});
        h = kid.conv_bn(h, "dwconv", "bn2", {.o = hidden, .i = hidden, .kh = 3, .kw = 3, .groups = hidden},
                        {1, activation::relu6});
        h = kid.child_bn(h, pw2, adapters3.of(i), kid.gate("se3", hidden, gate_hidden), "child3", "bn3",
                         {1, activation::none, identity});
    }
    return cluster_block(last, h, pw1, pw2, 1, h);
}

/// How MobileNetV2 makes its layers.
template <conv_backend B>
class mobilenet_v2_layers {
public:
    /// Takes what layers share.
    mobilenet_v2_layers(const module_builder<B>& m, form f) : form_(f) {
        if (f == form::kernel_warehouse) warehouses_ = take_warehouses(m, 13);
    }
    [[nodiscard]] layer_maker<B> stem() const {
        if (form_ == form::kernel_warehouse) return warehouse_maker<B>(warehouses_.front());
        return plain_layer<B>;
    }
    /// Of block `block` in a group of equal blocks, both counted from 0.
    [[nodiscard]] inverted_layers<B> of(std::size_t group, index_t block) const {
        switch (form_) {
            case form::odconv: return {odconv_layer<B>, odconv_layer<B>};
            case form::kernel_warehouse: {
                // A group's first block, which reads the group before, is made from that one's cells.
                const std::size_t from = block == 0 && group > 0 ? group - 1 : group;
                return {pointwise(from), depthwise(from)};
            }
            default: return {};
        }
    }
    /// Behind the last of the groups, which has one block and so no cells of its own.
    [[nodiscard]] layer_maker<B> last(std::size_t groups) const {
        switch (form_) {
            case form::odconv: return odconv_layer<B>;
            case form::kernel_warehouse: return pointwise(groups - 2);
            default: return plain_layer<B>;
        }
    }

private:
    /// Warehouses are numbered in the order of their first use: in the first group the depthwise layer comes first.
    [[nodiscard]] layer_maker<B> pointwise(std::size_t group) const {
        return warehouse_maker<B>(warehouses_[group == 0 ? 2 : 2 * group + 1]);
    }
    [[nodiscard]] layer_maker<B> depthwise(std::size_t group) const {
        return warehouse_maker<B>(warehouses_[group == 0 ? 1 : 2 * group + 2]);
    }
    form form_;
    std::vector<warehouse> warehouses_{};
};

/// `wide`: width multiplier 1.0; otherwise 0.5.
template <conv_backend B>
value mobilenet_v2(const module_builder<B>& m, const value& x, form f, bool wide) {
    struct group {
        index_t expansion, width, half_width, blocks, stride;
        bool shared;  // KernelDNA makes a cluster of it
    };
    constexpr std::array<group, 7> groups{{{1, 16, 8, 1, 1, false},
                                           {6, 24, 16, 2, 2, false},
                                           {6, 32, 16, 3, 2, true},
                                           {6, 64, 32, 4, 2, true},
                                           {6, 96, 48, 3, 1, true},
                                           {6, 160, 80, 3, 2, true},
                                           {6, 320, 160, 1, 1, false}}};
    const mobilenet_v2_layers<B> layers(m, f);
    const module_builder<B> features = m.child("features");
    value h = features.conv_bn(layers.stem(), x, "0.0", "0.1", {.o = wide ? 32 : 16, .i = x.channels, .kh = 3, .kw = 3},
                               {2, activation::relu6});
    index_t next = 1;
    for (std::size_t n = 0; n < groups.size(); ++n) {
        const group& g = groups[n];
        const index_t width = wide ? g.width : g.half_width, last = next + g.blocks - 1;
        if (g.shared && f == form::kernel_dna)
            h = dna_cluster(features.child(concat(last)), h, width, g.stride, g.blocks - 2);
        else
            for (index_t i = 0; i < g.blocks; ++i)
                h = inverted_residual(features.child(concat(next + i)), h, width, i == 0 ? g.stride : 1, g.expansion,
                                      layers.of(n, i));
        next = last + 1;
    }
    h = features.conv_bn(layers.last(groups.size()), h, "18.0", "18.1", {.o = 1280, .i = h.channels},
                         {1, activation::relu6});
    return classifier_head(m, h, f == form::kernel_warehouse ? "classifier" : "classifier.1", 1000);
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
