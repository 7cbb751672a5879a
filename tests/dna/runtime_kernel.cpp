// Kernels whose weights are an input: every weight where it belongs, and what is rejected.
#include <kdna/dna/runtime_kernel.hpp>

#include "support/errors.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;

TEST_CASE("A panel of a runtime kernel is that of the same kernel, packed") {
    for (int i = 0; i < scaled(200); ++i) {
        rng r(620, static_cast<std::uint64_t>(i));
        kernel_shape k{.o = r.between(1, 70), .i = r.between(1, 9), .kh = r.between(1, 5), .kw = r.between(1, 5)};
        if (r.chance(0.3)) k.groups = k.i, k.o = k.i * r.between(1, 3);
        const bool shared = k.o == k.i && k.groups == k.i && r.chance(0.5);
        const runtime_kernel source = shared                        ? runtime_kernel::shared(k.i, {k.kh, k.kw})
                                      : k.o == k.i && k.depthwise() ? runtime_kernel::depthwise(k.i, {k.kh, k.kw})
                                                                    : runtime_kernel::dense(k);
        REQUIRE(source.mixture_size() == (shared ? k.taps() : weight_count(k)));
        const std::vector<float> given = r.floats(source.mixture_size());
        std::vector<float> weights;
        for (index_t c = 0; c < (shared ? k.i : 1); ++c) weights.insert(weights.end(), given.begin(), given.end());
        const packed_kernel packed(k, weights);
        std::vector<float> scratch(static_cast<std::size_t>(source.scratch_floats()), -7.0F);
        const panel_layout& layout = source.layout();
        for (index_t g = 0; g < layout.groups(); ++g)
            for (index_t p = 0; p < layout.panels(); ++p) {
                const float* panel = source.panel(g, p, given.data(), scratch.data());
                REQUIRE(std::equal(panel, panel + layout.depth() * layout.width_of(p), packed.panel(g, p).floats()));
            }
        for (index_t o = 0; o < k.o; ++o)
            for (index_t c = 0; c < k.channels_per_group(); ++c)
                for (index_t t = 0; t < k.taps(); ++t)
                    REQUIRE(source.weight(o, c, t, given.data()) == static_cast<double>(packed.weight(o, c, t)));
    }
}

TEST_CASE("A runtime kernel keeps no weights") {
    int blocks = 0;
    runtime_kernel::shared(3, 11).for_each_storage([&](const void*, index_t) { ++blocks; });
    CHECK(blocks == 0);
}

TEST_CASE("A runtime kernel rejects shapes that are none, by name") {
    check_error([] { return runtime_kernel::dense({.o = 4, .i = 3, .kh = 0, .kw = 3}, "k"); }, "k",
                "extents and groups >= 1", "0x3");
    check_error([] { return runtime_kernel::dense({.o = 4, .i = 3, .kh = 3, .kw = 3, .groups = 2}, "k"); }, "k",
                "groups that divide", "groups 2");
    check_error([] { return runtime_kernel::depthwise(0, 3, "k"); }, "k", "extents and groups >= 1", "O 0");
    check_error([] { return runtime_kernel::shared(3, {5, -1}, "k"); }, "k", "extents and groups >= 1", "5x-1");
}
