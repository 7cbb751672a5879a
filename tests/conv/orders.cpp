// In which order a kernel that differs from sample to sample is put together and used: what plans choose, and that results do
// not depend on it.
#include <kdna/dna/acdc.hpp>
#include <kdna/dna/kernel_warehouse.hpp>

#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/explanation.hpp"
#include "support/patient_reference.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// Runs a layer and its reference on `in`, on several threads as well; returns the error, and checks that threads and the rest
/// of a batch change no bit.
template <class Make>
double run_layer(const Make& make, const shape4& in, const plan_options& options, std::string& text) {
    rng r(860, static_cast<std::uint64_t>(in.c * 31 + in.h));
    frame x(r, in, placement::nhwc);
    x.fill(r);
    const auto layer = make.template operator()<backend::cpu>();
    const auto oracle = make.template operator()<patient_reference>();
    const auto y = values_of(layer(x.view(), {}, options));
    text = kdna_test::explanation_of(layer, in, options);
    for (const index_t threads : {2, 3}) {
        plan_options several = options;
        shuffling_executor pool(threads);
        several.executor = pool;
        CHECK(same_bits(values_of(layer(x.view(), {}, several)), y));
    }
    const auto alone = values_of(layer(x.view().samples(in.n - 1, 1), {}, options));
    const std::vector<float> last(y.end() - static_cast<std::ptrdiff_t>(alone.size()), y.end());
    if (!options.equal_routes) CHECK(same_bits(alone, last));
    return error_of(y, values_of(oracle(x.view())));
}

}  // namespace

TEST_CASE("Panels of many channels are transformed in parts, for several samples at a time") {
    rng r(861, 0);
    for (const index_t channels : {72, 200, 330}) {
        if (channels > 72 && scaled(100) < 10) continue;  // minutes where the processor is emulated
        const kernel_shape k{.o = 40, .i = channels, .kh = 3, .kw = 3};
        const auto weights = r.floats(3 * weight_count(k), -0.1, 0.1);
        const linear_router router(r, channels, {.mixture = 3, .channel = channels, .filter = k.o, .spatial = 9});
        const auto mixed = [&]<class B>() {
            return conv2d<mixture_kernel, linear_router, B>(mixture_kernel::pack(3, k, weights), {.pad = 1}, {},
                                                            router);
        };
        const linear_router spatial(r, channels, {.spatial = 9});
        const auto dense = [&]<class B>() {
            return conv2d<dense_kernel, linear_router, B>(
                dense_kernel::pack(k, std::span(weights).first(weights.size() / 3)), {.pad = 1}, {}, spatial);
        };
        const auto cells =
            warehouse::pack({.n = 5, .o = 20, .c = channels / 2}, r.floats(5 * 20 * channels / 2, -0.1, 0.1));
        const linear_router alpha(r, channels, {.mixture = 5 * 36});
        const auto celled = [&]<class B>() {
            return conv2d<warehouse_kernel, linear_router, B>(warehouse_kernel(cells, k), {.pad = 1}, {}, alpha);
        };
        const auto plain = [&]<class B>() {
            return conv2d<dense_kernel, no_router, B>(
                dense_kernel::pack(k, std::span(weights).first(weights.size() / 3)), {.pad = 1});
        };
        for (const shape4& in : {shape4{3, channels, 7, 7}, shape4{2, channels, 13, 14}, shape4{1, channels, 30, 16}}) {
            INFO(to_string(in));
            std::string text;
            CHECK(run_layer(mixed, in, {.order = input_order::nhwc}, text) < 3e-5);
            CHECK(has(text, "panels transformed as they are used"));
            CHECK(run_layer(dense, in, {.order = input_order::nhwc}, text) < 3e-5);
            CHECK(run_layer(celled, in, {.order = input_order::nhwc}, text) < 3e-5);
            CHECK(run_layer(plain, in, {.order = input_order::nhwc, .transform_budget = 1}, text) < 3e-5);
            CHECK(has(text, "panels transformed as they are used"));
        }
    }
}

TEST_CASE("Threads transform panels of their own", "[threads]") {
    rng r(864, 0);
    const kernel_shape k{.o = 40, .i = 32, .kh = 3, .kw = 3};
    const auto weights = r.floats(3 * weight_count(k), -0.1, 0.1);
    const linear_router router(r, k.i, {.mixture = 3, .channel = k.i, .spatial = 9});
    const auto mixed = [&]<class B>() {
        return conv2d<mixture_kernel, linear_router, B>(mixture_kernel::pack(3, k, weights), {.pad = 1}, {}, router);
    };
    std::string text;
    CHECK(run_layer(mixed, {2, k.i, 12, 12}, {.order = input_order::nhwc}, text) < 3e-5);
    CHECK(text.find("panels transformed as they are used") != std::string::npos);
}

