// Networks on a device beside the same network on the CPU.
#pragma once

#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <kdna/cuda/layers/network.hpp>
#include <kdna/models/load_on.hpp>
#include <kdna/models/zoo.hpp>

#include <nlohmann/json.hpp>

#include "cuda/device_layers.hpp"
#include "models/state_dicts.hpp"
#include "support/errors.hpp"
#include "support/frames.hpp"

namespace kdna_test {

using kdna::models::arch;
using kdna::models::form;

inline constexpr precision device_precisions[] = {precision::f16, precision::f32, precision::tf32, precision::bf16};

inline kdna::tensor<float> random_images(const kdna::shape4& s, std::uint64_t stream) {
    rng r(stream, 0);
    kdna::tensor<float> x(s);
    for (float& v : x.span()) v = static_cast<float>(r.real(-2, 2));
    return x;
}

/// Largest error as a part of the largest value.
inline double relative_error(std::span<const float> y, std::span<const float> exact) {
    REQUIRE(y.size() == exact.size());
    double largest = 0.0, error = 0.0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        const auto e = static_cast<double>(exact[i]);
        largest = std::max(largest, std::abs(e));
        const double off = std::abs(static_cast<double>(y[i]) - e);
        error = off <= error ? error : off;  // NaN counts
    }
    return error / largest;
}

/// Largest error of a network's logits. bfloat16 has 7 bits of fraction; rounding every activation to them through
/// MobileNetV2's 52 layers of random weights costs more than a hundredth.
constexpr double network_tolerance(precision p) {
    return p == precision::f32 ? 1e-4 : p == precision::bf16 ? 5e-2 : 1e-2;
}

/// A network in some precisions, and on the CPU, whose own error is a thousandth of what is allowed here
/// (models/agreement.cpp).
template <class Device>
void check_network(Device& device, arch a, form f, const key_list& keys, const kdna::shape4& in,
                   std::span<const precision> precisions, typename Device::stream s) {
    using namespace kdna;
    const tensor<float> x = random_images(in, 920);
    const network host = models::load(a, f, random_values(keys, 921));
    const tensor<float> exact = host(x.view());
    for (const precision p : precisions) {
        const cuda::basic_network<Device> net(host, device, {.numbers = p});
        const double error = relative_error(net(x.view(), s).span(), exact.span());
        INFO(models::arch_names[static_cast<std::size_t>(a)] << " " << models::form_names[static_cast<std::size_t>(f)]
                                                             << " " << std::string(cuda::to_string(p)) << ": "
                                                             << error);
        CHECK(error > 0.0);
        CHECK(error <= network_tolerance(p));
    }
}

/// Pooling keeps NaN, ignores padding, and takes any number of channels.
template <class Device>
void check_pooling(Device& device, typename Device::stream s) {
    using namespace kdna;
    for (const index_t channels : {1, 5, 8, 24})
        for (const precision p : device_precisions) {
            network_builder builder;
            const auto x = builder.input(channels);
            const auto pooled = builder.add(max_pool2d({3, 2}, {2, 1}, {1, 0, 1, 1}), x);
            const auto mean = builder.add_global_average(builder.add(max_pool2d(2, 2, 0), pooled));
            const network host = std::move(builder).build(mean);
            network_builder pool_only;
            const auto y = pool_only.input(channels);
            const network pool = std::move(pool_only).build(pool_only.add(max_pool2d({3, 2}, {2, 1}, {1, 0, 1, 1}), y));

            rng r(950, static_cast<std::uint64_t>(channels));
            tensor<float> image({3, channels, 9, 11});
            for (float& v : image.span()) v = static_cast<float>(r.between(-64, 8)) / 8;  // exact in half
            // Without NaN, so that means can be compared; then with some.
            const cuda::basic_network<Device> means(host, device, {.numbers = p});
            CHECK(relative_error(means(image.view(), s).span(), host(image.view()).span()) <= network_tolerance(p));
            for (float& v : image.span())
                if (r.chance(0.02)) v = std::numeric_limits<float>::quiet_NaN();
            const cuda::basic_network<Device> pools(pool, device, {.numbers = p});
            const auto found = pools(image.view(), s), expected = pool(image.view());
            for (std::size_t i = 0; i < expected.span().size(); ++i) {
                const float a = found.span()[i], b = expected.span()[i];
                CHECK((a == b || (std::isnan(a) && std::isnan(b))));
            }
        }
}

/// A case of tests/golden: PyTorch's output of a layer or block.
struct golden_case {
    std::string name;
    kdna::network net;
    kdna::tensor_data input, output;
};

