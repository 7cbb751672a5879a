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
    layer_maker<B> expand = plain_layer<B>, depthwise = plain_layer<B>, project = plain_layer<B>;
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
        h = c.conv_bn(layers.expand, h, name(".0"), name(".1"), {.o = hidden, .i = x.channels}, {1, activation::relu6});
        ++part;
    }
    h = c.conv_bn(layers.depthwise, h, name(".0"), name(".1"),
                  {.o = hidden, .i = hidden, .kh = 3, .kw = 3, .groups = hidden}, {stride, activation::relu6});
    ++part;
    return c.conv_bn(layers.project, h, name(""), concat(part + 1), {.o = width, .i = hidden},
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

/// How the layers of a published MobileNetV2 are made from warehouses, which are numbered in the order of their first use. Each
/// stage, which is a group of equal blocks, has some; a group's first block, which reads the group before, is made from that one's
/// cells. The last group is one block, and so has none of its own.
enum class warehouse_sharing {
    pointwise,  ///< 13: the stem's; per stage one of the 1x1 and one of the depthwise layers (KW 1x)
    separate,   ///< 19: the stem's; per stage those of expansions, depthwise layers and projections (KW 4x)
    late  ///< 10: as separate, but the 1x1 of all stages but the last are plain; the classifier's comes last (KW 1/2x)
};

/// How MobileNetV2 makes its layers.
template <conv_backend B>
class mobilenet_v2_layers {
public:
    /// Takes what layers share.
    mobilenet_v2_layers(const module_builder<B>& m, form f)
        : form_(f), sharing_(sharing_of(m)), warehouses_(m, f == form::kernel_warehouse ? take(m) : no_warehouses()) {}

    [[nodiscard]] layer_maker<B> stem(const module_builder<B>& m, std::string_view name) {
        return form_ == form::kernel_warehouse ? warehouses_.layer(m, name, 0) : layer_maker<B>(plain_layer<B>);
    }
    /// Of block `block` in a group of equal blocks, both counted from 0; `m` is the block's module. Blocks are asked for in their
    /// order.
    [[nodiscard]] inverted_layers<B> of(const module_builder<B>& m, std::size_t group, index_t block) {
        if (form_ == form::odconv) return {odconv_layer<B>, odconv_layer<B>, odconv_layer<B>};
        if (form_ != form::kernel_warehouse) return {};
        const std::size_t stage = block == 0 && group > 0 ? group - 1 : group;
        const module_builder<B> conv = m.child("conv");
        inverted_layers<B> out;
        if (group > 0) out.expand = pointwise(conv, "0.0", stage, true);
        out.depthwise = warehouses_.layer(conv, group > 0 ? "1.0" : "0.0", depthwise_of(stage));
        out.project = pointwise(conv, group > 0 ? "2" : "1", stage, false);
        return out;
    }
    /// Behind the last of the groups: a projection of the last stage.
    [[nodiscard]] layer_maker<B> last(const module_builder<B>& m, std::string_view name) {
        if (form_ == form::odconv) return odconv_layer<B>;
        return form_ == form::kernel_warehouse ? pointwise(m, name, last_stage, false) : layer_maker<B>(plain_layer<B>);
    }
    [[nodiscard]] value classifier(const module_builder<B>& m, const value& x) {
        if (form_ != form::kernel_warehouse) return classifier_head(m, x, "classifier.1");
        if (sharing_ != warehouse_sharing::late) return classifier_head(m, x, "classifier");
        const module_builder<B> layer = m.child("classifier.1.conv");
        const index_t classes = layer.weights().extent("bias", 0, 1);
        const value pooled = m.net().add_global_average(x);
        return warehouses_.layer(m.child("classifier.1"), "conv", 9)(
            layer, pooled, {.o = classes, .i = pooled.channels}, {.bias = true});
    }
    void finish() const { warehouses_.finish(); }

private:
    static constexpr std::size_t last_stage = 5;

    static std::vector<warehouse> no_warehouses() { return {}; }
    /// By the number of warehouses. One may be missing or unexpected, and is then named in the error.
    [[nodiscard]] static warehouse_sharing sharing_of(const module_builder<B>& m) {
        index_t count = 0;
        for (index_t i = 0; i < 20; ++i) count += m.weights().contains(concat("warehouse_manager.weights.", i)) ? 1 : 0;
        return count <= 11   ? warehouse_sharing::late
               : count <= 16 ? warehouse_sharing::pointwise
                             : warehouse_sharing::separate;
    }
    [[nodiscard]] std::vector<warehouse> take(const module_builder<B>& m) const {
        if (sharing_ != warehouse_sharing::late)
            return take_warehouses(m, sharing_ == warehouse_sharing::pointwise ? 13 : 19);
        std::vector<warehouse> out = take_warehouses(m, 9);
        out.push_back(take_warehouse(m, 9, 1));
        return out;
    }
    [[nodiscard]] layer_maker<B> pointwise(const module_builder<B>& m, std::string_view name, std::size_t stage,
                                           bool expands) {
        switch (sharing_) {
            case warehouse_sharing::pointwise: return warehouses_.layer(m, name, stage == 0 ? 2 : 2 * stage + 1);
            case warehouse_sharing::separate:
                // The first stage's first block does not expand, so that its warehouse of expansions comes last.
                if (stage == 0) return warehouses_.layer(m, name, expands ? 3 : 2);
                return warehouses_.layer(m, name, 3 * stage + (expands ? 1 : 3));
            case warehouse_sharing::late: break;
        }
        if (stage < last_stage) return plain_layer<B>;
        return warehouses_.layer(m, name, expands ? 6 : 8);
    }
    [[nodiscard]] std::size_t depthwise_of(std::size_t stage) const {
        switch (sharing_) {
            case warehouse_sharing::pointwise: return stage == 0 ? 1 : 2 * stage + 2;
            case warehouse_sharing::separate: return stage == 0 ? 1 : 3 * stage + 2;
            case warehouse_sharing::late: break;
        }
        return stage < last_stage ? stage + 1 : 7;
    }
    form form_;
    warehouse_sharing sharing_;
    shared_warehouses<B> warehouses_;
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
    mobilenet_v2_layers<B> layers(m, f);
    const module_builder<B> features = m.child("features");
    value h = features.conv_bn(layers.stem(features, "0.0"), x, "0.0", "0.1",
                               {.o = wide ? 32 : 16, .i = x.channels, .kh = 3, .kw = 3}, {2, activation::relu6});
    index_t next = 1;
    for (std::size_t n = 0; n < groups.size(); ++n) {
        const group& g = groups[n];
        const index_t width = wide ? g.width : g.half_width, last = next + g.blocks - 1;
        if (g.shared && f == form::kernel_dna)
            h = dna_cluster(features.child(concat(last)), h, width, g.stride, g.blocks - 2);
        else
            for (index_t i = 0; i < g.blocks; ++i) {
                const module_builder<B> block = features.child(concat(next + i));
                h = inverted_residual(block, h, width, i == 0 ? g.stride : 1, g.expansion, layers.of(block, n, i));
            }
        next = last + 1;
    }
    h = features.conv_bn(layers.last(features, "18.0"), h, "18.0", "18.1", {.o = 1280, .i = h.channels},
                         {1, activation::relu6});
    const value logits = layers.classifier(m, h);
    layers.finish();
    return logits;
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
