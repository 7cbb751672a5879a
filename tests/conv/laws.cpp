// Laws that convolutions obey whatever the numbers are.
#include <cstring>
#include <limits>

#include "support/run_case.hpp"

using namespace kdna_test;
using namespace kdna;
using kdna_test::frame;

namespace {

std::vector<float> run(const auto& layer, const tensor_view<const float>& x, const tensor_view<const float>& residual,
                       const plan_options& options = {}) {
    return values_of(layer(x, residual, options));
}

template <method Kind>
void check_threads(std::uint64_t stream, int count) {
    for (int i = 0; i < scaled(count); ++i) {
        rng r(stream, static_cast<std::uint64_t>(i));
        const conv_case c = random_case(r, Kind, 5e4);
        const auto layer = make_layer<Kind, backend::cpu>(c);
        frame x(r, c.in, c.x_at), residual(r, output_shape(c.in, c.kernel, c.params), c.residual_at);
        x.fill(r);
        residual.fill(r);
        const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
        const auto one = run(layer, x.view(), added, {.order = c.order});
        for (index_t threads = 2; threads <= 5; ++threads) {
            shuffling_executor executor(threads, r.bits());
            KDNA_TEST_CASE_INFO(i, concat(threads, " threads: ", c.describe()));
            if (!same_bits(one, run(layer, x.view(), added, {.executor = executor, .order = c.order})))
                FAIL("other bits");
        }
    }
}

template <method Kind>
void check_samples(std::uint64_t stream, int count) {
    for (int i = 0; i < scaled(count); ++i) {
        rng r(stream, static_cast<std::uint64_t>(i));
        conv_case c = random_case(r, Kind, 5e4);
        c.in.n = r.between(2, 5);
        const auto layer = make_layer<Kind, backend::cpu>(c);
        frame x(r, c.in, c.x_at), residual(r, output_shape(c.in, c.kernel, c.params), c.residual_at);
        x.fill(r);
        residual.fill(r);
        const tensor_view<const float> all = x.view(), added = c.residual ? residual.view() : tensor_view<float>{};
        const auto batch = run(layer, all, added, {.order = c.order});
        std::vector<float> singly;
        for (index_t n = 0; n < c.in.n; ++n) {
            const auto one =
                run(layer, all.samples(n, 1), c.residual ? added.samples(n, 1) : added, {.order = c.order});
            singly.insert(singly.end(), one.begin(), one.end());
        }
        KDNA_TEST_CASE_INFO(i, c.describe());
        if (!same_bits(batch, singly)) FAIL("other bits");
    }
}

}  // namespace

TEST_CASE("Results have the same bits on 1 to 5 threads", "[threads]") {
    check_threads<method::plain>(20, 500);
    check_threads<method::gated>(21, 200);
    check_threads<method::mixed>(22, 200);
}

TEST_CASE("A batch has the same bits as its samples one by one") {
    check_samples<method::plain>(30, 1000);
    check_samples<method::gated>(31, 500);
    check_samples<method::mixed>(32, 500);
}

TEST_CASE("A layer has the same bits on any strides, and on rows read in place or packed") {
    for (int i = 0; i < scaled(2000); ++i) {
        rng r(40, static_cast<std::uint64_t>(i));
        const conv_case c = random_case(r, method::plain, 5e4);
        const auto layer = make_layer<method::plain, backend::cpu>(c);
        frame nchw(r, c.in, placement::nchw), nhwc(r, c.in, placement::nhwc), other(r, c.in, c.x_at);
        frame residual(r, output_shape(c.in, c.kernel, c.params), c.residual_at);
        other.fill(r);
        nchw.assign(other.view());
        nhwc.assign(other.view());
        residual.fill(r);
        const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
        const auto expected = run(layer, nchw.view(), added);
        KDNA_TEST_CASE_INFO(i, c.describe());
        if (!same_bits(expected, run(layer, other.view(), added))) FAIL("other bits: " << to_string(c.x_at));
        if (!same_bits(expected, run(layer, nhwc.view(), added))) FAIL("other bits: nhwc");
        if (!same_bits(expected, run(layer, nhwc.view(), added, {.order = conv::input_order::nhwc})))
            FAIL("other bits: promised nhwc");
    }
}

