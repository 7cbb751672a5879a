// The order of packed weights.
#include <kdna/tensor/packed_kernel.hpp>

#include <atomic>
#include <limits>
#include <set>
#include <thread>
#include <vector>

#include "support/errors.hpp"
#include "support/number_formats.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::check_error;

TEST_CASE("Every weight has a place of its own inside its panel, and the rest are zeros") {
    for (int i = 0; i < kdna_test::scaled(400); ++i) {
        kdna_test::rng r(220, static_cast<std::uint64_t>(i));
        kernel_shape k{
            .o = r.between(1, 5 * simd::lanes), .i = r.between(1, 9), .kh = r.between(1, 3), .kw = r.between(1, 3)};
        if (r.chance(0.5)) {
            k.groups = r.between(2, 4);
            k.o = k.groups * r.between(1, 3 * simd::lanes);
            k.i = k.groups * r.between(1, 4);
        } else if (r.chance(0.4)) {
            k.i = k.groups = k.o;
        }
        KDNA_TEST_CASE_INFO(i, to_string(k));
        const auto weights = r.floats(weight_count(k), 0.5, 1.5);
        const packed_kernel packed(k, weights);
        const panel_layout& l = packed.layout();
        std::set<index_t> used;
        for (index_t o = 0; o < k.o; ++o)
            for (index_t c = 0; c < k.channels_per_group(); ++c)
                for (index_t t = 0; t < k.taps(); ++t) {
                    const index_t at = l.offset_of(o, c, t);
                    if (at < 0 || at >= l.floats()) FAIL("outside");
                    used.insert(at);
                    const auto flat = static_cast<std::size_t>((o * k.channels_per_group() + c) * k.taps() + t);
                    if (packed.weight(o, c, t) != weights[flat]) FAIL("another weight");
                }
        if (static_cast<index_t>(used.size()) != weight_count(k)) FAIL("two weights in one place");
        index_t widths = 0;
        for (index_t p = 0; p < l.panels(); ++p) {
            if (l.width_of(p) < l.filters_of(p) || l.width_of(p) % simd::lanes != 0) FAIL("panel width");
            widths += l.width_of(p);
        }
        if (widths * l.depth() * l.groups() != l.floats()) FAIL("panels do not fill the storage");
        for (index_t at = 0; at < l.floats(); ++at)
            if (!used.contains(at) && packed.panel(0, 0)[at] != 0.0F) FAIL("padding is not zero");
        CHECK(packed.bytes() == 4 * l.floats());
    }
}

TEST_CASE(
    "A kernel in 16 bits takes half the memory, before and after it is packed, and gives its rounded weights back") {
    rng r(222, 0);
    const kernel_shape k{.o = 3 * simd::lanes, .i = 16, .kh = 3, .kw = 3};
    const auto weights = r.floats(weight_count(k), -1, 1);
    for (const number_format format : {number_format::float16, number_format::bfloat16}) {
        const packed_kernel kernel(k, weights, "conv1", format);
        const auto rounded = rounded_to(format, weights);
        CHECK(rounded != weights);
        std::vector<float> copy(weights.size());
        for (const bool packed : {false, true}) {
            if (packed) kernel.prepare();
            kernel.copy_weights(copy);
            CHECK(copy == rounded);
            CHECK(kernel.bytes() == 2 * static_cast<index_t>(weights.size()));
        }
        CHECK(kernel.weight(5, 7, 4) == rounded[(5 * 16 + 7) * 9 + 4]);
    }
}

TEST_CASE("A weight that a format cannot hold is refused, an infinite one is not") {
    const kernel_shape k{.o = 2};
    const std::vector<float> large{1.0F, 65520.0F}, infinite{INFINITY, NAN};
    check_error([&] { packed_kernel(k, large, "conv1.weight", number_format::float16); }, "conv1.weight",
                "within the range of float16", "65520");
    CHECK(packed_kernel(k, large, "conv1.weight", number_format::bfloat16).weight(1, 0, 0) == 65536.0F);
    const packed_kernel kept(k, infinite, "conv1.weight", number_format::float16);
    CHECK(kept.weight(0, 0, 0) == INFINITY);
    CHECK(std::isnan(kept.weight(1, 0, 0)));
}

TEST_CASE("Packing rejects what is not the kernel's weights") {
    const std::vector<float> weights(18);
    check_error([&] { packed_kernel({.o = 2, .i = 1, .kh = 3, .kw = 4}, weights, "conv1.weight"); }, "conv1.weight",
                "24 weights for (O 2, I 1, 3x4)", "18");
    check_error([&] { packed_kernel({.o = 3, .i = 2, .kh = 3, .kw = 1, .groups = 2}, weights, "dw"); }, "dw",
                "groups that divide", "O 3");
    check_error([&] { packed_kernel({.o = index_t{1} << 40, .i = index_t{1} << 40}, weights, "w"); }, "w",
                "fits in 64 bits", "");
    check_error([&] { packed_kernel({.o = 0}, weights, "w"); }, "w", "extents and groups >= 1", "O 0");
}

TEST_CASE("The layout of a kernel too large to pad throws instead of overflowing") {
    const index_t most = std::numeric_limits<index_t>::max();
    check_error([&] { panel_layout({.o = most}); }, "panel_layout", "fits in 64 bits", "");
    check_error([&] { panel_layout({.o = 1, .i = most / 2}); }, "panel_layout", "fits in 64 bits", "");
}

TEST_CASE("Weights can be copied before and after they are packed, by several threads while one of them packs",
          "[threads]") {
    kdna_test::rng r(221, 0);
    const kernel_shape k{.o = 5 * simd::lanes + 3, .i = 16, .kh = 3, .kw = 3};
    const auto weights = r.floats(weight_count(k), -1, 1);
    const auto floats = static_cast<index_t>(weights.size());
    for (int repeat = 0; repeat < 20; ++repeat) {
        const packed_kernel kernel(k, weights);
        CHECK(kernel.bytes() == 4 * floats);
        std::vector<std::thread> threads;
        std::atomic<int> wrong{0};
        for (int i = 0; i < 4; ++i)
            threads.emplace_back([&, i] {
                std::vector<float> copy(weights.size());
                if (i == 1) kernel.prepare();
                if (i == 2 && kernel.weight(1, 2, 3) != weights[static_cast<std::size_t>((1 * 16 + 2) * 9 + 3)])
                    ++wrong;
                kernel.copy_weights(copy);
                if (copy != weights) ++wrong;
            });
        for (std::thread& t : threads) t.join();
        CHECK(wrong == 0);
        CHECK(kernel.bytes() == 4 * kernel.layout().floats());
    }
}
