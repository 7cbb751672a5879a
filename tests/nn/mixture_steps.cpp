// Mixtures whose coefficients are a value of the network, against the formula.
#include <kdna/nn/network_builder.hpp>

#include "support/errors.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

template <class Backend>
conv2d<mixture_kernel, given_mixture, Backend> mixture_layer(const conv_case& c) {
    conv_options options{.bias = c.bias, .residual = c.residual, .act = c.act, .name = "mixed"};
    if (!c.bn.empty()) options.bn = view_of(c.bn);
    return {adapt(mixture_kernel::pack(c.mixture, c.kernel, c.weights, c.mixture_bias),
                  {.spatial = c.spatial, .filter = c.filter}),
            c.params, options, given_mixture{c.mixture}};
}

template <class Backend>
void check_mixture(rng& r, const conv_case& c) {
    const auto layer = mixture_layer<Backend>(c);
    const shape4 out = layer.output_shape(c.in);
    const index_t n = c.mixture;
    const bool pixels = r.chance(0.5);  // coefficients [N, n, 1, 1]
    network_builder builder;
    const auto image = builder.input("image", {0, c.kernel.i, 0, 0});
    const auto coefficients =
        builder.input("coefficients", pixels ? std::vector<index_t>{0, n, 1, 1} : std::vector<index_t>{0, n});
    const auto added = builder.input("added", {0, c.kernel.o, 0, 0});
    const auto y =
        c.residual ? builder.add(layer, image, coefficients, added) : builder.add(layer, image, coefficients);
    const network net = std::move(builder).build(y);

    frame x(r, c.in, c.x_at), residual(r, out, c.residual_at), routes(r, {c.in.n, n, 1, 1}, placement::reversed);
    x.fill(r);
    residual.fill(r);
    routes.fill(r);
    const std::vector<nd_shape> shapes{nd_shape(c.in), pixels ? nd_shape{c.in.n, n, 1, 1} : nd_shape{c.in.n, n},
                                       nd_shape(out)};
    const tensor_view<const float> image_in = x.view(), given = routes.view(), added_in = residual.view();
    const nd_view<const float> as_pixels = given, in_row{given.data, {c.in.n, n}, {given.stride.n, given.stride.c}};
    const nd_view<const float> in[] = {image_in, pixels ? as_pixels : in_row, added_in};

    std::vector<factors> routed(static_cast<std::size_t>(c.in.n));
    for (index_t s = 0; s < c.in.n; ++s)
        for (index_t i = 0; i < n; ++i)
            routed[static_cast<std::size_t>(s)].mixture.push_back({static_cast<double>(given(s, i, 0, 0)), 0.0});
    const expectation e = expected(c, x.view(), c.residual ? residual.view() : tensor_view<const float>{}, routed);

    for (const index_t threads : {1, 3}) {
        shuffling_executor workers(threads, r.bits());
        network_plan plan = net.plan(shapes, {.executor = workers});
        frame to(r, out, c.y_at);
        const nd_view<float> out_view = to.view();
        net.run(plan, in, {&out_view, 1});
        KDNA_TEST_CASE_INFO(threads, c.describe() + "\n" + plan.explain());
        if (!to.guards_intact()) FAIL("wrote outside its output");
        const bool single = std::is_same_v<Backend, backend::cpu>;
        const double worst = worst_error(values_of(tensor_view<const float>(to.view())), e.value,
                                         single ? e.float_tolerance : e.double_tolerance, plan.explain());
        if (!(worst <= 1.0)) FAIL("error of " << worst << " tolerances");
    }
}

}  // namespace

TEST_CASE("Random mixtures whose coefficients are a value of the network agree with the formula", "[threads]") {
    for (int i = 0; i < scaled(400); ++i) {
        rng r(660, static_cast<std::uint64_t>(i));
        const conv_case c = random_case(r, method::condconv, 5e4);
        check_mixture<backend::cpu>(r, c);
        if (i % 5 == 0) check_mixture<backend::reference>(r, c);
    }
}

TEST_CASE("Coefficients that do not fit a mixture are rejected by name") {
    rng r(661, 0);
    const kernel_shape k{.o = 4, .i = 4};
    const conv2d layer(mixture_kernel::pack(3, k, r.floats(48)), {}, {.name = "mixed"}, given_mixture{3});
    network_builder builder;
    const auto x = builder.input(4), four = builder.input(4), open = builder.input("open", {0, 0});
    check_error([&] { builder.add(layer, x, four); }, "mixed coefficients", "3 channels", "4");
    check_error([&] { builder.add(layer, four, x, x); }, "mixed residual", "none", "one");
    check_error(
        [&] {
            builder.add(layer, x, network::value{9, 3});
        },
        "mixed coefficients", "a value of this network", "value 9");
    const network net = std::move(builder).build(builder.add(layer, x, open));
    const auto plan = [&](const nd_shape& coefficients) {
        return [&net, coefficients] {
            const std::vector<nd_shape> shapes{{2, 4, 3, 3}, {2, 4, 1, 1}, coefficients};
            return net.plan(shapes);
        };
    };
    CHECK_NOTHROW(plan({2, 3})());
    check_error(plan({2, 4}), "mixed coefficients", "(N 2, C 3, H 1, W 1)", "C 4");
    check_error(plan({1, 3}), "mixed coefficients", "(N 2, C 3, H 1, W 1)", "N 1");
}

TEST_CASE("A mixture in a network is its layer with the same coefficients, sample by sample") {
    for (int i = 0; i < scaled(40); ++i) {
        rng r(662, static_cast<std::uint64_t>(i));
        const index_t count = r.between(1, 5), channels = r.between(1, 9), filters = r.between(1, 20);
        const kernel_shape k{.o = filters, .i = channels, .kh = 3, .kw = 3}, head{.o = count, .i = channels};
        const conv2d layer(mixture_kernel::pack(count, k, r.floats(count * weight_count(k))), {.pad = 1},
                           {.act = activation::relu, .name = "mixed"}, given_mixture{count});
        const conv2d routing(dense_kernel::pack(head, r.floats(weight_count(head))), {},
                             {.act = activation::sigmoid, .name = "routing"});
        network_builder builder;
        const auto x = builder.input(channels);
        const auto route = builder.add_linear(routing, builder.add_global_average(x));
        const network net = std::move(builder).build(builder.add(layer, x, route));
        const shape4 in{r.between(1, 4), channels, r.between(3, 9), r.between(3, 9)};
        frame image(r, in, placement::nchw);
        image.fill(r);
        const tensor<float> y = net(image.view());
        for (index_t n = 0; n < in.n; ++n) {
            tensor<float> mean({1, channels, 1, 1}), alone({1, filters, in.h, in.w});
            global_average(image.view(), n, mean.data());
            const tensor<float> coefficients = routing(mean.view());
            auto plan = layer.plan({1, channels, in.h, in.w});
            layer.run(plan, image.view().samples(n, 1), {coefficients.data(), 0}, alone.view());
            KDNA_TEST_CASE_INFO(i, to_string(in));
            const std::vector<float> found = values_of(y.view().samples(n, 1)), wanted = values_of(alone.view());
            for (std::size_t j = 0; j < found.size(); ++j)
                if (!(std::abs(found[j] - wanted[j]) <= 1e-4F)) FAIL("sample " << n << ", element " << j);
        }
        // The kernels are kept once, whatever the batch.
        const network_plan planned = net.plan(in);
        CHECK(planned.explain().find("mixed: (O ") != std::string::npos);
        CHECK(net.weight_bytes() >= count * weight_count(k) * static_cast<index_t>(sizeof(float)));
    }
}
