// Squeeze-excite and CondConv's routing against double precision.
#include <kdna/dna/condconv.hpp>
#include <kdna/dna/squeeze_excite.hpp>

#include "support/conv_cases.hpp"
#include "support/errors.hpp"

using namespace kdna;
using kdna_test::check_bounds;
using kdna_test::check_error;
using kdna_test::rng;

namespace {

std::vector<float> gates(const squeeze_excite& se, const std::vector<float>& pooled) {
    std::vector<float> out(pooled.size()), scratch(static_cast<std::size_t>(se.scratch_floats()));
    se(pooled.data(), {.channel = out.data()}, scratch.data());
    return out;
}

}  // namespace

TEST_CASE("A gate is sigmoid(fc2(ReLU(BN(fc1(pooled)))))") {
    for (int i = 0; i < kdna_test::scaled(300); ++i) {
        rng r(310, static_cast<std::uint64_t>(i));
        const index_t channels = r.between(1, 80), hidden = r.between(1, 20);
        const auto tensors = kdna_test::se_tensors::random(r, channels, hidden);
        const squeeze_excite se = kdna_test::gate_of(tensors);
        CHECK(se.input_channels() == channels);
        CHECK(se.hidden() == hidden);
        CHECK(se.widths() == route_widths{.channel = channels});
        const auto whole = [](index_t n) { return (n + simd::lanes - 1) / simd::lanes * simd::lanes; };
        CHECK(se.floats() == (channels + 1) * whole(hidden) + (hidden + 1) * whole(channels));
        const auto pooled = r.floats(channels);
        KDNA_TEST_CASE_INFO(i, concat(channels, " channels, ", hidden, " hidden"));
        check_bounds(gates(se, pooled), tensors(kdna_test::exact(pooled)));
    }
}

TEST_CASE("Gates saturate at zero and one, and NaN goes through") {
    rng r(311, 0);
    auto tensors = kdna_test::se_tensors::random(r, 8, 2);
    std::fill(tensors.fc2.begin(), tensors.fc2.end(), 0.0F);
    tensors.fc2_bias = {40.0F, 100.0F, 1e30F, 0.0F, -40.0F, -100.0F, -1e30F, 1.0F};
    const auto g = gates(kdna_test::gate_of(tensors), r.floats(8));
    for (const std::size_t i : {0U, 1U, 2U}) CHECK(g[i] == 1.0F);
    CHECK(g[3] == 0.5F);
    for (const std::size_t i : {4U, 5U, 6U}) CHECK((g[i] >= 0.0F && g[i] < 1e-17F));

    auto pooled = r.floats(8);
    pooled[5] = std::numeric_limits<float>::quiet_NaN();
    const auto all = kdna_test::se_tensors::random(r, 8, 2);
    for (const float v : gates(kdna_test::gate_of(all), pooled)) CHECK(std::isnan(v));
}

TEST_CASE("A gate names the tensor that does not fit") {
    rng r(312, 0);
    const auto good = kdna_test::se_tensors::random(r, 8, 2);
    const auto broken = [&](auto&& change) {
        return [&good, change] {
            auto t = good;
            change(t);
            return squeeze_excite({.fc1 = t.fc1, .bn = kdna_test::view_of(t.bn), .fc2 = t.fc2, .fc2_bias = t.fc2_bias},
                                  "se.0.se");
        };
    };
    check_error(broken([](auto& t) { t.fc1.pop_back(); }), "se.0.se.fc1.weight", "a positive multiple of 8 values",
                "15");
    check_error(broken([](auto& t) { t.fc1.clear(); }), "se.0.se.fc1.weight", "a positive multiple of 8 values", "0");
    check_error(broken([](auto& t) { t.fc2.pop_back(); }), "se.0.se.fc2.weight", "a positive multiple of 2 values",
                "15");
    check_error(broken([](auto& t) { t.fc2.resize(32); }), "se.0.se.fc2.bias", "16 values", "8");
    check_error(broken([](auto& t) { t.fc2_bias.clear(); }), "se.0.se.fc2.bias", "one value per channel", "0");
    check_error(broken([](auto& t) { t.bn.var.resize(3); }), "se.0.se.bn.running_var", "2 values", "3");
    check_error(broken([](auto& t) { t.bn.weight.clear(); }), "se.0.se.bn.weight", "2 values", "0");
}

TEST_CASE("CondConv's routing is sigmoid(W pooled + b)") {
    for (int i = 0; i < kdna_test::scaled(100); ++i) {
        rng r(313, static_cast<std::uint64_t>(i));
        const index_t channels = r.between(1, 50), n = r.between(1, 8);
        const auto weight = r.floats(n * channels), bias = r.floats(n), pooled = r.floats(channels);
        const condconv_router router(weight, bias, channels);
        CHECK(router.widths() == route_widths{.mixture = n});
        std::vector<float> out(static_cast<std::size_t>(n));
        router(pooled.data(), {.mixture = out.data()}, nullptr);
        auto expected = kdna_test::dense(weight, bias, kdna_test::exact(pooled));
        kdna_test::sigmoid(expected);
        check_bounds(out, expected);
    }
    const std::vector<float> values(12);
    const auto first = [&](std::size_t n) { return std::span(values).first(n); };
    check_error([&] { return condconv_router(first(12), first(2), 5, "block.1"); }, "block.1.routing.weight",
                "multiple of 5", "12");
    check_error([&] { return condconv_router(first(12), first(2), 4, "block.1"); }, "block.1.routing.bias", "3 values",
                "2");
    check_error([&] { return condconv_router(first(12), {}, 0); }, "condconv.routing.weight", "multiple of 0", "12");
}

TEST_CASE("A small dense layer takes an affine map behind it") {
    rng r(314, 0);
    const auto weight = r.floats(3 * 5), bias = r.floats(3), x = r.floats(5);
    const std::vector<double> scale{2.0, -1.0, 0.5}, shift{1.0, 0.0, -3.0};
    fully_connected fc(weight, bias, 5, "fc");
    std::vector<float> plain(3), mapped(3);
    fc(x.data(), plain.data());
    fc.then_affine(scale, shift);
    fc(x.data(), mapped.data());
    for (std::size_t o = 0; o < 3; ++o)
        CHECK(std::abs(static_cast<double>(mapped[o]) - (scale[o] * static_cast<double>(plain[o]) + shift[o])) < 1e-5);
    check_error([&] { return fully_connected(weight, {}, 4, "fc"); }, "fc.weight", "multiple of 4", "15");
    check_error([&] { return fully_connected(weight, {}, -1, "fc"); }, "fc.weight", "multiple of -1", "15");
    check_error([&] { return fully_connected(weight, x, 5, "fc"); }, "fc.bias", "3 values", "5");
}
