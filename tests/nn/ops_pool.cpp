// Pooling and resizing against PyTorch's formulas in double.
#include <limits>

#include <kdna/nn/ops/pool2d.hpp>
#include <kdna/nn/ops/resize.hpp>
#include <kdna/simd/lanes.hpp>

#include "support/errors.hpp"
#include "support/nd_frames.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// One axis of a window, as PyTorch's loops have it: the elements under it, and its extent with padding.
struct pool_reference_axis {
    std::vector<index_t> taps;
    index_t padded = 0;
};
pool_reference_axis pool_axis(index_t i, index_t in, index_t window, index_t stride, index_t before, index_t after,
                              index_t dilation) {
    pool_reference_axis out;
    const index_t start = i * stride - before;
    for (index_t k = 0; k < window; ++k)
        if (const index_t at = start + k * dilation; at >= 0 && at < in) out.taps.push_back(at);
    out.padded = std::min(start + window, in + after) - start;
    return out;
}
/// PyTorch's pooling_output_shape.
index_t pool_extent(index_t in, index_t window, index_t stride, index_t before, index_t after, index_t dilation,
                    bool ceil) {
    const double steps =
        static_cast<double>(in + before + after - dilation * (window - 1) - 1) / static_cast<double>(stride);
    index_t out = static_cast<index_t>(ceil ? std::ceil(steps) : std::floor(steps)) + 1;
    if (ceil && (out - 1) * stride >= in + before) --out;
    return out;
}

struct pooled_values {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0.0, absolute = 0.0;
};
pooled_values pool_values(const nd_view<const float>& x, const axis_numbers& i, const std::vector<index_t>& rows,
                          const std::vector<index_t>& columns) {
    pooled_values out;
    for (const index_t h : rows)
        for (const index_t w : columns) {
            const auto v = static_cast<double>(element(x, {i[0], i[1], h, w}));
            if (!std::isnan(out.largest)) out.largest = std::isnan(v) ? v : std::max(out.largest, v);
            out.sum += v;
            out.absolute += std::abs(v);
        }
    return out;
}
/// Additions row by row and over the rows, and a division.
double pool_sum_error(const pooled_values& v, std::size_t rows, std::size_t columns, double divisor) {
    return 0x1p-24 * static_cast<double>(rows + columns + 1) * v.absolute / std::abs(divisor) + 1e-44;
}

nd_shape pool_shape(rng& r, index_t most = 12) {
    return {r.between(1, 2), r.pick<index_t>({1, 2, 3, 4, simd::lanes, simd::lanes + 1, 4 * simd::lanes + 3, 33}),
            r.between(1, most), r.between(1, most)};
}

}  // namespace

