// Folding of BatchNorm, bias and filter modulation, and adapters.
#include <kdna/dna/algebra.hpp>

#include <kdna/dna/kernel_dna.hpp>

#include "support/conv_cases.hpp"
#include "support/errors.hpp"

using namespace kdna;
using kdna_test::check_error;
using kdna_test::rng;

TEST_CASE("BatchNorm, bias and filter modulation fold into one scale and one shift") {
    for (int i = 0; i < kdna_test::scaled(200); ++i) {
        rng r(300, static_cast<std::uint64_t>(i));
        const index_t n = r.between(1, 40);
        auto bn = kdna_test::bn_tensors::random(r, n);
        bn.eps = r.pick({1e-5, 1e-3, 0.0});
        const auto filter = r.floats(n), bias = r.floats(n);
        const bool has_bn = r.chance(0.7), has_filter = r.chance(0.6), has_bias = r.chance(0.6);
        const std::span<const float> none{};
        const scale_shift folded = fold(has_bn ? std::optional(kdna_test::view_of(bn)) : std::nullopt,
                                        has_filter ? filter : none, has_bias ? bias : none, n, "layer");
        for (std::size_t c = 0; c < static_cast<std::size_t>(n); ++c) {
            const double x = r.real(-3, 3);
            const double v = x * (has_filter ? double(filter[c]) : 1.0) + (has_bias ? double(bias[c]) : 0.0);
            const double y =
                has_bn ? (v - double(bn.mean[c])) / std::sqrt(double(bn.var[c]) + bn.eps) * double(bn.weight[c]) +
                             double(bn.bias[c])
                       : v;
            if (!(std::abs(folded.scale[c] * x + folded.shift[c] - y) <= 1e-13 * (1.0 + std::abs(y))))
                FAIL("case " << i);
        }
    }
}

TEST_CASE("Folding names the tensor that does not fit") {
    const std::vector<float> four(4, 1.0F), three(3, 1.0F);
    const auto bn = [&](const auto& w, const auto& b, const auto& m, const auto& v) {
        return [=] { return fold(batch_norm{.weight = w, .bias = b, .mean = m, .var = v}, 4, "bn1"); };
    };
    check_error(bn(three, four, four, four), "bn1.weight", "4 values", "3");
    check_error(bn(four, three, four, four), "bn1.bias", "4 values", "3");
    check_error(bn(four, four, three, four), "bn1.running_mean", "4 values", "3");
    check_error(bn(four, four, four, three), "bn1.running_var", "4 values", "3");
    for (const float bad : {-1.0F, std::numeric_limits<float>::quiet_NaN()}) {
        auto var = four;
        var[2] = bad;
        check_error(bn(four, four, four, var), "bn1.running_var", "var + eps > 0", "at channel 2");
    }
    check_error([&] { return fold(std::nullopt, {}, three, 4, "conv1"); }, "conv1 bias", "4 values", "3");
    check_error([&] { return fold(batch_norm{}, {}, {}, 4, "conv1"); }, "conv1 bn.weight", "4 values", "0");
}

TEST_CASE("An adapter is one plus what the file says") {
    rng r(301, 0);
    const kernel_shape k{.o = 4, .i = 2, .kh = 3, .kw = 2};
    const auto parent = parent_kernel::pack(k, r.floats(48));
    const auto spatial = r.floats(6), filter = r.floats(4);
    const auto child = parent.child({.spatial = spatial, .filter = filter});
    REQUIRE(child.spatial_factors.size() == 6);
    REQUIRE(child.filter_factors.size() == 4);
    for (std::size_t t = 0; t < 6; ++t) CHECK(child.spatial_factors[t] == 1.0F + spatial[t]);
    for (std::size_t o = 0; o < 4; ++o) CHECK(child.filter_factors[o] == 1.0F + filter[o]);
    CHECK(parent.child({}).spatial_factors.empty());
    CHECK(parent.child({}).filter_factors.empty());
}

TEST_CASE("An adapter that does not fit its parent throws") {
    const std::vector<float> values(100);
    const auto first = [&](std::size_t n) { return std::span(values).first(n); };
    const auto parent = parent_kernel::pack({.o = 4, .i = 2, .kh = 3, .kw = 2}, first(48));
    const auto pointwise = parent_kernel::pack({.o = 4, .i = 2}, first(8));
    check_error([&] { return parent.child({.spatial = first(9)}, "kids.0"); }, "kids.0 spatial",
                "6 values for (O 4, I 2, 3x2)", "9");
    check_error([&] { return parent.child({.filter = first(2)}, "kids.0"); }, "kids.0 filter", "4 values", "2");
    check_error([&] { return pointwise.child({.spatial = first(1)}); }, "child spatial",
                "no spatial modulation on a 1x1", "one value");
    check_error([&] { return pointwise.child({.spatial = first(9)}); }, "child spatial", "1 values", "9");
    check_error([&] { return parent_kernel::pack({.o = 4, .i = 2}, first(7), "layer3.conv2"); }, "layer3.conv2",
                "8 weights", "7");
}
