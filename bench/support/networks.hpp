// The published networks with random weights.
#pragma once

#include <cmath>
#include <fstream>
#include <kdna/models/zoo.hpp>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#ifndef KDNA_KEYS_DIR
#define KDNA_KEYS_DIR "."
#endif

namespace kdna_bench {

using kdna::index_t;

[[nodiscard]] inline std::string_view name_of(kdna::models::arch a) {
    return kdna::models::arch_names[static_cast<std::size_t>(a)];
}

/// A state_dict under construction. Its values are such that activations neither vanish nor explode on their way
/// through some fifty layers, and that no factor is near the identity.
class random_state_dict {
public:
    void add(const std::string& name, const std::vector<index_t>& shape) {
        const auto [low, high] = range_of(name, shape);
        std::uniform_real_distribution<float> uniform(low, high);
        index_t count = 1;
        for (const index_t extent : shape) count *= extent;
        std::vector<float> values(static_cast<std::size_t>(count));
        for (float& v : values) v = uniform(generator_);
        weights_.add(name, kdna::tensor_data::copy_of(shape, std::span<const float>(values), name));
    }
    /// BatchNorm's num_batches_tracked, which inference does not look at.
    void add_counter(const std::string& name) { weights_.add(name, kdna::tensor_data(kdna::dtype::i64, {}, name)); }
    void add_batch_norm(const std::string& name, index_t channels) {
        for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"}) add(name + part, {channels});
        add_counter(name + ".num_batches_tracked");
    }
    [[nodiscard]] kdna::state_dict finish() && { return std::move(weights_); }

private:
    [[nodiscard]] static std::pair<float, float> range_of(std::string_view name, const std::vector<index_t>& shape) {
        const auto around_zero = [](float half) { return std::pair(-half, half); };
        if (name.ends_with("running_var")) return {0.5F, 2.0F};
        if (name.find("static_") != std::string_view::npos) return around_zero(0.4F);  // adapters; 1 is added to them
        if (shape.size() == 1) return name.ends_with(".weight") ? std::pair(0.5F, 1.5F) : around_zero(0.5F);
        index_t inputs = 1;
        for (std::size_t i = 1; i < shape.size(); ++i) inputs *= shape[i];
        const float variance_kept = std::sqrt(6.0F / static_cast<float>(inputs));
        const bool gate = name.find(".se.fc") != std::string_view::npos;  // to be neither closed nor open
        return around_zero(gate ? 0.3F * variance_kept : variance_kept);
    }
    std::mt19937 generator_{20250330};
    kdna::state_dict weights_;
};

/// Networks of which the tests have the reference implementation's keys, "name<tab>64x3x7x7<tab>float32": KernelDNA's
/// under the architecture's name, dynamic ones as tools/kdna_torch calls them.
[[nodiscard]] inline kdna::state_dict random_by_keys(std::string_view network) {
    const std::string path = kdna::concat(KDNA_KEYS_DIR, "/", network, ".txt");
    std::ifstream file(path);
    if (!file) throw kdna::error(path, "a list of keys", "no such file");
    random_state_dict out;
    for (std::string name, extents, type; file >> name >> extents >> type;) {
        if (type == "int64") {
            out.add_counter(name);
            continue;
        }
        std::vector<index_t> shape;
        std::istringstream numbers(extents);
        for (std::string extent; std::getline(numbers, extent, 'x');) shape.push_back(std::stoll(extent));
        out.add(name, shape);
    }
    return std::move(out).finish();
}

/// Plain networks: torchvision's keys, from the architecture.
class plain_network {
public:
    [[nodiscard]] static kdna::state_dict random(kdna::models::arch a) {
        using kdna::models::arch;
        plain_network net;
        switch (a) {
            case arch::resnet18: net.resnet({2, 2, 2, 2}, false); break;
            case arch::resnet50: net.resnet({3, 4, 6, 3}, true); break;
            case arch::mobilenet_v2: net.mobilenet_v2({32, 16, 24, 32, 64, 96, 160, 320}); break;
            case arch::mobilenet_v2_1d2: net.mobilenet_v2({16, 8, 16, 16, 32, 48, 80, 160}); break;
        }
        return std::move(net.weights_).finish();
    }

private:
    void conv_bn(const std::string& name, const std::string& bn, index_t o, index_t i, index_t k) {
        weights_.add(name + ".weight", {o, i, k, k});
        weights_.add_batch_norm(bn, o);
    }
    void linear(const std::string& name, index_t o, index_t i) {
        weights_.add(name + ".weight", {o, i});
        weights_.add(name + ".bias", {o});
    }
    void resnet(const std::vector<index_t>& blocks, bool bottleneck) {
        conv_bn("conv1", "bn1", 64, 3, 7);
        index_t in = 64;
        for (std::size_t stage = 0; stage < blocks.size(); ++stage) {
            const index_t width = index_t{64} << stage, out = bottleneck ? 4 * width : width;
            for (index_t i = 0; i < blocks[stage]; ++i, in = out) {
                const std::string block = kdna::concat("layer", stage + 1, ".", i, ".");
                conv_bn(block + "conv1", block + "bn1", width, in, bottleneck ? 1 : 3);
                conv_bn(block + "conv2", block + "bn2", width, width, 3);
                if (bottleneck) conv_bn(block + "conv3", block + "bn3", out, width, 1);
                if (in != out) conv_bn(block + "downsample.0", block + "downsample.1", out, in, 1);
            }
        }
        linear("fc", 1000, in);
    }
    /// `widths`: of the stem and the seven groups of inverted residuals.
    void mobilenet_v2(const std::vector<index_t>& widths) {
        const std::vector<index_t> blocks{1, 2, 3, 4, 3, 3, 1};
        conv_bn("features.0.0", "features.0.1", widths[0], 3, 3);
        index_t in = widths[0], number = 1;
        for (std::size_t group = 0; group < blocks.size(); ++group)
            for (index_t i = 0; i < blocks[group]; ++i, ++number) {
                const std::string block = kdna::concat("features.", number, ".conv.");
                const index_t hidden = group == 0 ? in : 6 * in, out = widths[group + 1];
                index_t part = 0;
                if (group != 0) conv_bn(block + "0.0", block + "0.1", hidden, in, 1), ++part;
                conv_bn(kdna::concat(block, part, ".0"), kdna::concat(block, part, ".1"), hidden, 1, 3);
                conv_bn(kdna::concat(block, part + 1), kdna::concat(block, part + 2), out, hidden, 1);
                in = out;
            }
        conv_bn("features.18.0", "features.18.1", 1280, in, 1);
        linear("classifier.1", 1000, 1280);
    }
    random_state_dict weights_;
};

/// The same weights in every call.
template <kdna::conv_backend B = kdna::backend::cpu>
[[nodiscard]] kdna::network random_network(kdna::models::arch a, kdna::models::form f) {
    const bool plain = f == kdna::models::form::plain;
    return kdna::models::load<B>(a, f, plain ? plain_network::random(a) : random_by_keys(name_of(a)));
}

}  // namespace kdna_bench
