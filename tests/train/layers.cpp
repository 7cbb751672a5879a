// One convolution backwards, against PyTorch's autograd in double precision.
#include <optional>
#include <set>
#include <sstream>

#include <kdna/core/thread_pool.hpp>
#include <kdna/train/pass.hpp>

#include "support/errors.hpp"
#include "train/cases.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// The network of one layer, as a case's metadata describes it: groups, stride, padding, dilation, activation, residual.
train::network network_of(const gradient_case& c, const std::string& description, const train::selection& trained) {
    index_t groups = 1, stride = 1, pad = 0, dilation = 1;
    std::string act;
    bool residual = false;
    std::istringstream(description) >> groups >> stride >> pad >> dilation >> act >> residual;
    const std::vector<index_t>& w = c.weights.at("conv.weight").shape();
    const kernel_shape k{.o = w[0], .i = w[1] * groups, .kh = w[2], .kw = w[3], .groups = groups};
    const auto part = [&](const std::string& name) { return c.has(name) ? c.of(name) : std::span<const float>(); };
    const auto bn = [&](const std::string& name) -> std::optional<batch_norm> {
        if (!c.has(name + ".weight")) return std::nullopt;
        return batch_norm{.weight = part(name + ".weight"),
                          .bias = part(name + ".bias"),
                          .mean = part(name + ".running_mean"),
                          .var = part(name + ".running_var")};
    };
    train::convolution_tensors t{
        .spatial = part("static_spatial"), .filter = part("static_filter"), .bias = part("conv.bias"), .bn = bn("bn")};
    if (const auto gate = bn("gate.se.bn"))
        t.se = squeeze_excite_weights{.fc1 = part("gate.se.fc1.weight"),
                                      .bn = *gate,
                                      .fc2 = part("gate.se.fc2.weight"),
                                      .fc2_bias = part("gate.se.fc2.bias")};
    train::network_builder b(c.weights, k.i, trained);
    const auto x = b.input();
    const activation a = act == "relu" ? activation::relu : act == "relu6" ? activation::relu6 : activation::none;
    const auto y = b.add("layer", b.kernel("conv.weight", k), {.stride = stride, .pad = pad, .dilation = dilation}, t,
                         x, a, residual ? std::optional(x) : std::nullopt);
    return std::move(b).build(y);
}

void run(train::pass& pass, const gradient_case& c) {
    pass.forward(make_view(c.of("input").data(), c.shape_of("input"), layout::nchw));
    CHECK(relative_error(values_of(pass.output()), c.of("output")) <= gradient_tolerance);
    copy(make_view(c.of("up").data(), c.shape_of("up"), layout::nchw), pass.output_gradient());
    pass.backward();
}

}  // namespace

TEST_CASE("gradients of a layer's parameters and input are those of autograd", "[train]") {
    const state_dict file = load_gradients("layers");
    std::set<train::role> roles;
    for (const auto& [number, description] : file.metadata()) {
        INFO("case " << number << ": " << description);
        const gradient_case c = take_case(file, number + ".");
        // With the kernel trained and frozen, which take different ways.
        for (const bool kernel : {true, false}) {
            CAPTURE(kernel);
            train::network net = network_of(
                c, description, [&](std::string_view, train::role is) { return kernel || is != train::role::kernel; });
            train::pass pass(net, c.shape_of("input"), {.input_gradient = true});
            run(pass, c);
            CHECK(check_gradients(net, c) > 0);
            CHECK(relative_error(values_of(pass.input_gradient()), c.of("grad.input")) <= gradient_tolerance);
            for (const train::parameter& p : net.parameters().all())
                if (p.trained) roles.insert(p.is);
        }
    }
    CHECK(roles == std::set{train::role::kernel, train::role::bias, train::role::spatial, train::role::filter,
                            train::role::gate, train::role::norm});
}

TEST_CASE("each kind of parameter has its gradient when it alone is trained", "[train]") {
    const state_dict file = load_gradients("layers");
    for (const auto& [number, description] : file.metadata()) {
        INFO("case " << number << ": " << description);
        const gradient_case c = take_case(file, number + ".");
        for (const train::role only :
             {train::role::bias, train::role::spatial, train::role::filter, train::role::gate, train::role::norm}) {
            train::network net =
                network_of(c, description, [&](std::string_view, train::role is) { return is == only; });
            if (net.parameters().trained() == 0) continue;
            CAPTURE(static_cast<int>(only));
            train::pass pass(net, c.shape_of("input"));
            run(pass, c);
            check_gradients(net, c);
        }
    }
}