TEST_CASE("Windows of all kinds are pooled as PyTorch pools them") {
    int ceiled = 0;
    for (int i = 0; i < scaled(2500); ++i) {
        rng r(920, static_cast<std::uint64_t>(i));
        const nd_shape s = pool_shape(r);
        ops::pool_window p;
        p.window = {r.between(1, 5), r.between(1, 5)};
        p.stride = {r.between(1, 4), r.between(1, 4)};
        const bool average = r.chance(0.5);
        if (!average && r.chance(0.5)) p.dilation = {r.between(1, 3), r.between(1, 3)};
        const auto side = [&](index_t window) { return r.chance(0.3) ? 0 : r.between(0, window / 2); };
        p.pad = r.chance(0.3) ? padding(r.between(0, p.window.h - 1), r.between(0, p.window.h - 1),
                                        r.between(0, p.window.w - 1), r.between(0, p.window.w - 1))
                              : padding(side(p.window.h), side(p.window.w));
        p.ceil_mode = r.chance(0.5);
        const extent2 reach{p.dilation.h * (p.window.h - 1) + 1, p.dilation.w * (p.window.w - 1) + 1};
        KDNA_TEST_CASE_INFO(
            i, concat(to_string(s), ", window ", p.window.h, "x", p.window.w, ", stride ", p.stride.h, "x", p.stride.w,
                      ", pad ", p.pad.top, " ", p.pad.bottom, " ", p.pad.left, " ", p.pad.right, ", dilation ",
                      p.dilation.h, "x", p.dilation.w, p.ceil_mode ? ", ceil" : ""));
        if (s[2] + p.pad.top + p.pad.bottom < reach.h || s[3] + p.pad.left + p.pad.right < reach.w) {
            check_error([&] { return ops::max_pool2d(p).output_shape(std::vector{s}, "pool"); }, "pool", "at least",
                        "");
            continue;
        }
        const nd_shape out{
            s[0], s[1], pool_extent(s[2], p.window.h, p.stride.h, p.pad.top, p.pad.bottom, p.dilation.h, p.ceil_mode),
            pool_extent(s[3], p.window.w, p.stride.w, p.pad.left, p.pad.right, p.dilation.w, p.ceil_mode)};
        CHECK(p.output_shape(std::vector{s}, "pool") == out);
        ops::pool_window floored = p;
        floored.ceil_mode = false;
        ceiled += floored.output_shape(std::vector{s}, "pool") == out ? 0 : 1;
        nd_frame x(r, s, any_nd_placement(r));
        x.fill(r, -2.0, -1.0);  // padding with zeros would win
        if (!average) x.spoil(r, r.between(0, 3));
        const bool count_pad = r.chance(0.5);
        const std::optional<index_t> divisor =
            r.chance(0.2) ? std::optional<index_t>(r.pick<index_t>({1, 3, -2})) : std::nullopt;
        bounded_result expected;
        for_each_index(out, [&](const axis_numbers& k) {
            const auto rows = pool_axis(k[2], s[2], p.window.h, p.stride.h, p.pad.top, p.pad.bottom, p.dilation.h);
            const auto columns = pool_axis(k[3], s[3], p.window.w, p.stride.w, p.pad.left, p.pad.right, p.dilation.w);
            const pooled_values v = pool_values(x.view(), k, rows.taps, columns.taps);
            if (!average) return expected.push_back(v.largest, 0.0);
            const double pixels = static_cast<double>(
                divisor.value_or(count_pad ? rows.padded * columns.padded
                                           : static_cast<index_t>(rows.taps.size() * columns.taps.size())));
            expected.push_back(v.sum / pixels, pool_sum_error(v, rows.taps.size(), columns.taps.size(), pixels));
        });
        check_result(average ? result_of(ops::avg_pool2d(p, count_pad, divisor), r, {x.view()})
                             : result_of(ops::max_pool2d(p), r, {x.view()}),
                     expected);
    }
    CHECK(ceiled > 0);
}

TEST_CASE("Adaptive windows share the map out as PyTorch does") {
    for (int i = 0; i < scaled(1500); ++i) {
        rng r(921, static_cast<std::uint64_t>(i));
        const nd_shape s = pool_shape(r, 14);
        const extent2 size{r.pick<index_t>({1, 1, 2, 3, 5, 7}), r.pick<index_t>({1, 1, 2, 3, 6, 8})};
        const nd_shape out{s[0], s[1], size.h, size.w};
        const bool average = r.chance(0.5);
        nd_frame x(r, s, r.chance(0.1) ? nd_placement::repeated : any_nd_placement(r));
        x.fill(r, -2.0, 1.0);
        if (!average) x.spoil(r, r.between(0, 3));
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " to ", size.h, "x", size.w));
        const auto taps = [](index_t k, index_t in, index_t n) {
            std::vector<index_t> at;
            const auto first = std::floor(static_cast<double>(k * in) / static_cast<double>(n)),
                       last = std::ceil(static_cast<double>((k + 1) * in) / static_cast<double>(n));
            for (auto j = static_cast<index_t>(first); j < static_cast<index_t>(last); ++j) at.push_back(j);
            return at;
        };
        bounded_result expected;
        for_each_index(out, [&](const axis_numbers& k) {
            const auto rows = taps(k[2], s[2], size.h), columns = taps(k[3], s[3], size.w);
            const pooled_values v = pool_values(x.view(), k, rows, columns);
            const auto pixels = static_cast<double>(rows.size() * columns.size());
            expected.push_back(average ? v.sum / pixels : v.largest,
                               average ? pool_sum_error(v, rows.size(), columns.size(), pixels) : 0.0);
        });
        CHECK(ops::adaptive_avg_pool2d(size).output_shape(std::vector{s}, "pool") == out);
        check_result(average ? result_of(ops::adaptive_avg_pool2d(size), r, {x.view()})
                             : result_of(ops::adaptive_max_pool2d(size), r, {x.view()}),
                     expected);
    }
}

