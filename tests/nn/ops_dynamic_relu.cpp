// DyReLU-B against its formula in double.
#include <kdna/nn/ops/dynamic_relu.hpp>

#include <cmath>

#include "support/errors.hpp"
#include "support/nd_frames.hpp"

using namespace kdna;
using namespace kdna_test;

TEST_CASE("Lines of a sample's own, for maps and coefficients that lie anyhow") {
    for (int i = 0; i < scaled(400); ++i) {
        rng r(937, static_cast<std::uint64_t>(i));
        nd_shape s = any_nd_shape(r, 4, 6, 300);
        const index_t lines = r.chance(0.6) ? 2 : r.between(1, ops::dynamic_relu::most_lines);
        const bool pixels = r.chance(0.5);
        nd_frame x(r, s, any_nd_placement(r)),
            theta(r, pixels ? nd_shape{s[0], s[1] * 2 * lines, 1, 1} : nd_shape{s[0], s[1] * 2 * lines},
                  any_nd_placement(r));
        x.fill(r, -3.0, 3.0);
        theta.fill(r, -4.0, 4.0);
        x.spoil(r, r.chance(0.2) ? 1 : 0);
        bounded_result expected;
        for_each_index(s, [&](const axis_numbers& k) {
            const double v = static_cast<double>(element(x.view(), k));
            double best = -INFINITY, size = 0.0;
            for (index_t m = 0; m < lines; ++m) {
                const auto t = [&](index_t j) {
                    axis_numbers at{k[0], k[1] * 2 * lines + j};
                    return 2.0 / (1.0 + std::exp(-static_cast<double>(element(theta.view(), at)))) - 1.0;
                };
                const double a = t(m) + (m == 0 ? 1.0 : 0.0), b = 0.5 * t(lines + m), line = a * v + b;
                best = std::isnan(line) || line > best ? line : best;
                size = std::max(size, std::abs(v) + std::abs(line));
            }
            expected.push_back(best, 0x1p-24 * 16 * (size + 2.0));
        });
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), ", ", lines, " lines"));
        check_result(result_of(ops::dynamic_relu(), r, {x.view(), theta.view()}), expected);
    }
}

TEST_CASE("Coefficients that do not fit a map are rejected") {
    const nd_shape x{2, 3, 4, 5};
    const auto shape = [](const std::vector<nd_shape>& in) {
        return [in] { return ops::dynamic_relu().output_shape(in, "act"); };
    };
    CHECK(shape({x, {2, 12}})() == x);
    CHECK(shape({x, {2, 6, 1, 1}})() == x);
    check_error(shape({x}), "act", "2 inputs", "1");
    check_error(shape({{2, 3}, {2, 12}}), "act", "an image [N, C, H, W]", "[2, 3]");
    check_error(shape({x, {2, 9}}), "act coefficients", "[2, 3 * 2M], M from 1 to 8", "[2, 9]");
    check_error(shape({x, {1, 12}}), "act coefficients", "[2, 3 * 2M]", "[1, 12]");
    check_error(shape({x, {2, 54}}), "act coefficients", "M from 1 to 8", "[2, 54]");
    check_error(shape({x, {2, 12, 1, 2}}), "act coefficients", "[2, 3 * 2M]", "[2, 12, 1, 2]");
}
