// Normalisations, softmax, reductions and products against their definitions in double.
#include <limits>
#include <map>

#include <kdna/nn/ops/matmul.hpp>
#include <kdna/nn/ops/norm.hpp>
#include <kdna/nn/ops/reduce.hpp>
#include <kdna/nn/ops/softmax.hpp>
#include <kdna/simd/lanes.hpp>

#include "support/errors.hpp"
#include "support/frames.hpp"
#include "support/nd_frames.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// Elements that are normalised or reduced together.
struct norm_set {
    std::vector<double> values;
    double mean = 0.0, variance = 0.0, largest = 0.0;
    void finish() {
        for (const double v : values) mean += v / static_cast<double>(values.size());
        for (const double v : values) variance += (v - mean) * (v - mean) / static_cast<double>(values.size());
        for (const double v : values) largest = std::max(largest, std::abs(v));
    }
};
/// The sets by their keys.
template <class Key>
std::map<Key, norm_set> norm_sets(const nd_view<const float>& x, const auto& key_of) {
    std::map<Key, norm_set> out;
    for_each_index(x.shape,
                   [&](const axis_numbers& i) { out[key_of(i)].values.push_back(static_cast<double>(element(x, i))); });
    for (auto& [key, set] : out) set.finish();
    return out;
}

/// What normalising x with a set's statistics gives. The mean is off by up to 2e-6 of the largest element and the variance by as
/// much of itself, plus what a mean that is off adds to it; the rest are a few roundings.
void norm_expect(bounded_result& out, double x, const norm_set& set, double eps, double w, double b) {
    const double scale = 1.0 / std::sqrt(set.variance + eps), off = 2.5e-6 * set.largest;
    const double y = (x - set.mean) * scale * w + b;
    out.push_back(y, std::abs(w) * scale * off +
                         std::abs((x - set.mean) * scale * w) * (3e-6 + off * off * scale * scale) +
                         0x1p-22 * (std::abs(y) + std::abs(b)));
}

std::vector<float> norm_numbers(rng& r, index_t count) {
    return r.chance(0.3) ? std::vector<float>() : r.floats(count, -2.0, 2.0);
}
double norm_number(const std::vector<float>& numbers, index_t i, double otherwise) {
    return numbers.empty() ? otherwise : static_cast<double>(numbers[static_cast<std::size_t>(i)]);
}

nd_frame norm_input(rng& r, const nd_shape& s) {
    nd_frame x(r, s, r.chance(0.05) ? nd_placement::repeated : any_nd_placement(r));
    const double shift = r.pick({0.0, 0.0, 3.0, -100.0});
    x.fill(r, shift - 2.0, shift + 2.0);
    return x;
}

}  // namespace

TEST_CASE("Batch normalisation scales and shifts every channel by its statistics") {
    for (int i = 0; i < scaled(800); ++i) {
        rng r(930, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(2, 5));
        nd_frame x(r, s, any_nd_placement(r));
        x.fill(r, -3.0, 3.0);
        const std::vector<float> w = norm_numbers(r, s[1]), b = norm_numbers(r, s[1]), mean = r.floats(s[1], -2.0, 2.0),
                                 var = r.floats(s[1], 0.1, 3.0);
        const float eps = r.pick({1e-5F, 1e-3F});
        bounded_result expected;
        for_each_index(s, [&](const axis_numbers& k) {
            const auto c = static_cast<std::size_t>(k[1]);
            const double scale = norm_number(w, k[1], 1.0) /
                                 std::sqrt(static_cast<double>(var[c]) + static_cast<double>(eps)),
                         v = static_cast<double>(element(x.view(), k)), m = static_cast<double>(mean[c]),
                         shift = norm_number(b, k[1], 0.0);
            // Roundings of the scale, the shift, the product and the sum.
            expected.push_back((v - m) * scale + shift,
                               0x1p-23 * (std::abs(v * scale) + 2 * std::abs(m * scale) + 2 * std::abs(shift)));
        });
        KDNA_TEST_CASE_INFO(i, to_string(s));
        check_result(result_of(ops::batch_norm(w, b, mean, var, eps), r, {x.view()}), expected);
    }
}

