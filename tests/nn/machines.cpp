// Networks that are planned for other machines: stages and bands follow the caches, and explain() names the machine.
#include <kdna/nn/network_builder.hpp>

#include "support/catch.hpp"
#include "support/conv_cases.hpp"
#include "support/errors.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// Pointwise and depthwise layers, which one algorithm runs on any machine.
network small_network(rng& r) {
    const auto kernel = [&](kernel_shape k) { return dense_kernel::pack(k, r.floats(weight_count(k), -0.3, 0.3)); };
    network_builder net;
    auto v = net.add(conv2d(kernel({.o = 24, .i = 3, .kh = 3, .kw = 3}), {.stride = 2, .pad = 1}), net.input(3));
    v = net.add(conv2d(kernel({.o = 48, .i = 24}), {}, {.act = activation::relu6}), v);
    v = net.add(conv2d(kernel({.o = 48, .i = 48, .kh = 3, .kw = 3, .groups = 48}), {.stride = 2, .pad = 1}), v);
    v = net.add(conv2d(kernel({.o = 24, .i = 48}), {}), v);
    return std::move(net).build(v);
}

machine with_l2(index_t bytes) {
    machine m = machine::named("zen4");
    m.name = "mine";
    m.l2_bytes = bytes;
    return m;
}

}  // namespace

TEST_CASE("Stages and bands of a network follow the machine that it is planned for") {
    rng r(480, 0);
    const network net = small_network(r);
    const shape4 in{4, 3, 64, 64};  // 196 KiB a sample between the second and the third layer
    frame x(r, in, placement::nhwc);
    x.fill(r);
    const auto text = [&](index_t l2) { return net.plan(in, {.target = with_l2(l2)}).explain(); };
    const auto says = [](const std::string& s, const char* words) { return s.find(words) != std::string::npos; };
    INFO(text(128 << 10) << "\n" << text(16 << 20));
    CHECK(says(text(128 << 10), "samples 1 at a time"));
    CHECK(says(text(128 << 10), "in bands"));
    CHECK(!says(text(16 << 20), "at a time"));
    CHECK(!says(text(16 << 20), "in bands"));
    CHECK(says(text(16 << 20), "\nplanned for mine (32 KiB L1 in 8 ways, 16384 KiB L2, 32768 KiB L3), vectors of "));
    CHECK(net.plan(in, {.target = with_l2(128 << 10)}).arena_bytes() <
          net.plan(in, {.target = with_l2(16 << 20)}).arena_bytes() / 4);

    // The bits of these layers do not depend on it.
    std::vector<float> expected;
    for (const index_t l2 : {index_t{4} << 10, index_t{128} << 10, index_t{1} << 20, index_t{16} << 20}) {
        auto plan = net.plan(in, {.target = with_l2(l2)});
        tensor<float> y(plan.output_shape());
        net.run(plan, x.view(), y.view());
        const std::vector<float> found = values_of(std::as_const(y).view());
        if (expected.empty()) expected = found;
        CHECK(bool(found == expected));
    }
}

TEST_CASE("A network is planned for this machine if no other is named, and for none that cannot be") {
    rng r(481, 0);
    const network net = small_network(r);
    CHECK(net.plan({1, 3, 16, 16}).explain().find("\nplanned for " + to_string(machine::host())) != std::string::npos);
    check_error([&] { return net.plan({1, 3, 16, 16}, {.target = with_l2(-1)}); }, "machine mine L2", "bytes", "-1");
}
