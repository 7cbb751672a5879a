// The routers of DyConv, ODConv, KernelWarehouse and DCD against their papers' formulas in double precision.
#include <functional>
#include <type_traits>

#include "support/conv_cases.hpp"
#include "support/errors.hpp"
#include "support/ones.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// What a router writes, with guards behind every axis and in its scratch.
struct routes {
    std::vector<float> mixture, channel, filter, spatial;
};

template <class Router>
routes run(const Router& router, const std::vector<float>& pooled) {
    constexpr float guard = 12345.0F;
    const route_widths w = router.widths();
    const auto sized = [&](index_t n) { return std::vector<float>(static_cast<std::size_t>(n) + 1, guard); };
    routes out{sized(w.mixture), sized(w.channel), sized(w.filter), sized(w.spatial)};
    auto scratch = sized(router.scratch_floats());
    router(pooled.data(),
           {.mixture = w.mixture > 0 ? out.mixture.data() : nullptr,
            .channel = w.channel > 0 ? out.channel.data() : nullptr,
            .filter = w.filter > 0 ? out.filter.data() : nullptr,
            .spatial = w.spatial > 0 ? out.spatial.data() : nullptr},
           scratch.data());
    CHECK(scratch.back() == guard);
    for (auto* v : {&out.mixture, &out.channel, &out.filter, &out.spatial}) {
        CHECK(v->back() == guard);
        v->pop_back();
    }
    return out;
}

void check(const char* what, std::span<const float> found, const bounded_vector& expected) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i)
        if (!(std::abs(static_cast<double>(found[i]) - expected[i].value) <= expected[i].error))
            FAIL(what << " " << i << ": " << found[i] << " instead of " << expected[i].value << " +- "
                      << expected[i].error);
}

/// BatchNorm as trained networks have it, not as they are initialised.
void far_from_identity(rng& r, bn_tensors& bn) {
    for (std::size_t c = 0; c < bn.weight.size(); ++c) {
        bn.weight[c] = static_cast<float>(r.real(-3.0, 3.0));
        bn.bias[c] = static_cast<float>(r.real(-4.0, 4.0));
        bn.mean[c] = static_cast<float>(r.real(-2.0, 2.0));
        bn.var[c] = static_cast<float>(r.real(0.01, 9.0));
    }
}

/// `w` with one thing changed, as a router.
template <class Router, class Weights, class... More>
auto broken(const Weights& w, const std::type_identity_t<std::function<void(Weights&)>>& change, const More&... more) {
    return [=] {
        Weights copy = w;
        change(copy);
        return Router(copy, more...);
    };
}

}  // namespace

TEST_CASE("ODConv's router: four heads on one squeeze") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(350, static_cast<std::uint64_t>(i));
        kernel_shape k{.o = r.between(1, 40), .i = r.between(1, 40), .kh = r.pick<index_t>({1, 3, 5}), .kw = 1};
        k.kw = k.kh;
        if (r.chance(0.3)) k.o = k.groups = k.i;
        const index_t n = r.between(1, 5);
        auto tensors = odconv_tensors::random(r, k, n);
        if (r.chance(0.5)) far_from_identity(r, tensors.bn);
        const odconv_router router(tensors.view());
        CHECK(router.input_channels() == k.i);
        CHECK(router.widths() == route_widths{.mixture = n > 1 ? n : 0,
                                              .channel = k.i,
                                              .filter = k.depthwise() ? 0 : k.o,
                                              .spatial = k.taps() > 1 ? k.taps() : 0});
        const auto pooled = r.floats(k.i, -2.0, 2.0);
        const factors f = tensors(exact(pooled));
        const routes found = run(router, pooled);
        KDNA_TEST_CASE_INFO(i, to_string(k));
        check("kernel weight", found.mixture, f.mixture);
        check("channel gate", found.channel, f.channel);
        check("filter factor", found.filter, f.filter);
        check("spatial factor", found.spatial, f.spatial);
    }
}

TEST_CASE("ODConv's router: NaN in, NaN out, and logits of 1e30 saturate") {
    rng r(351, 0);
    auto tensors = odconv_tensors::random(r, {.o = 9, .i = 7, .kh = 3, .kw = 3}, 4);
    std::fill(tensors.bn.bias.begin(), tensors.bn.bias.end(), 5.0F);  // every hidden unit is awake
    auto pooled = r.floats(7);
    pooled[3] = std::numeric_limits<float>::quiet_NaN();
    const routes found = run(odconv_router(tensors.view()), pooled);
    for (const auto* v : {&found.mixture, &found.channel, &found.filter, &found.spatial})
        for (const float a : *v) CHECK(std::isnan(a));

    for (linear_tensors* t : {&tensors.kernel, &tensors.channel}) std::fill(t->weight.begin(), t->weight.end(), 0.0F);
    tensors.kernel.bias = {-1e30F, 100.0F, 1e30F, -100.0F};
    tensors.channel.bias = {1e30F, 100.0F, 0.0F, -100.0F, -1e30F, 40.0F, -40.0F};
    const routes far = run(odconv_router(tensors.view()), r.floats(7));
    CHECK(far.mixture == std::vector<float>{0.0F, 0.0F, 1.0F, 0.0F});
    CHECK(far.channel[0] == 1.0F);
    CHECK(far.channel[1] == 1.0F);
    CHECK(far.channel[2] == 0.5F);
    for (const std::size_t i : {3U, 4U}) CHECK((far.channel[i] >= 0.0F && far.channel[i] < 1e-37F));
}

