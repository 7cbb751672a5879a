// Every activation in every loop nest.
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// What the CPU's plan must say, and the problems for which it does.
struct nest {
    const char* words;
    method kind;
    kernel_shape kernel;
    conv_params params;
    shape4 in;
    bool may_transform = false;
};

const std::vector<nest>& nests() {
    static const std::vector<nest> all{
        {": direct,", method::plain, {.o = 40, .i = 32, .kh = 3, .kw = 3}, {.pad = 1}, {2, 32, 7, 7}},
        {": direct,", method::gated, {.o = 2 * lanes + 3, .i = 33}, {}, {1, 33, 5, 9}},
        {": direct,", method::plain, {.o = 24, .i = 16, .kh = 3, .kw = 3, .groups = 2}, {.pad = 1}, {1, 16, 6, 5}},
        {": im2col,", method::plain, {.o = 20, .i = 3, .kh = 3, .kw = 3}, {.pad = 2, .dilation = 2}, {2, 3, 13, 11}},
        {": depthwise,", method::gated, {40, 40, 3, 3, 40}, {.pad = 1}, {2, 40, 6, 9}},
        {": depthwise,", method::plain, {35, 35, 5, 5, 35}, {.stride = 2, .pad = 2}, {1, 35, 9, 8}},
        {": planes,", method::plain, {3, 3, 5, 5, 3}, {.pad = 2}, {2, 3, 20, 37}},
        {": winograd F(2x2", method::plain, {.o = 64, .i = 64, .kh = 3, .kw = 3}, {.pad = 1}, {1, 64, 4, 4}, true},
        {": winograd F(4x4",
         method::gated,
         {.o = 2 * lanes + 3, .i = 64, .kh = 3, .kw = 3},
         {.pad = 1},
         {2, 64, 13, 11},
         true},
        {"input mixed", method::condconv, {.o = 45, .i = 24}, {}, {3, 24, 1, 2}},
    };
    return all;
}

conv_case case_of(rng& r, const nest& n, activation_kind kind) {
    conv_case c;
    c.kind = n.kind;
    c.kernel = n.kernel;
    c.params = n.params;
    c.in = n.in;
    randomise_call(r, c);
    if (is_mixture(n.kind)) c.mixture = 4;
    randomise_tensors(r, c);
    c.act = {r, kind, c.kernel.o};
    c.may_transform = n.may_transform;
    c.threads = r.between(1, 2);
    return c;
}

case_result run(rng& r, const conv_case& c) {
    switch (c.kind) {
        case method::gated: return run_case<method::gated>(r, c);
        case method::condconv: return run_case<method::condconv>(r, c);
        default: return run_case<method::plain>(r, c);
    }
}

}  // namespace

TEST_CASE("Every activation in every nest, with any layout, residual and means of channels") {
    std::size_t stream = 700;
    for (const nest& n : nests()) {
        ++stream;
        int ran = 0;
        for (const activation_kind kind : all_activation_kinds())
            for (int i = 0; i < scaled(4); ++i) {
                rng r(stream, static_cast<std::uint64_t>(i));
                const conv_case c = case_of(r, n, kind);
                const case_result result = run(r, c);
                KDNA_TEST_CASE_INFO(i, c.describe() + "\n" + result.plan);
                if (!result.problem.empty()) FAIL(result.problem);
                ran += result.plan.find(n.words) != std::string::npos ? 1 : 0;
            }
        // An input that is mixed takes no means of channels, so a case that wants them runs in another nest.
        INFO(ran << " cases in the nest " << n.words);
        CHECK(ran >= activation_kinds * scaled(4) / (n.kind == method::condconv ? 3 : 1));
    }
}

TEST_CASE("An activation gives the same bits whatever the layout, the batch and the threads") {
    for (const nest& n : nests()) {
        if (n.kind == method::condconv) continue;
        for (const activation_kind kind : all_activation_kinds()) {
            rng r(720, 0);
            conv_case c = case_of(r, n, kind);
            c.residual = false;
            const auto layer = make_layer<method::plain, backend::cpu>(c);
            const auto x = r.floats(element_count(c.in));
            const auto from = make_view(x.data(), c.in, layout::nhwc);
            const auto run_to = [&](layout order, index_t threads) {
                shuffling_executor workers(threads, r.bits());
                auto plan = layer.plan(c.in, {.executor = workers, .transform_budget = n.may_transform ? 1 << 30 : 0});
                tensor<float> y(plan.output_shape(), order);
                layer.run(plan, from, y.view());
                return values_of(y.view());
            };
            const auto alone = run_to(layout::nhwc, 1);
            INFO(to_string(kind) << n.words);
            CHECK(same_bits(alone, run_to(layout::nhwc, 3)));
            // A clamp is part of a sum's last operation or of none; the other functions see the same sums in any layout.
            if (n.words != std::string(": depthwise,")) CHECK(same_bits(alone, run_to(layout::nchw, 1)));
        }
    }
}
