// Networks: values, arena, residuals, heads, gates.
#include "nn/networks.hpp"

#include <kdna/nn/network_functions.hpp>

#include <limits>

#include "support/counting_resource.hpp"
#include "support/errors.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

/// y = a + b, a step of two inputs that nobody but this test knows.
class sum_operation final : public operation {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return "sum"; }
    [[nodiscard]] index_t inputs() const noexcept override { return 2; }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override {
        if (in[0] != in[1]) throw error("sum", to_string(in[0]), to_string(in[1]));
        return in[0];
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape>, const plan_options&) const override {
        return std::make_unique<operation_state>();
    }
    void run(operation_state&, const operation_call& c) const noexcept override {
        const tensor_view<const float> left = c.image(0), right = c.image(1);
        const tensor_view<float> y = c.y();
        const shape4& s = y.shape;
        for (index_t n = 0; n < s.n; ++n)
            for (index_t i = 0; i < s.c; ++i)
                for (index_t h = 0; h < s.h; ++h)
                    for (index_t w = 0; w < s.w; ++w) y(n, i, h, w) = left(n, i, h, w) + right(n, i, h, w);
    }
};

}  // namespace

TEST_CASE("A step of one's own may read several values, of different ages") {
    rng r(655, 0);
    const kernel_shape k{.o = 6, .i = 6, .kh = 3, .kw = 3};
    const conv2d first(dense_kernel::pack(k, r.floats(weight_count(k))), {.pad = 1}),
        second(dense_kernel::pack(k, r.floats(weight_count(k))), {.pad = 1});
    network_builder builder;
    const auto in = builder.input(6);
    const auto a = builder.add(first, in), b = builder.add(second, a);
    const auto ab = builder.add(std::make_unique<sum_operation>(), {b, a}, 6);
    check_error([&] { builder.add(std::make_unique<sum_operation>(), {a, b, ab}, 6); }, "sum inputs", "2", "3");
    const network net = std::move(builder).build(builder.add(std::make_unique<sum_operation>(), {ab, in}, 6));
    frame x(r, {3, 6, 8, 9}, placement::nchw);
    x.fill(r);
    const auto ya = first(x.view()), yb = second(ya.view());
    const auto y = net(x.view());
    for (std::size_t i = 0; i < y.span().size(); ++i) {
        const float expected = (yb.span()[i] + ya.span()[i]) + values_of(x.view())[i];
        REQUIRE(std::abs(y.span()[i] - expected) <= 1e-4F * std::abs(expected) + 1e-5F);
    }
}

TEST_CASE("A network has the same bits as its layers one by one, and keeps nothing from the run before") {
    for (int i = 0; i < scaled(400); ++i) {
        rng r(420, static_cast<std::uint64_t>(i));
        const index_t channels = r.between(1, 4);
        const twin_networks twins = random_network(r, channels, r.chance(0.5));
        const shape4 in{r.between(1, 3), channels, r.between(3, 14), r.between(3, 14)};
        frame x(r, in, r.pick({placement::nchw, placement::nhwc, placement::permuted, placement::reversed}));
        auto plan = twins.network->plan(in);
        frame y(r, plan.output_shape(), r.pick({placement::nchw, placement::nhwc, placement::reversed}));

        tensor<float> bad(in);
        std::fill(bad.span().begin(), bad.span().end(), std::numeric_limits<float>::quiet_NaN());
        twins.network->run(plan, bad.view(), y.view());  // leaves NaN wherever the arena is used
        x.fill(r);
        twins.network->run(plan, x.view(), y.view());
        KDNA_TEST_CASE_INFO(i, to_string(in) + "\n" + plan.explain());
        if (!same_bits(values_of(y.view()), twins.one_by_one(x.view()))) FAIL("other bits");
        if (!y.guards_intact() || !x.guards_intact()) FAIL("wrote outside its output");
    }
}