TEST_CASE("Batch normalisation with an activation has the bits of one after the other") {
    for (int i = 0; i < scaled(800); ++i) {
        rng r(934, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(2, 5), 5, r.pick<index_t>({5, 40, 300}));
        nd_frame x(r, s, any_nd_placement(r));
        x.fill(r, -3.0, 3.0);
        const std::vector<float> w = norm_numbers(r, s[1]), b = norm_numbers(r, s[1]), mean = r.floats(s[1], -2.0, 2.0),
                                 var = r.floats(s[1], 0.1, 3.0), slopes = r.floats(r.chance(0.3) ? 1 : s[1]);
        const activation act = r.pick({activation::none, activation::relu, activation::relu6, activation::silu,
                                       activation::leaky_relu(0.2F), activation::prelu(slopes)});
        const std::vector<float> normalised = result_of(ops::batch_norm(w, b, mean, var, 1e-3F), r, {x.view()});
        const std::vector<float> expected =
            act == activation::none
                ? normalised
                : result_of(ops::activate(act), r, {row_major_view<const float>(normalised.data(), s)});
        KDNA_TEST_CASE_INFO(i, to_string(s) + " " + to_string(act));
        const std::vector<float> found = result_of(ops::batch_norm(w, b, mean, var, 1e-3F, "bn", act), r, {x.view()});
        if (!same_bits(found, expected)) FAIL("other bits");
    }
}

TEST_CASE("Layer normalisation is over the last axes, of every order in memory") {
    for (int i = 0; i < scaled(1500); ++i) {
        rng r(931, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(1, 5), 5, r.pick<index_t>({40, 300}));
        const index_t axes = r.between(1, s.rank());
        const nd_shape last(s.extents().last(static_cast<std::size_t>(axes)));
        const nd_frame x = norm_input(r, s);
        const std::vector<float> w = norm_numbers(r, element_count(last)), b = norm_numbers(r, element_count(last));
        const float eps = r.pick({1e-5F, 1e-3F});
        const auto set_of = [&](const axis_numbers& k) {
            return std::vector<index_t>(k.begin(), k.begin() + (s.rank() - axes));
        };
        auto sets = norm_sets<std::vector<index_t>>(x.view(), set_of);
        bounded_result expected;
        index_t at = 0;
        for_each_index(s, [&](const axis_numbers& k) {
            const index_t j = at++ % element_count(last);
            norm_expect(expected, static_cast<double>(element(x.view(), k)), sets[set_of(k)], static_cast<double>(eps),
                        norm_number(w, j, 1.0), norm_number(b, j, 0.0));
        });
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " over ", to_string(last)));
        check_result(result_of(ops::layer_norm(last, w, b, eps), r, {x.view()}), expected);
    }
}

TEST_CASE("Group normalisation is over groups of channels and all axes behind them") {
    for (int i = 0; i < scaled(800); ++i) {
        rng r(932, static_cast<std::uint64_t>(i));
        const index_t groups = r.pick<index_t>({1, 2, 3, 8, 32}),
                      each = r.pick<index_t>({1, 2, 3, 5, simd::lanes, simd::lanes + 3});
        nd_shape s = any_nd_shape(r, r.between(2, 5), 4, 9);
        s[1] = groups * each;
        const nd_frame x = norm_input(r, s);
        const std::vector<float> w = norm_numbers(r, s[1]), b = norm_numbers(r, s[1]);
        const float eps = r.pick({1e-5F, 1e-3F});
        const auto set_of = [&](const axis_numbers& k) { return std::pair(k[0], k[1] / each); };
        auto sets = norm_sets<std::pair<index_t, index_t>>(x.view(), set_of);
        bounded_result expected;
        for_each_index(s, [&](const axis_numbers& k) {
            norm_expect(expected, static_cast<double>(element(x.view(), k)), sets[set_of(k)], static_cast<double>(eps),
                        norm_number(w, k[1], 1.0), norm_number(b, k[1], 0.0));
        });
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " in ", groups, " groups"));
        check_result(result_of(ops::group_norm(groups, w, b, eps), r, {x.view()}), expected);
    }
}

