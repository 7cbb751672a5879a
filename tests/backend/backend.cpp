// Backends: the reference by hand-computed numbers, and one of the user's own.
#include <atomic>

#include <kdna/backend/reference.hpp>
#include <kdna/nn/conv2d.hpp>

#include "support/errors.hpp"
#include "support/explanation.hpp"
#include "support/run_case.hpp"

using namespace kdna;

namespace {

/// The CPU backend, counting its runs: what a user's own backend minimally is.
struct counting_backend {
    using plan = backend::cpu::plan;
    static inline std::atomic<int> runs{0};
    [[nodiscard]] static plan make_plan(const conv::problem& q, const shape4& in, conv::input_order order,
                                        index_t threads, std::string_view where) {
        return backend::cpu::make_plan(q, in, order, threads, where);
    }
    static void run(const plan& p, const conv::call& c, std::byte* workspace, const executor_ref& executor) noexcept {
        ++runs;
        backend::cpu::run(p, c, workspace, executor);
    }
    [[nodiscard]] static std::string explain(const conv::problem&, const plan&) { return "counted"; }
};
static_assert(conv_backend<counting_backend>);

template <class Backend>
std::vector<float> by_hand(activation act) {
    // 2x2 input, one 2x2 filter of 1, 2, 3, 4 padded by one at the top and the left.
    const std::vector<float> weights{1, 2, 3, 4}, x{1, -1, 2, 5}, bias{0.5F}, residual{1, 0, -1, -100};
    const std::vector<float> gamma{2}, beta{1}, mean{-1}, var{3}, spatial{0, 1, 0, -0.5F}, filter{1};
    // s = (1, 2, 1, 0.5): effective weights 1, 4, 3, 2, times m = 2; BN: 2 * (v + 1) / 2 + 1 = v + 2 with eps = 1.
    const conv_options options{.bn = batch_norm{.weight = gamma, .bias = beta, .mean = mean, .var = var, .eps = 1.0},
                               .bias = bias,
                               .residual = true,
                               .act = act};
    const conv2d<dense_kernel, no_router, Backend> layer(
        dense_kernel::pack({.kh = 2, .kw = 2}, weights).child({.spatial = spatial, .filter = filter}),
        {.pad = {1, 0, 1, 0}}, options);
    return kdna_test::values_of(layer(nchw_view(x.data(), 1, 1, 2, 2), nchw_view(residual.data(), 1, 1, 2, 2)));
}

}  // namespace

TEST_CASE("A small convolution with every factor is what it is by hand") {
    // conv: 2*1 = 2; 3*1 + 2*(-1) = 1; 4*1 + 2*2 = 8; 1*1 + 4*(-1) + 3*2 + 2*5 = 13. y = 2 * conv + 0.5 + 2 + residual.
    const std::vector<float> none{7.5F, 4.5F, 17.5F, -71.5F}, relu{7.5F, 4.5F, 17.5F, 0.0F},
        relu6{6.0F, 4.5F, 6.0F, 0.0F};
    CHECK(by_hand<backend::reference>(activation::none) == none);
    CHECK(by_hand<backend::reference>(activation::relu) == relu);
    CHECK(by_hand<backend::reference>(activation::relu6) == relu6);
    CHECK(by_hand<backend::cpu>(activation::none) == none);
    CHECK(by_hand<backend::cpu>(activation::relu) == relu);
    CHECK(by_hand<backend::cpu>(activation::relu6) == relu6);
}

TEST_CASE("A backend of the user's own runs every layer") {
    kdna_test::rng r(500, 0);
    const auto c = kdna_test::random_case(r, kdna_test::method::gated);
    const auto mine = kdna_test::make_layer<kdna_test::method::gated, counting_backend>(c);
    const auto cpu = kdna_test::make_layer<kdna_test::method::gated, backend::cpu>(c);
    kdna_test::frame x(r, c.in, c.x_at), residual(r, cpu.output_shape(c.in), c.residual_at);
    x.fill(r);
    residual.fill(r);
    const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
    const int before = counting_backend::runs;
    const auto y = kdna_test::values_of(mine(x.view(), added));
    CHECK(counting_backend::runs == before + 1);
    CHECK(kdna_test::same_bits(y, kdna_test::values_of(cpu(x.view(), added))));
    CHECK(kdna_test::explanation_of(mine, c.in).find("counted") != std::string::npos);
}

TEST_CASE("Both backends refuse the same inputs with the same words") {
    const std::vector<float> weights(36);
    const auto kernel = dense_kernel::pack({.o = 2, .i = 2, .kh = 3, .kw = 3}, weights);
    const conv2d fast(kernel, {}, {.name = "c"});
    const conv2d<dense_kernel, no_router, backend::reference> slow(kernel, {}, {.name = "c"});
    for (const shape4 in :
         {shape4{1, 3, 5, 5}, shape4{1, 2, 2, 5}, shape4{0, 2, 5, 5}, shape4{1, 2, index_t{1} << 40, index_t{1} << 40}})
        CHECK(std::string(kdna_test::error_of([&] { return kdna_test::explanation_of(fast, in); }).what()) ==
              kdna_test::error_of([&] { return kdna_test::explanation_of(slow, in); }).what());
}

TEST_CASE("NaN goes through the reference's activations as through the CPU's") {
    const float x = std::numeric_limits<float>::quiet_NaN(), one = 1.0F;
    for (const activation act : {activation::none, activation::relu, activation::relu6}) {
        const conv2d<dense_kernel, no_router, backend::reference> layer(dense_kernel::pack({}, {&one, 1}), {},
                                                                        {.act = act});
        CHECK(std::isnan(layer(nchw_view(&x, 1, 1, 1, 1)).data()[0]));
    }
}