TEST_CASE("DyConv's router is softmax(fc2 ReLU(fc1 pooled))") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(352, static_cast<std::uint64_t>(i));
        const index_t channels = r.between(1, 60), n = r.between(1, 8);
        auto tensors = dyconv_tensors::random(r, channels, n);
        if (r.chance(0.3))
            for (float& b : tensors.fc2.bias) b *= r.pick({10.0F, 100.0F});
        const auto router = tensors.router(channels);
        CHECK(router.input_channels() == channels);
        CHECK(router.widths() == route_widths{.mixture = n});
        const auto pooled = r.floats(channels, -2.0, 2.0);
        KDNA_TEST_CASE_INFO(i, concat(channels, " channels, ", n, " kernels"));
        check("weight", run(router, pooled).mixture, tensors(exact(pooled)));
    }
    rng r(353, 0);
    auto far = dyconv_tensors::random(r, 6, 4);
    far.fc2.bias = {1e30F, -1e30F, 100.0F, 1e30F};
    CHECK(run(far.router(6), r.floats(6)).mixture == std::vector<float>{0.5F, 0.0F, 0.0F, 0.5F});
    auto nan = r.floats(20, 1.0, 2.0);
    nan[7] = std::numeric_limits<float>::quiet_NaN();
    for (const float a : run(dyconv_tensors::random(r, 20, 4).router(20), nan).mixture) CHECK(std::isnan(a));
}

TEST_CASE("KernelWarehouse's router normalises signed weights, in the basis variant too") {
    int basis = 0;
    for (int i = 0; i < scaled(500); ++i) {
        rng r(354, static_cast<std::uint64_t>(i));
        const kernel_shape k{.o = 1, .i = r.between(1, 40)};
        auto tensors = warehouse_tensors::random(r, k, {.n = r.between(1, 9), .o = 1, .c = 1});
        basis += tensors.fc3.weight.empty() ? 0 : 1;
        if (r.chance(0.5)) far_from_identity(r, tensors.norm);
        const auto router = tensors.router(k.i);
        CHECK(router.input_channels() == k.i);
        CHECK(router.widths() == route_widths{.mixture = k.i * tensors.cell.n});
        const auto pooled = r.floats(k.i, -2.0, 2.0);
        KDNA_TEST_CASE_INFO(i, concat(k.i, " combinations of ", tensors.cell.n, ", local ", tensors.local, " from ",
                                      tensors.first_local));
        check("alpha", run(router, pooled).mixture, tensors(exact(pooled)));
    }
    CHECK(basis > scaled(500) / 5);
    // Nothing but the 1e-3 in the denominator when all is zero, and NaN in, NaN out.
    const warehouse_router zero(
        {.fc1 = ones(4), .norm = bn_of_ones(2), .fc2 = {.weight = std::vector<float>(12, 0.0F)}}, 2, 2, 2);
    CHECK(run(zero, {1.0F, 1.0F}).mixture == std::vector<float>(4, 0.0F));
    const warehouse_router all({.fc1 = ones(4), .norm = bn_of_ones(2), .fc2 = {.weight = ones(12)}}, 2, 2, 2);
    for (const float a : run(all, {1.0F, std::numeric_limits<float>::quiet_NaN()}).mixture) CHECK(std::isnan(a));
}

