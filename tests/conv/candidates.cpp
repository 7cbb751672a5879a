// The face of conv/: the candidates of a problem, the choice among them, and an algorithm of one's own.
#include <algorithm>
#include <set>
#include <string>

#include <kdna/backend/reference.hpp>
#include <kdna/conv/algorithm.hpp>
#include <kdna/conv/convolution.hpp>
#include <kdna/nn/conv2d.hpp>

#include "support/catch.hpp"
#include "support/lanes.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// A problem with every factor, and what a call of it needs.
struct candidate_case {
    kernel_shape k;
    conv_params params;
    shape4 in, out;
    dense_kernel kernel;
    std::vector<float> spatial, gates, scale, shift;
    tensor<float> x, residual;
    conv::prepared_kernels store{};
    conv::problem q;

    candidate_case(rng& r, const kernel_shape& shape, const conv_params& p, const shape4& input)
        : k(shape),
          params(p),
          in(input),
          out(output_shape(input, shape, p)),
          kernel(dense_kernel::pack(shape, r.floats(weight_count(shape), -0.5, 0.5))),
          spatial(r.floats(shape.taps(), 0.5, 1.5)),
          gates(r.floats(input.n * input.c, 0.5, 1.0)),
          scale(r.floats(shape.o + panel_layout::width, 0.5, 1.5)),
          shift(r.floats(shape.o + panel_layout::width)),
          x(input),
          residual(out),
          q{.source = source_ref(kernel), .params = p} {
        for (float& v : x.span()) v = static_cast<float>(r.real(-1, 1));
        for (float& v : residual.span()) v = static_cast<float>(r.real(-1, 1));
        q.static_spatial = spatial.data();
        q.channel_factor = q.spatial_factor = true;
        q.transform_budget = index_t{1} << 40;
        q.prepared = &store;
    }
    [[nodiscard]] conv::call call(const tensor_view<float>& y) const {
        conv::call c{source_ref(kernel), params, x.view(), y, residual.view(), {}, activation::relu};
        c.factors.channel = {gates.data(), in.c};
        c.factors.spatial = {spatial.data(), 0};
        c.factors.scale = {scale.data(), 0};
        c.factors.shift = {shift.data(), 0};
        return c;
    }
    [[nodiscard]] std::vector<float> run(const conv::plan& p) const {
        tensor<float> y(out);
        buffer<std::byte> workspace(p.workspace_bytes);
        conv::run(p, call(y.view()), workspace.data(), {});
        return {y.span().begin(), y.span().end()};
    }
    [[nodiscard]] std::vector<float> exact() const {
        tensor<float> y(out);
        const auto p = backend::reference::make_plan(q, in, conv::input_order::any, 1, "test");
        buffer<std::byte> workspace(p.workspace_bytes);
        backend::reference::run(p, call(y.view()), workspace.data(), {});
        return {y.span().begin(), y.span().end()};
    }
    [[nodiscard]] std::set<std::string> names() const {
        std::set<std::string> all;
        for (const conv::plan& p : conv::candidates(q, in, conv::input_order::any, 1, "test"))
            all.insert(std::string(p.name));
        return all;
    }
};

using name_set = std::set<std::string>;

/// An algorithm as somebody could add it: each output by itself, straight from the formula.
namespace slow {

void offers(const conv::plan_request& r, conv::offer_list& all) {
    if (r.shape().groups == 1) all.push_back({.name = "slow", .cost = 1e12});
}
conv::plan make_plan(const conv::plan_request& r, int) {
    conv::plan p;
    p.name = "slow";
    p.in = r.in;
    p.out = r.out;
    p.tasks = r.out.n * r.out.c;
    p.workspace_bytes = 0;
    return p;
}
void run(const conv::plan& p, const conv::call& c, const conv::workspace_view&, index_t first, index_t last) noexcept {
    for (index_t task = first; task < last; ++task) {
        const index_t n = task / p.out.c, o = task % p.out.c;
        const kernel_shape& k = c.source.layout().shape();
        for (index_t h = 0; h < p.out.h; ++h)
            for (index_t w = 0; w < p.out.w; ++w) {
                double sum = 0.0;
                for (index_t t = 0; t < k.taps(); ++t)
                    for (index_t i = 0; i < k.i; ++i) {
                        const index_t y = h - c.params.pad.top + t / k.kw, x = w - c.params.pad.left + t % k.kw;
                        if (y < 0 || y >= p.in.h || x < 0 || x >= p.in.w) continue;
                        sum += c.source.weight(o, i, t, nullptr) * c.factors.spatial.of(n)[t] *
                               c.factors.channel.of(n)[i] * c.x(n, i, y, x);
                    }
                const double y = sum * c.factors.scale.of(n)[o] + c.factors.shift.of(n)[o] + c.residual(n, o, h, w);
                c.y(n, o, h, w) = static_cast<float>(std::max(y, 0.0));
            }
    }
}
conv::explanation explain(const conv::problem&, const conv::plan& p) {
    return {.tiles = std::string(p.name), .gate = "the sum", .spatial = "in the sum"};
}
constexpr conv::algorithm functions{.offers = offers, .make_plan = make_plan, .run = run, .explain = explain};

}  // namespace slow

}  // namespace

