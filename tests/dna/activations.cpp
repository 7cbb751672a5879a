// What routers are made of, with arguments at the end of the numbers.
#include <kdna/dna/dcd.hpp>
#include <kdna/simd/activation.hpp>

#include <cmath>
#include <limits>

#include "support/errors.hpp"
#include "support/oracle.hpp"

using namespace kdna;
using kdna_test::bounded_vector;
using kdna_test::check_bounds;
using kdna_test::check_error;
using kdna_test::rng;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();

/// v after f(v, count), with guards around it.
template <class F>
std::vector<float> in_place(const F& f, const std::vector<float>& v) {
    std::vector<float> all{42.0F};
    all.insert(all.end(), v.begin(), v.end());
    all.push_back(42.0F);
    f(all.data() + 1, static_cast<index_t>(v.size()));
    CHECK(all.front() == 42.0F);
    CHECK(all.back() == 42.0F);
    return {all.begin() + 1, all.end() - 1};
}
const auto soft = [](float* v, index_t n) { softmax(v, n); };
const auto hard = [](float* v, index_t n) { doubled_hard_sigmoid(v, n); };
const auto logistic = [](float* v, index_t n) { simd::activate(activation_kind::sigmoid, v, n); };
const auto rectified = [](float* v, index_t n) { simd::activate(activation_kind::relu, v, n); };

}  // namespace

TEST_CASE("Activations agree with their formulas, logits of all sizes") {
    for (int i = 0; i < kdna_test::scaled(500); ++i) {
        rng r(340, static_cast<std::uint64_t>(i));
        const double size = r.pick({0.1, 1.0, 10.0, 100.0, 1e30});
        const auto v = r.floats(r.between(1, 70), -size, size);
        const auto with = [&](const auto& f) {
            bounded_vector b = kdna_test::exact(v);
            f(b);
            return b;
        };
        INFO("case " << i << ", logits up to " << size);
        check_bounds(in_place(logistic, v), with([](auto& b) { kdna_test::sigmoid(b); }));
        check_bounds(in_place(soft, v), with([](auto& b) { kdna_test::softmax(b); }));
        check_bounds(in_place(hard, v), with([](auto& b) {
                         for (kdna_test::bounded& x : b)  // x + 3 is rounded first
                             x.error = kdna_test::unit_roundoff * std::abs(x.value + 3.0);
                         kdna_test::hard_sigmoid(b);
                     }));
        check_bounds(in_place(rectified, v), with([](auto& b) { kdna_test::relu(b); }));
    }
}

TEST_CASE("Softmax neither overflows nor loses its sum") {
    CHECK(in_place(soft, {100.0F, -100.0F, 1e30F, -1e30F}) == std::vector<float>{0.0F, 0.0F, 1.0F, 0.0F});
    CHECK(in_place(soft, {1e30F, 1e30F}) == std::vector<float>{0.5F, 0.5F});
    CHECK(in_place(soft, {-1e30F, -1e30F, -1e30F, -1e30F}) == std::vector<float>(4, 0.25F));
    CHECK(in_place(soft, {-100.0F}) == std::vector<float>{1.0F});
    const auto apart = in_place(soft, {100.0F, -100.0F});
    CHECK(apart[0] == 1.0F);
    CHECK((apart[1] >= 0.0F && apart[1] < 1e-37F));
    CHECK(in_place(soft, {0.0F, -inf}) == std::vector<float>{1.0F, 0.0F});
    for (int i = 0; i < kdna_test::scaled(100); ++i) {
        rng r(341, static_cast<std::uint64_t>(i));
        double sum = 0.0;
        for (const float a : in_place(soft, r.floats(r.between(1, 40), -100.0, 100.0))) {
            CHECK((a >= 0.0F && a <= 1.0F));
            sum += static_cast<double>(a);
        }
        CHECK(std::abs(sum - 1.0) < 1e-5);
    }
}

TEST_CASE("Softmax of one NaN is NaN everywhere, wherever it stands") {
    for (std::size_t at = 0; at < 20; ++at) {
        std::vector<float> v(20, 1.0F);
        v[at] = nan_value;
        for (const float a : in_place(soft, v)) CHECK(std::isnan(a));
    }
}

TEST_CASE("Sigmoid, hard sigmoid and ReLU at their ends, and NaN stays NaN") {
    const std::vector<float> v{100.0F, 1e30F, inf, -100.0F, -1e30F, -inf, 0.0F, nan_value};
    const auto s = in_place(logistic, v);
    for (const std::size_t i : {0U, 1U, 2U}) CHECK(s[i] == 1.0F);
    for (const std::size_t i : {3U, 4U, 5U}) CHECK((s[i] >= 0.0F && s[i] < 1e-37F));
    CHECK(s[6] == 0.5F);
    CHECK(std::isnan(s[7]));
    const auto r = in_place(rectified, v);
    CHECK(std::vector<float>(r.begin(), r.end() - 1) == std::vector<float>{100.0F, 1e30F, inf, 0.0F, 0.0F, 0.0F, 0.0F});
    CHECK(std::isnan(r[7]));
    CHECK(in_place(hard, {-3.0F, 3.0F, 0.0F, -1e30F, 1e30F, -inf, inf, -3.0001F, 3.0001F, -2.0F, 1.5F}) ==
          std::vector<float>{0.0F, 2.0F, 1.0F, 0.0F, 2.0F, 0.0F, 2.0F, 0.0F, 2.0F, 1.0F / 3.0F, 1.5F});
    CHECK(std::isnan(in_place(hard, {nan_value})[0]));
}

TEST_CASE("DCD's hard sigmoid has the bits of ReLU6(v + 3) / 3") {
#ifdef __ARM_NEON
    const float bound =
        3e-7F;  // xsimd 8 multiplies by a reciprocal instead of dividing, which is two units off at most
#else
    const float bound = 0.0F;
#endif
    for (int i = 0; i < kdna_test::scaled(200); ++i) {
        rng r(342, static_cast<std::uint64_t>(i));
        const auto v = r.floats(r.between(1, 70), -4.0, 4.0), found = in_place(hard, v);
        for (std::size_t j = 0; j < v.size(); ++j) {
            const float expected = std::clamp(v[j] + 3.0F, 0.0F, 6.0F) / 3.0F;
            CHECK(std::abs(found[j] - expected) <= bound * expected);
        }
    }
}

TEST_CASE("A head is there or not, but never half") {
    const std::vector<float> values(12, 1.0F);
    const auto first = [&](std::size_t n) { return std::span(values).first(n); };
    CHECK(optional_head({}, 4, "h").outputs() == 0);
    CHECK(optional_head({}, 4, "h").floats() == 0);
    CHECK(optional_head({.weight = first(12)}, 4, "h").outputs() == 3);
    check_error([&] { return optional_head({.bias = first(3)}, 4, "h"); }, "h.weight", "a positive multiple of 4", "0");
    check_error([&] { return optional_head({.weight = first(12), .bias = first(2)}, 4, "h"); }, "h.bias", "3 values",
                "2");
    check_error([&] { return optional_head({.weight = first(11)}, 4, "h"); }, "h.weight", "multiple of 4", "11");
}