TEST_CASE("DCD's router folds both BatchNorms into T and u") {
    for (int i = 0; i < scaled(400); ++i) {
        rng r(355, static_cast<std::uint64_t>(i));
        const kernel_shape k{.o = r.between(1, 70), .i = r.between(1, 30)};
        auto tensors = dcd_tensors::random(r, k);
        far_from_identity(r, tensors.bn1);
        far_from_identity(r, tensors.bn2);
        const auto router = tensors.router();
        CHECK(router.input_channels() == k.i);
        CHECK(router.pool_grid() == tensors.grid);
        const auto pooled = r.floats(k.i * tensors.grid * tensors.grid, -2.0, 2.0);
        const auto found = run(router, pooled).mixture;
        const auto expected = tensors(exact(pooled));
        KDNA_TEST_CASE_INFO(i, concat(to_string(k), ", rank ", tensors.rank, ", grid ", tensors.grid));
        const dcd_route_layout& at = router.route_layout();
        const auto part = [&](index_t first, index_t count) {
            return std::span(found).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
        };
        const index_t l = tensors.rank;
        CHECK(at.filters == k.o);
        CHECK(at.rank == l);
        CHECK(static_cast<index_t>(found.size()) == at.size());
        check("lambda", part(0, k.o), expected.lambda);
        for (const float v : part(k.o, at.core_at() - k.o)) CHECK(v == 0.0F);
        bounded_vector transposed;
        for (index_t a = 0; a < l; ++a)
            for (index_t b = 0; b < l; ++b) transposed.push_back(expected.t[static_cast<std::size_t>(b * l + a)]);
        check("T", part(at.core_at(), l * l), transposed);
        check("u", part(at.shift_at(), l), expected.u);
    }
    rng r(356, 0);
    const auto tensors = dcd_tensors::random(r, {.o = 5, .i = 3});
    std::vector<float> pooled(static_cast<std::size_t>(3 * tensors.grid * tensors.grid), 1.0F);
    pooled[1] = std::numeric_limits<float>::quiet_NaN();
    const auto found = run(tensors.router(), pooled).mixture;
    for (std::size_t o = 0; o < 5; ++o) CHECK(std::isnan(found[o]));
    for (auto j = static_cast<std::size_t>(tensors.router().route_layout().core_at()); j < found.size(); ++j)
        CHECK(std::isnan(found[j]));
}

TEST_CASE("ODConv's router names the tensor that does not fit") {
    using w = odconv_weights;
    const w good{.fc = ones(8),  // C 4, h 2
                 .bn = bn_of_ones(2),
                 .channel = {ones(8), ones(4)},
                 .filter = {ones(12), ones(6)},
                 .spatial = {ones(18), ones(9)},
                 .kernel = {ones(6), ones(3)}};
    const auto with = [&](std::function<void(w&)> change) { return broken<odconv_router>(good, change, "a"); };
    CHECK_NOTHROW(with([](w&) {})());
    check_error(with([](w& t) { t.fc = ones(7); }), "a.fc.weight", "a positive multiple of 4", "7");
    check_error(with([](w& t) { t.bn.mean = ones(3); }), "a.bn.running_mean", "2 values", "3");
    check_error(with([](w& t) { t.channel.weight = ones(7); }), "a.channel_fc.weight", "multiple of 2", "7");
    check_error(with([](w& t) { t.channel.bias = {}; }), "a.channel_fc.bias", "one value per channel", "0");
    check_error(with([](w& t) { t.channel.weight = {}; }), "a.channel_fc.weight", "multiple of 2", "0");
    check_error(with([](w& t) { t.filter.bias = ones(5); }), "a.filter_fc.bias", "6 values", "5");
    check_error(with([](w& t) { t.filter.weight = {}; }), "a.filter_fc.weight", "multiple of 2", "0");
    check_error(with([](w& t) { t.spatial.weight = ones(17); }), "a.spatial_fc.weight", "multiple of 2", "17");
    check_error(with([](w& t) { t.spatial.bias = ones(8); }), "a.spatial_fc.bias", "9 values", "8");
    check_error(with([](w& t) { t.kernel.weight = ones(5); }), "a.kernel_fc.weight", "multiple of 2", "5");
    check_error(with([](w& t) { t.kernel.bias = ones(4); }), "a.kernel_fc.bias", "3 values", "4");
}

TEST_CASE("DyConv's router names the tensor that does not fit") {
    const auto make = [](index_t fc1, index_t weight, index_t bias) {
        return [=] { return dyconv_router(ones(fc1), {ones(weight), ones(bias)}, 4, "a"); };
    };
    CHECK_NOTHROW(make(8, 6, 3)());
    check_error(make(7, 6, 3), "a.fc1.weight", "a positive multiple of 4", "7");
    check_error(make(8, 5, 3), "a.fc2.weight", "a positive multiple of 2", "5");
    check_error(make(8, 0, 3), "a.fc2.weight", "a positive multiple of 2", "0");
    check_error(make(8, 6, 2), "a.fc2.bias", "3 values", "2");
}

