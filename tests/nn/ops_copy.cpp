// Copies, and the operations that only move elements: every element of the result is the right one, bit for bit.
#include <limits>

#include <kdna/nn/ops/copy.hpp>
#include <kdna/nn/ops/pad.hpp>

#include "nn/moved_elements.hpp"
#include "support/errors.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// The result of an operation on numbered elements of x is source(index) of x for every index, or `otherwise` where that is
/// outside.
template <class Operation, class Source>
void copy_check(const Operation& op, rng& r, const nd_frame& x, const Source& source, float otherwise = 0.0F) {
    const nd_shape out = op.output_shape(std::vector{x.view().shape}, "op");
    std::vector<float> expected;
    for_each_index(out, [&](const axis_numbers& i) {
        const axis_numbers from = source(i);
        bool inside = true;
        for (index_t a = 0; a < x.view().rank(); ++a) {
            const index_t j = from[static_cast<std::size_t>(a)];
            inside = inside && j >= 0 && j < x.view().shape[a];
        }
        expected.push_back(inside ? element(x.view(), from) : otherwise);
    });
    const std::vector<float> found = result_of(op, r, {x.view()});
    if (found != expected) FAIL("other elements");
}

}  // namespace

TEST_CASE("A copy between views of a shape copies every element") {
    for (int i = 0; i < scaled(2500); ++i) {
        rng r(910, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(1, 5), 6, 70);
        const nd_frame x(r, s, source_placement(r)), y(r, s, any_nd_placement(r));
        number_elements(x);
        ops::copy(x.view(), y.view(), executor_ref());
        KDNA_TEST_CASE_INFO(i, to_string(s));
        if (values_of(x.view()) != values_of(y.view())) FAIL("other elements");
        if (!y.guards_intact()) FAIL("wrote outside");
        ops::fill(y.view(), 3.0F, executor_ref());
        if (values_of(y.view()) != std::vector<float>(values_of(y.view()).size(), 3.0F)) FAIL("not filled");
        if (!y.guards_intact()) FAIL("filled outside");
    }
}

TEST_CASE("Large transpositions and rows of all lengths are copied too") {
    for (int i = 0; i < scaled(200); ++i) {
        rng r(911, static_cast<std::uint64_t>(i));
        const nd_shape s{r.between(1, 2), r.between(1, 300), r.between(1, 20), r.between(1, 20)};
        const nd_frame x(r, s, r.pick({nd_placement::row_major, nd_placement::channels_last})),
            y(r, s, r.pick({nd_placement::row_major, nd_placement::channels_last}));
        number_elements(x);
        ops::copy(x.view(), y.view(), executor_ref());
        if (values_of(x.view()) != values_of(y.view())) FAIL("other elements of " << to_string(s));
    }
}

TEST_CASE("A copy to another shape whose axes have no common parts keeps the order of elements") {
    for (int i = 0; i < scaled(500); ++i) {
        rng r(918, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(2, 4), 7, 12), t = shape_of_as_many(r, s);
        // Gaps between all axes, so that none can be joined to another.
        const auto strides = [&](const nd_shape& of) {
            axis_numbers out{};
            index_t step = r.between(1, 2);
            for (index_t a = of.rank(); a-- > 0; step = step * of[a] + 1) out[static_cast<std::size_t>(a)] = step;
            return std::pair(out, step);
        };
        const auto [from, from_size] = strides(s);
        const auto [to, to_size] = strides(t);
        const std::vector<float> x = r.floats(from_size);
        std::vector<float> y(static_cast<std::size_t>(to_size), 0.0F);
        const nd_view<const float> source(x.data(), s, from);
        const nd_view<float> target(y.data(), t, to);
        ops::copy_elements(source, target, executor_ref());
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " to ", to_string(t)));
        if (values_of(source) != values_of(target)) FAIL("other elements");
    }
}

TEST_CASE("Shuffles move pixels to channels and back, and channels among each other") {
    for (int i = 0; i < scaled(1500); ++i) {
        rng r(913, static_cast<std::uint64_t>(i));
        const index_t f = r.between(1, 4), c = r.pick<index_t>({1, 2, 3, 5, 17}), h = r.between(1, 6),
                      w = r.between(1, 6), n = r.between(1, 2);
        const nd_frame x(r, {n, c * f * f, h, w}, source_placement(r)), y(r, {n, c, h * f, w * f}, source_placement(r));
        number_elements(x);
        number_elements(y);
        KDNA_TEST_CASE_INFO(i, concat(to_string(x.view().shape), ", factor ", f));
        copy_check(ops::pixel_shuffle(f), r, x, [&](const axis_numbers& k) {
            return axis_numbers{k[0], k[1] * f * f + k[2] % f * f + k[3] % f, k[2] / f, k[3] / f};
        });
        copy_check(ops::pixel_unshuffle(f), r, y, [&](const axis_numbers& k) {
            return axis_numbers{k[0], k[1] / (f * f), k[2] * f + k[1] / f % f, k[3] * f + k[1] % f};
        });
        const index_t groups = r.between(1, 5), each = r.pick<index_t>({1, 2, 3, 4, 7, 19});
        nd_shape s = any_nd_shape(r, r.between(2, 5), 4, 9);
        s[1] = groups * each;
        const nd_frame z(r, s, source_placement(r));
        number_elements(z);
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), ", groups ", groups));
        copy_check(ops::channel_shuffle(groups), r, z, [&](axis_numbers k) {
            k[1] = k[1] % groups * each + k[1] / groups;
            return k;
        });
    }
}