TEST_CASE("An output that is its own residual gets the same bits as one apart from it") {
    for (int i = 0; i < scaled(500); ++i) {
        rng r(45, static_cast<std::uint64_t>(i));
        conv_case c = random_case(r, method::plain, 5e4);
        c.residual = true;
        const auto layer = make_layer<method::plain, backend::cpu>(c);
        const shape4 out = output_shape(c.in, c.kernel, c.params);
        frame x(r, c.in, c.x_at), residual(r, out, c.y_at), y(r, out, c.y_at);
        x.fill(r);
        residual.fill(r);
        auto plan = layer.plan(c.in, {.order = c.order});
        layer.run(plan, x.view(), y.view(), residual.view());
        layer.run(plan, x.view(), residual.view(), residual.view());
        KDNA_TEST_CASE_INFO(i, c.describe());
        if (!same_bits(values_of(y.view()), values_of(residual.view()))) FAIL("other bits");
    }
}

TEST_CASE("A plan can be run again and again") {
    rng r(46, 0);
    const conv_case c = random_case(r, method::gated, 5e4);
    const auto layer = make_layer<method::gated, backend::cpu>(c);
    frame a(r, c.in, placement::nchw), b(r, c.in, placement::nchw),
        residual(r, layer.output_shape(c.in), placement::nhwc);
    a.fill(r);
    b.fill(r);
    residual.fill(r);
    const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
    auto plan = layer.plan(c.in);
    frame y(r, layer.output_shape(c.in), placement::nchw);
    layer.run(plan, a.view(), y.view(), added);
    const auto first = values_of(y.view());
    layer.run(plan, b.view(), y.view(), added);
    CHECK_FALSE(same_bits(first, values_of(y.view())));
    auto moved = std::move(plan);
    layer.run(moved, a.view(), y.view(), added);
    CHECK(same_bits(first, values_of(y.view())));
}

TEST_CASE("NaN goes through every activation, and stays in its channel and window") {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    rng r(50, 0);
    for (const activation act : {activation::none, activation::relu, activation::relu6})
        for (const bool depthwise : {false, true}) {
            const index_t c = 64;  // enough for Winograd
            const kernel_shape k{.o = c, .i = c, .kh = 3, .kw = 3, .groups = depthwise ? c : 1};
            const conv2d layer(dense_kernel::pack(k, r.floats(weight_count(k))), {.pad = 1}, {.act = act});
            tensor<float> x({1, c, 7, 7});
            x(0, 4, 3, 3) = nan;
            const tensor<float> y = layer(x.view());
            for (index_t o = 0; o < c; ++o)
                for (index_t h = 0; h < 7; ++h)
                    for (index_t w = 0; w < 7; ++w) {
                        const bool near = std::abs(h - 3) <= 1 && std::abs(w - 3) <= 1 && (!depthwise || o == 4);
                        if (std::isnan(y(0, o, h, w)) != near) FAIL("filter " << o << ", " << h << ", " << w);
                    }
        }
}

TEST_CASE("NaN and infinite weights of one filter stay in that filter") {
    rng r(51, 0);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
        for (const bool depthwise : {false, true})
            for (const index_t count : {simd::lanes - 1, simd::lanes + 1, 2 * simd::lanes + 1}) {
                const kernel_shape k{.o = count, .i = count, .kh = 3, .kw = 3, .groups = depthwise ? count : 1};
                auto weights = r.floats(weight_count(k));
                const index_t per_filter = weight_count(k) / count;
                std::fill(weights.end() - per_filter, weights.end(), bad);
                auto finite = weights;
                std::fill(finite.end() - per_filter, finite.end(), 1.0F);
                frame x(r, {1, count, 4, 4}, placement::nhwc);
                x.fill(r, 0.5, 1.0);
                const tensor<float> y = conv2d(dense_kernel::pack(k, weights), {})(x.view());
                const tensor<float> clean = conv2d(dense_kernel::pack(k, finite), {})(x.view());
                const auto others = values_of(y.view().channels(0, count - 1));
                CHECK(same_bits(others, values_of(clean.view().channels(0, count - 1))));
                for (const float v : values_of(y.view().channels(count - 1, 1))) CHECK_FALSE(std::isfinite(v));
            }
}

TEST_CASE("A NaN sample of a batch leaves the others alone, gates included") {
    rng r(52, 0);
    for (int i = 0; i < scaled(100); ++i) {
        conv_case c = random_case(r, method::gated, 5e4);
        c.in.n = 3;
        c.residual = false;
        const auto layer = make_layer<method::gated, backend::cpu>(c);
        tensor<float> x(c.in, layout::nhwc);
        for (float& v : x.span()) v = static_cast<float>(r.real(-1, 1));
        const tensor<float> before = layer(x.view());
        x(1, 0, 0, 0) = std::numeric_limits<float>::quiet_NaN();
        const tensor<float> after = layer(x.view());
        for (const index_t n : {0, 2})
            if (!same_bits(values_of(before.view().samples(n, 1)), values_of(after.view().samples(n, 1))))
                FAIL(c.describe());
    }
}