TEST_CASE("KernelWarehouse's router names the tensor that does not fit") {
    using w = warehouse_weights;
    // C 4, h 2, m 3, n 4; the basis variant with 1 local cell and 2 basis factors.
    const w good{.fc1 = ones(8), .norm = bn_of_ones(2), .fc2 = {ones(3 * 5 * 2), ones(15)}};
    const w basis{.fc1 = ones(8),
                  .norm = bn_of_ones(2),
                  .fc2 = {ones(3 * 4 * 2), {}},
                  .fc3 = ones(6),
                  .basis_bias = ones(15),
                  .local = 1,
                  .first_local = 2};
    const auto with = [&](const w& from, std::function<void(w&)> change, index_t m = 3, index_t n = 4) {
        return broken<warehouse_router>(from, change, m, n, index_t{4}, "a");
    };
    CHECK_NOTHROW(with(good, [](w&) {})());
    CHECK_NOTHROW(with(basis, [](w&) {})());
    check_error(with(good, [](w& t) { t.fc1 = ones(9); }), "a.fc1.weight", "multiple of 4", "9");
    check_error(with(good, [](w& t) { t.norm.var = ones(1); }), "a.norm1.running_var", "2 values", "1");
    check_error(with(good, [](w& t) { t.fc2.weight = ones(29); }), "a.fc2.weight", "multiple of 2", "29");
    check_error(with(good, [](w& t) { t.fc2 = {ones(28), ones(14)}; }), "a.fc2.weight", "3 x 5 x 2 values", "28");
    check_error(with(good, [](w& t) { t.fc2.bias = ones(14); }), "a.fc2.bias", "15 values", "14");
    check_error(with(good, [](w& t) { t.basis_bias = ones(15); }), "a.basis_bias", "none without fc3", "15");
    check_error(with(
                    good, [](w&) {}, 0),
                "a", "at least one combination", "0 of 4");
    check_error(with(
                    good, [](w&) {}, 15, 0),
                "a", "at least one combination", "15 of 0");
    check_error(with(
                    good, [](w&) {}, -3, -6),
                "a", "at least one combination", "-3 of -6");
    check_error(with(
                    good, [](w&) {}, index_t{1} << 62),
                "a", "fits in 64 bits", "");
    check_error(with(basis, [](w& t) { t.fc2.weight = ones(23); }), "a.fc2.weight", "3 x 4 x 2 values", "23");
    check_error(with(basis, [](w& t) { t.fc2.bias = ones(12); }), "a.fc2.bias", "basis_bias", "12");
    check_error(with(basis, [](w& t) { t.fc3 = ones(5); }), "a.fc3.weight", "multiple of 3", "5");
    check_error(with(basis, [](w& t) { t.basis_bias = ones(14); }), "a.basis_bias", "15 values", "14");
    check_error(with(basis, [](w& t) { t.local = 4; }), "a", "own cells among the 4", "4 from cell 2");
    check_error(with(basis, [](w& t) { t.local = -1; }), "a", "own cells among the 4", "-1 from cell 2");
    check_error(with(basis, [](w& t) { t.first_local = 4; }), "a", "own cells among the 4", "1 from cell 4");
    check_error(with(basis, [](w& t) { t.first_local = -1; }), "a", "own cells among the 4", "1 from cell -1");
}

TEST_CASE("DCD's router names the tensor that does not fit") {
    using w = dcd_weights;
    const w good{.squeeze = ones(3 * 4 * 4),  // C 4, grid 2, sq 3, L 2, O 5
                 .gate = ones(9),
                 .phi = ones(12),
                 .scale = ones(15),
                 .q = ones(8),
                 .p = ones(10),
                 .bn1 = bn_of_ones(2),
                 .bn2 = bn_of_ones(2),
                 .grid = 2};
    const auto with = [&](std::function<void(w&)> change) {
        return broken<dcd_router>(good, change, index_t{4}, "conv");
    };
    CHECK_NOTHROW(with([](w&) {})());
    check_error(with([](w& t) { t.squeeze = ones(47); }), "conv.fc.0.weight", "multiple of 16", "47");
    check_error(with([](w& t) { t.grid = 0; }), "conv", "at least 1 x 1", "grid 0");
    check_error(with([](w& t) { t.grid = -2; }), "conv", "at least 1 x 1", "grid -2");
    check_error(with([](w& t) { t.grid = index_t{1} << 40; }), "conv", "fits in 64 bits", "");
    check_error(with([](w& t) { t.grid = 5; }), "conv.fc.0.weight", "multiple of 100", "48");
    check_error(with([](w& t) { t.gate = ones(8); }), "conv.fc.1.fc.0.weight", "multiple of 3", "8");
    check_error(with([](w& t) { t.gate = ones(6); }), "conv.fc.1.fc.0.weight", "3 outputs", "2");
    check_error(with([](w& t) { t.phi = ones(9); }), "conv.fc_phi.weight", "2 x 2 x 3 values", "9");
    check_error(with([](w& t) { t.scale = ones(14); }), "conv.fc_scale.weight", "multiple of 3", "14");
    check_error(with([](w& t) { t.bn1.bias = {}; }), "conv.bn1.bias", "one value per row of q", "0");
    check_error(with([](w& t) { t.bn1.weight = ones(3); }), "conv.bn1.weight", "2 values", "3");
    check_error(with([](w& t) { t.bn2.var = ones(1); }), "conv.bn2.running_var", "2 values", "1");
}