TEST_CASE("A network on the CPU agrees with itself on the reference backend") {
    for (int i = 0; i < scaled(60); ++i) {
        rng a(421, static_cast<std::uint64_t>(i)), b(421, static_cast<std::uint64_t>(i));
        const network fast = *std::move(random_network<backend::cpu>(a, 3, true).network);
        const network exact = *std::move(random_network<backend::reference>(b, 3, true).network);
        tensor<float> x({2, 3, 9, 8});
        for (float& v : x.span()) v = static_cast<float>(a.real(-1, 1));
        const tensor<float> y = fast(x.view()), z = exact(x.view());
        double largest = 0.0, error = 0.0;
        for (std::size_t j = 0; j < y.span().size(); ++j) {
            largest = std::max(largest, std::abs(static_cast<double>(z.span()[j])));
            error = std::max(error, std::abs(static_cast<double>(y.span()[j]) - static_cast<double>(z.span()[j])));
        }
        KDNA_TEST_CASE_INFO(i, concat("error ", error, " of ", largest));
        if (!(error <= 1e-4 * largest)) FAIL("too large");
    }
}

TEST_CASE("A network explains every layer, and keeps its plan in the caller's memory") {
    rng r(422, 0);
    const twin_networks twins = random_network(r, 3, true);
    counting_resource memory;
    {
        const auto plan = twins.network->plan({2, 3, 9, 9}, {.memory = &memory});
        const std::string text = plan.explain();
        INFO(text);
        CHECK(text.find("stem: (O ") != std::string::npos);
        CHECK(text.find("fc: (O 7") != std::string::npos);
        CHECK(text.find("activations ") != std::string::npos);
        CHECK(plan.arena_bytes() > 0);
        CHECK(memory.live_bytes >= static_cast<std::size_t>(plan.arena_bytes() + plan.workspace_bytes()));
        CHECK(plan.input_shape() == shape4{2, 3, 9, 9});
        CHECK(plan.output_shape() == shape4{2, 7, 1, 1});
    }
    CHECK(memory.live_bytes == 0);
    CHECK(twins.network->input_channels() == 3);
    CHECK(twins.network->output_channels() == 7);
}

TEST_CASE("Values that are dead give their place to later ones") {
    // A chain of equal layers needs room for two values, however long it is; a value that stays alive needs its own.
    rng r(423, 0);
    const kernel_shape k{.o = 8, .i = 8};
    const auto kernel = dense_kernel::pack(k, r.floats(64));
    const auto bytes = [&](index_t length, bool keep_first) {
        network_builder net;
        auto v = net.input(8);
        const auto first = v = net.add(conv2d(kernel, {}), v);
        for (index_t i = 0; i < length; ++i) v = net.add(conv2d(kernel, {}), v);
        v = keep_first ? net.add(conv2d(kernel, {}, {.residual = true}), v, first) : net.add(conv2d(kernel, {}), v);
        return std::move(net).build(v).plan({1, 8, 16, 16}).arena_bytes();
    };
    constexpr index_t one = 8 * 16 * 16 * 4;
    CHECK(bytes(10, false) == 2 * one);
    CHECK(bytes(50, false) == 2 * one);
    CHECK(bytes(10, true) == 3 * one);
}

TEST_CASE("The gates of every child can be read after a run, and are the formula's") {
    rng r(424, 0);
    const index_t c = 12;
    const kernel_shape k{.o = c, .i = c, .kh = 3, .kw = 3};
    const auto parent = parent_kernel::pack(k, r.floats(weight_count(k)));
    const auto se = se_tensors::random(r, c, 4), second = se_tensors::random(r, c, 5);
    network_builder net;
    auto v = net.input(c);
    v = net.add(conv2d(parent.child({}), {.pad = 1}, {.name = "kids.0"}, gate_of(se)), v);
    v = net.add(conv2d(parent, {.pad = 1}, {.name = "parent"}), v);
    v = net.add(conv2d(parent.child({}), {.pad = 1}, {.name = "kids.1"}, gate_of(second)), v);
    const network n = std::move(net).build(v);
    auto plan = n.plan({3, c, 6, 5});
    frame x(r, {3, c, 6, 5}, placement::nchw), y(r, {3, c, 6, 5}, placement::nchw);
    x.fill(r);
    n.run(plan, x.view(), y.view());
    for (index_t sample = 0; sample < 3; ++sample) {
        const auto gates = plan.gates(sample);
        REQUIRE(gates.size() == 2);
        CHECK(gates[0].name == "kids.0");
        CHECK(gates[1].name == "kids.1");
        const bounded_vector expected = se(pooled(x.view(), sample));
        REQUIRE(gates[0].gate.size() == expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i)
            CHECK(std::abs(static_cast<double>(gates[0].gate[i]) - expected[i].value) <= expected[i].error);
    }
}