TEST_CASE("Statistics of many elements far from zero keep their digits") {
    for (const nd_shape& s : {nd_shape{1, 64, 96, 96}, nd_shape{1, 3, 150, 150}, nd_shape{1, 48, 40, 40}}) {
        rng r(933, 0);
        nd_frame x(r, s, nd_placement::channels_last);
        x.fill(r, 99.0, 101.0);
        for (const index_t groups : {index_t{1}, s[1] / 3 * 3 == s[1] ? index_t{3} : index_t{16}}) {
            const index_t each = s[1] / groups;
            const auto set_of = [&](const axis_numbers& k) { return k[1] / each; };
            auto sets = norm_sets<index_t>(x.view(), set_of);
            std::vector<double> means(static_cast<std::size_t>(groups)), scales;
            for (index_t g = 0; g < groups; ++g) {
                means[static_cast<std::size_t>(g)] = sets[g].mean;
                scales.push_back(1.0 / std::sqrt(sets[g].variance + 1e-5));
            }
            const std::vector<float> y = result_of(ops::group_norm(groups, {}, {}, 1e-5F), r, {x.view()});
            double worst = 0.0;
            std::size_t at = 0;
            for_each_index(s, [&](const axis_numbers& k) {
                const auto g = static_cast<std::size_t>(k[1] / each);
                const double e = (static_cast<double>(element(x.view(), k)) - means[g]) * scales[g];
                worst = std::max(worst, std::abs(static_cast<double>(y[at++]) - e));
            });
            // A unit in the last place of 100 is 7.6e-6, and the scale about 1.7.
            INFO(to_string(s) << " in " << groups << " groups: " << worst);
            CHECK(worst < 1.7 * 7.6e-6 * 4);
        }
    }
}

TEST_CASE("Softmax and its logarithm, along any axis of any order in memory") {
    for (int i = 0; i < scaled(2000); ++i) {
        rng r(934, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(1, 5), 5, r.pick<index_t>({40, 40, 700}));
        const index_t axis = r.between(0, s.rank() - 1);
        const bool logarithm = r.chance(0.4);
        nd_frame x(r, s, r.chance(0.05) ? nd_placement::repeated : any_nd_placement(r));
        const double shift = r.pick({0.0, 0.0, 500.0, -500.0});
        x.fill(r, shift - 10.0, shift + 10.0);
        x.spoil(r, r.chance(0.2) ? 1 : 0);
        const auto set_of = [&](axis_numbers k) {
            k[static_cast<std::size_t>(axis)] = 0;
            return k;
        };
        auto sets = norm_sets<axis_numbers>(x.view(), set_of);
        std::map<axis_numbers, std::pair<double, double>> sums;
        for (const auto& [key, set] : sets) {
            double largest = -std::numeric_limits<double>::infinity(), sum = 0.0;
            for (const double v : set.values) largest = v > largest || std::isnan(v) ? v : largest;
            for (const double v : set.values) sum += std::exp(v - largest);
            sums[key] = {largest, sum};
        }
        bounded_result expected;
        for_each_index(s, [&](const axis_numbers& k) {
            const auto [largest, sum] = sums[set_of(k)];
            const double v = static_cast<double>(element(x.view(), k)) - largest;
            // The difference is rounded: 2^-24 of itself, which an exponential turns into a relative error.
            if (logarithm)
                expected.push_back(v - std::log(sum), 0x1p-24 * (3 * std::abs(v) + 4 * std::log(sum)) + 3e-6);
            else
                expected.push_back(std::exp(v) / sum, std::exp(v) / sum * (0x1p-24 * std::abs(v) + 6e-6) + 1e-37);
        });
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " along ", axis, logarithm ? ", logarithm" : ""));
        check_result(result_of(ops::softmax(r.chance(0.5) ? axis : axis - s.rank(), logarithm), r, {x.view()}),
                     expected);
    }
}

