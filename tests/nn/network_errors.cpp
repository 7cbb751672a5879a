// What network builders, plans and runs reject.
#include <kdna/nn/network_builder.hpp>

#include "support/death.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

using namespace kdna;
using kdna_test::check_error;

namespace {

conv2d<> layer(index_t o, index_t i, index_t extent = 1, conv_params params = {}, bool residual = false) {
    const kernel_shape k{.o = o, .i = i, .kh = extent, .kw = extent};
    const std::vector<float> weights(static_cast<std::size_t>(weight_count(k)), 1.0F);
    return conv2d(dense_kernel::pack(k, weights), params, {.residual = residual, .name = "conv"});
}

}  // namespace

TEST_CASE("A network builder rejects layers that do not fit their values, by name") {
    network_builder net;
    const auto in = net.input(3);
    const auto h = net.add(layer(8, 3, 3, {.pad = 1}), in);
    check_error([&] { net.add(layer(8, 4), in); }, "conv input", "4 channels", "3");
    check_error([&] { net.add(layer(8, 3), h); }, "conv input", "3 channels", "8");
    check_error([&] { net.add(layer(8, 8, 1, {}, true), h); }, "conv residual", "one", "none");
    check_error([&] { net.add(layer(8, 8), h, h); }, "conv residual", "none", "one");
    check_error([&] { net.add(layer(8, 8, 1, {}, true), h, in); }, "conv residual", "8 channels", "3");
    CHECK_NOTHROW(net.add(layer(8, 8, 1, {}, true), h, h));
}

TEST_CASE("A network builder rejects values that are not its own") {
    network_builder other;
    auto foreign = other.input(3);
    for (int i = 0; i < 5; ++i) foreign = other.add(layer(3, 3), foreign);
    network_builder net;
    check_error([&] { net.add(layer(3, 3), foreign); }, "conv input", "a value of this network", "value 5");
    const auto in = net.input(3);
    check_error([&] { net.add(layer(3, 3), foreign); }, "conv input", "a value of this network",
                "value 5 of 3 channels");
    check_error([&] { net.add(layer(3, 3, 1, {}, true), in, foreign); }, "conv residual", "a value of this network",
                "value 5");
    check_error(
        [&] {
            net.add(layer(3, 4), network::value{0, 4});
        },
        "conv input", "a value of this network", "value 0 of 4 channels");
    check_error(
        [&] {
            net.add(layer(3, 3), network::value{-1, 3});
        },
        "conv input", "a value of this network", "value -1");
    check_error([&] { net.add(max_pool2d(2, 2, 0), foreign); }, "max_pool2d input", "a value of this network",
                "value 5");
    check_error([&] { net.add_global_average(foreign); }, "global_average input", "a value of this network", "value 5");
    check_error([&] { net.add_linear(layer(3, 3), foreign); }, "conv input", "a value of this network", "value 5");
    check_error([&] { net.add(std::unique_ptr<operation>(), in, 3); }, "network step", "an operation",
                "a null pointer");
    check_error([&] { net.add(std::make_unique<global_average_operation>(), in, 0); }, "global_average",
                "at least one channel", "0");
    net.add(layer(3, 3), in);
    check_error([&] { static_cast<void>(net.input(3)); }, "network input", "all inputs before the first step", "");
    check_error([&] { static_cast<void>(network_builder().input(0)); }, "network input", "at least one channel", "0");
}

TEST_CASE("A network has steps, and outputs of its own with names of their own") {
    check_error(
        [&] {
            static_cast<void>(network_builder().build(network::value{0, 3}));
        },
        "network", "at least one input", "none");
    network_builder net;
    const auto a = net.add(layer(8, 3), net.input(3));
    check_error([&] { static_cast<void>(std::move(net).build(std::vector<network_builder::output>())); }, "network",
                "an output", "none");
    check_error(
        [&] {
            static_cast<void>(std::move(net).build({{"y", a}, {"y", a}}));
        },
        "network output", "a name that no other has", "y");
    network_builder other;
    check_error([&] { static_cast<void>(std::move(other).build(a)); }, "network", "", "");
}

TEST_CASE("A network may give its input back") {
    network_builder net;
    const auto in = net.input(3);
    const network n = std::move(net).build(in);
    auto plan = n.plan({1, 3, 2, 2});
    tensor<float> x({1, 3, 2, 2}), y({1, 3, 2, 2}, layout::nhwc);
    for (index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i);
    n.run(plan, x.view(), y.view());
    for (index_t c = 0; c < 3; ++c) CHECK(y(0, c, 1, 0) == x(0, c, 1, 0));
}

