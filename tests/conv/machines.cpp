// Plans for other machines than the one that runs them: their workspace, what they say, and their bits.
#include <kdna/dna/condconv.hpp>
#include <kdna/nn/conv2d.hpp>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/explanation.hpp"
#include "support/lanes.hpp"
#include "support/random_machine.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

machine with_caches(index_t l2_kib, index_t l3_kib) {
    machine m{.name = concat("L2 of ", l2_kib, " KiB")};
    m.l2_bytes = l2_kib * 1024;
    m.l3_bytes = l3_kib * 1024;
    return m;
}

/// One layer of every kind of nest, each with more input than any block holds.
struct nest_shape {
    kernel_shape kernel;
    conv_params params;
    const char* nest;
};
const std::vector<nest_shape> nest_shapes{
    {{.o = 64, .i = 65, .kh = 3, .kw = 3}, {.stride = 2, .pad = 1}, ": direct"},
    {{.o = 32, .i = 32, .kh = 3, .kw = 3, .groups = 8}, {.pad = 1}, ": im2col"},
    {{.o = 4 * lanes, .i = 4 * lanes, .kh = 3, .kw = 3}, {.pad = 1}, ": winograd"},
    {{.o = 40, .i = 40, .kh = 3, .kw = 3, .groups = 40}, {.pad = 1}, ": depthwise"},
    {{.o = 2, .i = 2, .kh = 5, .kw = 5, .groups = 2}, {.pad = 2}, ": planes"}};

auto layer_with(const nest_shape& s, rng& r) {
    return conv2d(dense_kernel::pack(s.kernel, r.floats(weight_count(s.kernel), -0.3, 0.3)), s.params);
}

template <class Layer>
std::vector<float> outputs_of(const Layer& layer, const tensor<float>& x, const plan_options& options) {
    auto plan = layer.plan(x.shape(), options);
    tensor<float> y(plan.output_shape());
    layer.run(plan, x.view(), y.view());
    return {y.span().begin(), y.span().end()};
}

tensor<float> random_input(rng& r, const shape4& s) {
    tensor<float> x(s);
    for (float& v : x.span()) v = static_cast<float>(r.real(-1.0, 1.0));
    return x;
}

}  // namespace

TEST_CASE("Plans say which machine they are for, and the workspace shrinks with its caches") {
    rng r(830, 0);
    for (const nest_shape& s : nest_shapes)
        for (const index_t l3 : {0, 32 * 1024}) {
            const auto layer = layer_with(s, r);
            index_t last = 0, first = 0;
            for (const index_t l2 : {16, 64, 256, 512, 1024, 2048}) {
                const machine m = with_caches(l2, l3);
                const auto plan = layer.plan({1, s.kernel.i, 96, 96}, {.target = m});
                INFO(plan.explain());
                CHECK(plan.explain().ends_with(concat(", for ", m.name)));
                CHECK(plan.workspace_bytes() >= last);
                last = plan.workspace_bytes();
                if (first == 0) first = last;
            }
            const auto plan = layer.plan({1, s.kernel.i, 96, 96}, {.target = with_caches(512, l3)});
            INFO(plan.explain());
            CHECK(plan.explain().find(s.nest) != std::string::npos);
            // A depthwise nest keeps nothing but what it reads in place.
            if (s.nest != std::string_view(": depthwise")) CHECK(last > first);
        }
}

TEST_CASE("Blocks follow L2, and what is read from memory instead of L3 counts for more") {
    rng r(831, 0);
    const auto layer = layer_with({{.o = 64, .i = 64, .kh = 3, .kw = 3}, {.stride = 2, .pad = 1}, ""}, r);
    const auto text = [&](index_t l2) {
        return explanation_of(layer, {1, 64, 96, 96}, {.target = with_caches(l2, 0)});
    };
    // Five sixteenths of L2, in rows of 64 floats.
    INFO(text(128));
    CHECK(text(128) != text(1024));
    const auto cycles = [&](index_t l2, index_t l3) {
        return layer.plan({1, 64, 96, 96}, {.target = with_caches(l2, l3)}).predicted_cycles();
    };
    CHECK(cycles(256, 0) > cycles(256, 8192));
    CHECK(cycles(256, 8192) > cycles(2048, 8192));
    // A machine that multiplies half as fast takes longer, but what is not multiplied it does as fast.
    machine slow = with_caches(512, 8192);
    slow.floats_per_cycle = static_cast<double>(lanes);
    const machine fast = [&] {
        machine m = slow;
        m.floats_per_cycle *= 2.0;
        return m;
    }();
    const auto cycles_on = [&](const machine& m) {
        return layer.plan({1, 64, 96, 96}, {.target = m}).predicted_cycles();
    };
    CHECK(cycles_on(slow) > 1.5 * cycles_on(fast));
    CHECK(cycles_on(slow) < 2.0 * cycles_on(fast));
}

