// Convolutions whose kernel is an input, against the formula; and coefficients that come with a call.
#include <kdna/nn/runtime_conv2d.hpp>

#include "support/call_kernels.hpp"
#include "support/death.hpp"
#include "support/errors.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

/// What must come out. Kernels of samples are a mixture to the oracle, of which each sample takes one.
expectation expected_of(const conv_case& c, const call_kernels& g, const tensor_view<const float>& x,
                        const tensor_view<const float>& residual) {
    convolution f{.kernel = c.kernel, .params = c.params, .weights = g.dense};
    f.bias = c.bias;
    f.bn = c.bn.empty() ? nullptr : &c.bn;
    f.act = c.act;
    std::vector<factors> chosen;
    for (index_t n = 0; n < x.shape.n && g.count > 1; ++n) {
        factors one;
        for (index_t i = 0; i < g.count; ++i) one.mixture.push_back({i == n ? 1.0 : 0.0, 0.0});
        chosen.push_back(std::move(one));
    }
    return convolve(f, x, chosen, residual);
}

template <class Backend>
void check_case(rng& r, const conv_case& c, const call_kernels& g) {
    conv_options options{.bias = c.bias, .residual = c.residual, .act = c.act, .name = "layer"};
    if (!c.bn.empty()) options.bn = view_of(c.bn);
    const basic_runtime_conv2d<Backend> layer(g.source, c.params, options);
    frame x(r, c.in, c.x_at), residual(r, layer.output_shape(c.in), c.residual_at);
    x.fill(r);
    residual.fill(r);
    const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
    const expectation e = expected_of(c, g, x.view(), added);
    std::vector<float> alone;
    for (const index_t threads : {index_t{1}, r.between(2, 4)}) {
        shuffling_executor workers(threads, r.bits());
        frame y(r, layer.output_shape(c.in), c.y_at);
        auto plan = layer.plan(c.in, {.executor = workers, .order = c.order});
        layer.run(plan, x.view(), g.values, y.view(), added);
        KDNA_TEST_CASE_INFO(threads, c.describe() + "\n" + plan.explain());
        if (!y.guards_intact() || !x.guards_intact()) FAIL("wrote outside its output");
        const bool single = std::is_same_v<Backend, backend::cpu>;
        const double worst =
            worst_error(values_of(y.view()), e.value, single ? e.float_tolerance : e.double_tolerance, plan.explain());
        if (!(worst <= 1.0)) FAIL("error of " << worst << " tolerances");
        if (threads == 1)
            alone = values_of(y.view());
        else if (!same_bits(alone, values_of(y.view())))
            FAIL("other bits on " << threads << " threads");
    }
}

}  // namespace

TEST_CASE("Random convolutions with given kernels agree with the formula", "[threads]") {
    for (int i = 0; i < scaled(1500); ++i) {
        rng r(640, static_cast<std::uint64_t>(i));
        conv_case c = random_case(r, method::plain, 5e4);
        c.spatial.clear();
        c.filter.clear();
        const call_kernels g = call_kernels::random(r, c.kernel, c.in.n);
        check_case<backend::cpu>(r, c, g);
        if (i % 5 == 0) check_case<backend::reference>(r, c, g);
    }
}

TEST_CASE("One blur kernel for all channels, circular, with every subsampling, agrees with the formula", "[threads]") {
    int number = 0;
    for (const index_t k : {11, 15, 19, 21})
        for (const index_t stride : {1, 2, 3, 4}) {
            rng r(641, static_cast<std::uint64_t>(number++));
            conv_case c;
            c.kernel = {.o = 3, .i = 3, .kh = k, .kw = k, .groups = 3};
            c.params = {.stride = stride, .pad = k / 2, .mode = padding_mode::circular};
            c.in = {2, 3, 24 + stride, std::max(2 * simd::lanes * stride, k)};
            c.weights = r.floats(1);
            call_kernels g{runtime_kernel::shared(3, k), 2, r.floats(2 * k * k), {}};
            for (index_t n = 0; n < 2; ++n)
                for (int channel = 0; channel < 3; ++channel)
                    g.dense.insert(g.dense.end(), g.values.begin() + n * k * k, g.values.begin() + (n + 1) * k * k);
            check_case<backend::cpu>(r, c, g);
            check_case<backend::reference>(r, c, g);
        }
}

TEST_CASE("Coefficients that come with a call are a router's that gives the same") {
    for (int i = 0; i < scaled(150); ++i) {
        rng r(642, static_cast<std::uint64_t>(i));
        const conv_case c = random_case(r, method::condconv, 3e4);
        const auto routed = make_layer<method::condconv, backend::cpu>(c);
        conv_options options{.bias = c.bias, .residual = c.residual, .act = c.act, .name = "given"};
        if (!c.bn.empty()) options.bn = view_of(c.bn);
        const conv2d given(adapt(mixture_kernel::pack(c.mixture, c.kernel, c.weights, c.mixture_bias),
                                 {.spatial = c.spatial, .filter = c.filter}),
                           c.params, options, given_mixture{c.mixture});
        frame x(r, c.in, c.x_at), residual(r, routed.output_shape(c.in), c.residual_at);
        x.fill(r);
        residual.fill(r);
        const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
        auto routed_plan = routed.plan(c.in, {.order = c.order});
        auto given_plan = given.plan(c.in, {.order = c.order});
        tensor<float> expected(routed_plan.output_shape()), y(given_plan.output_shape());
        routed.run(routed_plan, x.view(), expected.view(), added);
        const index_t distance = c.mixture + r.between(0, 3);
        std::vector<float> coefficients(static_cast<std::size_t>(c.in.n * distance));
        for (index_t n = 0; n < c.in.n; ++n) {
            const auto of_sample = routed_plan.mixture(n);
            std::copy(of_sample.begin(), of_sample.end(), coefficients.begin() + n * distance);
        }
        given.run(given_plan, x.view(), {coefficients.data(), distance}, y.view(), added);
        KDNA_TEST_CASE_INFO(i, c.describe());
        if (!same_bits(values_of(expected.view()), values_of(y.view()))) FAIL("other bits");
        CHECK(given_plan.mixture(0).empty());
    }
}