TEST_CASE("gradients are added up, and do not depend on threads", "[train][threads]") {
    const state_dict file = load_gradients("layers");
    const gradient_case c = take_case(file, "0.");
    const auto gradients = [&](index_t threads, int passes) {
        thread_pool pool(threads);
        train::network net = network_of(c, file.metadata().at("0"), train::adapters_gates_and_norms);
        train::pass pass(net, c.shape_of("input"), {.executor = pool});
        for (int i = 0; i < passes; ++i) run(pass, c);
        std::vector<float> out;
        for (const train::parameter& p : net.parameters().all())
            out.insert(out.end(), p.gradient.span().begin(), p.gradient.span().end());
        return out;
    };
    const std::vector<float> once = gradients(1, 1), twice = gradients(1, 2);
    CHECK(gradients(3, 1) == once);
    std::vector<float> doubled;
    for (const float g : once) doubled.push_back(2.0F * g);
    CHECK(relative_error(twice, doubled) <= gradient_tolerance);
}

TEST_CASE("a pass refuses what it cannot run", "[train]") {
    const state_dict file = load_gradients("layers");
    const gradient_case c = take_case(file, "0.");
    train::network net = network_of(c, file.metadata().at("0"), train::adapters_gates_and_norms);
    check_error([&] { return train::pass(net, {2, 8, 5, 6}); }, "input", "7 channels", "C 8");
    train::pass pass(net, c.shape_of("input"));
    check_error(
        [&] {
            pass.backward();
            return 0;
        },
        "backward", "a call of forward before it", "none");
    check_error(
        [&] {
            pass.forward(make_view(c.of("input").data(), {2, 7, 6, 5}, layout::nchw));
            return 0;
        },
        "input", "H 5, W 6", "H 6, W 5");
    run(pass, c);
    check_error(
        [&] {
            pass.backward();
            return 0;
        },
        "backward", "a call of forward before it", "another call");
    check_error([&] { return pass.input_gradient(); }, "input_gradient", "pass_options::input_gradient", "without");
    train::pass one(net, {1, 7, 5, 6});
    check_error(
        [&] {
            one.estimate_statistics(make_view(c.of("input").data(), {1, 7, 5, 6}, layout::nchw));
            return 0;
        },
        "layer", "several values for each channel", "one");
}

TEST_CASE("a builder refuses tensors and values that do not fit", "[train]") {
    const state_dict file = load_gradients("layers");
    const gradient_case c = take_case(file, "0.");  // 7 channels, 19 filters, 3x3, a gate of 3
    const kernel_shape k{.o = 19, .i = 7, .kh = 3, .kw = 3};
    train::network_builder b(c.weights, 7, train::adapters_gates_and_norms);
    const dense_kernel kernel = b.kernel("conv.weight", k);
    const auto add = [&](const train::convolution_tensors& t, const auto& x, const activation& a) {
        return b.add("layer", kernel, {.pad = 1}, t, x, a).id;
    };
    const auto x = b.input();
    const std::span<const float> spatial = c.of("static_spatial"), filter = c.of("static_filter");
    check_error([&] { return add({.spatial = spatial.first(8)}, x, activation::none); }, "layer spatial", "9 values",
                "8");
    check_error([&] { return add({.filter = filter.first(18)}, x, activation::none); }, "layer filter", "19 values",
                "18");
    check_error([&] { return add({.bias = filter.first(3)}, x, activation::none); }, "layer", "19", "3");
    check_error([&] { return add({.se = squeeze_excite_weights{.fc1 = filter}}, x, activation::none); }, "layer.se", "",
                "");
    check_error([&] { return add({}, x, activation::silu); }, "layer", "no activation, ReLU or ReLU6", "silu");
    check_error(
        [&] {
            return add({}, train::network_builder::value{4, 7}, activation::none);
        },
        "layer", "a value of this network", "one of another");
    check_error(
        [&] {
            const std::vector<float> weights(19 * 7 * 9);
            return b.add("layer", dense_kernel::pack(k, weights), {.pad = 1}, {}, x).id;
        },
        "layer", "a kernel that this builder has made", "another");
    const std::vector<float> elsewhere(9, 0.5F);
    check_error([&] { return add({.spatial = elsewhere}, x, activation::none); }, "network_builder",
                "values of a float32 tensor", "others");
}
