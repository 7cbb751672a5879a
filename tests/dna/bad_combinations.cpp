// Sources, routers and adapters that do not go together: errors when a layer is made, which name what does not fit.
#include <limits>

#include "support/conv_cases.hpp"
#include "support/errors.hpp"
#include "support/ones.hpp"

using namespace kdna;
using kdna_test::bn_of_ones;
using kdna_test::check_error;
using kdna_test::ones;
using kdna_test::rng;

namespace {

const kernel_shape k33{.o = 6, .i = 4, .kh = 3, .kw = 3}, k11{.o = 6, .i = 4};
const conv_options named{.name = "c"};

/// ODConv's router with heads as long as asked for, 0 for none.
odconv_router odconv(index_t channels, index_t filters, index_t taps, index_t n) {
    const auto head = [](index_t outputs) { return linear_weights{ones(2 * outputs), ones(outputs)}; };
    return odconv_router({.fc = ones(2 * channels),
                          .bn = bn_of_ones(2),
                          .channel = head(channels),
                          .filter = head(filters),
                          .spatial = head(taps),
                          .kernel = head(n)});
}
dense_kernel dense(const kernel_shape& k) { return dense_kernel::pack(k, ones(weight_count(k))); }
mixture_kernel mixture(index_t n, const kernel_shape& k) {
    return mixture_kernel::pack(n, k, ones(n * weight_count(k)));
}

/// A DCD layer's tensors for C 4, O 6, L 2, sq 3.
dcd_weights dcd_tensors_of(index_t filters = 6, index_t channels = 4) {
    return {.squeeze = ones(3 * channels),
            .gate = ones(9),
            .phi = ones(12),
            .scale = ones(3 * filters),
            .q = ones(2 * channels),
            .p = ones(2 * filters),
            .bn1 = bn_of_ones(2),
            .bn2 = bn_of_ones(2)};
}

/// Reads a grid of any size and routes channel gates.
struct grid_router {
    using optional_members = members<member::pool_grid>;

    index_t grid;
    [[nodiscard]] index_t pool_grid() const { return grid; }
    [[nodiscard]] static index_t input_channels() { return 4; }
    [[nodiscard]] static route_widths widths() { return {.channel = 4}; }
    [[nodiscard]] static index_t scratch_floats() { return 0; }
    void operator()(const float*, const route& out, float*) const noexcept { std::fill_n(out.channel, 4, 1.0F); }
};

}  // namespace

TEST_CASE("Spatial factors on a 1x1 kernel are an error, routed or not") {
    check_error([] { return conv2d(dense(k11), {}, named, odconv(4, 6, 1, 0)); }, "c router",
                "no spatial factors on a 1x1 kernel", "1");
    check_error([] { return conv2d(mixture(3, k11), {}, named, odconv(4, 6, 1, 3)); }, "c router",
                "no spatial factors on a 1x1 kernel", "1");
    check_error([] { return conv2d(dense(k11), {}, named, odconv(4, 6, 9, 0)); }, "c router", "no spatial factors",
                "9");
    check_error(
        [] {
            return conv2d(adapted<dense_kernel>{dense(k11), {1.5F}, {}}, {}, named);
        },
        "c spatial", "no spatial modulation on a 1x1", "1");
    CHECK_NOTHROW(conv2d(dense(k11), {}, named, odconv(4, 6, 0, 0)));
    CHECK_NOTHROW(conv2d(dense(k33), {}, named, odconv(4, 6, 9, 0)));
}

TEST_CASE("Adapters made by hand are checked too") {
    check_error(
        [] {
            return conv2d(adapted<dense_kernel>{dense(k33), {1.0F, 2.0F}, {}}, {}, named);
        },
        "c spatial", "9 values", "2");
    check_error(
        [] {
            return conv2d(adapted<dense_kernel>{dense(k33), {}, {1.0F, 2.0F}}, {}, named);
        },
        "c filter", "6 values", "2");
}

