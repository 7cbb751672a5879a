// The activations on vectors against double, over all floats, and what they read and write.
#include <kdna/simd/activation.hpp>

#include <algorithm>
#include <cstring>
#include <limits>

#include <kdna/core/error.hpp>
#include <kdna/simd/lanes.hpp>

#include "support/activations.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity(), nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr double least_normal = 0x1p-126;

std::vector<float> activated_floats(activation_kind kind, float a, std::vector<float> v) {
    simd::activate(kind, a, nullptr, v.data(), 1, static_cast<index_t>(v.size()));
    return v;
}

/// The error of `found` in units in the last place of float32; results that underflow have an absolute bound instead.
double error_in_ulps(float found, double expected, double underflow) {
    const auto rounded = static_cast<float>(expected);
    if (std::isnan(expected) || std::isnan(found)) return std::isnan(expected) == std::isnan(found) ? 0.0 : INFINITY;
    if (std::isinf(rounded) || std::isinf(found)) {
        if (found == rounded) return 0.0;
        return std::abs(expected) > 0x1.ffffffp127 || std::abs(found) > 3.4e38F ? 1.0 : INFINITY;
    }
    const double error = std::abs(static_cast<double>(found) - expected);
    if (error <= underflow) return 0.0;
    int exponent = 0;
    std::frexp(std::max(std::abs(expected), least_normal), &exponent);
    return error / std::ldexp(1.0, exponent - 24);
}

/// Every `step`-th float: all exponents, both signs, NaN included.
template <class F>
void for_floats(std::uint64_t step, const F& f) {
    std::vector<float> v;
    for (std::uint64_t bits = 0; bits <= 0xffffffffU; bits += step) {
        const auto u = static_cast<std::uint32_t>(bits);
        float x = 0.0F;
        std::memcpy(&x, &u, sizeof(x));
        v.push_back(x);
        if (v.size() == 1024) {
            f(v);
            v.clear();
        }
    }
    f(v);
}

/// PyTorch's value without the overflow of hard_swish's product.
double expected_value(activation_kind kind, double x, double a) {
    if (kind == activation_kind::hard_swish && x > 3.0) return x;
    return pytorch_activation(kind, x, a);
}

}  // namespace

TEST_CASE("Vectors of activations are as near to double as docs/numerics.md says, over all floats") {
    const auto step =
        static_cast<std::uint64_t>(4093.0 / std::min(1.0, static_cast<double>(scaled(1000)) / 1000.0)) | 1U;
    for (const activation_kind kind : all_activation_kinds()) {
        double worst = 0.0, worst_near = 0.0, worst_share = 0.0;
        float at = 0.0F;
        constexpr float a = 0.3F;
        for_floats(step, [&](const std::vector<float>& v) {
            const auto found = activated_floats(kind, a, v);
            for (std::size_t i = 0; i < v.size(); ++i) {
                const auto x = static_cast<double>(v[i]);
                const double error = error_in_ulps(found[i], expected_value(kind, x, static_cast<double>(a)),
                                                   is_clamp(kind) ? 0.0 : activation_underflow),
                             share = error == 0.0 ? 0.0 : error / activation_ulps(kind, x);
                worst = std::max(worst, error);
                if (std::abs(x) <= 3.0) worst_near = std::max(worst_near, error);
                if (share > worst_share) {
                    worst_share = share;
                    at = v[i];
                }
            }
        });
        INFO(to_string(kind) << ": nearest to its bound at " << at << ", " << worst_share << " of it");
        CHECK(worst_share <= 1.0);
        if (std::getenv("KDNA_PRINT_ACCURACY") != nullptr)
            WARN(to_string(kind) << ": at most " << worst << " units in the last place, " << worst_near
                                 << " for |x| <= 3, " << worst_share << " of the bound at " << at);
    }
}

TEST_CASE("Vectors of activations at the ends of the floats") {
    const std::vector<float> ends{inf,     -inf,    nan_value, 0.0F,    -0.0F, 3.4e38F, -3.4e38F,
                                  1e-45F,  -1e-45F, 1e-38F,    -1e-38F, 88.5F, -88.5F,  100.0F,
                                  -100.0F, 104.0F,  -104.0F,   3.0F,    -3.0F, 6.0F};
    for (const activation_kind kind : all_activation_kinds()) {
        const auto found = activated_floats(kind, 0.3F, ends);
        for (std::size_t i = 0; i < ends.size(); ++i) {
            INFO(to_string(kind) << "(" << ends[i] << ") = " << found[i]);
            const double expected = expected_value(kind, static_cast<double>(ends[i]), static_cast<double>(0.3F));
            CHECK(error_in_ulps(found[i], expected, activation_underflow) <=
                  activation_ulps(kind, static_cast<double>(ends[i])));
        }
        CHECK(std::isnan(found[2]));
    }
}

TEST_CASE("An activation touches the floats it is given and no others, whatever their stride") {
    for (const activation_kind kind : all_activation_kinds())
        for (int i = 0; i < scaled(60); ++i) {
            rng r(610, static_cast<std::uint64_t>(i));
            const index_t count = r.between(1, 9 * simd::lanes + 3), stride = r.pick<index_t>({1, 1, 2, 7, -3}),
                          size = (count - 1) * std::abs(stride) + 1;
            const bool channels = r.chance(0.5), summed = r.chance(0.5);
            std::vector<float> slopes = r.floats(count);
            slopes.resize(slopes.size() + static_cast<std::size_t>(simd::lanes), nan_value);
            const float a = static_cast<float>(r.real(-1.0, 1.0));
            std::vector<float> v = r.floats(size + 2, -4.0, 4.0), sums = r.floats(count + 1);
            const std::vector<float> before = v, sums_before = sums;
            float* const first = v.data() + 1 + (stride < 0 ? size - 1 : 0);
            simd::activate(kind, a, channels ? slopes.data() : nullptr, first, stride, count,
                           summed ? sums.data() : nullptr);
            KDNA_TEST_CASE_INFO(i, concat(to_string(kind), " of ", count, " floats, stride ", stride));
            std::vector<float> expected = before;
            bool sums_right = sums.back() == sums_before.back();
            for (index_t j = 0; j < count; ++j) {
                const auto at = static_cast<std::size_t>(first - v.data() + j * stride),
                           n = static_cast<std::size_t>(j);
                expected[at] = activated_floats(kind, channels ? slopes[n] : a, {before[at]})[0];
                sums_right = sums_right && sums[n] == (summed ? sums_before[n] + expected[at] : sums_before[n]);
            }
            if (v != expected) FAIL("a float is not what it is by itself");
            if (!sums_right) FAIL("a sum is not its results");
        }
}