TEST_CASE("Reductions over any axes of any order in memory") {
    for (int i = 0; i < scaled(2500); ++i) {
        rng r(935, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(1, 5), 5, r.pick<index_t>({40, 300}));
        const auto kind = static_cast<ops::reduce_kind>(r.between(0, 3));
        std::vector<index_t> axes;
        std::vector<bool> gone(5, false);
        for (index_t a = 0; a < s.rank(); ++a)
            if (r.chance(0.5)) {
                axes.push_back(r.chance(0.5) ? a : a - s.rank());
                gone[static_cast<std::size_t>(a)] = true;
            }
        bool keep = r.chance(0.5);
        if (axes.empty()) continue;
        keep = keep || static_cast<index_t>(axes.size()) == s.rank();
        nd_frame x(r, s, r.chance(0.1) ? nd_placement::repeated : any_nd_placement(r));
        x.fill(r, -1.0, 2.0);
        x.spoil(r, kind == ops::reduce_kind::max || kind == ops::reduce_kind::min ? r.between(0, 2) : 0);
        std::vector<index_t> extents;
        for (index_t a = 0; a < s.rank(); ++a)
            if (!gone[static_cast<std::size_t>(a)])
                extents.push_back(s[a]);
            else if (keep)
                extents.push_back(1);
        const auto set_of = [&](axis_numbers k) {
            for (std::size_t a = 0; a < 5; ++a)
                if (gone[a]) k[a] = 0;
            return k;
        };
        bounded_result expected;
        // Keys are in the order of the output's elements.
        for (const auto& [key, set] : norm_sets<axis_numbers>(x.view(), set_of)) {
            double sum = 0.0, absolute = 0.0, largest = set.values[0], smallest = largest;
            for (const double v : set.values) {
                sum += v;
                absolute += std::abs(v);
                largest = std::isnan(largest) || v <= largest ? largest : v;
                smallest = std::isnan(smallest) || v >= smallest ? smallest : v;
            }
            const auto count = static_cast<double>(set.values.size());
            switch (kind) {
                case ops::reduce_kind::mean: expected.push_back(sum / count, 2.5e-6 * absolute / count); break;
                case ops::reduce_kind::sum: expected.push_back(sum, 2.5e-6 * absolute); break;
                case ops::reduce_kind::max: expected.push_back(largest, 0.0); break;
                case ops::reduce_kind::min: expected.push_back(smallest, 0.0); break;
            }
        }
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " kind ", static_cast<int>(kind), ", ", axes.size(), " axes"));
        const ops::reduce op(kind, axes, keep);
        CHECK(op.output_shape(std::vector{s}, "op") == nd_shape(extents));
        check_result(result_of(op, r, {x.view()}), expected);
    }
}

TEST_CASE("Products of matrices, their other axes broadcast") {
    for (int i = 0; i < scaled(700); ++i) {
        rng r(936, static_cast<std::uint64_t>(i));
        const index_t m = r.pick<index_t>({1, 2, 3, 5, 6, 7, 13, 50}),
                      n = r.pick<index_t>({1, 2, 7, simd::lanes, 2 * simd::lanes, 33, 70}),
                      k = r.pick<index_t>({1, 2, 3, 16, 49, 300, 600});
        const auto batch = [&](index_t rank, index_t rows, index_t columns) {
            std::vector<index_t> extents;
            // From the last on these are 2, 3 and 2, or 1.
            for (index_t a = rank - 2; a > 0; --a) extents.push_back(r.chance(0.3) ? 1 : a % 2 == 1 ? 2 : 3);
            extents.push_back(rows);
            extents.push_back(columns);
            return nd_shape(extents);
        };
        const nd_shape s = batch(r.between(2, 5), m, k), t = batch(r.between(2, 5), k, n);
        nd_frame a(r, s, r.chance(0.05) ? nd_placement::repeated : any_nd_placement(r)),
            b(r, t, r.chance(0.05) ? nd_placement::repeated : any_nd_placement(r));
        a.fill(r);
        b.fill(r);
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " times ", to_string(t)));
        const nd_shape out = ops::matmul().output_shape(std::vector{s, t}, "op");
        bounded_result expected;
        // The first element of the matrix that an element of the output comes from.
        const auto matrix = [&](const nd_view<float>& v, const axis_numbers& index) {
            axis_numbers j{};
            for (index_t axis = 0; axis + 2 < v.rank(); ++axis)
                j[static_cast<std::size_t>(axis)] =
                    v.shape[axis] == 1 ? 0 : index[static_cast<std::size_t>(axis + out.rank() - v.rank())];
            return &element(v, j);
        };
        const nd_view<float> left = a.view(), right = b.view();
        const auto step = [](const nd_view<float>& v, index_t from_last) {
            return v.stride[static_cast<std::size_t>(v.rank() - from_last)];
        };
        const index_t left_step = step(left, 1), right_step = step(right, 2);
        for_each_index(out, [&](const axis_numbers& index) {
            const float* row = matrix(left, index) + index[static_cast<std::size_t>(out.rank() - 2)] * step(left, 2);
            const float* column =
                matrix(right, index) + index[static_cast<std::size_t>(out.rank() - 1)] * step(right, 1);
            double sum = 0.0, absolute = 0.0;
            for (index_t j = 0; j < k; ++j) {
                const double product = static_cast<double>(row[j * left_step]) * column[j * right_step];
                sum += product;
                absolute += std::abs(product);
            }
            expected.push_back(sum, 0x1p-24 * static_cast<double>(k + 1) * absolute + 1e-44);
        });
        check_result(result_of(ops::matmul(), r, {left, right}), expected);
    }
}