TEST_CASE("On maps of a few pixels the input is mixed, not the kernels", "[threads]") {
    rng r(862, 0);
    for (const bool routes_filters : {false, true}) {
        const kernel_shape k{.o = 45, .i = 24, .kh = 1, .kw = 1};
        const auto weights = r.floats(4 * weight_count(k));
        const linear_router router(r, k.i, {.mixture = 4, .channel = k.i, .filter = routes_filters ? k.o : 0});
        const auto make = [&]<class B>() {
            return conv2d<mixture_kernel, linear_router, B>(mixture_kernel::pack(4, k, weights), {}, {}, router);
        };
        for (const index_t samples : {1, 2, 9, 17}) {
            std::string text;
            CHECK(run_layer(make, {samples, k.i, 1, 1}, {}, text) < 1e-5);
            CHECK(has(text, "input mixed for all 4 kernels"));
            CHECK(run_layer(make, {samples, k.i, 6, 6}, {}, text) < 1e-5);
            CHECK(has(text, "panels assembled"));
        }
    }
}

TEST_CASE("A map whose input is mixed is cut into blocks, by threads or by deep rows", "[threads]") {
    rng r(865, 0);
    for (const index_t channels : {24, 700}) {
        // One kernel is worth mixing on larger maps than several are.
        const kernel_shape k{.o = 16 * simd::lanes, .i = channels, .kh = 1, .kw = 5};
        const auto weights = r.floats(weight_count(k), -0.1, 0.1);
        const linear_router router(r, k.i, {.mixture = 1, .channel = k.i});
        const auto make = [&]<class B>() {
            return conv2d<mixture_kernel, linear_router, B>(mixture_kernel::pack(1, k, weights), {.pad = {0, 2}}, {},
                                                            router);
        };
        for (const shape4& in : {shape4{1, channels, 5, 7}, shape4{3, channels, 4, 5}, shape4{2, channels, 3, 3}}) {
            INFO(to_string(in));
            std::string text;
            CHECK(run_layer(make, in, {}, text) < 3e-5);
            CHECK(has(text, "input mixed for all 1 kernels"));
        }
    }
}

TEST_CASE("A kernel that is the same for all samples is put together once", "[threads]") {
    rng r(863, 0);
    const kernel_shape k{.o = 40, .i = 30, .kh = 3, .kw = 3};
    const auto a = shared_coefficients::pack(k.o, k.i, 4, r.floats(k.o * k.i * 4));
    const auto atoms = r.floats(4 * 9);
    const auto make = [&]<class B>() {
        return conv2d<acdc_kernel, no_router, B>(acdc_kernel(a, k, atoms), {.pad = 1});
    };
    for (const index_t samples : {2, 7, 40}) {
        std::string text;
        CHECK(run_layer(make, {samples, k.i, 5, 4}, {.transform_budget = 0}, text) < 1e-5);
        CHECK(has(text, "for several samples"));
    }
    // Given coefficients, one set for all samples.
    const auto weights = r.floats(4 * weight_count(k));
    const std::vector<float> mixture{0.5F, -1.0F, 2.0F, 0.25F};
    const conv2d layer(mixture_kernel::pack(4, k, weights), {.pad = 1}, {}, given_mixture{4});
    std::vector<float> combined(weights.size() / 4, 0.0F);
    for (std::size_t i = 0; i < weights.size(); ++i)
        combined[i % combined.size()] += mixture[i / combined.size()] * weights[i];
    const conv2d<dense_kernel, no_router, backend::reference> oracle(dense_kernel::pack(k, combined), {.pad = 1});
    for (const index_t budget : {index_t{0}, std::numeric_limits<index_t>::max()}) {
        frame x(r, {6, k.i, 6, 6}, placement::nhwc), y(r, {6, k.o, 6, 6}, placement::nchw);
        x.fill(r);
        y.fill(r);
        auto plan = layer.plan({6, k.i, 6, 6}, {.transform_budget = budget, .equal_routes = true});
        layer.run(plan, x.view(), {mixture.data(), 0}, y.view());
        CHECK(error_of(values_of(y.view()), values_of(oracle(x.view()))) < 1e-5);
    }
}