TEST_CASE("A router of the wrong width on any axis is an error") {
    const auto with = [](const odconv_router& r) { return [r] { return conv2d(mixture(3, k33), {}, named, r); }; };
    CHECK_NOTHROW(with(odconv(4, 6, 9, 3))());
    check_error(with(odconv(4, 6, 9, 2)), "c router", "3 mixture weights", "2");
    check_error(with(odconv(4, 6, 9, 0)), "c router", "3 mixture weights", "0");
    check_error(with(odconv(5, 6, 9, 3)), "c router", "4 channel gates", "5");
    check_error(with(odconv(4, 5, 9, 3)), "c router", "6 filter factors", "5");
    check_error(with(odconv(4, 6, 3, 3)), "c router", "9 spatial factors", "3");
    check_error([] { return conv2d(dense(k33), {}, named, odconv(4, 6, 9, 3)); }, "c router", "0 mixture weights", "3");
    check_error(
        [] {
            return conv2d(mixture(3, k33), {}, named, dyconv_router(ones(8), {ones(8), ones(4)}, 4));
        },
        "c router", "3 mixture weights", "4");
    check_error(
        [] {
            return conv2d(mixture(3, k33), {}, named, dyconv_router(ones(10), {ones(6), ones(3)}, 5));
        },
        "c router", "4 input channels", "5");
    const auto cells = warehouse::pack({.n = 2, .o = 3, .c = 2, .kh = 3, .kw = 3}, ones(108));
    const auto routed = [&](index_t m, index_t n, index_t channels) {
        return [=] {
            return conv2d(warehouse_kernel(cells, k33), {}, named,
                          warehouse_router({.fc1 = ones(2 * channels),
                                            .norm = bn_of_ones(2),
                                            .fc2 = {ones(2 * m * (n + 1)), ones(m * (n + 1))}},
                                           m, n, channels));
        };
    };
    CHECK_NOTHROW(routed(4, 2, 4)());
    check_error(routed(4, 3, 4), "c router", "8 mixture weights", "12");
    check_error(routed(2, 2, 4), "c router", "8 mixture weights", "4");
    check_error(routed(4, 2, 3), "c router", "4 input channels", "3");
    check_error([] { return conv2d(dense(k33), {}, named, grid_router{0}); }, "c router", "a pool grid >= 1", "0");
    check_error([] { return conv2d(dense(k33), {}, named, grid_router{-1}); }, "c router", "a pool grid >= 1", "-1");
    check_error([] { return conv2d(dense(k33), {}, named, grid_router{index_t{1} << 40}); }, "c", "fits in 64 bits",
                "");
    CHECK_NOTHROW(conv2d(dense(k33), {}, named, grid_router{3}));
}

TEST_CASE("Cells that do not tile the kernel are an error") {
    const auto make = [](const cell_shape& s, const kernel_shape& k) {
        return
            [=] { return warehouse_kernel(warehouse::pack(s, ones(s.n * s.o * s.c * s.taps())), k, "layer1.0.conv1"); };
    };
    CHECK_NOTHROW(make({.n = 2, .o = 3, .c = 2, .kh = 1, .kw = 3}, k33)());
    CHECK_NOTHROW(make({.n = 2, .o = 6, .c = 1}, {.o = 12, .i = 4, .kh = 3, .kw = 3, .groups = 4})());
    check_error(make({.n = 2, .o = 4, .c = 2}, k33), "layer1.0.conv1", "cells that tile the kernel (O 6, I 4, 3x3)",
                "(2 cells of O 4, I 2, 1x1)");
    check_error(make({.n = 2, .o = 3, .c = 3}, k33), "layer1.0.conv1", "cells that tile", "I 3");
    check_error(make({.n = 2, .o = 3, .c = 2, .kh = 2}, k33), "layer1.0.conv1", "cells that tile", "2x1");
    check_error(make({.n = 2, .o = 3, .c = 2, .kw = 5}, k33), "layer1.0.conv1", "cells that tile", "1x5");
    check_error(make({.n = 2, .o = 3, .c = 2}, {.o = 12, .i = 4, .groups = 4}), "layer1.0.conv1", "cells that tile",
                "I 2");
    check_error(make({.n = 2, .o = 12}, k33), "layer1.0.conv1", "cells that tile", "O 12");
    check_error(make({}, {.o = 4, .i = 3, .groups = 2}), "layer1.0.conv1", "groups that divide", "groups 2");
    check_error(make({}, {.o = 0}), "layer1.0.conv1", "extents and groups >= 1", "O 0");
}