TEST_CASE("Padding is what its mode says on all axes") {
    for (int i = 0; i < scaled(1500); ++i) {
        rng r(917, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(1, 5), 4, 20);
        const auto mode = static_cast<ops::pad_mode>(r.between(0, 3));
        axis_numbers before{}, after{};
        for (index_t a = 0; a < s.rank(); ++a) {
            const index_t most = mode == ops::pad_mode::reflect    ? s[a] - 1
                                 : mode == ops::pad_mode::circular ? s[a]
                                                                   : 4,
                          least = mode == ops::pad_mode::constant && r.chance(0.2) ? -(s[a] - 1) / 2 : 0;
            const auto some = [&] { return r.chance(0.4) ? 0 : r.between(least, std::min<index_t>(most, 4)); };
            before[static_cast<std::size_t>(a)] = some();
            after[static_cast<std::size_t>(a)] = some();
        }
        const auto rank = static_cast<std::size_t>(s.rank());
        const ops::pad op{std::span(before).first(rank), std::span(after).first(rank), mode, 7.5F};
        const nd_frame x(r, s, source_placement(r));
        number_elements(x);
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " mode ", static_cast<int>(mode)));
        copy_check(
            op, r, x,
            [&](axis_numbers k) {
                for (std::size_t a = 0; a < rank; ++a) {
                    const index_t extent = s[static_cast<index_t>(a)];
                    index_t& j = k[a];
                    j -= before[a];
                    switch (mode) {
                        case ops::pad_mode::constant: break;
                        case ops::pad_mode::replicate: j = std::clamp<index_t>(j, 0, extent - 1); break;
                        case ops::pad_mode::circular: j = (j + extent) % extent; break;
                        case ops::pad_mode::reflect: j = j < 0 ? -j : j >= extent ? 2 * (extent - 1) - j : j; break;
                    }
                }
                return k;
            },
            7.5F);
    }
}

TEST_CASE("Operations that move elements refuse what does not fit, by name") {
    const auto shapes = [](std::initializer_list<nd_shape> s) { return std::vector<nd_shape>(s); };
    const nd_shape image{1, 6, 4, 4};
    constexpr index_t big = index_t{1} << 40;
    check_error([] { return ops::pixel_shuffle(0, "up"); }, "up", "factor >= 1", "0");
    check_error([] { return ops::pixel_shuffle(big, "up"); }, "up", "fits", "");
    check_error([&] { return ops::pixel_shuffle(2).output_shape(shapes({image}), "up"); }, "up", "multiple of 4",
                "[1, 6, 4, 4]");
    check_error([&] { return ops::pixel_shuffle(2).output_shape(shapes({{4, 4}}), "up"); }, "up", "rank 4", "[4, 4]");
    check_error([] { return ops::pixel_unshuffle(-1, "down"); }, "down", "factor >= 1", "-1");
    check_error([&] { return ops::pixel_unshuffle(3).output_shape(shapes({image}), "down"); }, "down", "multiples of 3",
                "[1, 6, 4, 4]");
    check_error([] { return ops::channel_shuffle(0, "shuffle"); }, "shuffle", "groups >= 1", "0");
    check_error([&] { return ops::channel_shuffle(4).output_shape(shapes({image}), "shuffle"); }, "shuffle", "4 groups",
                "[1, 6, 4, 4]");
    constexpr index_t most = std::numeric_limits<index_t>::max(), least = std::numeric_limits<index_t>::min();
    const auto pad = [](index_t before, index_t after, ops::pad_mode mode) {
        return ops::pad(std::span(&before, 1), std::span(&after, 1), mode, 0.0F, "pad");
    };
    check_error([&] { return pad(-1, 0, ops::pad_mode::reflect); }, "pad", ">= 0", "-1");
    check_error([&] { return pad(least, 0, ops::pad_mode::constant); }, "pad", ">= 0", "");
    check_error([&] { return pad(5, 0, ops::pad_mode::reflect).output_shape(shapes({{5}}), "pad"); }, "pad",
                "less than the 5", "5");
    check_error([&] { return pad(0, 6, ops::pad_mode::circular).output_shape(shapes({{5}}), "pad"); }, "pad",
                "at most the 5", "6");
    check_error([&] { return pad(-2, -3, ops::pad_mode::constant).output_shape(shapes({{5}}), "pad"); }, "pad", "left",
                "-2 and -3");
    check_error([&] { return pad(most, 1, ops::pad_mode::constant).output_shape(shapes({{5}}), "pad"); }, "pad", "fits",
                "");
    check_error([&] { return pad(1, 1, ops::pad_mode::constant).output_shape(shapes({image}), "pad"); }, "pad",
                "rank 1", "[1, 6, 4, 4]");
    const index_t two[] = {1, 1};
    check_error([&] { return ops::pad(two, std::span(two).first(1), ops::pad_mode::constant, 0.0F, "pad"); }, "pad",
                "before and after", "2 and 1");
}
