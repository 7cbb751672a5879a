// Layers whose router reads a context that comes with the call, in the place of the pooled input.
#include <functional>
#include <set>

#include <kdna/nn/network_builder.hpp>

#include "support/context_tensors.hpp"
#include "support/errors.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

/// A layer of a case that reads contexts of `width` values, and the factors of a context.
template <class Layer>
struct context_layer {
    Layer layer;
    index_t width;
    std::function<factors(const bounded_vector&)> factors_of;
};

template <class Backend, kernel_source Source, router Router>
auto layer_with(const conv_case& c, Source source, Router routing) {
    conv_options options{.bias = c.bias, .residual = c.residual, .act = c.act, .name = "layer"};
    if (!c.bn.empty()) options.bn = view_of(c.bn);
    return conv2d<Source, Router, Backend>(adapt(std::move(source), {.spatial = c.spatial, .filter = c.filter}),
                                           c.params, options, std::move(routing));
}

/// A method's own layer with its router fed by a context of as many values as it reads of a pooled input.
template <method Kind, class Backend>
auto fed_by_context(const conv_case& c) {
    const auto make = [&](auto source, auto inner) {
        from_context routing(std::move(inner));
        const index_t width = routing.input_channels();
        auto layer = layer_with<Backend>(c, std::move(source), std::move(routing));
        return context_layer<decltype(layer)>{std::move(layer), width, [&c](const bounded_vector& context) {
                                                  factors f;
                                                  if (Kind == method::gated) f.channel = c.se(context);
                                                  if (Kind == method::dyconv) f.mixture = c.dyconv(context);
                                                  if (Kind == method::routed) f = c.router.expected(context);
                                                  if (Kind == method::odconv_n) f = c.odconv(context);
                                                  if (Kind == method::dcd) {
                                                      const dcd_tensors::routed routed = c.dcd(context);
                                                      f.kernel = c.dcd.expand(c.kernel, c.weights, routed);
                                                      f.bias = c.dcd.shift(routed);
                                                  }
                                                  return f;
                                              }};
    };
    if constexpr (Kind == method::routed) {  // whose context has a length of its own
        return make(dense_kernel::pack(c.kernel, c.weights), c.router);
    } else {
        const auto own = make_layer<Kind, Backend>(c);
        return make(own.source(), own.routing());
    }
}

template <class Backend>
auto modulated_layer(const conv_case& c, const modulated_tensors& t, index_t width) {
    const dense_kernel kernel = dense_kernel::pack(c.kernel, c.weights);
    modulated_router routing(kernel, t.view(), "layer");
    auto layer = layer_with<Backend>(c, kernel, std::move(routing));
    return context_layer<decltype(layer)>{
        std::move(layer), width, [&c, &t](const bounded_vector& context) { return t(c.kernel, c.weights, context); }};
}

template <class Backend>
auto dymn_layer(const conv_case& c, const dymn_tensors& t, index_t width) {
    auto layer =
        layer_with<Backend>(c, mixture_kernel::pack(c.mixture, c.kernel, c.weights, c.mixture_bias), t.router(width));
    return context_layer<decltype(layer)>{std::move(layer), width,
                                          [&t](const bounded_vector& context) { return t(context); }};
}

/// Alone, with one context for each sample or one for all, and as a step of a network.
template <class Layer>
void check_contexts(rng& r, const conv_case& c, const context_layer<Layer>& made, bool single) {
    const Layer& layer = made.layer;
    const shape4 out = layer.output_shape(c.in);
    frame x(r, c.in, c.x_at), residual(r, out, c.residual_at);
    x.fill(r);
    residual.fill(r);
    const tensor_view<const float> image = x.view(), added = residual.view(), none{};
    const bool shared = r.chance(0.2), as_pixels = r.chance(0.5);
    frame contexts(r, {c.in.n, made.width, 1, 1}, as_pixels ? placement::reversed : placement::nchw);
    contexts.fill(r);
    std::vector<float> rows;
    for (index_t n = 0; n < c.in.n; ++n)
        for (index_t i = 0; i < made.width; ++i)
            rows.push_back(tensor_view<const float>(contexts.view())(shared ? 0 : n, i, 0, 0));
    std::vector<factors> routed;
    for (index_t n = 0; n < c.in.n; ++n)
        routed.push_back(made.factors_of(exact(
            std::span(rows).subspan(static_cast<std::size_t>(n * made.width), static_cast<std::size_t>(made.width)))));
    const expectation e = expected(c, image, c.residual ? added : none, routed);
    const auto judge = [&](const frame& y, const std::string& plan) {
        KDNA_TEST_CASE_INFO(made.width, c.describe() + "\n" + plan);
        if (!y.guards_intact()) FAIL("wrote outside its output");
        if (plan.find(concat("routed by a context of ", made.width, " values of each sample")) == std::string::npos)
            FAIL("explain does not say what routes the layer");
        const double worst = worst_error(values_of(tensor_view<const float>(y.view())), e.value,
                                         single ? e.float_tolerance : e.double_tolerance, plan);
        if (!(worst <= 1.0)) FAIL("error of " << worst << " tolerances");
    };
    for (const index_t threads : {1, 3}) {
        shuffling_executor workers(threads, r.bits());
        auto plan = layer.plan(c.in, {.executor = workers, .order = c.order});
        frame y(r, out, c.y_at);
        const given_context given{rows.data(), shared ? 0 : made.width};
        layer.check(plan, image, given, y.view(), c.residual ? added : none);
        layer.run(plan, image, given, y.view(), c.residual ? added : none);
        judge(y, plan.explain());
    }
    if (shared) return;
    network_builder builder;
    const auto in = builder.input("image", {0, c.kernel.i, 0, 0});
    const auto given = builder.input(
        "context", as_pixels ? std::vector<index_t>{0, made.width, 1, 1} : std::vector<index_t>{0, made.width});
    const auto more = builder.input("added", {0, c.kernel.o, 0, 0});
    const network net =
        std::move(builder).build(c.residual ? builder.add(layer, in, given, more) : builder.add(layer, in, given));
    const tensor_view<const float> from = contexts.view();
    const nd_view<const float> pixels = from, row{from.data, {c.in.n, made.width}, {from.stride.n, from.stride.c}};
    const nd_view<const float> inputs[] = {image, as_pixels ? pixels : row, added};
    const std::vector<nd_shape> shapes{
        nd_shape(c.in), as_pixels ? nd_shape{c.in.n, made.width, 1, 1} : nd_shape{c.in.n, made.width}, nd_shape(out)};
    network_plan plan = net.plan(shapes);
    frame y(r, out, c.y_at);
    const nd_view<float> y_view = y.view();
    net.run(plan, inputs, {&y_view, 1});
    judge(y, plan.explain());
}

