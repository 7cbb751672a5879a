// One layer or network, many threads, each with a plan of its own.
#include "nn/networks.hpp"

#include <thread>

#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

/// Calls f(thread) on four threads at once; true if every call returned true.
template <class F>
bool on_four_threads(F&& f) {
    std::vector<int> right(4, 0);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < right.size(); ++t) threads.emplace_back([&, t] { right[t] = f(t) ? 1 : 0; });
    for (std::thread& t : threads) t.join();
    return std::all_of(right.begin(), right.end(), [](int v) { return v == 1; });
}

template <method Kind>
void check_layer(std::uint64_t stream) {
    for (int i = 0; i < scaled(20); ++i) {
        rng r(stream, static_cast<std::uint64_t>(i));
        conv_case c = random_case(r, Kind, 3e4);
        const auto layer = make_layer<Kind, backend::cpu>(c);
        frame x(r, c.in, c.x_at), residual(r, layer.output_shape(c.in), c.residual_at);
        x.fill(r);
        residual.fill(r);
        const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
        const auto expected = values_of(layer(x.view(), added, {.order = c.order}));
        KDNA_TEST_CASE_INFO(i, c.describe());
        const bool right = on_four_threads([&](std::size_t) {
            auto plan = layer.plan(c.in, {.order = c.order});
            tensor<float> y(plan.output_shape());
            for (int again = 0; again < 3; ++again) layer.run(plan, x.view(), y.view(), added);
            return same_bits(expected, values_of(y.view()));
        });
        if (!right) FAIL("other bits");
    }
}

}  // namespace

TEST_CASE("One layer serves many threads", "[threads]") {
    check_layer<method::plain>(440);
    check_layer<method::gated>(441);
    check_layer<method::condconv>(442);
}

TEST_CASE("Children on several threads read one parent", "[threads]") {
    rng r(443, 0);
    const kernel_shape k{.o = 20, .i = 20, .kh = 3, .kw = 3};
    const auto weights = r.floats(weight_count(k)), spatial = r.floats(9);
    std::optional<parent_kernel> parent = parent_kernel::pack(k, weights);
    std::vector<conv2d<dense_kernel, squeeze_excite>> children;
    for (int i = 0; i < 4; ++i)
        children.emplace_back(parent->child({.spatial = spatial}), conv_params{.pad = 1}, conv_options{},
                              gate_of(se_tensors::random(r, 20, 3)));
    parent.reset();
    frame x(r, {1, 20, 7, 7}, placement::nhwc);
    x.fill(r);
    std::vector<std::vector<float>> expected;
    for (const auto& child : children) expected.push_back(values_of(child(x.view())));
    CHECK(on_four_threads([&](std::size_t t) {
        const auto mine = std::move(children[t]);  // the last handle of each child goes away on its thread
        return same_bits(expected[t], values_of(mine(x.view())));
    }));
}

TEST_CASE("One network serves many threads, each with several workers", "[threads]") {
    for (int i = 0; i < scaled(20); ++i) {
        rng r(444, static_cast<std::uint64_t>(i));
        const twin_networks twins = random_network(r, 3, true);
        tensor<float> x({2, 3, 12, 12});
        for (float& v : x.span()) v = static_cast<float>(r.real(-1, 1));
        const auto expected = values_of((*twins.network)(x.view()));
        const bool right = on_four_threads([&](std::size_t t) {
            shuffling_executor workers(1 + static_cast<index_t>(t), t);
            auto plan = twins.network->plan(x.shape(), {.executor = workers});
            tensor<float> y(plan.output_shape());
            for (int again = 0; again < 2; ++again) twins.network->run(plan, x.view(), y.view());
            return same_bits(expected, values_of(y.view()));
        });
        KDNA_TEST_CASE_INFO(i, "");
        if (!right) FAIL("other bits");
    }
}

TEST_CASE("Networks have the same bits on 1 to 5 threads", "[threads]") {
    for (int i = 0; i < scaled(40); ++i) {
        rng r(445, static_cast<std::uint64_t>(i));
        const twin_networks twins = random_network(r, 3, r.chance(0.5));
        frame x(r, {r.between(1, 3), 3, r.between(5, 14), r.between(5, 14)}, placement::nchw);
        x.fill(r);
        const auto one = values_of((*twins.network)(x.view()));
        for (index_t threads = 2; threads <= 5; ++threads) {
            shuffling_executor workers(threads, r.bits());
            KDNA_TEST_CASE_INFO(i, concat(threads, " threads"));
            if (!same_bits(one, values_of((*twins.network)(x.view(), {.executor = workers})))) FAIL("other bits");
        }
    }
}