namespace {

/// A router of the user's own whose coefficients come with each call.
struct two_given {
    using optional_members = members<member::takes_coefficients>;
    static constexpr bool takes_coefficients = true;

    [[nodiscard]] static index_t input_channels() noexcept { return 0; }
    [[nodiscard]] static route_widths widths() noexcept { return {.mixture = 2}; }
    [[nodiscard]] static index_t scratch_floats() noexcept { return 0; }
    void operator()(const float*, const route&, float*) const noexcept {}
};

}  // namespace

TEST_CASE("A router says by a member that its coefficients come with each call") {
    STATIC_REQUIRE(routes_given<two_given>);
    STATIC_REQUIRE(routes_given<given_mixture>);
    STATIC_REQUIRE_FALSE(routes_given<no_router>);
    rng r(643, 0);
    const kernel_shape k{.o = 5, .i = 3, .kh = 3, .kw = 3};
    const auto kernel = mixture_kernel::pack(2, k, r.floats(2 * weight_count(k)));
    const conv2d mine(kernel, {.pad = 1}, {}, two_given{});
    const conv2d ours(kernel, {.pad = 1}, {}, given_mixture{2});
    const auto input = r.floats(3 * 6 * 7), coefficients = r.floats(2);
    const auto x = nchw_view(input.data(), 1, 3, 6, 7);
    auto plan = mine.plan(x.shape), other = ours.plan(x.shape);
    tensor<float> y(plan.output_shape()), expected(plan.output_shape());
    mine.run(plan, x, {coefficients.data()}, y.view());
    ours.run(other, x, {coefficients.data()}, expected.view());
    CHECK(same_bits(values_of(y.view()), values_of(expected.view())));
}

TEST_CASE("A layer with given kernels rejects those that do not fit, by name") {
    rng r(643, 0);
    const runtime_conv2d layer(runtime_kernel::shared(3, 11), {.pad = 5, .mode = padding_mode::circular},
                               {.name = "blur"});
    const auto plan = layer.plan({2, 3, 16, 16}), one = layer.plan({1, 3, 16, 16});
    tensor<float> x({2, 3, 16, 16}), y({2, 3, 16, 16});
    const std::vector<float> kernels = r.floats(3 * 121);
    const auto check = [&](index_t count) {
        return [&, count] {
            layer.check(plan, x.view(), std::span(kernels).first(static_cast<std::size_t>(count)), y.view());
        };
    };
    CHECK_NOTHROW(check(121)());
    CHECK_NOTHROW(check(242)());
    check_error(check(120), "blur kernel", "121 or 2 x 121 weights for (O 3, I 3, 11x11, groups 3)", "120");
    check_error(check(363), "blur kernel", "121 or 2 x 121 weights", "363");
    check_error(check(0), "blur kernel", "121 or 2 x 121 weights", "0");
    check_error([&] { layer.check(one, x.view(), std::span(kernels).first(242), y.view()); }, "blur kernel",
                "121 weights", "242");
    check_error([&] { layer.check(plan, x.view(), kernel_view(static_cast<const float*>(nullptr), 121), y.view()); },
                "blur coefficients", "121 values per sample", "a null pointer");
    check_error([&] { layer.check(plan, y.view().samples(0, 1), std::span(kernels).first(121), y.view()); },
                "blur input", "N 2", "N 1");
    check_error(
        [&] {
            return layer.plan({1, 3, 4, 16});
        },
        "blur", "circular padding of at most 4 rows and 16 columns", "5, 5, 5, 5");
    check_error([&] { return layer.plan({1, 4, 16, 16}); }, "blur", "an input of 3 channels", "C 4");
    const kernel_shape k{.o = 2, .i = 2};
    const std::vector<float> weights(12, 1.0F);
    check_error([&] { conv2d(mixture_kernel::pack(3, k, weights), {}, {.name = "c"}, given_mixture{2}); }, "c router",
                "3 mixture weights", "2");
}

#if defined(KDNA_TEST_DEATH) && KDNA_CHECK
TEST_CASE("A run with kernels that do not fit ends the program with a message") {
    const runtime_conv2d layer(runtime_kernel::depthwise(3, 5), {.pad = 2}, {.name = "blur"});
    auto plan = layer.plan({1, 3, 8, 8});
    tensor<float> x({1, 3, 8, 8}), y({1, 3, 8, 8});
    const std::vector<float> kernels(75, 0.5F);
    const auto words = [&](std::size_t count) {
        return last_words([&] { layer.run(plan, x.view(), std::span(kernels).first(count), y.view()); });
    };
    CHECK(words(25).find("kdna: contract broken: blur kernel: expected 75 weights") == 0);
    CHECK(words(75) == "did not abort: ");
}
#endif
