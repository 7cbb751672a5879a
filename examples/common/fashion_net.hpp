// The two networks: how to write down an architecture of your own, with the names its tensors have in PyTorch.
#pragma once

#include <common/fashion_classes.hpp>
#include <common/numbers.hpp>
#include <filesystem>
#include <kdna/models.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace fashion {

using kdna::index_t;
using kdna::models::form;
using kdna::models::module_builder;
using kdna::models::value;

inline constexpr index_t image_size = 28;
inline constexpr int class_count = 10;

[[nodiscard]] inline const char* class_name(int label) {
    return examples::fashion_classes.at(static_cast<std::size_t>(label));
}

/// The twin's stage: the same six 3x3 convolutions as models::dna_basic_stage, but each of them owns its kernel, and
/// there are no gates. Where KernelDNA has children, this has convs.0 to convs.2.
template <kdna::conv_backend B>
value plain_stage(const module_builder<B>& m, const value& x, index_t width, index_t stride) {
    const auto conv3x3 = [&](std::string_view name, std::string_view bn, const value& in,
                             kdna::models::layer_call call) {
        call.act = kdna::activation::relu;
        return m.conv_bn(in, name, bn, {.o = width, .i = in.channels, .kh = 3, .kw = 3}, call);
    };
    value identity = m.conv_bn(x, "downsample.0", "downsample.1", {.o = width, .i = x.channels}, {.stride = stride});
    value h = conv3x3("conv1", "bn1", x, {.stride = stride});
    h = identity = conv3x3("convs.0", "bns.0", h, {.residual = identity});
    h = conv3x3("convs.1", "bns.1", h, {});
    h = identity = conv3x3("conv2", "bn2", h, {.residual = identity});
    h = conv3x3("convs.2", "bns.2", h, {});
    return conv3x3("conv3", "bn3", h, {.residual = identity});
}

/// x [N, 1, 28, 28] to logits [N, 10]: a stem, pooling, one basic block, and a stage with or without shared kernels. The
/// widths are the file's.
template <kdna::conv_backend B>
value fashion_net(const module_builder<B>& m, const value& x, form f) {
    const index_t narrow = m.weights().extent("conv1.weight", 0, 4),
                  wide = m.weights().extent("layer3.conv1.weight", 0, 4);
    value h = m.conv_bn(x, "conv1", "bn1", {.o = narrow, .i = 1, .kh = 3, .kw = 3}, {.act = kdna::activation::relu});
    h = m.net().add(kdna::max_pool2d(2, 2, 0), h);
    h = kdna::models::basic_block(m.child("layer1.0"), h, narrow, 1);
    h = f == form::plain ? plain_stage(m.child("layer3"), h, wide, 2)
                         : kdna::models::dna_basic_stage(m.child("layer3"), h, wide, 2);
    return kdna::models::classifier_head(m, h, "fc", class_count);
}

/// A network, the number of its trainable parameters, and the bytes they take in memory, packed and shared. (Plans may add
/// kernels transformed for Winograd; plan_options::transform_budget limits them.)
struct loaded_net {
    kdna::network net;
    index_t parameters = 0;
    index_t weight_bytes = net.weight_bytes();
};

/// Reads the weights and builds the network. Throws kdna::error unless the file holds exactly this network's tensors.
inline loaded_net load(const std::filesystem::path& weights, form f, const kdna::load_options& options = {}) {
    kdna::state_dict dict = kdna::load_safetensors(weights, options);
    const index_t parameters = examples::trained_parameters(dict);
    kdna::network net = kdna::models::build(
        std::move(dict), 1, [&](const auto& module, const value& image) { return fashion_net(module, image, f); });
    return {std::move(net), parameters};
}

}  // namespace fashion
