// Pooling against naive versions.
#include <kdna/nn/pool.hpp>

#include <limits>

#include "support/errors.hpp"
#include "support/frames.hpp"
#include "support/method_tensors.hpp"
#include "support/oracle.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<float> naive_max(const tensor_view<const float>& x, const shape4& out, extent2 window, extent2 stride,
                             const padding& pad) {
    std::vector<float> y;
    for (index_t n = 0; n < out.n; ++n)
        for (index_t c = 0; c < out.c; ++c)
            for (index_t h = 0; h < out.h; ++h)
                for (index_t w = 0; w < out.w; ++w) {
                    float best = -std::numeric_limits<float>::infinity();
                    bool any_nan = false;
                    for (index_t i = 0; i < window.h; ++i)
                        for (index_t j = 0; j < window.w; ++j) {
                            const index_t ih = h * stride.h - pad.top + i, iw = w * stride.w - pad.left + j;
                            if (ih < 0 || iw < 0 || ih >= x.shape.h || iw >= x.shape.w) continue;
                            any_nan = any_nan || std::isnan(x(n, c, ih, iw));
                            best = std::max(best, x(n, c, ih, iw));
                        }
                    y.push_back(any_nan ? not_a_number : best);
                }
    return y;
}

bool same_values(const std::vector<float>& a, const std::vector<float>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
}

placement any_placement(rng& r) {
    return r.pick({placement::nchw, placement::nhwc, placement::nhwc, placement::padded_nchw, placement::padded_nhwc,
                   placement::permuted, placement::reversed});
}

}  // namespace

TEST_CASE("Max pooling takes the largest value under each window, and NaN") {
    for (int i = 0; i < scaled(1500); ++i) {
        rng r(400, static_cast<std::uint64_t>(i));
        const extent2 window{r.between(1, 5), r.between(1, 5)}, stride{r.between(1, 3), r.between(1, 3)};
        const auto side = [&](index_t w) { return r.between(0, w - 1); };
        const padding pad{side(window.h), side(window.h), side(window.w), side(window.w)};
        const shape4 in{r.between(1, 2), r.pick<index_t>({1, 3, simd::lanes, simd::lanes + 1, 2 * simd::lanes, 33}),
                        r.between(1, 11), r.between(1, 11)};
        if (in.h + pad.top + pad.bottom < window.h || in.w + pad.left + pad.right < window.w) continue;
        frame x(r, in, any_placement(r));
        x.fill(r, -5.0, -1.0);  // padding with zeros would win
        for (index_t k = r.between(0, 3); k > 0; --k) {
            const auto& v = x.view();
            v(r.between(0, in.n - 1), r.between(0, in.c - 1), r.between(0, in.h - 1), r.between(0, in.w - 1)) =
                r.pick({not_a_number, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()});
        }
        const max_pool2d pool(window, stride, pad);
        frame y(r, pool.output_shape(in), any_placement(r));
        pool.run(x.view(), y.view());
        KDNA_TEST_CASE_INFO(i, concat(to_string(in), ", window ", window.h, "x", window.w));
        if (!same_values(values_of(y.view()), naive_max(x.view(), y.view().shape, window, stride, pad)))
            FAIL("other values");
        if (!y.guards_intact()) FAIL("wrote outside");
    }
}

TEST_CASE("Max pooling rejects windows that could hold nothing but padding") {
    check_error([] { max_pool2d(0, 1, 0); }, "max_pool2d", "window and stride >= 1", "window 0x0");
    check_error([] { max_pool2d(2, 0, 0); }, "max_pool2d", "window and stride >= 1", "stride 0x0");
    check_error([] { max_pool2d(3, 2, -1); }, "max_pool2d", "padding >= 0 and less than the window 3x3", "-1");
    check_error([] { max_pool2d(3, 2, 3); }, "max_pool2d", "less than the window 3x3", "3, 3");
    check_error([] { max_pool2d({3, 2}, 2, {0, 2}); }, "max_pool2d", "less than the window 3x2", "0, 0, 2, 2");
    check_error([] { return max_pool2d(5, 1, 1).output_shape({1, 1, 2, 9}); }, "max_pool2d", "at least 5", "4");
}