/// A chain of layers over one warehouse, whose filters follow from the rows of the router's last layer.
inline kdna::models::value golden_warehouse(const kdna::models::module_builder<>& m, kdna::models::value x,
                                            const nlohmann::json& p) {
    using namespace kdna;
    using namespace kdna::models;
    const warehouse cells = take_warehouses(m, 1).front();
    const cell_shape& cell = cells.shape();
    index_t i = 0, claimed = 0;
    for (const nlohmann::json& layer : p.at("layers")) {
        const module_builder<> conv = m.child(concat("convs.", i++));
        const state_dict_reader a = conv.weights().scope("attention.");
        const auto extent = layer.at("kernel").get<index_t>();
        const index_t groups = layer.value("groups", index_t{1});
        const index_t rows = a.contains("basis_bias") ? a.extent("basis_bias", 0, 1) : a.extent("fc2.weight", 0, 2),
                      combinations = rows / (cell.n + 1), pieces = extent * extent / cell.taps(),
                      filters = combinations / (pieces * (x.channels / groups / cell.c)) * cell.o;
        layer_call call{.stride = layer.value("stride", index_t{1}),
                        .act = layer.at("act") == "relu" ? activation::relu : activation::none,
                        .pad = padding(layer.at("padding").get<index_t>())};
        call.bias = conv.weights().contains("bias");
        x = warehouse_layer(conv, x, {filters, x.channels, extent, extent, groups}, call, cells, claimed);
        claimed += claimed_cells(combinations, p.at("cell_num_ratio").get<double>());
    }
    return x;
}

inline kdna::models::value golden_dcd(const kdna::models::module_builder<>& m, const kdna::models::value& x,
                                      const nlohmann::json& p) {
    using namespace kdna;
    using namespace kdna::models;
    const state_dict_reader& w = m.weights();
    const auto kind = p.at("kind").get<std::string>();
    if (kind == "classifier") return dcd_classifier(m, x, w.extent("cls.weight", 0, 2));
    const auto extent = [&](std::size_t axis) { return w.extent("conv.weight", axis, 4); };
    layer_call call{.stride = p.at("stride").get<index_t>()};
    if (kind == "conv") call.pad = padding(p.at("padding").get<index_t>());
    return dcd_layer(m, x, {extent(0), x.channels, extent(2), extent(3)}, call, kind == "basic" ? 2 : 1);
}

/// Reads a case of the families that have a device form.
inline golden_case read_golden(const std::string& name) {
    using namespace kdna;
    using namespace kdna::models;
    const std::string path = concat(KDNA_TESTS_DIR, "/golden/", name);
    std::ifstream file(path + ".json");
    if (!file) throw std::runtime_error("cannot read " + path + ".json");
    const nlohmann::json p = nlohmann::json::parse(file);
    const auto number = [&](const char* key, index_t missing) { return p.value(key, missing); };
    state_dict weights = load_safetensors(path + ".safetensors");
    tensor_data input = weights.extract("input"), output = weights.extract("output");
    const auto family = p.at("family").get<std::string>();
    network net = build(std::move(weights), input.shape()[1], [&](const module_builder<>& m, const value& x) {
        const state_dict_reader& w = m.weights();
        const index_t stride = number("stride", 1), groups = number("groups", 1);
        if (family == "kerneldna") {
            const auto kind = p.at("kind").get<std::string>();
            if (kind == "resnet18_stage") return dna_basic_stage(m, x, w.extent("conv1.weight", 0, 4), stride);
            if (kind == "resnet50_layer3")
                return dna_bottleneck_pairs(m, x, w.extent("block0.layers.conv2.weight", 0, 4),
                                            w.extent("static_filter_attn", 0, 5), stride);
            if (kind == "resnet50_layer4")
                return dna_bottleneck_last(m, x, w.extent("block0.layers.conv2.weight", 0, 4), stride);
            return dna_cluster(m, x, w.extent("last_block.layers.pw2.weight", 0, 4), stride,
                               w.extent("static_filter_attn1", 0, 5));
        }
        if (family == "kernel_warehouse") return golden_warehouse(m, x, p);
        if (family == "dcd") return golden_dcd(m, x, p);
        if (family == "x_volution") {
            const kernel_shape k{x.channels, x.channels, w.extent("weight", 2, 4), w.extent("weight", 3, 4)};
            const float factor = w.take("w_q", {1})[0] * w.take("w_k", {1})[0] * w.take("w_v", {1})[0];
            x_volution layer(dense_kernel::pack(k, w.take("weight", {k.o, k.i, k.kh, k.kw})), factor,
                             {.pad = p.at("padding").get<index_t>()}, {.bias = w.take("bias", {k.o}), .name = name});
            return m.net().add(std::move(layer), x);
        }
        layer_call call{.stride = stride, .pad = padding(number("padding", 0)), .dilation = number("dilation", 1)};
        call.bias = w.contains("bias");
        if (family == "sparse_kernel")
            return sparse_kernel_layer(
                m, x,
                {w.extent("alpha", 0, 1), x.channels, w.extent("codebook", 1, 3), w.extent("codebook", 2, 3), groups},
                call);
        const auto extent = [&](std::size_t axis) { return w.extent("weight", axis, 5); };
        const kernel_shape k{extent(1), extent(2) * groups, extent(3), extent(4), groups};
        return family == "condconv" ? condconv_layer(m, x, k, call)
               : family == "dyconv" ? dyconv_layer(m, x, k, call)
                                    : odconv_layer(m, x, k, call);
    });
    return {name, std::move(net), std::move(input), std::move(output)};
}