TEST_CASE("Images are resized by PyTorch's index formulas") {
    for (int i = 0; i < scaled(2500); ++i) {
        rng r(922, static_cast<std::uint64_t>(i));
        nd_shape s = pool_shape(r, 9);
        // Some are wider than the blocks that are transposed into an NCHW output.
        const bool wide = r.chance(0.04);
        if (wide) s = {1, r.between(28, 70), r.between(1, 3), r.between(2, 9)};
        const bool linear = r.chance(0.6), align = linear && r.chance(0.4), scaled_size = r.chance(0.5);
        const auto mode = linear ? ops::resize_mode::bilinear : ops::resize_mode::nearest;
        std::array<double, 2> scale{};
        nd_shape out = s;
        for (std::size_t a = 0; a < 2; ++a) {
            index_t& extent = out[static_cast<index_t>(a) + 2];
            scale[a] = r.chance(0.5) ? r.pick({2.0, 1.0, 0.5, 3.0, 1.5}) : r.real(0.3, 3.0);
            if (scaled_size && std::floor(static_cast<double>(extent) * scale[a]) < 1.0) scale[a] = 1.0;
            extent = scaled_size ? static_cast<index_t>(std::floor(static_cast<double>(extent) * scale[a]))
                     : wide      ? r.between(60, 140) / (a == 0 ? 30 : 1)
                                 : r.between(1, 17);
        }
        const ops::resize op =
            scaled_size ? ops::resize(mode, scale, align) : ops::resize(mode, extent2(out[2], out[3]), align);
        KDNA_TEST_CASE_INFO(
            i, concat(to_string(s), " to ", to_string(out), linear ? " bilinear" : " nearest", align ? ", aligned" : "",
                      scaled_size ? concat(" by ", scale[0], " ", scale[1]) : std::string()));
        CHECK(op.output_shape(std::vector{s}, "op") == out);
        nd_frame x(r, s, any_nd_placement(r));
        x.fill(r, -2.0, 2.0);
        // Where an element comes from, and the share of its neighbour.
        const auto source = [&](index_t k, std::size_t a) {
            const index_t in = s[static_cast<index_t>(a) + 2], size = out[static_cast<index_t>(a) + 2];
            float f =
                scaled_size ? static_cast<float>(1.0 / scale[a]) : static_cast<float>(in) / static_cast<float>(size);
            if (!linear)
                return std::pair(static_cast<double>(std::min<index_t>(
                                     static_cast<index_t>(std::floor(static_cast<float>(k) * f)), in - 1)),
                                 0.0);
            if (in == size) return std::pair(static_cast<double>(k), 0.0);
            if (align) f = size > 1 ? static_cast<float>(in - 1) / static_cast<float>(size - 1) : 0.0F;
            const double at = align ? static_cast<double>(f) * static_cast<double>(k)
                                    : std::max(static_cast<double>(f) * (static_cast<double>(k) + 0.5) - 0.5, 0.0);
            return std::pair(std::min(at, static_cast<double>(in - 1)), 4e-7 * (at + 1.0));
        };
        bounded_result expected;
        for_each_index(out, [&](const axis_numbers& k) {
            const auto [h, h_error] = source(k[2], 0);
            const auto [w, w_error] = source(k[3], 1);
            const auto at = [&](double row, double column) {
                return static_cast<double>(element(x.view(), {k[0], k[1], std::min(static_cast<index_t>(row), s[2] - 1),
                                                              std::min(static_cast<index_t>(column), s[3] - 1)}));
            };
            const double top = std::floor(h), left = std::floor(w), b = h - top, a = w - left;
            const double value = (1 - b) * ((1 - a) * at(top, left) + a * at(top, left + 1)) +
                                 b * ((1 - a) * at(top + 1, left) + a * at(top + 1, left + 1));
            // Elements are up to 2, so that a position that is off by e changes the result by up to 4 e.
            expected.push_back(value, linear ? 4.0 * (h_error + w_error) + 6 * 0x1p-24 * 2.0 : 0.0);
        });
        check_result(result_of(op, r, {x.view()}), expected);
    }
}