TEST_CASE("Normalisations, reductions and products refuse what does not fit, by name") {
    const std::vector<nd_shape> image{{1, 6, 4, 4}}, vector{{6}};
    const std::vector<float> six(6, 1.0F), five(5, 1.0F), negative(6, -1.0F);
    check_error([&] { return ops::batch_norm({}, {}, {}, {}, 0.1F, "bn"); }, "bn", "at least 1 channel", "0");
    check_error(
        [&] {
            return ops::batch_norm({}, {}, six, six, 0.1F, "bn", activation::prelu(five)).output_shape(image, "bn");
        },
        "bn", "5 channels", "6");
    check_error([&] { return ops::batch_norm({}, {}, six, five, 0.1F, "bn"); }, "bn", "variance of 6", "5");
    check_error([&] { return ops::batch_norm(five, {}, six, six, 0.1F, "bn"); }, "bn", "6 elements", "5");
    check_error([&] { return ops::batch_norm({}, {}, six, negative, 0.1F, "bn"); }, "bn", "positive", "-0.9");
    check_error([&] { return ops::batch_norm({}, {}, five, five, 0.1F).output_shape(image, "bn"); }, "bn", "5 channels",
                "[1, 6, 4, 4]");
    check_error([&] { return ops::batch_norm({}, {}, six, six, 0.1F).output_shape(vector, "bn"); }, "bn", "rank 2 to 5",
                "[6]");
    check_error([&] { return ops::layer_norm(nd_shape{2, 3}, five, {}, 0.1F, "ln"); }, "ln", "6 elements", "5");
    check_error([&] { return ops::layer_norm(nd_shape{6}, {}, {}, -0.1F, "ln"); }, "ln", "eps >= 0", "-0.1");
    check_error([&] { return ops::layer_norm(nd_shape{6}, {}, {}, 0.1F).output_shape(image, "ln"); }, "ln",
                "last extents are [6]", "[1, 6, 4, 4]");
    check_error([&] { return ops::group_norm(0, {}, {}, 0.1F, "gn"); }, "gn", "groups >= 1", "0");
    check_error([&] { return ops::group_norm(2, six, five, 0.1F, "gn"); }, "gn", "6 elements", "5");
    check_error([&] { return ops::group_norm(4, six, six, 0.1F, "gn"); }, "gn", "4 groups", "6");
    check_error([&] { return ops::group_norm(2, six, six, std::numeric_limits<float>::quiet_NaN(), "gn"); }, "gn",
                "eps >= 0", "nan");
    check_error([&] { return ops::group_norm(5, {}, {}, 0.1F).output_shape(image, "gn"); }, "gn", "5 groups",
                "[1, 6, 4, 4]");
    check_error([&] { return ops::group_norm(5, five, five, 0.1F).output_shape(image, "gn"); }, "gn", "5 channels",
                "[1, 6, 4, 4]");
    check_error([&] { return ops::softmax(4).output_shape(image, "sm"); }, "sm", "an axis from -4 to 3", "4");
    const auto reduced = [](std::vector<index_t> axes, bool keep) {
        return ops::reduce(ops::reduce_kind::mean, axes, keep, "mean");
    };
    check_error([&] { return reduced({}, true); }, "mean", "1 to 5 axes", "0");
    check_error([&] { return reduced({1, -3}, true).output_shape(image, "mean"); }, "mean", "differ", "-3 twice");
    check_error([&] { return reduced({4}, true).output_shape(image, "mean"); }, "mean", "an axis", "4");
    check_error([&] { return reduced({0}, false).output_shape(vector, "mean"); }, "mean", "an axis that is left",
                "[6]");
    const auto product = [](const nd_shape& a, const nd_shape& b) {
        return ops::matmul().output_shape(std::vector{a, b}, "mm");
    };
    CHECK(product({2, 1, 3, 4}, {5, 4, 6}) == nd_shape{2, 5, 3, 6});
    check_error([&] { return product({3, 4}, {4}); }, "mm", "rank 2 to 5", "a vector [4]");
    check_error([&] { return product({3, 4}, {5, 4}); }, "mm", "4 rows", "[3, 4] and [5, 4]");
    check_error([&] { return product({2, 3, 4}, {3, 4, 5}); }, "mm", "broadcast", "");
    constexpr index_t big = index_t{1} << 40;
    check_error([&] { return product({big, 1}, {1, big}); }, "mm", "fits", "");
    check_error([&] { return ops::matmul().output_shape(image, "mm"); }, "mm", "2 inputs", "1");
}
