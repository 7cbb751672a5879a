// What a parent and its children have in common: one kernel in memory, and the laws of the adapters.
#include <optional>
#include <set>

#include "support/errors.hpp"
#include "support/explanation.hpp"
#include "support/run_case.hpp"
#include "support/storages.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

std::vector<float> output(const auto& layer, const frame& x, conv::input_order order = conv::input_order::any) {
    return values_of(layer(x.view(), {}, {.order = order}));
}

/// Gates that are exactly one: fc2 is zero and sigmoid(40) is one in float.
squeeze_excite open_gates(rng& r, index_t channels) {
    auto se = se_tensors::random(r, channels, 3);
    std::fill(se.fc2.begin(), se.fc2.end(), 0.0F);
    std::fill(se.fc2_bias.begin(), se.fc2_bias.end(), 40.0F);
    return gate_of(se);
}

kernel_shape random_kernel(rng& r, index_t extent) {
    kernel_shape k{.o = r.between(1, 40), .i = r.between(1, 40), .kh = extent, .kw = extent};
    if (r.chance(0.3)) k.groups = k.o = k.i;
    return k;
}

}  // namespace

TEST_CASE("Zero adapters and gates of one give the parent, bit by bit") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(320, static_cast<std::uint64_t>(i));
        const kernel_shape k = random_kernel(r, r.pick<index_t>({1, 3, 5}));
        const auto parent = parent_kernel::pack(k, r.floats(weight_count(k)));
        const auto bn = bn_tensors::random(r, k.o);
        const conv_params params{.stride = r.between(1, 2), .pad = k.kh / 2};
        const conv_options options{.bn = view_of(bn), .act = r.pick({activation::none, activation::relu})};
        const std::vector<float> zeros(static_cast<std::size_t>(std::max(k.o, k.taps())), 0.0F);
        const auto zero = [&](index_t n) { return std::span(zeros).first(static_cast<std::size_t>(n)); };
        const static_adapter none{.spatial = zero(k.taps() > 1 ? k.taps() : 0), .filter = zero(k.o)};
        frame x(r, {2, k.i, 7, 6}, r.pick({placement::nhwc, placement::padded_nhwc}));
        x.fill(r);
        KDNA_TEST_CASE_INFO(i, to_string(k));
        for (const auto order : {conv::input_order::any, conv::input_order::nhwc}) {
            const auto expected = output(conv2d(parent, params, options), x, order);
            if (!same_bits(expected, output(conv2d(parent.child(none), params, options), x, order)))
                FAIL("zero adapters");
            if (!same_bits(expected, output(conv2d(parent, params, options, open_gates(r, k.i)), x, order)))
                FAIL("open gates");
            if (!same_bits(expected, output(conv2d(parent.child(none), params, options, open_gates(r, k.i)), x, order)))
                FAIL("both");
        }
    }
}

TEST_CASE("A shared kernel gives what its expanded copy gives") {
    for (int i = 0; i < scaled(400); ++i) {
        rng r(321, static_cast<std::uint64_t>(i));
        conv_case c;
        c.kernel = random_kernel(r, r.pick<index_t>({1, 2, 3}));
        c.params = {.stride = r.between(1, 2), .pad = c.kernel.kh / 2};
        c.in = {1, c.kernel.i, 6, 5};
        randomise_call(r, c);
        randomise_tensors(r, c);
        c.residual = false;
        frame x(r, c.in, c.x_at);
        x.fill(r);
        const auto tolerance = expected(c, x.view(), {}).float_tolerance;
        const auto layer = make_layer<method::plain, backend::cpu>(c);
        const auto shared = output(layer, x, c.order);
        const index_t taps = c.kernel.taps(), per_filter = c.kernel.channels_per_group() * taps;
        for (std::size_t j = 0; j < c.weights.size(); ++j) {
            if (!c.spatial.empty()) c.weights[j] *= 1.0F + c.spatial[j % static_cast<std::size_t>(taps)];
            if (!c.filter.empty()) c.weights[j] *= 1.0F + c.filter[j / static_cast<std::size_t>(per_filter)];
        }
        c.spatial.clear();
        c.filter.clear();
        const auto expanded = output(make_layer<method::plain, backend::cpu>(c), x, c.order);
        const std::vector<double> value(expanded.begin(), expanded.end());
        KDNA_TEST_CASE_INFO(i, c.describe());
        const double worst =
            worst_error(shared, value, tolerance, kdna_test::explanation_of(layer, c.in, {.order = c.order}));
        if (!(worst <= 2.0)) FAIL("error of " << worst << " tolerances");
    }
}

TEST_CASE("All children of a parent keep one copy of its weights") {
    rng r(322, 0);
    const kernel_shape k{.o = 32, .i = 32, .kh = 3, .kw = 3};
    const auto parent = parent_kernel::pack(k, r.floats(weight_count(k)));
    const auto spatial = r.floats(9), filter = r.floats(32);
    const conv2d own(parent, {.pad = 1});
    const conv2d first(parent.child({.spatial = spatial}), {.pad = 1}, {}, gate_of(se_tensors::random(r, 32, 8)));
    const conv2d second(parent.child({.spatial = spatial, .filter = filter}), {.pad = 1}, {},
                        gate_of(se_tensors::random(r, 32, 8)));
    const conv2d copy = second;
    std::set<const void*> common;
    index_t weights = 0;
    own.for_each_storage([&](const void* address, index_t bytes) {
        if (bytes >= 4 * weight_count(k)) {
            common.insert(address);
            weights = bytes;
        }
    });
    REQUIRE(common.size() == 1);
    CHECK(weights <= 4 * (weight_count(k) + 2 * simd::lanes * 32 * 9));
    for (const auto& of : {storages(first), storages(second), storages(copy)}) CHECK(of.contains(*common.begin()));
    second.for_each_storage([&](const void* address, index_t bytes) {
        if (!common.contains(address)) CHECK(bytes < 4 * weight_count(k) / 4);  // adapter, BatchNorm and gate
    });
}

TEST_CASE("Children live on without their parent's handle and layer") {
    rng r(323, 0);
    const kernel_shape k{.o = 17, .i = 9, .kh = 3, .kw = 3};
    const auto weights = r.floats(weight_count(k)), spatial = r.floats(9);
    frame x(r, {1, 9, 5, 5}, placement::nchw);
    x.fill(r);
    std::optional<parent_kernel> parent = parent_kernel::pack(k, weights);
    std::optional<conv2d<>> own(std::in_place, *parent, conv_params{.pad = 1});
    const conv2d child(parent->child({.spatial = spatial}), {.pad = 1}, {});
    const auto before = output(child, x);  // used before the parent's own layer
    static_cast<void>(output(*own, x));
    own.reset();
    parent.reset();
    CHECK(same_bits(before, output(child, x)));
}

TEST_CASE("Spans given to a constructor are not needed afterwards") {
    rng r(324, 0);
    conv_case c;
    c.kind = method::gated;
    c.kernel = {.o = 12, .i = 9, .kh = 3, .kw = 3};
    c.params = {.pad = 1};
    c.in = {1, 9, 5, 5};
    randomise_tensors(r, c);
    frame x(r, c.in, placement::nchw);
    x.fill(r);
    const auto before = output(make_layer<method::gated, backend::cpu>(c), x);
    const auto layer = [&c] {
        const auto temporary = std::make_unique<conv_case>(c);
        return make_layer<method::gated, backend::cpu>(*temporary);
    }();
    CHECK(same_bits(before, output(layer, x)));
}