TEST_CASE("A warehouse names what does not fit") {
    check_error([] { return warehouse::pack({.n = 2, .o = 3, .c = 2, .kh = 3, .kw = 3}, ones(107), "weights.0"); },
                "weights.0", "2 x 54 weights", "107");
    for (const cell_shape& s : {cell_shape{.n = 0}, {.o = 0}, {.c = -1}, {.kh = 0}, {.kw = -2}})
        check_error([&] { return warehouse::pack(s, {}, "weights.0"); }, "weights.0", "extents >= 1", to_string(s));
    check_error([] { return warehouse::pack({.n = index_t{1} << 40, .o = index_t{1} << 40}, ones(1), "w"); }, "w",
                "fits in 64 bits", "");
}

TEST_CASE("ACDC's coefficients and atoms name what does not fit") {
    check_error([] { return shared_coefficients::pack(6, 4, 3, ones(71), "A"); }, "A", "6 x 4 x 3 values", "71");
    check_error([] { return shared_coefficients::pack(6, 0, 3, ones(0), "A"); }, "A", "extents >= 1", "6, 0, 3");
    check_error([] { return shared_coefficients::pack(6, 4, -3, ones(0), "A"); }, "A", "extents >= 1", "6, 4, -3");
    check_error([] { return shared_coefficients::pack(index_t{1} << 40, index_t{1} << 40, 1, ones(1), "A"); }, "A",
                "fits in 64 bits", "");
    const auto a = shared_coefficients::pack(6, 4, 3, ones(72));
    CHECK_NOTHROW(acdc_kernel(a, k33, ones(27)));
    check_error([&] { return acdc_kernel(a, k33, ones(26), "l"); }, "l atoms", "3 x 9 values", "26");
    check_error([&] { return acdc_kernel(a, {.o = 6, .i = 6}, ones(3), "l"); }, "l", "cells that tile", "I 4");
    check_error([&] { return acdc_kernel(a, {.o = 9, .i = 4}, ones(3), "l"); }, "l", "cells that tile", "O 6");
    check_error([&] { return acdc_kernel(a, {.o = 6, .i = 4, .groups = 2}, ones(3), "l"); }, "l", "cells that tile",
                "I 4");
}