TEST_CASE(
    "A batch in stages gives each sample's own bits and gates, in an arena smaller than the batch's activations") {
    rng r(425, 0);
    const auto kernel = [&](index_t o, index_t i) {
        const kernel_shape k{.o = o, .i = i, .kh = 3, .kw = 3};
        return dense_kernel::pack(k, r.floats(weight_count(k), -0.2, 0.2));
    };
    const auto se = se_tensors::random(r, 24, 5), second = se_tensors::random(r, 24, 3);
    const auto wide = kernel(24, 24);
    network_builder net;
    auto v = net.add(conv2d(kernel(24, 3), {.pad = 1}, {.name = "stem"}), net.input(3));
    v = net.add(conv2d(wide.child({}), {.pad = 1}, {.act = activation::relu, .name = "large"}, gate_of(se)), v);
    v = net.add(conv2d(wide, {.stride = 4, .pad = 1}, {.name = "down"}), v);
    const auto identity = v = net.add(max_pool2d(2, 2, 0), v);
    v = net.add(conv2d(wide, {.pad = 1}, {.name = "small"}), v);
    v = net.add(conv2d(wide.child({}), {.pad = 1}, {.residual = true, .name = "last"}, gate_of(second)), v, identity);
    const network n = std::move(net).build(v);
    for (const index_t batch : {1, 4, 6, 7}) {
        const shape4 in{batch, 3, 120, 120}, one{1, 3, 120, 120};
        frame x(r, in, placement::nchw);
        x.fill(r);
        auto plan = n.plan(in, {.target = machine::named("zen4")}),
             single = n.plan(one, {.target = machine::named("zen4")});
        INFO(plan.explain());
        tensor<float> y(plan.output_shape()), z(single.output_shape());
        n.run(plan, x.view(), y.view());
        if (batch > 1) {
            CHECK(plan.explain().find("samples 1 at a time") != std::string::npos);
            CHECK(plan.explain().find(concat("samples ", batch, " at a time")) != std::string::npos);
            CHECK(plan.arena_bytes() < single.arena_bytes() * 2);
        }
        for (index_t i = 0; i < batch; ++i) {
            n.run(single, std::as_const(x).view().samples(i, 1), z.view());
            CHECK(same_bits(values_of(std::as_const(y).view().samples(i, 1)), values_of(z.view())));
            const auto gates = plan.gates(i), expected = single.gates(0);
            REQUIRE(gates.size() == 2);
            for (std::size_t g = 0; g < gates.size(); ++g) {
                CHECK(gates[g].name == expected[g].name);
                CHECK(std::equal(gates[g].gate.begin(), gates[g].gate.end(), expected[g].gate.begin(),
                                 expected[g].gate.end()));
            }
        }
    }
}

TEST_CASE("A fully connected layer of a network is W x + b for each sample") {
    for (int i = 0; i < scaled(60); ++i) {
        rng r(425, static_cast<std::uint64_t>(i));
        const index_t batch = r.between(1, 20), c = r.between(1, 40), o = r.between(1, 40);
        const auto weight = r.floats(o * c), bias = r.floats(o);
        network_builder net;
        const auto in = net.input(c);
        const network n = std::move(net).build(
            net.add_linear(conv2d(dense_kernel::pack({.o = o, .i = c}, weight), {}, {.bias = bias}), in));
        frame x(r, {batch, c, 1, 1}, r.pick({placement::nchw, placement::reversed, placement::permuted}));
        x.fill(r);
        const auto found = values_of(n(x.view()));
        for (index_t sample = 0; sample < batch; ++sample) {
            const auto row = values_of(tensor_view<const float>(x.view()).samples(sample, 1));
            const bounded_vector expected = dense(weight, bias, exact(row));
            for (std::size_t j = 0; j < expected.size(); ++j) {
                const auto y = static_cast<double>(found[static_cast<std::size_t>(sample * o) + j]);
                if (!(std::abs(y - expected[j].value) <= expected[j].error))
                    FAIL("sample " << sample << ", output " << j);
            }
        }
    }
}

