// The activations in double, their names and their values.
#include <kdna/core/activation_functions.hpp>

#include <algorithm>
#include <limits>
#include <string>

#include "support/activations.hpp"
#include "support/catch.hpp"

using namespace kdna;
using kdna_test::all_activation_kinds;
using kdna_test::pytorch_activation;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity(), nan_value = std::numeric_limits<double>::quiet_NaN();

bool same(double a, double b) { return std::isnan(a) ? std::isnan(b) : a == b; }

static_assert(activation::relu.kind == activation_kind::relu && activation::relu6.kind == activation_kind::relu6);
static_assert(activation{} == activation::none);
static_assert(activation::relu != activation::relu6 && activation::elu() == activation::elu(1.0F));
static_assert(activation::leaky_relu().number == 0.01F && activation::leaky_relu(0.2F) != activation::leaky_relu());

}  // namespace

TEST_CASE("Activations in double are PyTorch's") {
    for (const activation_kind kind : all_activation_kinds())
        for (const double a : {0.01, 0.25, 1.0, 1.7, 0.0})
            for (int i = 0; i < kdna_test::scaled(4000); ++i) {
                kdna_test::rng r(600, static_cast<std::uint64_t>(i));
                const double x = r.real(-1.0, 1.0) * r.pick({0.01, 1.0, 10.0, 100.0, 800.0});
                const double expected = pytorch_activation(kind, x, a), found = activated(kind, x, a);
                // exp, erfc and their like are good to a unit or two, and gelu_tanh's sum is rounded before the exponential.
                const double error = 1e-15 * (4.0 + std::min(std::abs(x * x * x), 745.0)) * std::abs(expected) + 1e-300;
                if (!(std::abs(found - expected) <= error))
                    FAIL(to_string(kind) << "(" << x << "), a " << a << ": " << found << " instead of " << expected);
            }
}

TEST_CASE("Activations at the ends of the numbers are PyTorch's") {
    for (const activation_kind kind : all_activation_kinds())
        for (const double x : {0.0, -0.0, inf, -inf, 1e300, -1e300, 1e-300, -1e-300, 6.0, 3.0, -3.0, nan_value})
            for (const double a : {0.25, 1.0}) {
                INFO(to_string(kind) << "(" << x << "), a " << a);
                double expected = pytorch_activation(kind, x, a);
                // PyTorch's product overflows before the division.
                if (kind == activation_kind::hard_swish && x == 1e300) expected = x;
                const double found = activated(kind, x, a);
                CHECK((same(found, expected) || std::abs(found - expected) < 1e-14 * std::abs(expected) + 1e-299));
            }
}

TEST_CASE("NaN stays NaN in every activation, and infinity does what it does in PyTorch") {
    for (const activation_kind kind : all_activation_kinds()) CHECK(std::isnan(activated(kind, nan_value, 0.5)));
    const auto at = [](activation_kind kind, double x) { return activated(kind, x, 0.5); };
    using k = activation_kind;
    // Values of torch.nn.functional for torch.tensor([inf, -inf]).
    for (const k kind : {k::silu, k::hard_swish, k::gelu, k::gelu_tanh, k::mish}) {
        CHECK(at(kind, inf) == inf);
        CHECK(std::isnan(at(kind, -inf)));
    }
    CHECK(at(k::sigmoid, inf) == 1.0);
    CHECK(at(k::sigmoid, -inf) == 0.0);
    CHECK(at(k::hard_sigmoid, inf) == 1.0);
    CHECK(at(k::hard_sigmoid, -inf) == 0.0);
    CHECK(at(k::tanh, inf) == 1.0);
    CHECK(at(k::tanh, -inf) == -1.0);
    CHECK(at(k::elu, inf) == inf);
    CHECK(at(k::elu, -inf) == -0.5);
    CHECK(at(k::leaky_relu, -inf) == -inf);
    CHECK(at(k::prelu, -inf) == -inf);
    CHECK(at(k::relu, -inf) == 0.0);
    CHECK(at(k::relu6, inf) == 6.0);
}

TEST_CASE("Some values of PyTorch's, digit by digit") {
    using k = activation_kind;
    const auto is = [](double found, double expected) { return std::abs(found - expected) <= 1e-15; };
    CHECK(is(activated(k::sigmoid, 1.0, 0.0), 0.731058578630004879));
    CHECK(is(activated(k::silu, -1.0, 0.0), -0.268941421369995121));
    CHECK(is(activated(k::hard_sigmoid, 1.5, 0.0), 0.75));
    CHECK(is(activated(k::hard_swish, -1.5, 0.0), -0.375));
    CHECK(is(activated(k::tanh, 0.5, 0.0), 0.462117157260009758));
    CHECK(is(activated(k::gelu, 1.0, 0.0), 0.841344746068542949));
    CHECK(is(activated(k::gelu, -1.0, 0.0), -0.158655253931457051));
    CHECK(is(activated(k::gelu_tanh, 1.0, 0.0), 0.841191990608276276));
    CHECK(is(activated(k::mish, 1.0, 0.0), 0.8650983882673103));
    CHECK(is(activated(k::elu, -1.0, 2.0), -1.264241117657115357));
    CHECK(is(activated(k::leaky_relu, -2.0, 0.1), -0.2));
    CHECK(is(activated(k::prelu, -2.0, -0.25), 0.5));
}

TEST_CASE("An activation says its name and parameters") {
    const std::vector<float> slopes{0.1F, 0.2F, 0.3F}, others{0.1F, 0.2F, 0.4F};
    const activation p = activation::prelu(slopes);
    CHECK(p == activation::prelu(std::vector<float>(slopes)));
    CHECK(p != activation::prelu(others));
    CHECK(p != activation::prelu(std::span(slopes).first(2)));
    CHECK(p.a(2) == 0.3F);
    CHECK(p.at(1) == activation{activation_kind::prelu, 0.2F, {}});
    CHECK(activation::elu(2.0F).a(7) == 2.0F);
    std::vector<std::string> names;
    for (const activation_kind kind : all_activation_kinds()) {
        CHECK(to_string(activation{kind}) == std::string(to_string(kind)));
        names.emplace_back(to_string(kind));
    }
    CHECK(std::string(to_string(activation::relu6)) == "relu6");
    CHECK(std::string(to_string(activation::gelu_tanh)) == "gelu_tanh");
    std::sort(names.begin(), names.end());
    CHECK(std::unique(names.begin(), names.end()) == names.end());
}

TEST_CASE("Clamps are those whose range says all about them") {
    for (const activation_kind kind : all_activation_kinds()) {
        const auto [low, high] = range_of(kind);
        bool all = true;
        for (const double x : {-7.0, -1.0, -0.5, 0.25, 1.0, 5.0, 6.5, 1e30}) {
            const double clamped = std::clamp(x, static_cast<double>(low), static_cast<double>(high));
            all = all && activated(kind, x, 0.5) == clamped;
        }
        CHECK(all == is_clamp(kind));
    }
}
