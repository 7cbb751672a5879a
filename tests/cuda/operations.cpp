// Operations and networks of them on the emulated device.
#include <array>

#include <kdna/dna/modulated.hpp>
#include <kdna/graph/load.hpp>
#include <kdna/nn/conv_transpose2d.hpp>
#include <kdna/nn/frequency_bands.hpp>
#include <kdna/nn/given_position_conv2d.hpp>

#include "cuda/device_operations.hpp"
#include "cuda/emulated.hpp"
#include "cuda/random_layers.hpp"
#include "graph/random_graph.hpp"
#include "support/errors.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// A network from a file on the device and on the CPU; returns its plan's text.
std::string check_file(const state_dict& file, const shape4& in, double roundings,
                       std::span<const precision> precisions) {
    const network host = load(file, "test");
    std::vector<tensor<float>> x;
    for (index_t i = 0; i < host.input_count(); ++i)
        x.push_back(random_images(in, 971 + static_cast<std::uint64_t>(i)));
    const auto expected = run_on_host(host, x);
    std::string text;
    for (const precision p : precisions) {
        emulator device(4, 7);
        const cuda::basic_network net(host, device, {.numbers = p});
        const auto found = run_on_device(net, x);
        // TF32 rounds what it multiplies as half does.
        const double roundoff =
            p == precision::tf32 ? stored_roundoff(precision::f16) : std::max(stored_roundoff(p), 0x1p-20);
        for (std::size_t i = 0; i < found.size(); ++i) {
            INFO(std::string(cuda::to_string(p)) << ", output " << i);
            CHECK(relative_error(found[i].span(), expected[i].span()) <= roundings * roundoff);
        }
        const std::vector<shape4> shapes(x.size(), in);
        text = net.plan(shapes).explain();
    }
    return text;
}

std::size_t times(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

}  // namespace

TEST_CASE("Every operation on the emulated device gives the CPU's values, rounded once") {
    emulator device(4, 5);
    const std::array<index_t, 4> channels{1, 5, 16, 40};
    check_operations(device, std::span(channels), all_precisions);
}

TEST_CASE("Layers on the emulated device read parts of values and make parts of others") {
    emulator device(4, 6);
    const std::array<index_t, 3> channels{6, 12, 16};
    check_parts(device, channels, all_precisions);
}

TEST_CASE(
    "Parts of values are not copied where their channels are whole packs, or would be none in memory of their own") {
    emulator device(4);
    const auto text = [&](index_t channels, precision p) {
        rng r(963, 0);
        const network host = parts_network(r, channels);
        return cuda::basic_network(host, device, {.numbers = p}).plan({1, 3, 16, 16}).explain();
    };
    // Five values, of which the last concatenation repeats the first four: slices are views.
    CHECK(times(text(16, precision::f16), "no copy") == 4);
    CHECK(times(text(6, precision::f16), "no copy") == 4);
    // 12 floats are whole packs of 16 bytes, 12 halves are not.
    CHECK(times(text(12, precision::f32), "no copy") == 4);
}

TEST_CASE("A U-Net from a file runs on the emulated device without copies of its concatenations") {
    rng r(7300, 0);
    graph_writer g(r);
    random_layers l(r, g);
    const std::string x = g.input({2, 4, 16, 12});
    const std::string a = l.act(l.bn(l.conv(x, 8, 3))), b = l.act(l.conv(l.pooled(l.conv(a, 16, 3, 2)), 16, 3));
    const std::string c = l.act(l.conv(b, 24, 3, 2));
    const std::string d = l.act(l.conv(l.concat_of({l.like(c, b), b}), 16, 3));
    const std::string e = l.act(l.conv(l.concat_of({l.like(d, a), a}), 8, 3));
    const std::string text = check_file(g.finish({l.conv(e, 3, 1)}), {2, 4, 16, 12}, 40, all_precisions);
    CHECK(times(text, "concat") == 2);
    CHECK(times(text, "no copy") == 2);
}

TEST_CASE("A feature pyramid from a file gives three outputs on the emulated device") {
    rng r(7301, 0);
    graph_writer g(r);
    random_layers l(r, g);
    std::vector<std::string> laterals;
    std::string x = g.input({1, 4, 24, 16});
    for (int level = 0; level < 3; ++level) {
        x = l.act(l.bn(l.conv(x, 8 << level, 3, 2)));
        laterals.push_back(l.conv(x, 8, 1));
    }
    std::string top = laterals[2];
    std::vector<std::string> outputs{l.conv(top, 8, 3)};
    for (std::size_t level = 2; level-- > 0;) {
        top = g.add("add", {laterals[level], l.like(top, laterals[level])}, g.shape(laterals[level]));
        outputs.push_back(l.conv(top, 8, 3));
    }
    static_cast<void>(check_file(g.finish(outputs), {2, 4, 28, 20}, 40, all_precisions));
}

