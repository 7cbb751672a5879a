// Frequency band modulation against sums of waves in double, and routers that are steps.
#include <kdna/nn/frequency_bands.hpp>

#include <complex>
#include <numbers>

#include <kdna/dna/fdconv.hpp>
#include <kdna/nn/network_builder.hpp>
#include <kdna/nn/route_operation.hpp>

#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// Whether the nearest of a table of frequencies is kept, for places of an axis, as resizing in float32 finds it.
std::vector<index_t> kept_places(index_t extent, index_t whole, index_t band) {
    std::vector<index_t> out;
    for (index_t i = 0; i < extent; ++i) {
        const auto j =
            static_cast<index_t>(static_cast<float>(i) * (static_cast<float>(whole) / static_cast<float>(extent)));
        const float f = static_cast<float>(whole == 64 && j > 31 ? 64 - j : j) / 64.0F;
        if (f < static_cast<float>(0.5 / static_cast<double>(band) + 1e-8)) out.push_back(i);
    }
    return out;
}

/// One map below a band's limit: every wave of the half spectrum that is kept, the real part; twice those that have a mirror image.
std::vector<double> low_pass(const std::vector<double>& x, index_t h, index_t w, index_t band) {
    std::vector<double> y(x.size(), 0.0);
    const double turn = 2.0 * std::numbers::pi;
    const auto phase = [&](index_t p, index_t f, index_t i, index_t j) {
        return turn * (static_cast<double>(p * i % h) / static_cast<double>(h) +
                       static_cast<double>(f * j % w) / static_cast<double>(w));
    };
    for (const index_t p : kept_places(h, 64, band))
        for (const index_t f : kept_places(w / 2 + 1, 33, band)) {
            std::complex<double> amplitude = 0.0;
            for (index_t i = 0; i < h; ++i)
                for (index_t j = 0; j < w; ++j)
                    amplitude += x[static_cast<std::size_t>(i * w + j)] * std::polar(1.0, -phase(p, f, i, j));
            amplitude *= (f == 0 || 2 * f == w ? 1.0 : 2.0) / static_cast<double>(h * w);
            for (index_t i = 0; i < h; ++i)
                for (index_t j = 0; j < w; ++j)
                    y[static_cast<std::size_t>(i * w + j)] += (amplitude * std::polar(1.0, phase(p, f, i, j))).real();
        }
    return y;
}

}  // namespace

TEST_CASE("Frequency bands are sums of waves, each times its map", "[threads]") {
    int lopsided = 0;
    for (int i = 0; i < scaled(80); ++i) {
        rng r(658, static_cast<std::uint64_t>(i));
        // Of 15 rows the masks of the bands 4 and 8 keep one whose negative they do not keep.
        const bool fifteen = i == 0 || r.chance(0.2);
        const shape4 in{r.between(1, 2), r.pick<index_t>({1, 3, lanes, lanes + 5, 2 * lanes + 1}),
                        fifteen ? 15 : r.between(1, 14), r.between(1, 14)};
        const std::vector<index_t> bands = fifteen || r.chance(0.6)
                                               ? std::vector<index_t>{2, 4, 8}
                                               : std::vector<index_t>{r.between(1, 3), r.between(1, 9)};
        const auto count = static_cast<index_t>(bands.size());
        const shape4 maps{in.n, count + r.between(0, 1), in.h, in.w};
        frame x(r, in, r.pick({placement::nchw, placement::nhwc, placement::padded_nhwc, placement::permuted})),
            m(r, maps, r.pick({placement::nchw, placement::nhwc})),
            y(r, in, r.pick({placement::nchw, placement::padded_nhwc}));
        x.fill(r);
        m.fill(r);
        network_builder builder;
        const auto image = builder.input("image", {0, in.c, 0, 0}), given = builder.input("maps", {0, maps.c, 0, 0});
        const network net =
            std::move(builder).build(builder.add(std::make_unique<frequency_bands>(bands), {image, given}, in.c));
        shuffling_executor workers(r.between(1, 3), r.bits());
        network_plan plan = net.plan(std::vector{nd_shape(in), nd_shape(maps)}, {.executor = workers});
        const tensor_view<const float> from = x.view(), of = m.view();
        const nd_view<const float> inputs[] = {from, of};
        const nd_view<float> to = y.view();
        net.run(plan, inputs, {&to, 1});
        KDNA_TEST_CASE_INFO(i, concat(to_string(in), ", bands ", count, ", maps ", maps.c));
        if (!y.guards_intact()) FAIL("wrote outside its output");
        for (const index_t band : bands) {
            const auto rows = kept_places(in.h, 64, band);
            for (const index_t p : rows)
                if (p > 0 && std::find(rows.begin(), rows.end(), in.h - p) == rows.end()) ++lopsided;
        }
        for (index_t n = 0; n < in.n; ++n)
            for (index_t c = 0; c < in.c; ++c) {
                std::vector<double> before;
                for (index_t h = 0; h < in.h; ++h)
                    for (index_t w = 0; w < in.w; ++w) before.push_back(static_cast<double>(from(n, c, h, w)));
                const std::vector<double> whole = before;
                std::vector<double> sum(before.size(), 0.0);
                const auto map = [&](index_t b, std::size_t at) {
                    const auto place = static_cast<index_t>(at);
                    return b < maps.c ? static_cast<double>(of(n, b, place / in.w, place % in.w)) : 1.0;
                };
                for (index_t b = 0; b < count; ++b) {
                    const std::vector<double> low = low_pass(whole, in.h, in.w, bands[static_cast<std::size_t>(b)]);
                    for (std::size_t at = 0; at < sum.size(); ++at) sum[at] += map(b, at) * (before[at] - low[at]);
                    before = low;
                }
                for (std::size_t at = 0; at < sum.size(); ++at) {
                    const double e = sum[at] + map(count, at) * before[at];
                    const auto place = static_cast<index_t>(at);
                    const auto found = static_cast<double>(y.view()(n, c, place / in.w, place % in.w));
                    if (!(std::abs(found - e) <= 2e-5)) FAIL("element " << at << " is " << found << ", not " << e);
                }
            }
    }
    CHECK(lopsided > 0);
}

