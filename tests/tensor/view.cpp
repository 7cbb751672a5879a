// Views and owning tensors.
#include <kdna/tensor/view.hpp>

#include <numeric>

#include <kdna/tensor/tensor.hpp>

#include "support/counting_resource.hpp"
#include "support/errors.hpp"
#include "support/frames.hpp"

using namespace kdna;
using kdna_test::check_error;

TEST_CASE("Views of dense memory name the elements of both orders") {
    std::vector<float> memory(2 * 3 * 4 * 5);
    std::iota(memory.begin(), memory.end(), 0.0F);
    const auto nchw = nchw_view(memory.data(), 2, 3, 4, 5);
    const auto nhwc = nhwc_view(memory.data(), 2, 3, 4, 5);
    CHECK(nchw(1, 2, 3, 4) == 119.0F);
    CHECK(nchw(1, 0, 2, 3) == 60.0F + 10.0F + 3.0F);
    CHECK(nhwc(1, 2, 3, 4) == 119.0F);
    CHECK(nhwc(1, 2, 0, 3) == 60.0F + 9.0F + 2.0F);
    CHECK(nchw.stride == strides4{60, 20, 5, 1});
    CHECK(nhwc.stride == strides4{60, 1, 15, 3});
}

TEST_CASE("Parts of a view name the same memory") {
    tensor<float> t({3, 5, 6, 7});
    std::iota(t.span().begin(), t.span().end(), 0.0F);
    const auto v = t.view();
    CHECK(v.samples(1, 2)(1, 2, 3, 4) == v(2, 2, 3, 4));
    CHECK(v.channels(2, 3)(0, 1, 3, 4) == v(0, 3, 3, 4));
    CHECK(v.crop(1, 2, 4, 5)(2, 4, 3, 4) == v(2, 4, 4, 6));
    CHECK(v.samples(1, 2).channels(2, 1).crop(5, 6, 1, 1).shape == shape4{2, 1, 1, 1});
    CHECK(v.samples(0, 3).shape == v.shape);
}

TEST_CASE("Parts that leave a view throw") {
    tensor<float> t({3, 5, 6, 7});
    const auto v = t.view();
    check_error([&] { static_cast<void>(v.samples(2, 2)); }, "samples", "[0, 3)", "[2, 2 + 2)");
    check_error([&] { static_cast<void>(v.samples(-1, 1)); }, "samples", "[0, 3)", "[-1, ");
    check_error([&] { static_cast<void>(v.samples(0, 0)); }, "samples", "[0, 3)", "0 + 0");
    check_error([&] { static_cast<void>(v.channels(5, 1)); }, "channels", "[0, 5)", "[5, ");
    check_error([&] { static_cast<void>(v.channels(1, std::numeric_limits<index_t>::max())); }, "channels", "[0, 5)",
                "[1, ");
    check_error([&] { static_cast<void>(v.crop(3, 0, 4, 7)); }, "crop rows", "[0, 6)", "[3, 3 + 4)");
    check_error([&] { static_cast<void>(v.crop(0, 7, 6, 1)); }, "crop columns", "[0, 7)", "[7, ");
}

TEST_CASE("Views of impossible shapes throw") {
    float x = 0.0F;
    const index_t huge = index_t{1} << 40;
    check_error([&] { static_cast<void>(nchw_view(&x, 1, 0, 1, 1)); }, "view", "extents >= 1", "C 0");
    check_error([&] { static_cast<void>(nhwc_view(&x, 1, 1, huge, huge)); }, "view", "fits in 64 bits", "");
    check_error([&] { tensor<float> t({1, 1, huge, huge}); }, "tensor", "fits in 64 bits", "");
    check_error([&] { tensor<float> t({-1, 1, 1, 1}); }, "tensor", "extents >= 1", "N -1");
}

TEST_CASE("A copy between any two strides keeps every element and nothing else") {
    using kdna_test::placement;
    for (int i = 0; i < kdna_test::scaled(300); ++i) {
        kdna_test::rng r(210, static_cast<std::uint64_t>(i));
        const shape4 s{r.between(1, 3), r.between(1, 6), r.between(1, 6), r.between(1, 6)};
        const auto any = [&] {
            return r.pick({placement::nchw, placement::nhwc, placement::padded_nchw, placement::padded_nhwc,
                           placement::permuted, placement::reversed});
        };
        kdna_test::frame from(r, s, any()), to(r, s, any());
        from.fill(r);
        to.assign(from.view());
        KDNA_TEST_CASE_INFO(i, to_string(s));
        if (!kdna_test::same_bits(kdna_test::values_of(from.view()), kdna_test::values_of(to.view())))
            FAIL("other values");
        if (!to.guards_intact()) FAIL("wrote outside");
    }
    float x = 0.0F;
    check_error([&] { copy(nchw_view(&x, 1, 1, 1, 1), nchw_view(&x, 1, 1, 2, 1)); }, "copy", "H 2", "H 1");
}

TEST_CASE("A tensor owns zeros of its shape and order, in the caller's memory resource") {
    kdna_test::counting_resource memory;
    {
        tensor<float> t({2, 3, 4, 5}, layout::nhwc, &memory);
        CHECK(memory.live_bytes == 480);
        CHECK(t.order() == layout::nhwc);
        CHECK(std::all_of(t.span().begin(), t.span().end(), [](float v) { return v == 0.0F; }));
        t(1, 2, 3, 4) = 7.0F;
        CHECK(t.view()(1, 2, 3, 4) == 7.0F);
        CHECK(t.data()[119] == 7.0F);
        const tensor<float> moved = std::move(t);
        CHECK(moved(1, 2, 3, 4) == 7.0F);
        CHECK(memory.allocations == 1);
    }
    CHECK(memory.live_bytes == 0);
}