TEST_CASE("Global averages agree with double precision, on any strides, and keep NaN in its channel") {
    for (int i = 0; i < scaled(600); ++i) {
        rng r(401, static_cast<std::uint64_t>(i));
        const shape4 in{r.between(1, 3), r.pick<index_t>({1, 2, simd::lanes, simd::lanes + 3, 40}), r.between(1, 30),
                        r.between(1, 30)};
        frame x(r, in, r.chance(0.1) ? placement::broadcast : any_placement(r));
        x.fill(r);
        const index_t bad = r.chance(0.3) ? r.between(0, in.c - 1) : -1, n = r.between(0, in.n - 1);
        const bool broadcast = x.view().stride.c == 0;
        if (bad >= 0 && !broadcast) x.view()(n, bad, r.between(0, in.h - 1), r.between(0, in.w - 1)) = not_a_number;
        std::vector<float> mean(static_cast<std::size_t>(in.c));
        global_average(x.view(), n, mean.data());
        const bounded_vector expected = pooled(x.view(), n);
        KDNA_TEST_CASE_INFO(i, to_string(in));
        for (std::size_t c = 0; c < mean.size(); ++c) {
            const bool is_nan = std::isnan(expected[c].value);
            if (is_nan != (static_cast<index_t>(c) == bad && !broadcast)) FAIL("NaN in the test itself");
            if (is_nan ? !std::isnan(mean[c])
                       : !(std::abs(static_cast<double>(mean[c]) - expected[c].value) <= expected[c].error))
                FAIL("channel " << c << ": " << mean[c] << " instead of " << expected[c].value);
        }
    }
}

TEST_CASE("Means over a grid of windows agree with double precision, on any map and any strides") {
    for (int i = 0; i < scaled(800); ++i) {
        rng r(402, static_cast<std::uint64_t>(i));
        const index_t grid = r.pick<index_t>({1, 2, 2, 2, 3, 7});
        const auto extent = [&] { return r.pick<index_t>({1, 1, 2, 3, 4, 5, 7, 8, 13, 14}); };
        const shape4 in{r.between(1, 3), r.pick<index_t>({1, 2, simd::lanes, simd::lanes + 3, 40}), extent(), extent()};
        frame x(r, in, r.chance(0.1) ? placement::broadcast : any_placement(r));
        x.fill(r);
        const index_t n = r.between(0, in.n - 1);
        constexpr float guard = 99.0F;
        std::vector<float> mean(static_cast<std::size_t>(in.c * grid * grid) + 1, guard),
            scratch(static_cast<std::size_t>(in.c) + 1, guard);
        adaptive_average(x.view(), n, grid, mean.data(), scratch.data());
        CHECK(mean.back() == guard);
        CHECK(scratch.back() == guard);
        const bounded_vector expected = pooled(x.view(), n, grid);
        KDNA_TEST_CASE_INFO(i, concat(to_string(in), ", grid ", grid));
        for (std::size_t j = 0; j < expected.size(); ++j)
            if (!(std::abs(static_cast<double>(mean[j]) - expected[j].value) <= expected[j].error))
                FAIL("mean " << j << ": " << mean[j] << " instead of " << expected[j].value);
    }
}

TEST_CASE("Windows of a grid overlap where they do not divide the map, and repeat where it is smaller") {
    const std::vector<float> map{1, 2, 3, 4, 5, 6, 7, 8, 9};
    float mean[4] = {}, scratch[1] = {};
    adaptive_average(nchw_view(map.data(), 1, 1, 3, 3), 0, 2, mean, scratch);
    CHECK(std::vector<float>(mean, mean + 4) == std::vector<float>{3, 4, 6, 7});
    adaptive_average(nchw_view(map.data(), 1, 1, 1, 1), 0, 2, mean, scratch);
    CHECK(std::vector<float>(mean, mean + 4) == std::vector<float>(4, 1.0F));
    adaptive_average(nchw_view(map.data(), 1, 1, 1, 3), 0, 2, mean, scratch);
    CHECK(std::vector<float>(mean, mean + 4) == std::vector<float>{1.5F, 2.5F, 1.5F, 2.5F});
}
