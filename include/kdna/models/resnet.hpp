// ResNet18 and ResNet50: plain (torchvision's keys), KernelDNA and the dynamic methods (the keys of their public code).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>

#include <kdna/models/dynamic_layers.hpp>
#include <kdna/models/form.hpp>

namespace kdna::inline KDNA_ABI::models {

/// Stem, keys conv1 and bn1: 7x7 stride 2, ReLU, 3x3 max pooling stride 2.
template <conv_backend B>
value resnet_stem(const module_builder<B>& m, const value& x) {
    const value h = m.conv_bn(x, "conv1", "bn1", {.o = 64, .i = x.channels, .kh = 7, .kw = 7},
                              {.stride = 2, .act = activation::relu});
    return m.net().add(max_pool2d(3, 2, 1), h);
}

/// How a residual block makes the convolutions that read its input, the 3x3 inside it, and a bottleneck's last.
template <conv_backend B>
struct block_layers {
    layer_maker<B> entry = plain_layer<B>, shortcut = plain_layer<B>, inner = plain_layer<B>, last = plain_layer<B>;
};

/// Keys conv1, bn1, conv2, bn2 [, downsample.0, downsample.1].
template <conv_backend B>
value basic_block(const module_builder<B>& m, const value& x, index_t width, index_t stride,
                  const block_layers<B>& layers = {}) {
    value identity = x;
    if (stride != 1 || x.channels != width)
        identity = m.conv_bn(layers.shortcut, x, "downsample.0", "downsample.1", {.o = width, .i = x.channels},
                             {.stride = stride});
    const value h = m.conv_bn(layers.entry, x, "conv1", "bn1", {.o = width, .i = x.channels, .kh = 3, .kw = 3},
                              {stride, activation::relu});
    return m.conv_bn(layers.inner, h, "conv2", "bn2", {.o = width, .i = width, .kh = 3, .kw = 3},
                     {1, activation::relu, identity});
}

/// A bottleneck of `width`, 4 * width channels out; the stride is on the 3x3 (v1.5), whose kernel is given, since children
/// may share it. Keys conv1, bn1, bn2, conv3, bn3.
template <conv_backend B>
value bottleneck(const module_builder<B>& m, const value& x, index_t width, index_t stride, const parent_kernel& middle,
                 const value& identity) {
    value h = m.conv_bn(x, "conv1", "bn1", {.o = width, .i = x.channels}, {1, activation::relu});
    h = m.conv_bn(h, middle, "conv2", "bn2", {stride, activation::relu});
    return m.conv_bn(h, "conv3", "bn3", {.o = 4 * width, .i = width}, {1, activation::relu, identity});
}
/// Keys conv1, bn1, conv2, bn2, conv3, bn3 [, downsample.0, downsample.1].
template <conv_backend B>
value bottleneck(const module_builder<B>& m, const value& x, index_t width, index_t stride,
                 const block_layers<B>& layers = {}) {
    value identity = x;
    if (stride != 1 || x.channels != 4 * width)
        identity = m.conv_bn(layers.shortcut, x, "downsample.0", "downsample.1", {.o = 4 * width, .i = x.channels},
                             {.stride = stride});
    value h = m.conv_bn(layers.entry, x, "conv1", "bn1", {.o = width, .i = x.channels}, {1, activation::relu});
    h = m.conv_bn(layers.inner, h, "conv2", "bn2", {.o = width, .i = width, .kh = 3, .kw = 3},
                  {stride, activation::relu});
    return m.conv_bn(layers.last, h, "conv3", "bn3", {.o = 4 * width, .i = width}, {1, activation::relu, identity});
}

/// KernelDNA's stage of ResNet18 (layer3, layer4): six 3x3 convolutions, of which conv2 and conv3 are parents and three are
/// children; child 0 runs before its parent's own layer.
///     static_spatial_attn, static_filter_attn, conv1..3, bn1..3, downsample, se.k, bns.k
template <conv_backend B>
value dna_basic_stage(const module_builder<B>& m, const value& x, index_t width, index_t stride) {
    const kernel_shape k3{.o = width, .i = width, .kh = 3, .kw = 3};
    const parent_kernel conv2 = m.kernel("conv2", k3), conv3 = m.kernel("conv3", k3);
    const adapter_bank adapters(m, 3, k3);
    const auto child = [&](index_t i, const value& in, const parent_kernel& parent,
                           std::optional<value> residual = {}) {
        return m.child_bn(in, parent, adapters.of(i), m.gate(concat("se.", i), width, width / 4), concat("child", i),
                          concat("bns.", i), {1, activation::relu, residual});
    };

    value identity = m.conv_bn(x, "downsample.0", "downsample.1", {.o = width, .i = x.channels}, {.stride = stride});
    value h = m.conv_bn(x, "conv1", "bn1", {.o = width, .i = x.channels, .kh = 3, .kw = 3}, {stride, activation::relu});
    h = child(0, h, conv2, identity);
    identity = h;
    h = child(1, h, conv2);
    h = m.conv_bn(h, conv2, "conv2", "bn2", {1, activation::relu, identity});
    identity = h;
    h = child(2, h, conv3);
    return m.conv_bn(h, conv3, "conv3", "bn3", {1, activation::relu, identity});
}

/// First block of a KernelDNA stage of ResNet50, keys layers.* and downsample.{conv, bn}.
template <conv_backend B>
value dna_bottleneck_first(const module_builder<B>& m, const value& x, index_t width, index_t stride) {
    const value identity =
        m.conv_bn(x, "downsample.conv", "downsample.bn", {.o = 4 * width, .i = x.channels}, {.stride = stride});
    const module_builder<B> layers = m.child("layers");
    return bottleneck(layers, x, width, stride, layers.kernel("conv2", {.o = width, .i = width, .kh = 3, .kw = 3}),
                      identity);
}

/// Child block: its own 1x1 convolutions, and a gated, adapted copy of the parent's 3x3 between them.
///     half1.{conv1, bn1, se}, half2.{bn2, conv3, bn3}
template <conv_backend B>
value dna_bottleneck_child(const module_builder<B>& m, const value& x, const parent_kernel& parent,
                           const static_adapter& adapter) {
    const index_t width = parent.shape().o;
    const module_builder<B> half1 = m.child("half1"), half2 = m.child("half2");
    value h = half1.conv_bn(x, "conv1", "bn1", {.o = width, .i = x.channels}, {1, activation::relu});
    h = half2.child_bn(h, parent, adapter, half1.gate("se", width, width / 4), "child", "bn2", {1, activation::relu});
    return half2.conv_bn(h, "conv3", "bn3", {.o = 4 * width, .i = width}, {1, activation::relu, x});
}

/// KernelDNA's layer3 of ResNet50: block0, then kid i and parent i in turn; kid i shares parent i's 3x3 and runs before it.
///     static_filter_attn, static_spatial_attn, block0, kids.i, parents.i
template <conv_backend B>
value dna_bottleneck_pairs(const module_builder<B>& m, const value& x, index_t width, index_t pairs, index_t stride) {
    const kernel_shape k3{.o = width, .i = width, .kh = 3, .kw = 3};
    const adapter_bank adapters(m, pairs, k3);
    value h = dna_bottleneck_first(m.child("block0"), x, width, stride);
    for (index_t i = 0; i < pairs; ++i) {
        const module_builder<B> parent = m.child(concat("parents.", i, ".layers"));
        const parent_kernel kernel = parent.kernel("conv2", k3);
        h = dna_bottleneck_child(m.child(concat("kids.", i)), h, kernel, adapters.of(i));
        h = bottleneck(parent, h, width, 1, kernel, h);
    }
    return h;
}

/// KernelDNA's layer4 of ResNet50: block0, one child, its parent.
///     static_filter_attn2, static_spatial_attn, block0, blocks.0, last_block
template <conv_backend B>
value dna_bottleneck_last(const module_builder<B>& m, const value& x, index_t width, index_t stride) {
    const kernel_shape k3{.o = width, .i = width, .kh = 3, .kw = 3};
    const adapter_bank adapters(m, 1, k3, "2");
    value h = dna_bottleneck_first(m.child("block0"), x, width, stride);
    const module_builder<B> parent = m.child("last_block.layers");
    const parent_kernel kernel = parent.kernel("conv2", k3);
    h = dna_bottleneck_child(m.child("blocks.0"), h, kernel, adapters.of(0));
    return bottleneck(parent, h, width, 1, kernel, h);
}

template <conv_backend B>
value classifier_head(const module_builder<B>& m, const value& x, std::string_view name, index_t classes) {
    return m.linear(m.net().add_global_average(x), name, classes);
}
/// As many classes as the tensors have.
template <conv_backend B>
value classifier_head(const module_builder<B>& m, const value& x, std::string_view name) {
    return m.linear(m.net().add_global_average(x), name);
}

/// How ResNet18 and ResNet50 make the layers of a block.
template <conv_backend B>
class resnet_layers {
public:
    /// Takes what layers share.
    resnet_layers(const module_builder<B>& m, form f, bool bottlenecks)
        : form_(f),
          bottlenecks_(bottlenecks),
          warehouses_(m, f == form::kernel_warehouse ? take_warehouses(m, 4) : std::vector<warehouse>()) {}

