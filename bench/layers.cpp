// One convolution as a plain layer and as a KernelDNA child, each with Winograd allowed and forbidden (_shared: the child runs
// on its parent's own panels), and as the child expanded to a kernel of its own. Channels-last input and output, one thread, weights warm. Every answer is checked against the double-precision
// reference before it is timed.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <kdna/kdna.hpp>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace kdna;

struct layer_case {
    const char* name;
    kernel_shape kernel;
    index_t extent;
    conv_params params;
};

const layer_case cases[] = {
    {"64@56_3x3", {.o = 64, .i = 64, .kh = 3, .kw = 3}, 56, {.pad = 1}},
    {"128@28_3x3", {.o = 128, .i = 128, .kh = 3, .kw = 3}, 28, {.pad = 1}},
    {"256@14_3x3", {.o = 256, .i = 256, .kh = 3, .kw = 3}, 14, {.pad = 1}},
    {"512@7_3x3", {.o = 512, .i = 512, .kh = 3, .kw = 3}, 7, {.pad = 1}},
    {"64-384@14_1x1", {.o = 384, .i = 64}, 14, {}},
    {"384-64@14_1x1", {.o = 64, .i = 384}, 14, {}},
    {"1024-256@14_1x1", {.o = 256, .i = 1024}, 14, {}},
    {"3-64@224_7x7s2", {.o = 64, .i = 3, .kh = 7, .kw = 7}, 224, {.stride = 2, .pad = 3}},
    {"dw192@28_3x3", {.o = 192, .i = 192, .kh = 3, .kw = 3, .groups = 192}, 28, {.pad = 1}},
    {"dw384@14_3x3", {.o = 384, .i = 384, .kh = 3, .kw = 3, .groups = 384}, 14, {.pad = 1}},
    {"dw960@7_3x3", {.o = 960, .i = 960, .kh = 3, .kw = 3, .groups = 960}, 7, {.pad = 1}},
};

/// Winograd allowed. The benchmarks named _shared forbid it: the child runs on its parent's own panels.
constexpr index_t any_budget = std::numeric_limits<index_t>::max();

std::vector<float> random_values(std::mt19937& generator, index_t count, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> out(static_cast<std::size_t>(count));
    for (float& v : out) v = normal(generator);
    return out;
}

/// Everything a KernelDNA child has, with random values.
struct child_weights {
    explicit child_weights(const kernel_shape& k)
        : hidden(std::max<index_t>(k.i / 4, 1)),
          kernel(random_values(generator, weight_count(k), 0.0F, std::sqrt(2.0F / static_cast<float>(k.i * k.taps())))),
          spatial(random_values(generator, k.taps(), 0.0F, 0.25F)),
          filter(random_values(generator, k.o, 0.0F, 0.25F)),
          fc1(random_values(generator, hidden * k.i, 0.0F, 0.1F)),
          fc2(random_values(generator, hidden * k.i, 0.0F, 0.1F)),
          fc2_bias(random_values(generator, k.i, 0.0F, 1.0F)),
          ones(static_cast<std::size_t>(std::max(k.o, k.i)), 1.0F),
          zeros(ones.size(), 0.1F) {}

    [[nodiscard]] batch_norm bn(index_t channels) const {
        const auto n = static_cast<std::size_t>(channels);
        const std::span<const float> one = std::span(ones).first(n), some = std::span(zeros).first(n);
        return {.weight = one, .bias = some, .mean = some, .var = one};
    }
    [[nodiscard]] squeeze_excite gate() const {
        return squeeze_excite({.fc1 = fc1, .bn = bn(hidden), .fc2 = fc2, .fc2_bias = fc2_bias});
    }
    [[nodiscard]] static_adapter adapter() const {
        return {.spatial = spatial.size() > 1 ? std::span<const float>(spatial) : std::span<const float>(),
                .filter = filter};
    }

    std::mt19937 generator{20250330};
    index_t hidden;
    std::vector<float> kernel, spatial, filter, fc1, fc2, fc2_bias, ones, zeros;
};

void require_right(const tensor<float>& found, const tensor<float>& expected) {
    float worst = 0.0F, largest = 0.0F;
    for (index_t i = 0; i < found.size(); ++i) {
        worst = std::max(worst, std::abs(found.data()[i] - expected.data()[i]));
        largest = std::max(largest, std::abs(expected.data()[i]));
    }
    if (worst <= 1e-5F * largest) return;
    std::cerr << "wrong answer: largest error " << worst << " of " << largest << "\n";
    std::exit(1);
}