TEST_CASE("Squeeze-excite blocks of a file are gates on the emulated device") {
    rng r(7302, 0);
    graph_writer g(r);
    random_layers l(r, g);
    std::string x = l.act(l.bn(l.conv(g.input({1, 3, 16, 16}), 16, 3, 2)));
    for (int block = 0; block < 2; ++block) {
        const std::string expanded = l.act(l.bn(l.conv(x, 24, 1)));
        const std::string gated = l.squeeze_excite(l.act(l.bn(l.conv(expanded, 24, 3, 1, 24))));
        const std::string projected = l.bn(l.conv(gated, 16, 1));
        x = g.add("add", {x, projected}, g.shape(x));
    }
    const nd_shape s = g.shape(x);
    const std::string flat = g.add("flatten", {l.global_mean(x)}, {s[0], s[1]}, "\"first\": 1");
    const std::string y =
        g.add("linear", {flat}, {s[0], 10}, "", {{"weight", g.weights({10, 16}, 16)}, {"bias", g.tensor({10})}});
    const std::string text = check_file(g.finish({y}), {2, 3, 20, 16}, 60, all_precisions);
    CHECK(times(text, "gate on the input") == 2);
}

TEST_CASE("Split and joined channels of a file run on the emulated device, as YOLO has them") {
    rng r(7303, 0);
    graph_writer g(r);
    random_layers l(r, g);
    const std::string x = l.act(l.bn(l.conv(g.input({1, 3, 12, 12}), 32, 1)));
    std::vector<std::string> parts{l.channels_of(x, 0, 16), l.channels_of(x, 16, 32)};
    for (int i = 0; i < 2; ++i) {
        const std::string y = l.act(l.bn(l.conv(l.act(l.bn(l.conv(parts.back(), 16, 3))), 16, 3)));
        parts.push_back(g.add("add", {parts.back(), y}, g.shape(y)));
    }
    const std::string text =
        check_file(g.finish({l.act(l.bn(l.conv(l.concat_of(parts), 24, 1)))}), {2, 3, 12, 10}, 60, all_precisions);
    CHECK(times(text, "slice") == 2);
    CHECK(times(text, "no copy") >= 2);
}

TEST_CASE("Random networks from files give the CPU's values on the emulated device") {
    for (int i = 0; i < scaled(60); ++i) {
        rng r(7304, static_cast<std::uint64_t>(i));
        const index_t inputs = r.chance(0.2) ? 2 : 1, height = r.between(4, 10), width = r.between(4, 10);
        const nd_shape example{2, 2 * r.between(1, 4), height, width};
        const state_dict file = random_graph(r, example, inputs, true);
        INFO("case " << i << "\n" << file.metadata().at("kdna.graph"));
        const precision p = all_precisions[i % 4];
        static_cast<void>(check_file(file, {r.between(1, 3), example[1], height + r.between(0, 3), width},
                                     p == precision::f32 ? 200 : 100, {&p, 1}));
    }
}

TEST_CASE("A run of operations on the emulated device allocates nothing, and steps run in place") {
    network_builder net;
    const auto x = net.input(16);
    auto y = nn::mul(net, x, 2.0F);
    for (int i = 0; i < 5; ++i) y = nn::activate(net, nn::add(net, y, 0.5F), activation::silu);
    const network host = std::move(net).build(y);
    emulator device(4);
    const cuda::basic_network on_device(host, device, {.numbers = precision::f16});
    auto plan = on_device.plan({1, 16, 16, 16});
    CHECK(plan.arena_bytes() == 2 * 16 * 256 * 2);
    cuda::basic_device_tensor<float, emulator> in(device, plan.input_shape()), out(device, plan.output_shape());
    const tensor<float> images = random_images(plan.input_shape(), 964);
    in.upload(images.view(), 0);
    const index_t before = device.allocations(), launches = device.launches();
    on_device.run(plan, std::as_const(in).view(), out.view(), 0);
    CHECK(device.allocations() == before);
    CHECK(device.launches() - launches == 13);
}

TEST_CASE("Programs of operations move whole sectors", "[traffic]") {
    for (const precision p : all_precisions) {
        rng r(965, 0);
        const network host = operations_network(64, r).build();
        emulator device(4);
        const cuda::basic_network net(host, device, {.numbers = p});
        const std::vector<shape4> shapes{{1, 64, 8, 8}, {1, 64, 1, 1}, {1, 1, 8, 8}};
        auto plan = net.plan(shapes);
        std::vector<cuda::basic_device_tensor<float, emulator>> in, out;
        std::vector<cuda::device_view<const float>> x;
        std::vector<cuda::device_view<float>> y;
        for (const shape4& s : shapes) {
            in.emplace_back(device, s);
            const tensor<float> images = random_images(s, 966);
            in.back().upload(images.view(), 0);
            x.push_back(std::as_const(in.back()).view());
        }
        for (index_t i = 0; i < host.output_count(); ++i) {
            out.emplace_back(device, plan.output_shape(i));
            y.push_back(out.back().view());
        }
        device.measure(true);
        net.run(plan, x, y, 0);
        for (const char* program :
             {"binary_program", "unary_program", "pad_program", "windows_program", "resize_program"}) {
            INFO(std::string(cuda::to_string(p)) << ", " << program);
            const program_traffic& t = device.traffic().at(program);
            CHECK(t.device_stores.accesses > 0);
            CHECK(t.device_stores.moved == t.device_stores.least);
            // What a warp repeats is in one sector; slopes, scales and shifts of channels come one by one, up to three an element.
            CHECK(t.device_loads.waste() <= (std::string(program) == "unary_program" ? 2.5 : 1.0));
        }
    }
}