TEST_CASE("Frequency bands reject what does not fit, by name") {
    check_error([] { return frequency_bands({}, "f"); }, "f", "1 to 64 bands", "0");
    check_error([] { return frequency_bands({2, 0}, "f"); }, "f", "bands from 1 to 1024", "0");
    const frequency_bands bands({2, 4}, "f");
    const auto shapes = [&](const nd_shape& maps) {
        return [&bands, maps] { return bands.output_shape(std::vector{nd_shape{2, 5, 8, 6}, maps}); };
    };
    CHECK(shapes({2, 2, 8, 6})() == nd_shape{2, 5, 8, 6});
    CHECK(shapes({2, 3, 8, 6})() == nd_shape{2, 5, 8, 6});
    check_error(shapes({2, 4, 8, 6}), "f maps", "2 or 3", "C 4");
    check_error(shapes({2, 2, 8, 5}), "f maps", "8, 6", "W 5");
}

TEST_CASE("A router is a step whose value another layer's coefficients are") {
    rng r(659, 0);
    const kernel_shape k{.o = 9, .i = 6, .kh = 3, .kw = 3};
    const auto weights = r.floats(3 * weight_count(k)), local = r.floats(k.o * 9 * 3), fc = r.floats(4 * 6),
               filter = r.floats(9 * 4), filter_bias = r.floats(9), mix = r.floats(3 * 4), mix_bias = r.floats(3);
    const bn_tensors bn = bn_tensors::random(r, 4);
    const fdconv_kernel kernel(mixture_kernel::pack(3, k, weights), local);
    const fdconv_router router(
        {.fc = fc, .bn = view_of(bn), .filter = {filter, filter_bias}, .kernel = {mix, mix_bias}}, kernel);
    const conv2d<fdconv_kernel, fdconv_router> whole(kernel, {.pad = 1}, {.name = "whole"}, router);
    const conv2d<fdconv_kernel, given_mixture> apart(kernel, {.pad = 1}, {.name = "apart"},
                                                     {router.widths().mixture, router.widths().filter});
    network_builder builder;
    const auto x = builder.input(6);
    const auto route =
        builder.add(std::make_unique<route_operation<fdconv_router>>(router, "route"), x, router.widths().total());
    const network net = std::move(builder).build(builder.add(apart, x, route));
    frame image(r, {3, 6, 7, 5}, placement::nchw);
    image.fill(r);
    const tensor<float> mine = net(image.view()), expected = whole(image.view());
    for (index_t i = 0; i < mine.size(); ++i)
        if (!(std::abs(mine.data()[i] - expected.data()[i]) <= 1e-5F)) FAIL("element " << i);
    network_builder other;
    const auto five = other.input(5);
    const auto step =
        other.add(std::make_unique<route_operation<fdconv_router>>(router, "route"), five, router.widths().total());
    const network wrong = std::move(other).build(step);
    check_error([&] { return wrong.plan({1, 5, 4, 4}); }, "route", "an input of 6 channels", "C 5");
}
