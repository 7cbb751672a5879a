// Shapes, output extents, and arithmetic that throws instead of overflowing.
#include <kdna/core/shape.hpp>

#include <limits>

#include "support/errors.hpp"
#include "support/random.hpp"

using namespace kdna;
using kdna_test::check_error;

namespace {
constexpr index_t most = std::numeric_limits<index_t>::max();
constexpr index_t huge = index_t{1} << 40;
}  // namespace

TEST_CASE("Checked products and sums throw instead of overflowing") {
    CHECK(checked_mul(0, most, "x") == 0);
    CHECK(checked_mul(most, 0, "x") == 0);
    CHECK(checked_mul(1, most, "x") == most);
    CHECK(checked_mul(huge, 1 << 22, "x") == index_t{1} << 62);
    CHECK(checked_add(most - 1, 1, "x") == most);
    check_error([] { return checked_mul(huge, huge, "here"); }, "here", "a product that fits",
                concat(huge, " * ", huge));
    check_error([] { return checked_mul(most / 2 + 1, 2, "here"); }, "here", "a product that fits", " * 2");
    check_error([] { return checked_add(most, 1, "here"); }, "here", "a sum that fits", " + 1");
    check_error([] { return checked_mul(-1, 2, "here"); }, "here", ">= 0", "-1 and 2");
    check_error([] { return checked_add(1, -2, "here"); }, "here", ">= 0", "1 and -2");
}

TEST_CASE("Element counts need positive extents and a product that fits") {
    CHECK(element_count({2, 3, 4, 5}) == 120);
    check_error([] { return element_count({0, 3, 4, 5}, "x"); }, "x", "extents >= 1", "(N 0, C 3, H 4, W 5)");
    check_error([] { return element_count({1, -3, 4, 5}, "x"); }, "x", "extents >= 1", "C -3");
    check_error([] { return element_count({1, 1, huge, huge}, "x"); }, "x", "fits in 64 bits", " * ");
    check_error([] { return element_count({huge, 1 << 20, 8, 1}, "x"); }, "x", "fits in 64 bits", " * ");
}

TEST_CASE("Weight counts need positive extents, groups that divide the channels, and a product that fits") {
    CHECK(weight_count({.o = 6, .i = 4, .kh = 3, .kw = 5, .groups = 2}) == 6 * 2 * 15);
    check_error([] { return weight_count({.o = 0}, "k"); }, "k", "extents and groups >= 1", "O 0");
    check_error([] { return weight_count({.kh = -1}, "k"); }, "k", "extents and groups >= 1", "-1x1");
    check_error([] { return weight_count({.groups = 0}, "k"); }, "k", "extents and groups >= 1", "groups 0");
    check_error([] { return weight_count({.o = 4, .i = 6, .groups = 4}, "k"); }, "k", "groups that divide", "groups 4");
    check_error([] { return weight_count({.o = 6, .i = 4, .groups = 4}, "k"); }, "k", "groups that divide", "O 6");
    check_error([] { return weight_count({.o = huge, .i = huge}, "k"); }, "k", "fits in 64 bits", " * ");
    check_error([] { return weight_count({.o = 1 << 20, .i = 1 << 20, .kh = 1 << 20, .kw = 1 << 20}, "k"); }, "k",
                "fits in 64 bits", " * ");
}

TEST_CASE("A kernel is depthwise only with one filter for each of several channels") {
    CHECK(kernel_shape{.o = 8, .i = 8, .groups = 8}.depthwise());
    CHECK_FALSE(kernel_shape{.o = 16, .i = 8, .groups = 8}.depthwise());
    CHECK_FALSE(kernel_shape{.o = 8, .i = 8, .groups = 4}.depthwise());
    CHECK_FALSE(kernel_shape{}.depthwise());
}

TEST_CASE("An output extent is the number of places where the window fits") {
    for (int i = 0; i < kdna_test::scaled(2000); ++i) {
        kdna_test::rng r(200, static_cast<std::uint64_t>(i));
        const index_t in = r.between(1, 20), k = r.between(1, 7), stride = r.between(1, 4), before = r.between(0, 4),
                      after = r.between(0, 4), dilation = r.between(1, 3);
        index_t places = 0;
        for (index_t at = -before; at + dilation * (k - 1) < in + after; at += stride) ++places;
        if (places > 0) {
            if (output_extent(in, k, stride, before, after, dilation, "x") != places) FAIL("case " << i);
        } else {
            check_error([&] { return output_extent(in, k, stride, before, after, dilation, "x"); }, "x",
                        concat("at least ", dilation * (k - 1) + 1), concat(in + before + after));
        }
    }
}

TEST_CASE("Output extents reject windows and steps that are none, and sums that do not fit") {
    check_error([] { return output_extent(0, 1, 1, 0, 0, 1, "x"); }, "x", "extents >= 1", "input 0, window 1");
    check_error([] { return output_extent(4, 0, 1, 0, 0, 1, "x"); }, "x", "extents >= 1", "window 0");
    check_error([] { return output_extent(4, 1, 0, 0, 0, 1, "x"); }, "x", "stride and dilation >= 1", "stride 0");
    check_error([] { return output_extent(4, 1, 1, 0, 0, 0, "x"); }, "x", "stride and dilation >= 1", "dilation 0");
    check_error([] { return output_extent(4, 1, 1, -1, 0, 1, "x"); }, "x", ">= 0", "-1");
    check_error([] { return output_extent(most, 1, 1, 1, 0, 1, "x"); }, "x", "a sum that fits", "");
    check_error([] { return output_extent(4, 1, 1, most, most, 1, "x"); }, "x", "a sum that fits", "");
    check_error([] { return output_extent(4, huge, 1, 0, 0, huge, "x"); }, "x", "a product that fits", "");
}

TEST_CASE("The output shape of a convolution names the layer in every error") {
    const kernel_shape k{.o = 8, .i = 3, .kh = 3, .kw = 3};
    CHECK(output_shape({2, 3, 9, 7}, k, {.stride = 2, .pad = {1, 0, 0, 1}}) == shape4{2, 8, 4, 3});
    check_error([&] { return output_shape({2, 4, 9, 7}, k, {}, "stem"); }, "stem", "an input of 3 channels", "C 4");
    check_error([&] { return output_shape({2, 3, 2, 7}, k, {}, "stem"); }, "stem", "an input of at least 3", "2");
    check_error([&] { return output_shape({0, 3, 9, 7}, k, {}, "stem"); }, "stem", "extents >= 1", "N 0");
    check_error([&] { return output_shape({1, 3, huge, huge}, k, {}, "stem"); }, "stem", "fits in 64 bits", "");
    check_error(
        [&] {
            return output_shape({1, 1, 1 << 20, 1 << 20}, {.o = huge, .i = 1}, {}, "stem");
        },
        "stem", "fits in 64 bits", "");
}

TEST_CASE("One number stands for both axes of a step and all sides of a padding") {
    CHECK(extent2(3) == extent2(3, 3));
    CHECK(padding(2) == padding(2, 2, 2, 2));
    CHECK(padding(1, 2) == padding(1, 1, 2, 2));
}