template <class Fast, class Oracle>
void time_layer(benchmark::State& state, const Fast& layer, const Oracle& oracle, index_t extent,
                index_t transform_budget) {
    std::mt19937 generator(1);
    const kernel_shape k = layer.kernel();
    auto values = random_values(generator, k.i * extent * extent, 0.0F, 1.0F);
    const auto x = nhwc_view<const float>(values.data(), 1, k.i, extent, extent);
    auto plan = layer.plan(x.shape, {.order = input_order::nhwc, .transform_budget = transform_budget});
    tensor<float> y(plan.output_shape(), layout::nhwc), expected(plan.output_shape(), layout::nhwc);
    auto oracle_plan = oracle.plan(x.shape);
    oracle.run(oracle_plan, x, expected.view());
    layer.run(plan, x, y.view());
    require_right(y, expected);

    for (auto _ : state) {
        layer.run(plan, x, y.view());
        benchmark::DoNotOptimize(y.data());
        benchmark::ClobberMemory();
    }
    const double flop = 2.0 * static_cast<double>(weight_count(k) * y.shape().h * y.shape().w);
    state.counters["GFLOP/s"] = benchmark::Counter(flop * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
    state.SetLabel(plan.explain());
}

/// What the machine could do: multiply-adds on registers alone, enough of them to hide their latency.
void fma_peak(benchmark::State& state) {
    constexpr int chains = simd::registers >= 32 ? 16 : 12, rounds = 1000;
    simd::vec acc[chains];
    for (int i = 0; i < chains; ++i) acc[i] = simd::vec(static_cast<float>(i));
    const simd::vec a(0.999F), b(0.001F);
    for (auto _ : state) {
        for (int r = 0; r < rounds; ++r) {
            KDNA_UNROLL
            for (int i = 0; i < chains; ++i) acc[i] = simd::multiply_add(acc[i], a, b);
        }
        benchmark::ClobberMemory();
    }
    simd::vec sum = simd::zero();
    for (int i = 0; i < chains; ++i) sum = sum + acc[i];
    float lanes[simd::lanes];
    simd::store(lanes, sum);
    benchmark::DoNotOptimize(lanes[0]);
    state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * chains * rounds * static_cast<double>(simd::lanes),
                                                   benchmark::Counter::kIsIterationInvariantRate);
}

template <index_t Budget>
void plain(benchmark::State& state, const layer_case& c) {
    const child_weights w(c.kernel);
    const auto parent = parent_kernel::pack(c.kernel, w.kernel);
    const conv_options options{.bn = w.bn(c.kernel.o), .act = activation::relu};
    time_layer(state, conv2d<dense_kernel>(parent, c.params, options),
               conv2d<dense_kernel, no_router, backend::reference>(parent, c.params, options), c.extent, Budget);
}

template <index_t Budget>
void child(benchmark::State& state, const layer_case& c) {
    const child_weights w(c.kernel);
    const auto parent = parent_kernel::pack(c.kernel, w.kernel);
    const conv_options options{.bn = w.bn(c.kernel.o), .act = activation::relu};
    time_layer(state, conv2d<dense_kernel, squeeze_excite>(parent.child(w.adapter()), c.params, options, w.gate()),
               conv2d<dense_kernel, squeeze_excite, backend::reference>(parent.child(w.adapter()), c.params, options,
                                                                        w.gate()),
               c.extent, Budget);
}

void expanded(benchmark::State& state, const layer_case& c) {
    const child_weights w(c.kernel);
    std::vector<float> own = w.kernel;
    const index_t taps = c.kernel.taps(), per_filter = weight_count(c.kernel) / c.kernel.o;
    for (std::size_t i = 0; i < own.size(); ++i) {
        if (taps > 1) own[i] *= 1.0F + w.spatial[i % static_cast<std::size_t>(taps)];
        own[i] *= 1.0F + w.filter[i / static_cast<std::size_t>(per_filter)];
    }
    const auto kernel = dense_kernel::pack(c.kernel, own);
    const conv_options options{.bn = w.bn(c.kernel.o), .act = activation::relu};
    time_layer(state, conv2d<dense_kernel, squeeze_excite>(kernel, c.params, options, w.gate()),
               conv2d<dense_kernel, squeeze_excite, backend::reference>(kernel, c.params, options, w.gate()), c.extent,
               0);
}

}  // namespace

int main(int argc, char** argv) {
    benchmark::RegisterBenchmark("fma_peak", fma_peak);
    for (const layer_case& c : cases) {
        const auto add = [&](const char* what, void (*run)(benchmark::State&, const layer_case&)) {
            benchmark::RegisterBenchmark((std::string(c.name) + "/" + what).c_str(), run, c);
        };
        add("plain", plain<any_budget>);
        if (c.kernel.depthwise() || c.kernel.i < 8) continue;  // KernelDNA never shares these
        add("child", child<any_budget>);
        if (c.kernel.taps() == 1) continue;
        add("plain_shared", plain<0>);
        add("child_shared", child<0>);
        add("expanded_shared", expanded);
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