    /// Of block `number` in stage `stage`, both counted from 0; `m` is the block's module. Blocks are asked for in their order.
    [[nodiscard]] block_layers<B> of(const module_builder<B>& m, std::size_t stage, index_t number) {
        switch (form_) {
            case form::odconv: return {odconv_layer<B>, plain_layer<B>, odconv_layer<B>, odconv_layer<B>};
            case form::dyconv: return {dyconv_layer<B>, dyconv_layer<B>, dyconv_layer<B>, dyconv_layer<B>};
            case form::dcd: return {dcd_basic, plain_layer<B>, dcd_basic};
            case form::kernel_warehouse: {
                // The layers that read the stage before are made from that stage's cells. Before the first stage there are none:
                // a basic block takes those of its own stage, and a bottleneck has plain layers there.
                block_layers<B> out;
                const std::size_t before = number == 0 && stage > 0 ? stage - 1 : stage;
                if (number > 0 || stage > 0 || !bottlenecks_) out.entry = warehouses_.layer(m, "conv1", before);
                out.inner = warehouses_.layer(m, "conv2", stage);
                if (bottlenecks_) out.last = warehouses_.layer(m, "conv3", stage);
                if (number == 0 && stage > 0) out.shortcut = warehouses_.layer(m, "downsample.0", before);
                return out;
            }
            default: return {};
        }
    }
    /// After the last block.
    void finish() const { warehouses_.finish(); }

private:
    static value dcd_basic(const module_builder<B>& m, const value& x, const kernel_shape& k, const layer_call& call) {
        return dcd_layer(m, x, k, call, 2);
    }
    form form_;
    bool bottlenecks_;
    shared_warehouses<B> warehouses_;
};

/// The classifier of DCD's networks. Its name says whether a dropout came before it in training.
template <conv_backend B>
value dcd_head(const module_builder<B>& m, const value& x) {
    const bool dropout = m.weights().contains("classifier.1.cls.weight");
    const module_builder<B> layer = m.child(dropout ? "classifier.1" : "classifier.0");
    return dcd_classifier(layer, m.net().add_global_average(x), layer.weights().extent("cls.weight", 0, 2));
}

template <conv_backend B>
value resnet18(const module_builder<B>& m, const value& x, form f) {
    resnet_layers<B> layers(m, f, false);
    value h = resnet_stem(m, x);
    for (std::size_t s = 0; s < 4; ++s) {
        const module_builder<B> stage = m.child(concat("layer", s + 1));
        const index_t width = index_t{64} << s, stride = s == 0 ? 1 : 2;
        if (f == form::kernel_dna && s >= 2) {
            h = dna_basic_stage(stage, h, width, stride);
        } else {
            for (index_t i = 0; i < 2; ++i) {
                const module_builder<B> block = stage.child(concat(i));
                h = basic_block(block, h, width, i == 0 ? stride : 1, layers.of(block, s, i));
            }
        }
    }
    layers.finish();
    return f == form::dcd ? dcd_head(m, h) : classifier_head(m, h, "fc");
}

template <conv_backend B>
value resnet50(const module_builder<B>& m, const value& x, form f) {
    constexpr std::array<index_t, 4> blocks{3, 4, 6, 3};
    resnet_layers<B> layers(m, f, true);
    value h = resnet_stem(m, x);
    for (std::size_t s = 0; s < 4; ++s) {
        const module_builder<B> stage = m.child(concat("layer", s + 1));
        const index_t width = index_t{64} << s, stride = s == 0 ? 1 : 2;
        if (f == form::kernel_dna && s >= 2) {
            h = s == 2 ? dna_bottleneck_pairs(stage, h, width, 3, stride)
                       : dna_bottleneck_last(stage, h, width, stride);
        } else {
            for (index_t i = 0; i < blocks[s]; ++i) {
                const module_builder<B> block = stage.child(concat(i));
                h = bottleneck(block, h, width, i == 0 ? stride : 1, layers.of(block, s, i));
            }
        }
    }
    layers.finish();
    return classifier_head(m, h, "fc");
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