TEST_CASE("Norms, activations and constants count in a network's memory") {
    rng r(427, 0);
    const index_t c = 24, word = static_cast<index_t>(sizeof(float)), padding = simd::lanes * word;
    const auto a = r.floats(c), b = r.floats(c), var = r.floats(c, 0.5, 1.5);
    const auto bytes = [&](const auto& step) {
        network_builder net;
        const auto x = net.input("x", {0, c, 0, 0});
        return std::move(net).build(step(net, x)).weight_bytes();
    };
    const kdna::batch_norm bn{.weight = a, .bias = b, .mean = a, .var = var};
    using value = network::value;
    using builder = network_builder;
    CHECK(bytes([&](builder& n, const value& x) { return nn::batch_norm(n, x, bn); }) == 2 * c * word);
    const index_t slopes = bytes([&](builder& n, const value& x) { return nn::activate(n, x, activation::prelu(a)); });
    CHECK(slopes >= c * word);
    CHECK(slopes <= c * word + padding);
    CHECK(bytes([&](builder& n, const value& x) { return nn::batch_norm(n, x, bn, "bn", activation::prelu(a)); }) ==
          2 * c * word + slopes);
    CHECK(bytes([&](builder& n, const value& x) { return nn::activate(n, x, activation::gelu); }) == 0);
    CHECK(bytes([&](builder& n, const value& x) { return nn::group_norm(n, x, 3, {a, b}); }) == 2 * c * word);
    CHECK(bytes([&](builder& n, const value& x) { return nn::group_norm(n, x, 3); }) == 0);
    CHECK(bytes([&](builder& n, const value& x) { return nn::layer_norm_channels(n, x, {a, b}); }) == 2 * c * word);
    CHECK(bytes([&](builder& n, const value& x) {
              return nn::mul(n, x, nn::constant(n, {1, c, 1, 1}, a));
          }) == c * word);
    // One constant for two readers counts once, and a transposed convolution's slopes with its weights, scale and shift.
    CHECK(bytes([&](builder& n, const value& x) {
              const value k = nn::constant(n, {1, c, 1, 1}, a);
              return nn::add(n, nn::mul(n, x, k), k);
          }) == c * word);
    const auto up = [&](const activation& act) {
        return bytes([&](builder& n, const value& x) {
            return nn::conv_transpose2d(n, x, {c, 1, 2, 2}, r.floats(4 * c), {.stride = 2, .groups = c},
                                        {.act = act, .name = "up"});
        });
    };
    const index_t plain = up(activation::relu), with_slopes = up(activation::prelu(a));
    CHECK(plain >= (4 * c + 2 * c) * word);
    CHECK(with_slopes >= plain + c * word);
    CHECK(with_slopes <= plain + (c + panel_layout::width) * word);
}

TEST_CASE("What layers share counts once in a network's memory") {
    rng r(426, 0);
    const kernel_shape k{.o = 32, .i = 32, .kh = 3, .kw = 3};
    const auto parent = parent_kernel::pack(k, r.floats(weight_count(k)));
    const auto bytes = [&](int children) {
        network_builder net;
        auto v = net.add(conv2d(parent, {.pad = 1}), net.input(32));
        for (int i = 0; i < children; ++i) v = net.add(conv2d(parent.child({}), {.pad = 1}), v);
        return std::move(net).build(v).weight_bytes();
    };
    CHECK(bytes(0) >= 4 * 32 * 32 * 9);
    CHECK(bytes(5) - bytes(0) < 5 * 4 * 32 * 9);
}