template <method Kind>
void check_method(std::uint64_t stream, int count) {
    for (int i = 0; i < scaled(count); ++i) {
        rng r(stream, static_cast<std::uint64_t>(i));
        conv_case c = random_case(r, Kind, 3e4);
        // A context has a length of its own, where the method's tensors allow it.
        if (Kind == method::routed) c.router = linear_router(r, r.between(1, 40), c.router.widths());
        check_contexts(r, c, fed_by_context<Kind, backend::cpu>(c), true);
        if (i % 4 == 0) check_contexts(r, c, fed_by_context<Kind, backend::reference>(c), false);
    }
}

}  // namespace

TEST_CASE("Routers of other methods that are fed by a context have the factors of that context", "[threads]") {
    check_method<method::gated>(670, 60);
    check_method<method::routed>(671, 120);
    check_method<method::dyconv>(672, 60);
    check_method<method::odconv_n>(673, 60);
    check_method<method::dcd>(674, 60);
}

TEST_CASE("Modulated convolutions agree with StyleGAN2's formula, with kernels made of each sample", "[threads]") {
    for (int i = 0; i < scaled(250); ++i) {
        rng r(675, static_cast<std::uint64_t>(i));
        conv_case c = random_case(r, method::plain, 5e4);
        c.spatial.clear();
        if (r.chance(0.15)) {  // worth Winograd
            c = {};
            c.kernel = {.o = 64, .i = 48, .kh = 3, .kw = 3};
            c.params = {.pad = 1};
            c.in = {2, 48, 12, 13};
            randomise_call(r, c);
            randomise_tensors(r, c);
            c.spatial.clear();
        }
        const index_t width = r.chance(0.3) ? c.kernel.i : r.between(1, 70);
        const modulated_tensors t = modulated_tensors::random(r, c.kernel.i, width);
        check_contexts(r, c, modulated_layer<backend::cpu>(c, t, width), true);
        if (i % 4 == 0) check_contexts(r, c, modulated_layer<backend::reference>(c, t, width), false);
    }
}

TEST_CASE("DyMN's dynamic convolutions agree with their formula", "[threads]") {
    for (int i = 0; i < scaled(150); ++i) {
        rng r(676, static_cast<std::uint64_t>(i));
        const conv_case c = random_case(r, method::condconv, 5e4);
        const index_t width = r.between(1, 70);
        const dymn_tensors t = dymn_tensors::random(r, width, c.mixture);
        check_contexts(r, c, dymn_layer<backend::cpu>(c, t, width), true);
        if (i % 4 == 0) check_contexts(r, c, dymn_layer<backend::reference>(c, t, width), false);
    }
}

