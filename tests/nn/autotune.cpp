// Plans that time their candidates: right results, what explain() says, the budget, and no kernels of losers.
#include <cmath>

#include <kdna/backend/reference.hpp>

#include "nn/networks.hpp"
#include "support/executors.hpp"
#include "support/explanation.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

constexpr index_t layer_channels = 2 * simd::lanes;
const kernel_shape layer_shape{.o = layer_channels, .i = layer_channels, .kh = 3, .kw = 3};

bool has(const std::string& text, std::string_view words) { return text.find(words) != std::string::npos; }

/// A child with everything a layer may have.
template <class Backend>
auto child_layer() {
    rng r(800, 0);
    const auto weights = r.floats(weight_count(layer_shape), -0.2, 0.2), spatial = r.floats(9, -0.3, 0.3),
               filter = r.floats(layer_channels, -0.3, 0.3);
    return conv2d<dense_kernel, squeeze_excite, Backend>(
        parent_kernel::pack(layer_shape, weights).child({.spatial = spatial, .filter = filter}), {.pad = 1},
        {.residual = true, .act = activation::relu}, gate_of(se_tensors::random(r, layer_channels, 3)));
}

auto plain_layer(index_t kernel_extent) {
    rng r(801, 0);
    kernel_shape k = layer_shape;
    k.kh = k.kw = kernel_extent;
    return conv2d(dense_kernel::pack(k, r.floats(weight_count(k), -0.2, 0.2)), {.pad = kernel_extent / 2});
}

template <class Layer>
index_t storage_bytes(const Layer& layer) {
    index_t bytes = 0;
    layer.for_each_storage([&](const void*, index_t size) { bytes += size; });
    return bytes;
}

}  // namespace

TEST_CASE("A tuned layer computes what the reference backend computes") {
    const auto layer = child_layer<backend::cpu>();
    const auto oracle = child_layer<backend::reference>();
    for (const index_t n : {1, 3})
        for (const auto order : {input_order::any, input_order::nhwc})
            for (const index_t threads : {1, 3}) {
                rng r(802, static_cast<std::uint64_t>(n));
                frame x(r, {n, layer_channels, 9, 10}, order == input_order::any ? placement::nchw : placement::nhwc);
                frame residual(r, {n, layer_channels, 9, 10}, placement::nhwc),
                    y(r, {n, layer_channels, 9, 10}, placement::nhwc);
                x.fill(r);
                residual.fill(r);
                shuffling_executor executor(threads, r.bits());
                auto plan = layer.plan(
                    x.view().shape, {.executor = executor, .order = order, .channel_means = n == 3, .autotune = true});
                std::vector<float> means(static_cast<std::size_t>(n * layer_channels));
                layer.run(plan, x.view(), y.view(), residual.view(), {.output = n == 3 ? means.data() : nullptr});
                CHECK(has(plan.explain(), ", tuned: "));
                CHECK(error_of(values_of(y.view()), values_of(oracle(x.view(), residual.view()))) <= 1e-5);
                CHECK(y.guards_intact());
            }
}

TEST_CASE("A tuned plan says what it tried, and is one of the candidates") {
    const auto layer = plain_layer(3);
    const auto plan = layer.plan({1, layer_channels, 28, 28}, {.autotune = true});
    const std::string& text = plan.explain();
    INFO(text);
    CHECK(has(text, ", tuned: "));
    CHECK(has(text, " winograd F(4x4) "));
    CHECK(text.substr(text.size() - 3) == " ms");
    CHECK(has(text, ": winograd F(") == (plan.transformed_bytes() > 0));
    CHECK_FALSE(has(kdna_test::explanation_of(layer, {1, layer_channels, 28, 28}), "tuned"));
    // Nothing to choose.
    CHECK_FALSE(
        has(kdna_test::explanation_of(plain_layer(1), {1, layer_channels, 28, 28}, {.autotune = true}), "tuned"));
    CHECK_FALSE(
        has(kdna_test::explanation_of(layer, {1, layer_channels, 28, 28}, {.transform_budget = 0, .autotune = true}),
            "tuned"));
    CHECK_FALSE(
        has(kdna_test::explanation_of(child_layer<backend::reference>(), {1, layer_channels, 9, 9}, {.autotune = true}),
            "tuned"));
}

TEST_CASE("Depthwise layers are tuned between channels and columns in the vectors") {
    const auto text_of = [](index_t channels, const plan_options& options) {
        rng r(804, 0);
        const kernel_shape k{.o = channels, .i = channels, .kh = 5, .kw = 5, .groups = channels};
        // Rows do not slide over dilated columns.
        const conv2d layer(dense_kernel::pack(k, r.floats(weight_count(k), -0.2, 0.2)), {.pad = 4, .dilation = 2});
        return kdna_test::explanation_of(layer, {1, channels, 48, 48}, options);
    };
    const std::string either = text_of(simd::lanes, {.autotune = true});  // expected to take about as long
    INFO(either);
    CHECK(has(either, " depthwise "));
    CHECK(has(either, " planes "));
    // What is to run in bands is not run on planes, which cannot.
    for (const bool autotune : {false, true}) {
        CHECK(has(text_of(3, {.autotune = autotune}), ": planes, "));
        CHECK(has(text_of(3, {.in_bands = true, .autotune = autotune}), ": depthwise, "));
    }
}

TEST_CASE("Tuning keeps to the budget") {
    const index_t bytes2 = 16 * layer_channels * layer_channels * 4;
    const auto plan = plain_layer(3).plan({1, layer_channels, 28, 28}, {.transform_budget = bytes2, .autotune = true});
    INFO(plan.explain());
    CHECK(has(plan.explain(), " winograd F(2x2) "));
    CHECK(plan.transformed_bytes() <= bytes2);
}

TEST_CASE("Kernels transformed for losing candidates are not kept, those of other plans are") {
    const auto layer = plain_layer(3);
    const index_t shared = storage_bytes(layer);
    {
        const auto plan = layer.plan({1, layer_channels, 28, 28}, {.autotune = true});
        CHECK(storage_bytes(layer) == shared + plan.transformed_bytes());
    }
    const auto held = layer.plan({1, layer_channels, 28, 28});  // F(4x4), by the cost model
    REQUIRE(held.transformed_bytes() > 0);
    for (int i = 0; i < 5; ++i) {
        const auto plan = layer.plan({1, layer_channels, 6, 6}, {.autotune = true});
        const bool same = plan.transformed_bytes() == held.transformed_bytes();
        CHECK(storage_bytes(layer) == shared + held.transformed_bytes() + (same ? 0 : plan.transformed_bytes()));
    }
}

TEST_CASE("A network passes the option on to its layers") {
    rng r(803, 0);
    network_builder b;
    const auto x = b.input(layer_channels);
    const auto weights = r.floats(weight_count(layer_shape), -0.2, 0.2);
    const auto net = std::move(b).build(b.add(conv2d(dense_kernel::pack(layer_shape, weights), {.pad = 1}), x));
    frame in(r, {1, layer_channels, 12, 12}, placement::nchw);
    in.fill(r);
    auto plan = net.plan(in.view().shape, {.autotune = true});
    CHECK(has(plan.explain(), ", tuned: "));
    CHECK_FALSE(has(net.plan(in.view().shape).explain(), "tuned"));
    tensor<float> y(plan.output_shape());
    net.run(plan, in.view(), y.view());
    const conv2d<dense_kernel, no_router, backend::reference> oracle(dense_kernel::pack(layer_shape, weights),
                                                                     {.pad = 1});
    CHECK(error_of(values_of(y.view()), values_of(oracle(in.view()))) <= 1e-5);
}