TEST_CASE("Rows that compete for a set of L1 are found by the size of its ways") {
    rng r(832, 0);
    const auto layer = conv2d(dense_kernel::pack({.o = 64, .i = 1024}, r.floats(64 * 1024)), {}, {.name = "pointwise"});
    const auto text = [&](index_t l1_kib, index_t ways) {
        machine m = machine::named("zen4");
        m.l1_bytes = l1_kib * 1024;
        m.l1_ways = ways;
        return explanation_of(layer, {1, 1024, 14, 14}, {.target = m});
    };
    const auto has_tile = [](const std::string& s, index_t height) {
        return s.find(concat(", tile ", height, "x")) != std::string::npos;
    };
    // Rows of 4 KiB: ways of 4, of 16, and of 2 KiB.
    INFO(text(32, 8) << "\n" << text(128, 8) << "\n" << text(8, 4));
    const bool many_registers = has_tile(text(128, 8), 14);
    CHECK(has_tile(text(32, 8), many_registers ? 7 : 6));
    CHECK(has_tile(text(128, 8), many_registers ? 14 : 6));
    CHECK(has_tile(text(8, 4), 4));
    CHECK(has_tile(text(48, 12), many_registers ? 8 : 6));
    CHECK(has_tile(text(64, 16), many_registers ? 14 : 6));
}

TEST_CASE("The same description gives the same plan and the same bits") {
    for (int i = 0; i < scaled(40); ++i) {
        rng r(833, static_cast<std::uint64_t>(i));
        const nest_shape& s = nest_shapes[static_cast<std::size_t>(i) % nest_shapes.size()];
        const auto layer = layer_with(s, r);
        const machine m = random_machine(r), again = m;
        const tensor<float> x = random_input(r, {r.between(1, 2), s.kernel.i, r.between(9, 40), r.between(9, 40)});
        INFO(to_string(m));
        CHECK(explanation_of(layer, x.shape(), {.target = m}) == explanation_of(layer, x.shape(), {.target = again}));
        CHECK(bool(outputs_of(layer, x, {.target = m}) == outputs_of(layer, x, {.target = again})));
    }
}

TEST_CASE("Caches decide about bits by the algorithm, and by the channels that Winograd transforms at a time") {
    int alike = 0;
    for (int i = 0; i < scaled(200); ++i) {
        rng r(834, static_cast<std::uint64_t>(i));
        const nest_shape& s = nest_shapes[static_cast<std::size_t>(i) % nest_shapes.size()];
        const auto layer = layer_with(s, r);
        const machine m = random_machine(r);
        const shape4 in{r.between(1, 2), s.kernel.i, r.between(9, 40), r.between(9, 40)};
        const tensor<float> x = random_input(r, in);
        // Kernels kept transformed, or transformed panel by panel.
        const index_t budget = r.chance(0.5) ? index_t{1} << 40 : 1;
        const auto decisions = [&](const machine& target) {
            const std::string text = explanation_of(layer, in, {.transform_budget = budget, .target = target});
            const auto first = text.find("): ", text.find(" on (")) + 3, parts = text.find("as they are used, ");
            return text.substr(first, text.find(',', first) - first) +
                   (parts == std::string::npos ? "" : text.substr(parts, text.find(" at a time") - parts));
        };
        if (decisions(m) != decisions(machine::host())) continue;
        ++alike;
        INFO(to_string(m) << ", " << explanation_of(layer, in, {.transform_budget = budget, .target = m}));
        CHECK(bool(outputs_of(layer, x, {.transform_budget = budget, .target = m}) ==
                   outputs_of(layer, x, {.transform_budget = budget})));
    }
    CHECK(alike > scaled(200) / 2);
}

TEST_CASE("A machine that cannot be is refused when a layer is planned for it") {
    rng r(835, 0);
    const auto layer = layer_with(nest_shapes.front(), r);
    machine m{.name = "broken"};
    m.l2_bytes = 0;
    check_error([&] { return layer.plan({1, 65, 8, 8}, {.target = m}); }, "machine broken L2", "bytes", "0");
}