TEST_CASE("Each problem has the candidates that can run it") {
    rng r(820, 0);
    const index_t c = 2 * lanes;
    const auto names = [&](const kernel_shape& k, const conv_params& p, index_t extent) {
        return candidate_case(r, k, p, {1, k.i, extent, extent}).names();
    };
    CHECK(names({.o = 9, .i = 20}, {}, 8) == name_set{"direct"});
    CHECK(names({.o = 2 * c, .i = c, .kh = 3, .kw = 3, .groups = lanes}, {.pad = 1}, 8) == name_set{"im2col"});
    CHECK(names({.o = c, .i = c, .kh = 3, .kw = 3}, {.pad = 1}, 30) ==
          name_set{"direct", "winograd F(2x2)", "winograd F(4x4)", "winograd F(6x6)"});
    CHECK(names({.o = c, .i = c, .kh = 3, .kw = 3}, {.stride = 2, .pad = 1}, 30) == name_set{"direct"});
    CHECK(names({.o = c, .i = c, .kh = 3, .kw = 3, .groups = c}, {.pad = 1}, 9) == name_set{"depthwise", "planes"});
    CHECK(names({.o = c, .i = c, .groups = c}, {}, 9) == name_set{"depthwise"});
    CHECK(names({.kh = 5, .kw = 5}, {.pad = 2}, 9) == name_set{"direct", "planes"});

    candidate_case few(r, {.o = c, .i = c, .kh = 3, .kw = 3}, {.pad = 1}, {1, c, 30, 30});
    few.q.in_bands = true;
    CHECK(few.names() == name_set{"direct"});
    few.q.in_bands = false;
    few.q.transform_budget = 0;
    CHECK(few.names() == name_set{"direct"});
}

TEST_CASE("Every candidate computes the same, and the chosen one is one of them") {
    const index_t c = lanes + 3;
    std::uint64_t stream = 0;
    for (const padding_mode mode : {padding_mode::zeros, padding_mode::circular})
        for (const kernel_shape& k : {kernel_shape{.o = 2 * lanes, .i = c, .kh = 3, .kw = 3},
                                      kernel_shape{.o = c, .i = c, .kh = 3, .kw = 3, .groups = c},
                                      kernel_shape{.kh = 5, .kw = 3}, kernel_shape{.o = 4, .i = 6, .groups = 2}}) {
            rng r(821, stream++);
            const conv_params params{.pad = {k.kh / 2, k.kw / 2}, .mode = mode};
            const candidate_case one(r, k, params, {2, k.i, 13, 11});
            const conv::plan chosen = conv::make_plan(one.q, one.in, conv::input_order::any, 1, "test");
            const std::vector<float> exact = one.exact();
            int same = 0;
            for (conv::plan& p : conv::candidates(one.q, one.in, conv::input_order::any, 1, "test")) {
                INFO(to_string(k) << ": " << conv::explain(one.q, p));
                CHECK(p.prepared == nullptr);
                CHECK(p.predicted_cycles > 0.0);
                conv::prepare(one.q, p);
                const std::vector<float> y = one.run(p);
                float worst = 0.0F;
                for (std::size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::abs(y[i] - exact[i]));
                CHECK(worst < 2e-4F);
                same += p.name == chosen.name && p.predicted_cycles == chosen.predicted_cycles ? 1 : 0;
                // A kernel that was prepared before, for another plan, is the same one.
                if (p.name == chosen.name) CHECK(p.prepared == chosen.prepared);
            }
            CHECK(same == 1);
        }
}

TEST_CASE("Kernels that do not fit the budget are prepared part by part") {
    rng r(822, 0);
    const index_t c = 2 * lanes;
    candidate_case one(r, {.o = c, .i = c, .kh = 3, .kw = 3}, {.pad = 1}, {1, c, 28, 28});
    const auto prepared_with = [&](index_t budget) {
        one.q.transform_budget = budget;
        std::vector<index_t> bytes;
        for (conv::plan& p : conv::candidates(one.q, one.in, conv::input_order::any, 1, "test")) {
            conv::prepare(one.q, p);
            bytes.push_back(conv::prepared_bytes(p));
        }
        return bytes;
    };
    const index_t two = 16 * c * c * 4, four = 36 * c * c * 4, six = 64 * c * c * 4;
    CHECK(prepared_with(six) == std::vector<index_t>{0, two, four, six});
    CHECK(prepared_with(six - 1) == std::vector<index_t>{0, two, four, 0});
    CHECK(prepared_with(1) == std::vector<index_t>{0, 0, 0, 0});
}

TEST_CASE("An algorithm needs a table of functions and nothing else") {
    rng r(824, 0);
    const candidate_case one(r, {.o = 5, .i = 3, .kh = 3, .kw = 3}, {.pad = 1}, {2, 3, 6, 7});
    const conv::plan_request request{.layer = one.q, .in = one.in, .out = one.out, .params = one.params, .map = one.in};
    conv::offer_list offers;
    slow::functions.offers(request, offers);
    REQUIRE(offers.size() == 1);
    conv::plan p = slow::functions.make_plan(request, offers.front().variant);
    p.by = &slow::functions;
    conv::prepare(one.q, p);
    CHECK(one.run(p) == one.exact());
    CHECK(conv::row_multiple(p) == 0);
    CHECK(conv::prepared_bytes(p) == 0);
    const std::string text = conv::explain(one.q, p);
    INFO(text);
    CHECK(text.find("slow, about 0 kcycles, gate in the sum, spatial in the sum, 10 tasks on 1 thread") == 0);
}