TEST_CASE("A codebook kernel names what does not fit") {
    const kernel_shape k{.o = 3, .i = 2, .kh = 3, .kw = 1};  // 6 slices
    const std::vector<std::uint8_t> bytes(16, 0);
    const auto index = [&](std::size_t n) { return std::span(bytes).first(n); };
    const auto make = [&](std::span<const float> book, std::size_t n, const kernel_shape& shape) {
        return [=] { return codebook_kernel::pack(shape, book, index(n), "conv"); };
    };
    CHECK_NOTHROW(make(ones(12), 2, k)());  // 4 codewords: 12 bits
    CHECK_NOTHROW(make(ones(3), 0, k)());   // one codeword: no bits
    check_error(make(ones(12), 1, k), "conv index", "2 bytes for 6 slices of 2 bits", "1");
    check_error(make(ones(12), 3, k), "conv index", "2 bytes for 6 slices of 2 bits", "3");
    check_error(make(ones(3), 1, k), "conv index", "0 bytes for 6 slices of 0 bits", "1");
    check_error(make(ones(9), 2, k), "conv codebook", "a power of two", "9 values");
    check_error(make(ones(11), 2, k), "conv codebook", "codewords of 3", "11 values");
    check_error(make(ones(0), 2, k), "conv codebook", "a power of two", "0 values");
    check_error(make(ones(12), 2, {.o = 3, .i = 2, .kh = 3, .kw = 11}), "conv", "at most 32 taps", "3x11");
    check_error(make(ones(12), 2, {.o = 3, .i = 2, .kh = 3, .groups = 2}), "conv", "groups that divide", "groups 2");
    const std::vector<float> large(std::size_t{1} << 17, 1.0F);
    check_error(make(large, 2, {.o = 3, .i = 2}), "conv codebook", "up to 65536", "131072 values");
    for (const float bad : {0.0F, 0.5F, -1.0001F, 2.0F, std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> book(12, -1.0F);
        book[7] = bad;
        check_error(make(book, 2, k), "conv codebook", "entries of +1 and -1", "in codeword 2");
    }
    const auto good = make(ones(12), 2, k)();
    check_error([&] { return good.scaled(ones(2), "conv"); }, "conv alpha", "3 values", "2");
    check_error([&] { return good.scaled({}, "conv"); }, "conv alpha", "3 values", "0");
}

TEST_CASE("A DCD kernel names what does not fit") {
    const auto make = [](const kernel_shape& k, const dcd_weights& w, std::span<const float> bias = {}) {
        return [=] { return dcd_kernel(dense(k), w, bias, "conv"); };
    };
    const auto changed = [](auto&& change) {
        dcd_weights w = dcd_tensors_of();
        change(w);
        return w;
    };
    CHECK_NOTHROW(make(k33, dcd_tensors_of())());
    check_error(make({.o = 6, .i = 4, .kh = 3, .kw = 3, .groups = 2}, dcd_tensors_of()), "conv",
                "one group with a centre tap", "groups 2");
    check_error(make({.o = 6, .i = 4, .kh = 2, .kw = 3}, dcd_tensors_of()), "conv", "a centre tap", "2x3");
    check_error(make({.o = 6, .i = 4, .kh = 3, .kw = 4}, dcd_tensors_of()), "conv", "a centre tap", "3x4");
    check_error(make(k33, dcd_tensors_of(), ones(5)), "conv bias", "6 values", "5");
    check_error(make(k33, changed([](auto& w) { w.q = ones(7); })), "conv.q.weight", "2 x 4 values", "7");
    check_error(make(k33, changed([](auto& w) { w.p = ones(13); })), "conv.p.weight", "12 weights", "13");
    check_error(make(k33, changed([](auto& w) { w.bn1.bias = {}; })), "conv.bn1.bias", "one value per row of q", "0");
    check_error(make(k33, changed([](auto& w) { w.bn1.mean = ones(3); })), "conv.bn1.running_mean", "2 values", "3");
    // The routes of 5 filters are as long as those of 6.
    check_error(make(k33, changed([](auto& w) { w.scale = ones(15); })), "conv.fc_scale.weight", "6 x 3 values", "15");
    const dcd_kernel good(dense(k33), dcd_tensors_of());
    CHECK_NOTHROW(conv2d(good, {.pad = 1}, named, dcd_router(dcd_tensors_of(), 4)));
    check_error([&] { return conv2d(good, {.pad = 1}, named, dcd_router(dcd_tensors_of(100), 4)); }, "c router",
                "mixture weights", "");
    check_error([&] { return conv2d(good, {.pad = 1}, named, dcd_router(dcd_tensors_of(6, 5), 5)); }, "c router",
                "4 input channels", "5");
    // Means of a grid that the squeeze is not made for.
    auto grid = dcd_tensors_of();
    grid.grid = 2;
    check_error([&] { return dcd_router(grid, 4, "conv"); }, "conv.fc.0.weight", "multiple of 16", "12");
}

namespace {

/// One kernel with a bias of its own and no router.
struct biased_kernel : dense_kernel {
    using optional_members = members<member::bias, member::assemble, member::stored, member::needs_mixture,
                                     member::prepare, member::copy_weights>;

    [[nodiscard]] static bool has_bias() noexcept { return true; }
    [[nodiscard]] float bias(index_t o, const float*) const noexcept { return static_cast<float>(o) + 1.0F; }
};

}  // namespace

TEST_CASE("A source's own bias counts without a router too, behind the filter modulation and under BatchNorm") {
    rng r(345, 0);
    const auto w = r.floats(weight_count(k33)), own = std::vector<float>{1, 2, 3, 4, 5, 6}, filter = r.floats(6);
    const auto bn = kdna_test::bn_tensors::random(r, 6);
    const auto kernel = dense_kernel::pack(k33, w);
    tensor<float> x({1, 4, 5, 5});
    for (float& v : x.span()) v = static_cast<float>(r.real(-1, 1));
    const std::optional<batch_norm> norm = kdna_test::view_of(bn);
    const tensor<float> y = conv2d(adapt(biased_kernel{kernel}, {.filter = filter}), {}, {.bn = norm})(x.view());
    const tensor<float> e = conv2d(kernel.child({.filter = filter}), {}, {.bn = norm, .bias = own})(x.view());
    for (index_t i = 0; i < y.size(); ++i) CHECK(std::abs(y.data()[i] - e.data()[i]) < 1e-5F);
}