TEST_CASE("A step on which no output depends is left out") {
    network_builder net;
    const auto a = net.add(layer(8, 3), net.input(3));
    net.add(layer(8, 8), a);
    const network n = std::move(net).build(net.add(max_pool2d(1, 1, 0), a));
    CHECK(n.step_count() == 2);
    CHECK(n.output_channels() == 8);
    CHECK(n.plan({1, 3, 4, 4}).output_shape() == shape4{1, 8, 4, 4});
}

TEST_CASE("A fully connected layer must be one") {
    network_builder net;
    const auto in = net.input(3);
    check_error([&] { net.add_linear(layer(8, 3, 3), in); }, "conv", "a 1x1 kernel", "3x3");
    check_error([&] { net.add_linear(layer(8, 4), in); }, "conv input", "4 channels", "3");
    check_error([&] { net.add_linear(layer(8, 3, 1, {.stride = 2}), in); }, "conv", "stride 1 and no padding", "");
    check_error(
        [&] {
            net.add_linear(layer(8, 3, 1, {.pad = {0, 0, 1, 0}}), in);
        },
        "conv", "stride 1 and no padding", "");
    check_error([&] { net.add_linear(layer(8, 3, 1, {}, true), in); }, "conv residual", "none", "one");
    const network n = std::move(net).build(net.add_linear(layer(8, 3), in));
    check_error([&] { static_cast<void>(n.plan({2, 3, 2, 1})); }, "conv", "a pooled input, H = W = 1", "H 2");
}

TEST_CASE("A network's plan names the layer that cannot run on its input") {
    network_builder net;
    auto v = net.input(3);
    const auto stem = v = net.add(layer(4, 3, 3, {.stride = 2}), v);
    v = net.add(max_pool2d(3, 2, 0), v);
    v = net.add(layer(4, 4, 3, {.stride = 2, .pad = 1}, true), v, stem);
    const network n = std::move(net).build(v);
    const index_t huge = index_t{1} << 40;
    check_error([&] { static_cast<void>(n.plan({1, 4, 32, 32})); }, "network input", "3 channels", "[1, 4, 32, 32]");
    check_error([&] { static_cast<void>(n.plan({0, 3, 32, 32})); }, "network input", "extents >= 1", "[0, 3, 32, 32]");
    check_error([&] { static_cast<void>(n.plan({1, 3, huge, huge})); }, "network input", "fits in 64 bits", "");
    check_error([&] { static_cast<void>(n.plan({1, 3, 2, 32})); }, "conv", "at least 3", "2");
    check_error([&] { static_cast<void>(n.plan({1, 3, 3, 32})); }, "max_pool2d", "at least 3", "1");
    check_error([&] { static_cast<void>(n.plan({1, 3, 32, 32})); }, "conv residual", "H 4, W 4", "H 15, W 15");
}

TEST_CASE("A network names the view or plan that does not fit a run") {
    network_builder net, longer;
    const network n = std::move(net).build(net.add(layer(8, 3), net.input(3)));
    const auto h = longer.add(layer(8, 3), longer.input(3));
    const network other = std::move(longer).build(longer.add(layer(8, 8), h));
    auto plan = n.plan({2, 3, 4, 4});
    tensor<float> x({2, 3, 4, 4}), y({2, 8, 4, 4}), small({1, 3, 4, 4});
    check_error([&] { n.check(plan, {}, y.view()); }, "network", "views of memory", "a null pointer");
    check_error([&] { n.check(plan, x.view(), {}); }, "network", "views of memory", "a null pointer");
    check_error([&] { n.check(plan, small.view(), y.view()); }, "network input", "N 2", "N 1");
    check_error([&] { n.check(plan, x.view(), x.view()); }, "network output", "C 8", "C 3");
    check_error(
        [&] {
            n.check(other.plan({2, 3, 4, 4}), x.view(), y.view());
        },
        "network", "a plan of this network", "another network's");
    CHECK_NOTHROW(n.check(plan, x.view(), y.view()));
#if defined(KDNA_TEST_DEATH) && KDNA_CHECK
    const std::string words = kdna_test::last_words([&] { n.run(plan, small.view(), y.view()); });
    CHECK(words.find("kdna: contract broken: network input: expected (N 2, C 3, H 4, W 4), found (N 1") == 0);
#endif
}