TEST_CASE("Known resizes come out as PyTorch's documentation has them") {
    const std::vector<float> image{1, 2, 3, 4};
    const auto resized = [&](const ops::resize& op) {
        rng r(923, 0);
        return result_of(op, r, {row_major_view(image.data(), {1, 1, 2, 2})});
    };
    CHECK(resized({ops::resize_mode::nearest, std::array{2.0, 2.0}}) ==
          std::vector<float>{1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4});
    CHECK(
        resized({ops::resize_mode::bilinear, std::array{2.0, 2.0}}) ==
        std::vector<float>{1, 1.25F, 1.75F, 2, 1.5F, 1.75F, 2.25F, 2.5F, 2.5F, 2.75F, 3.25F, 3.5F, 3, 3.25F, 3.75F, 4});
    const std::vector<float> aligned = resized({ops::resize_mode::bilinear, extent2(4), true});
    const double documented[] = {1.0,    1.3333, 1.6667, 2.0,    1.6667, 2.0,    2.3333, 2.6667,
                                 2.3333, 2.6667, 3.0,    3.3333, 3.0,    3.3333, 3.6667, 4.0};
    for (std::size_t i = 0; i < 16; ++i) CHECK(std::abs(static_cast<double>(aligned[i]) - documented[i]) < 1e-4);
}

TEST_CASE("Pooling and resizing refuse what does not fit, by name") {
    const std::vector<nd_shape> image{{1, 3, 4, 4}}, matrix{{3, 4}};
    constexpr index_t big = index_t{1} << 31;
    check_error([] { return ops::max_pool2d({.window = 0}, "p"); }, "p", "window, stride and dilation from 1", "0");
    check_error(
        [] {
            return ops::max_pool2d({.window = 2, .stride = {1, big}}, "p");
        },
        "p", "to 2^31 - 1", "2147483648");
    check_error([] { return ops::max_pool2d({.window = 2, .pad = 2}, "p"); }, "p", "less than the window's 2x2",
                "2, 2, 2, 2");
    check_error([] { return ops::max_pool2d({.window = 2, .pad = {0, 0, -1, 0}}, "p"); }, "p", "padding from 0", "-1");
    check_error([&] { return ops::max_pool2d({.window = 5}).output_shape(image, "p"); }, "p", "at least 5", "4");
    check_error([&] { return ops::max_pool2d({.window = 2}).output_shape(matrix, "p"); }, "p", "rank 4", "[3, 4]");
    check_error([] { return ops::avg_pool2d({.window = 2, .dilation = 2}, true, {}, "p"); }, "p", "no dilation", "2x2");
    check_error([] { return ops::avg_pool2d({.window = 2}, true, 0, "p"); }, "p", "divisor", "0");
    check_error([] { return ops::adaptive_avg_pool2d({1, 0}, "p"); }, "p", "a size from 1", "0");
    check_error([&] { return ops::adaptive_max_pool2d(1).output_shape(matrix, "p"); }, "p", "rank 4", "[3, 4]");
    const auto m = ops::resize_mode::bilinear;
    check_error([&] { return ops::resize(m, extent2(0, 1), false, "r"); }, "r", "a size from 1", "0");
    check_error([&] { return ops::resize(m, std::array{1.0, 0.0}, false, "r"); }, "r", "positive and finite", "0");
    check_error(
        [&] {
            return ops::resize(m, std::array{1.0, std::numeric_limits<double>::infinity()}, false, "r");
        },
        "r", "positive and finite", "inf");
    check_error(
        [&] {
            return ops::resize(m, std::array{std::nan(""), 1.0}, false, "r");
        },
        "r", "positive and finite", "nan");
    check_error([] { return ops::resize(ops::resize_mode::nearest, extent2(2), true, "r"); }, "r", "bilinear",
                "nearest");
    check_error(
        [&] {
            return ops::resize(m, std::array{0.1, 1.0}).output_shape(image, "r");
        },
        "r", "extents from 1", "4 times 0.1");
    check_error(
        [&] {
            return ops::resize(m, std::array{1e30, 1.0}).output_shape(image, "r");
        },
        "r", "extents from 1", "4 times");
    check_error(
        [&] {
            return ops::resize(m, extent2(big - 1)).output_shape(std::vector{nd_shape{4, 4, 4, 4}}, "r");
        },
        "r", "fits", "");
}