inline constexpr const char* golden_names[] = {
    "stage_12_20_s2",
    "stage_8_12_s1",
    "r50_layer3_24_8_s2",
    "cluster_6_8_s1_k2",
    "cluster_8_12_s1_k1",
    "condconv_c16_o16_k3_n4_s2_p1_g16_bias",
    "condconv_c5_o8_k5_n4_s1_p2_g1",
    "condconv_c8_o12_k3_n4_s1_p1_g2",
    "dcd_basic_c4_o6_k3_s1_1x1",
    "dcd_basic_c9_o13_k3_s2_7x9",
    "dcd_classifier_c37_o23_l6",
    "dcd_conv_c50_o17_k1_s2_7x7",
    "dyconv_c3_o11_k5_n4_s2_p2_d1_g1_bias",
    "dyconv_c5_o7_k3_n3_s1_p1_d1_g1",
    "dyconv_c8_o12_k3_n4_s1_p1_d1_g2_bias",
    "kw_basis",
    "kw_depthwise",
    "kw_grid",
    "kw_half",
    "kw_taps",
    "odconv_c17_o21_k1_n4_s1_p0_d1_g1",
    "odconv_c21_o21_k3_n1_s2_p1_d1_g21",
    "odconv_c24_o13_k1_n1_s1_p0_d1_g1",
    "odconv_c8_o12_k3_n2_s1_p1_d1_g2",
    "sparse_c13_o13_k3_b5_s2_g13",
    "sparse_c5_o11_k3_b3_s1_g1",
    "xvolution_c5_k3_p1_5x9",
    "xvolution_c6_k5_p2_8x7",
};

/// Every golden case in every precision.
template <class Device>
void check_golden(Device& device, typename Device::stream s) {
    using namespace kdna;
    for (const char* name : golden_names) {
        const golden_case c = read_golden(name);
        const auto& extents = c.input.shape();
        const auto x = nchw_view(c.input.values<float>("input").data(), extents[0], extents[1], extents[2], extents[3]);
        for (const precision p : device_precisions) {
            const cuda::basic_network<Device> net(c.net, device, {.numbers = p});
            const double error = relative_error(net(x, s).span(), c.output.values<float>("output"));
            INFO(name << " " << std::string(cuda::to_string(p)) << ": " << error);
            CHECK(error <= (p == precision::f32 ? 1e-4 : p == precision::bf16 ? 2e-2 : 1e-2));
        }
    }
}

inline constexpr const char* golden_kernel_names[] = {"runtime_dense_c8_3x3_s2_zeros_each_g2",
                                                      "runtime_depthwise_c7_7x7_s2_zeros_each",
                                                      "runtime_shared_c3_11x11_s4_circular_each"};