TEST_CASE("A modulated convolution makes no kernel: it is the plain layer with a gate and a scale") {
    rng r(677, 0);
    const kernel_shape k{.o = 128, .i = 128, .kh = 3, .kw = 3};
    const dense_kernel kernel = dense_kernel::pack(k, r.floats(weight_count(k), -0.1, 0.1));
    const linear_tensors affine = linear_tensors::random(r, k.i, 32);
    const conv2d plain(kernel, {.pad = 1}, {.name = "layer"});
    const conv2d modulated(kernel, {.pad = 1}, {.name = "layer"}, modulated_router(kernel, {.affine = affine.view()}));
    const index_t kernel_bytes = weight_count(k) * static_cast<index_t>(sizeof(float));
    // It shares the kernel's memory with the plain layer; its own is Q, a ninth of that, and the affine layer.
    std::set<const void*> blocks;
    index_t bytes = 0;
    const auto visit = [&](const void* address, index_t size) { bytes += blocks.insert(address).second ? size : 0; };
    plain.for_each_storage(visit);
    const index_t alone = bytes;
    modulated.for_each_storage(visit);
    CHECK(bytes - alone < kernel_bytes / 4);
    for (const index_t budget : {std::numeric_limits<index_t>::max(), index_t{0}}) {
        const plan_options options{.order = input_order::nhwc, .transform_budget = budget};
        const auto one = plain.plan({4, 128, 28, 28}, options), other = modulated.plan({4, 128, 28, 28}, options);
        INFO(one.explain() << "\n" << other.explain());
        // The same algorithm, on the same kernel, which is kept transformed or is read in place.
        const auto algorithm = [](const std::string& text) {
            const std::size_t from = text.find(": ", text.find(" on ")) + 2;
            return text.substr(from, text.find(',', from) - from);
        };
        CHECK(algorithm(one.explain()) == algorithm(other.explain()));
        CHECK(other.transformed_bytes() == one.transformed_bytes());
        CHECK(other.explain().find("gate in") != std::string::npos);
        CHECK(other.explain().find("routed by a context of 32 values of each sample") != std::string::npos);
        // What it needs besides is a copy of the input, if that, however many kernels of samples there would be.
        const index_t input_bytes = 4 * 128 * 30 * 30 * static_cast<index_t>(sizeof(float));
        CHECK(other.workspace_bytes() <= one.workspace_bytes() + input_bytes + 4096);
        CHECK(other.workspace_bytes() - one.workspace_bytes() < input_bytes + kernel_bytes);
    }
}

TEST_CASE("A layer with a context can be tuned, and its runs are those of a plan") {
    rng r(678, 0);
    const kernel_shape k{.o = 64, .i = 64, .kh = 3, .kw = 3};
    const dense_kernel kernel = dense_kernel::pack(k, r.floats(weight_count(k), -0.1, 0.1));
    const conv2d layer(kernel, {.pad = 1}, {.name = "layer"}, modulated_router(kernel, {}));
    tensor<float> x({2, 64, 12, 12});
    std::fill_n(x.data(), x.size(), 0.25F);
    const auto style = r.floats(128, 0.5, 1.5);
    auto tuned = layer.plan(x.shape(), {.autotune = true}), plain = layer.plan(x.shape());
    tensor<float> a(plain.output_shape()), b(plain.output_shape());
    layer.run(tuned, x.view(), {style.data(), 64}, a.view());
    layer.run(plain, x.view(), {style.data(), 64}, b.view());
    for (index_t i = 0; i < a.size(); ++i)
        if (!(std::abs(a.data()[i] - b.data()[i]) <= 1e-4F)) FAIL("element " << i);
    CHECK(tuned.gate(1).size() == 64);
    CHECK(tuned.gate(1)[3] == style[64 + 3]);
    CHECK_FALSE(layer.reads_channel_means());
}

TEST_CASE("Contexts that do not fit are rejected by name") {
    rng r(679, 0);
    const kernel_shape k{.o = 4, .i = 6};
    const dense_kernel kernel = dense_kernel::pack(k, r.floats(24));
    const linear_tensors affine = linear_tensors::random(r, 6, 5);
    const conv2d layer(kernel, {}, {.name = "styled"}, modulated_router(kernel, {.affine = affine.view()}, "styled"));
    auto plan = layer.plan({2, 6, 3, 3});
    const tensor<float> x({2, 6, 3, 3});
    tensor<float> y(plan.output_shape());
    check_error([&] { layer.check(plan, x.view(), {}, y.view()); }, "styled context", "5 values", "a null pointer");
    network_builder builder;
    const auto image = builder.input(6), four = builder.input(4), open = builder.input("open", {0, 0});
    check_error([&] { builder.add(layer, image, four); }, "styled context", "5 channels", "4");
    const network net = std::move(builder).build(builder.add(layer, image, open));
    const auto planned = [&](const nd_shape& context) {
        return [&net, context] {
            const std::vector<nd_shape> shapes{{2, 6, 3, 3}, {2, 4, 1, 1}, context};
            return net.plan(shapes);
        };
    };
    CHECK_NOTHROW(planned({2, 5})());
    check_error(planned({2, 6}), "styled context", "(N 2, C 5, H 1, W 1)", "C 6");
    check_error(planned({1, 5}), "styled context", "(N 2, C 5, H 1, W 1)", "N 1");
    // Factors are compared with the kernel as those of any router; the context's length is its own.
    const dense_kernel wider = dense_kernel::pack({.o = 4, .i = 7}, r.floats(28));
    check_error([&] { conv2d(wider, {}, {.name = "c"}, modulated_router(kernel, {})); }, "c router", "7 channel gates",
                "6");
    check_error([&] { conv2d(kernel, {}, {.name = "c"}, from_context(linear_router(r, 0, {.channel = 6}))); },
                "c router", "a context of at least one value", "0");
}
