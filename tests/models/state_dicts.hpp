// State dicts of the published networks: their keys and shapes, and deterministic values far from identity.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <kdna/models/zoo.hpp>

#include "support/random.hpp"

#ifndef KDNA_TESTS_DIR
#define KDNA_TESTS_DIR "."
#endif

namespace kdna_test {

using kdna::index_t;

struct key {
    std::string name;
    std::vector<kdna::index_t> shape;
    kdna::dtype type = kdna::dtype::f32;
};
using key_list = std::vector<key>;

/// The keys of a network as listed from its reference implementation: "name<tab>64x3x7x7<tab>float32".
inline key_list read_keys(std::string_view network) {
    const std::string path = kdna::concat(KDNA_TESTS_DIR, "/models/keys/", network, ".txt");
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path);
    key_list out;
    for (std::string line; std::getline(file, line);) {
        std::istringstream fields(line);
        key k;
        std::string shape, type;
        fields >> k.name >> shape >> type;
        k.type = type == "int64" ? kdna::dtype::i64 : kdna::dtype::f32;
        if (shape != "scalar") {
            std::istringstream extents(shape);
            for (std::string extent; std::getline(extents, extent, 'x');) k.shape.push_back(std::stoll(extent));
        }
        out.push_back(std::move(k));
    }
    return out;
}

inline key_list kernel_dna_keys(kdna::models::arch a) {
    return read_keys(kdna::models::arch_names[static_cast<std::size_t>(a)]);
}

/// The networks of the dynamic methods, by the names of their key lists.
struct dynamic_network {
    std::string_view name;
    kdna::models::arch arch;
    kdna::models::form form;
    [[nodiscard]] key_list keys() const { return read_keys(name); }
};
inline constexpr dynamic_network dynamic_networks[] = {
    {"resnet18_odconv_1x", kdna::models::arch::resnet18, kdna::models::form::odconv},
    {"resnet18_odconv_4x", kdna::models::arch::resnet18, kdna::models::form::odconv},
    {"resnet18_kw_1x", kdna::models::arch::resnet18, kdna::models::form::kernel_warehouse},
    {"resnet18_dyconv_4x", kdna::models::arch::resnet18, kdna::models::form::dyconv},
    {"resnet18_dcd", kdna::models::arch::resnet18, kdna::models::form::dcd},
    {"mobilenet_v2_odconv_1x", kdna::models::arch::mobilenet_v2, kdna::models::form::odconv},
    {"mobilenet_v2_odconv_4x", kdna::models::arch::mobilenet_v2, kdna::models::form::odconv},
    {"mobilenet_v2_kw_1x", kdna::models::arch::mobilenet_v2, kdna::models::form::kernel_warehouse}};

/// The keys of torchvision's networks, generated from their architecture.
class plain_keys {
public:
    static key_list of(kdna::models::arch a) {
        plain_keys keys;
        switch (a) {
            case kdna::models::arch::resnet18: keys.resnet({2, 2, 2, 2}, false); break;
            case kdna::models::arch::resnet50: keys.resnet({3, 4, 6, 3}, true); break;
            case kdna::models::arch::mobilenet_v2: keys.mobilenet({32, 16, 24, 32, 64, 96, 160, 320}); break;
            case kdna::models::arch::mobilenet_v2_1d2: keys.mobilenet({16, 8, 16, 16, 32, 48, 80, 160}); break;
        }
        return keys.list_;
    }

private:
    void conv(const std::string& name, index_t o, index_t i, index_t extent) {
        list_.push_back({name + ".weight", {o, i, extent, extent}});
    }
    void bn(const std::string& name, index_t c) {
        for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"})
            list_.push_back({name + part, {c}});
        list_.push_back({name + ".num_batches_tracked", {}, kdna::dtype::i64});
    }
    void linear(const std::string& name, index_t o, index_t i) {
        list_.push_back({name + ".weight", {o, i}});
        list_.push_back({name + ".bias", {o}});
    }
    void resnet(const std::vector<index_t>& blocks, bool bottleneck) {
        conv("conv1", 64, 3, 7);
        bn("bn1", 64);
        index_t in = 64;
        for (std::size_t stage = 0; stage < 4; ++stage) {
            const index_t width = index_t{64} << stage, out = bottleneck ? 4 * width : width;
            for (index_t i = 0; i < blocks[stage]; ++i) {
                const std::string block = kdna::concat("layer", stage + 1, ".", i, ".");
                conv(block + "conv1", width, in, bottleneck ? 1 : 3);
                bn(block + "bn1", width);
                conv(block + "conv2", width, width, 3);
                bn(block + "bn2", width);
                if (bottleneck) {
                    conv(block + "conv3", out, width, 1);
                    bn(block + "bn3", out);
                }
                if (i == 0 && in != out) {
                    conv(block + "downsample.0", out, in, 1);
                    bn(block + "downsample.1", out);
                }
                in = out;
            }
        }
        linear("fc", 1000, in);
    }
    void mobilenet(const std::vector<index_t>& widths) {
        const std::vector<index_t> blocks{1, 2, 3, 4, 3, 3, 1};
        conv("features.0.0", widths[0], 3, 3);
        bn("features.0.1", widths[0]);
        index_t in = widths[0], number = 1;
        for (std::size_t group = 0; group < blocks.size(); ++group)
            for (index_t i = 0; i < blocks[group]; ++i, ++number) {
                const std::string block = kdna::concat("features.", number, ".conv.");
                const index_t hidden = group == 0 ? in : 6 * in, out = widths[group + 1];
                index_t part = 0;
                if (group != 0) {
                    conv(block + "0.0", hidden, in, 1);
                    bn(block + "0.1", hidden);
                    ++part;
                }
                conv(kdna::concat(block, part, ".0"), hidden, 1, 3);
                bn(kdna::concat(block, part, ".1"), hidden);
                conv(kdna::concat(block, part + 1), out, hidden, 1);
                bn(kdna::concat(block, part + 2), out);
                in = out;
            }
        conv("features.18.0", 1280, in, 1);
        bn("features.18.1", 1280);
        linear("classifier.1", 1000, 1280);
    }
    key_list list_;
};