TEST_CASE("Operations without a device form are named when the network is put on the device") {
    emulator device;
    const auto refused = [&](const std::string& name, auto add) {
        network_builder net;
        const auto x = net.input("x", {0, 4, 6, 6});
        const network host = std::move(net).build(add(net, x));
        check_error([&] { return cuda::basic_network(host, device); }, name, "device form", "");
    };
    using value = network::value;
    refused("softmax", [](network_builder& n, const value& x) { return nn::softmax(n, x, 1, "softmax"); });
    refused("norm", [](network_builder& n, const value& x) { return nn::layer_norm(n, x, {}, "norm"); });
    refused("groups", [](network_builder& n, const value& x) { return nn::group_norm(n, x, 2, {}, "groups"); });
    refused("largest", [](network_builder& n, const value& x) {
        return nn::reduce(n, nn::reduce_kind::max, x, {1}, true, "largest");
    });
    refused("product", [](network_builder& n, const value& x) { return nn::matmul(n, x, x, "product"); });
    refused("power",
            [](network_builder& n, const value& x) { return nn::unary(n, x, ops::unary::pow(2.5F), "power"); });
    refused("bands", [](network_builder& n, const value& x) {
        return n.add(
            std::make_unique<frequency_bands>(std::vector<index_t>(static_cast<std::size_t>(x.channels), 2), "bands"),
            {x, x}, x.channels);
    });
    refused("position", [](network_builder& n, const value& x) {
        return n.add(std::make_unique<given_position_operation>(given_position_conv2d(
                         {.channels = x.channels, .groups = x.channels, .window = 1}, {}, {.name = "position"})),
                     {x, x}, x.channels);
    });
    refused("up", [](network_builder& n, const value& x) {
        const std::vector<float> w(4 * 3 * 4, 0.5F);
        return nn::conv_transpose2d(n, x, {4, 3, 2, 2}, w, {.stride = 2}, {.name = "up"});
    });
    refused("mixture", [](network_builder& n, const value& x) {
        const kernel_shape k{.o = 3, .i = 4, .kh = 1, .kw = 1};
        const std::vector<float> w(2 * 12, 0.5F);
        const auto coefficients = nn::slice(n, n.add_global_average(x), 1, 0, 2);
        return n.add(conv2d<mixture_kernel, given_mixture>(mixture_kernel::pack(2, k, w), {}, {.name = "mixture"},
                                                           given_mixture{2}),
                     x, coefficients);
    });
    refused("styled", [](network_builder& n, const value& x) {
        const dense_kernel kernel = dense_kernel::pack({.o = 3, .i = 4}, std::vector<float>(12, 0.5F));
        return n.add(conv2d(kernel, {}, {.name = "styled"}, modulated_router(kernel, {})), x, n.add_global_average(x));
    });
    network_builder tokens;
    const auto t = tokens.input("tokens", {0, 5, 7});
    const network three = std::move(tokens).build(nn::add(tokens, t, 1.0F));
    check_error([&] { return cuda::basic_network(three, device); }, "network input tokens", "pixels [N, C]", "rank 3");
}

TEST_CASE("Shapes that a device does not take are named when the network is planned") {
    emulator device;
    network_builder net;
    const auto x = net.input(4);
    const network host = std::move(net).build(std::vector<network_builder::output>{{"rows", nn::flatten(net, x, 2)}});
    const cuda::basic_network flat(host, device);
    check_error([&] { return flat.plan({1, 4, 3, 3}); }, "network output rows", "an image [N, C, H, W]", "[1, 4, 9]");

    network_builder two;
    const auto a = two.input(4), b = two.input("b", {0, 0});
    const network both = std::move(two).build(std::vector<network_builder::output>{
        {"sum", nn::add(two, a, nn::reshape(two, b, {extent::dim(0, 0), 4, 1, 1}))}, {"b", nn::mul(two, b, 2.0F)}});
    const cuda::basic_network sums(both, device);
    check_error([&] { return sums.plan({1, 4, 3, 3}); }, "network inputs", "2", "1");
    const std::array wrong{shape4{1, 4, 3, 3}, shape4{1, 4, 2, 1}};
    check_error([&] { return sums.plan(wrong); }, "network input b", "rank 2", "[1, 4, 2, 1]");
    const std::array right{shape4{1, 4, 3, 3}, shape4{1, 4, 1, 1}};
    auto plan = sums.plan(right);
    CHECK(plan.input_shape(1) == right[1]);
    CHECK(plan.output_shape(1) == right[1]);
    check_error(
        [&] {
            const cuda::device_view<const float> none;
            const cuda::device_view<float> nowhere;
            sums.run(plan, none, nowhere, 0);
            return 0;
        },
        "network", "2 inputs", "1");
}