/// The golden cases of kernels that come with a call, in every precision.
template <class Device>
void check_golden_kernels(Device& device, typename Device::stream s) {
    using namespace kdna;
    for (const char* name : golden_kernel_names) {
        const std::string path = concat(KDNA_TESTS_DIR, "/golden/", name);
        std::ifstream file(path + ".json");
        const nlohmann::json p = nlohmann::json::parse(file);
        state_dict tensors = load_safetensors(path + ".safetensors");
        const tensor_data input = tensors.extract("input"), output = tensors.extract("output"),
                          kernel = tensors.extract("kernel");
        const auto &in = input.shape(), &k = kernel.shape();
        const extent2 window(k[k.size() - 2], k[k.size() - 1]);
        const index_t groups = p.value("groups", index_t{1});
        call_kernels given{k.size() == 3   ? runtime_kernel::shared(in[1], window)
                           : k.size() == 4 ? runtime_kernel::depthwise(in[1], window)
                                           : runtime_kernel::dense({k[1], k[2] * groups, window.h, window.w, groups}),
                           k[0]};
        const auto weights = kernel.values<float>("kernel");
        given.values.assign(weights.begin(), weights.end());
        const conv_params params{
            .stride = p.value("stride", index_t{1}),
            .pad = p.at("padding").get<index_t>(),
            .mode = p.value("padding_mode", "zeros") == "circular" ? padding_mode::circular : padding_mode::zeros};
        const auto recipe = cuda::take_apart(runtime_conv2d(given.source, params, {.name = name}));
        const auto x = nchw_view(input.values<float>("input").data(), in[0], in[1], in[2], in[3]);
        for (const precision numbers : device_precisions) {
            const device_result found = run_on_device(device, recipe, {.numbers = numbers}, x, {}, s, &given);
            const double error = relative_error(values_of(found.y.view()), output.values<float>("output"));
            INFO(name << " " << std::string(cuda::to_string(numbers)) << ": " << error);
            CHECK(error <= (numbers == precision::f32 ? 1e-4 : 1e-2));
        }
    }
}

/// Plans of several shapes and streams on one network, with and without a recording, one after another and again.
template <class Device>
void check_plans(Device& device, typename Device::stream a, typename Device::stream b) {
    using namespace kdna;
    const network host = models::load(arch::mobilenet_v2_1d2, form::kernel_dna,
                                      random_values(kernel_dna_keys(arch::mobilenet_v2_1d2), 930));
    const cuda::basic_network<Device> net(host, device, {.numbers = precision::f16});
    struct run {
        shape4 shape;
        layout order;
        typename Device::stream stream;
        bool graph;
    };
    const std::vector<run> runs{{{1, 3, 40, 33}, layout::nhwc, a, true},
                                {{3, 3, 32, 32}, layout::nchw, b, true},
                                {{3, 3, 32, 32}, layout::nhwc, a, false}};
    std::vector<cuda::basic_network_plan<Device>> plans;
    std::vector<cuda::basic_device_tensor<float, Device>> inputs, outputs;
    std::vector<tensor<float>> expected;
    for (std::size_t i = 0; i < runs.size(); ++i) {
        const run& r = runs[i];
        const tensor<float> x = random_images(r.shape, 931 + i);
        expected.push_back(net(x.view(), a));
        plans.push_back(net.plan(r.shape, {.graph = r.graph}));
        inputs.emplace_back(device, r.shape, r.order);
        inputs.back().upload(x.view(), r.stream);
        outputs.emplace_back(device, plans.back().output_shape());
    }
    for (int repeat = 0; repeat < 2; ++repeat) {
        for (std::size_t i = 0; i < runs.size(); ++i)
            net.run(plans[i], std::as_const(inputs[i]).view(), outputs[i].view(), runs[i].stream);
        for (std::size_t i = 0; i < runs.size(); ++i)
            CHECK(same_bits(values_of(outputs[i].download(runs[i].stream)), values_of(expected[i].view())));
    }
}

/// A published network by its backend's name; plans that outlive the handle they came from.
template <class Device>
void check_loading(Device& device, typename Device::stream s) {
    using namespace kdna;
    const auto weights = [] { return random_values(kernel_dna_keys(arch::mobilenet_v2_1d2), 969); };
    const tensor<float> x = random_images({1, 3, 32, 21}, 970);
    const tensor<float> exact = models::load(arch::mobilenet_v2_1d2, form::kernel_dna, weights())(x.view());
    const cuda::basic_context<Device> where(device, {.numbers = precision::f16});
    auto net =
        std::make_optional(models::load<cuda::on<Device>>(arch::mobilenet_v2_1d2, form::kernel_dna, weights(), where));
    const tensor<float> expected = (*net)(x.view(), s);
    CHECK(relative_error(expected.span(), exact.span()) <= 1e-2);
    CHECK(net->options().numbers == precision::f16);

    const auto copy = *net;
    auto plan = copy.plan(x.shape());
    const auto moved = std::move(*net);
    net.reset();
    cuda::basic_device_tensor<float, Device> in(device, x.shape()), out(device, plan.output_shape());
    in.upload(x.view(), s);
    moved.run(plan, std::as_const(in).view(), out.view(), s);
    CHECK(same_bits(values_of(out.download(s)), values_of(expected.view())));
    check_error([&] { return models::load<cuda::on<Device>>(arch::resnet18, form::kernel_dna, weights(), where); },
                "conv1", "4 dimensions", "no such tensor");
}

}  // namespace kdna_test