inline key_list keys_of(kdna::models::arch a, kdna::models::form f) {
    return f == kdna::models::form::plain ? plain_keys::of(a) : kernel_dna_keys(a);
}

/// Zeros under these keys.
inline kdna::state_dict zeros(const key_list& keys) {
    kdna::state_dict out;
    for (const key& k : keys) out.add(k.name, kdna::tensor_data(k.type, k.shape, k.name));
    return out;
}

/// Values under these keys with which activations neither vanish nor explode, and no factor is near identity.
inline kdna::state_dict random_values(const key_list& keys, std::uint64_t stream) {
    kdna::state_dict out;
    std::uint64_t number = 0;
    for (const key& k : keys) {
        rng r(stream, number++);
        kdna::tensor_data tensor(k.type, k.shape, k.name);
        if (k.type == kdna::dtype::f32) {
            double low = -0.5, high = 0.5;
            if (k.name.ends_with("running_var")) {
                low = 0.5;
                high = 2.0;
            } else if (k.shape.size() == 1 && k.name.ends_with(".weight")) {
                low = 0.5;
                high = 1.5;
            } else if (k.name.find("static_") != std::string::npos) {  // a standard deviation of 0.25
                high = 0.25 * std::sqrt(3.0);
                low = -high;
            } else if (k.shape.size() >= 2) {
                double inputs = 1.0;
                // Kernels of a mixture, cells of a warehouse.
                const bool several = k.shape.size() == 5 || k.name.starts_with("warehouse");
                for (std::size_t i = several ? 2 : 1; i < k.shape.size(); ++i)
                    inputs *= static_cast<double>(k.shape[i]);
                high = std::sqrt(6.0 / inputs);
                const auto has = [&](std::string_view part) { return k.name.find(part) != std::string::npos; };
                if (has(".se.fc") || has(".attention.")) high *= 0.3;  // gates that are neither closed nor open
                if (several && k.name.starts_with("warehouse"))  // n small factors each, of either sign; nine taps
                    high *= std::sqrt(static_cast<double>(k.shape[0]) / 9.0);
                else if (several)  // weights that add up to one, and in ODConv gates from 0 to 1
                    high *= 2.0;
                // DCD: small beside the identity, not quadratic in x; but scales from 0 to 2.
                if (has("fc_phi.")) high *= 0.1;
                if (has(".fc.0.")) high *= 0.002;
                if (has("fc_scale.")) high *= 20.0;
                if (has(".p.")) high *= 0.2;
                low = -high;
            }
            auto* values = reinterpret_cast<float*>(tensor.bytes().data());
            for (std::size_t i = 0; i < tensor.bytes().size() / sizeof(float); ++i)
                values[i] = static_cast<float>(r.real(low, high));
        }
        out.add(k.name, std::move(tensor));
    }
    return out;
}

inline kdna::tensor<float> random_image(const kdna::shape4& s, std::uint64_t stream) {
    rng r(stream, 0);
    kdna::tensor<float> x(s);
    for (float& v : x.span()) v = static_cast<float>(r.real(-2, 2));
    return x;
}

inline constexpr kdna::models::arch all_archs[] = {kdna::models::arch::resnet18, kdna::models::arch::resnet50,
                                                   kdna::models::arch::mobilenet_v2,
                                                   kdna::models::arch::mobilenet_v2_1d2};

}  // namespace kdna_test
