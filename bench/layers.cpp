// Every convolution of the four published networks and their plain twins (bench/shapes/), alone: one thread, batch 1,
// channels-last input and output, BatchNorm and ReLU behind it. Each shape is timed as
//     plain             a plain layer
//     child             a KernelDNA child: gate, spatial and filter adapter on top
//     expanded_shared   the child with a kernel of its own, Winograd forbidden: what sharing the parent's costs
// and where the shape suits Winograd (3x3, stride 1), which plain and child may use, also as
//     plain_shared, child_shared   Winograd forbidden: the child runs on its parent's own panels
// The published networks share only some of these shapes; the label says how often each occurs, and how the layer ran.
//
//     layers --benchmark_min_time=0.05 --benchmark_counters_tabular=true         everything, 90 seconds
//     layers resnet18 mobilenet_v2                                               the shapes of these networks
//     layers --benchmark_filter='^256-256@14_3x3/'                               one shape, all its variants
//     layers --benchmark_filter='dw.*/plain/cold'                                depthwise layers from cold weights
//
// Names are <I>-<O>@<H>_<KH>x<KW>[s<stride>] or dw<C>@..., then the variant, then /cold where weights are cold: runs
// take turns on so many copies of the layer, each with a kernel, a gate and a plan of its own, that what they read is
// twice the last-level cache, but at most 256 MiB (the label says so if that leaves it in the cache). Input, output and
// workspace are the same for all copies and stay warm.
//
// Counters:
//     GFLOP/s        operations of the direct algorithm, two a multiply-add
//     peak_share     of what multiply-adds on registers reached in this program before the first layer; Winograd saves
//                    operations and may exceed 1. fma_peak is the same loop as a benchmark
//     weight_bytes   the packed kernel, or where Winograd ran its transformed kernel
//     copies         see above; 1 for warm weights
//     measured_ms    processor time of a run; and beside it, where plans tell what the cost model expected,
//                    predicted_ms and predicted/measured
// Every answer is checked against the double-precision reference before it is timed; a wrong one ends the program.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <kdna/kdna.hpp>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/layer_weights.hpp"
#include "support/oracle.hpp"
#include "support/peak.hpp"
#include "support/shapes.hpp"
#include "support/stopwatch.hpp"

namespace {

using namespace kdna;
using namespace kdna_bench;

enum class form { plain, child, expanded };

/// One benchmark.
struct job {
    layer_shape shape;
    form what;
    index_t transform_budget;  ///< 0 forbids Winograd
    bool cold;                 ///< weights
};

/// F(4x4) in single precision, the least accurate algorithm, stays a factor of three below it.
constexpr double tolerance = 1e-5;

[[nodiscard]] conv_options options(const layer_weights& w) { return {.bn = w.bn(w.shape.o), .act = activation::relu}; }
template <conv_backend B>
[[nodiscard]] auto plain_layer(const layer_shape& s, const layer_weights& w) {
    return conv2d<dense_kernel, no_router, B>(dense_kernel::pack(s.kernel, w.kernel), s.params(), options(w));
}
template <conv_backend B>
[[nodiscard]] auto child_layer(const layer_shape& s, const layer_weights& w) {
    const auto parent = parent_kernel::pack(s.kernel, w.kernel);
    return conv2d<dense_kernel, squeeze_excite, B>(parent.child(w.adapter()), s.params(), options(w), w.gate());
}
template <conv_backend B>
[[nodiscard]] auto expanded_layer(const layer_shape& s, const layer_weights& w) {
    const auto own = dense_kernel::pack(s.kernel, w.expanded_kernel());
    return conv2d<dense_kernel, squeeze_excite, B>(own, s.params(), options(w), w.gate());
}

[[nodiscard]] index_t last_level_cache_bytes() {
    index_t largest = 0;
    for (const auto& cache : benchmark::CPUInfo::Get().caches) largest = std::max<index_t>(largest, cache.size);
    return largest > 0 ? largest : index_t{32} << 20;  // not every system tells
}

/// What the cost model expected of this plan, beside what was measured.
template <class Plan>
void report_prediction(benchmark::State& state, const Plan& plan, double measured_seconds) {
    state.counters["measured_ms"] = 1e3 * measured_seconds;
    if constexpr (requires { plan.predicted_cycles(); }) {
        // The length of a cycle follows from how many multiply-adds it does.
        const double per_cycle = machine::host().multiply_adds_per_cycle(simd::lanes);
        const double seconds = plan.predicted_cycles() * per_cycle / peak_multiply_adds();
        state.counters["predicted_ms"] = 1e3 * seconds;
        state.counters["predicted/measured"] = seconds / measured_seconds;
    } else {
        static_cast<void>(plan);
    }
}

/// A checked layer, ready to be timed.
class prepared {
public:
    virtual ~prepared() = default;
    virtual void time(benchmark::State& state) = 0;
};

template <class Layer>
class prepared_layer final : public prepared {
public:
    /// `make()` gives a layer with weights of its own; all of them, and `oracle`, compute the same.
    template <class Make, class Oracle>
    prepared_layer(const job& j, const Make& make, const Oracle& oracle)
        : job_(j), x_(j.shape.input(), layout::nhwc), y_(j.shape.output(), layout::nhwc) {
        std::mt19937 generator(1);
        const std::vector<float> values = normal_values(generator, x_.size(), 0.0F, 1.0F);
        std::copy(values.begin(), values.end(), x_.data());
        add_copy(make());
        check(oracle);
        if (!j.cold) return;
        const index_t copies = copies_for_cold_weights();
        layers_.reserve(static_cast<std::size_t>(copies));
        plans_.reserve(static_cast<std::size_t>(copies));
        while (static_cast<index_t>(layers_.size()) < copies) add_copy(make());
    }

    void time(benchmark::State& state) override {
        const double peak = peak_flops();  // measured now if it was not yet
        const double start = processor_seconds();
        for (auto _ : state) {
            layers_[next_].run(plans_[next_], x_.view(), y_.view());
            benchmark::DoNotOptimize(y_.data());
            benchmark::ClobberMemory();
            next_ = next_ + 1 == layers_.size() ? 0 : next_ + 1;
        }
        const double seconds = (processor_seconds() - start) / static_cast<double>(state.iterations());
        const double flops = 2.0 * job_.shape.macs() / seconds;
        state.counters["GFLOP/s"] = 1e-9 * flops;
        state.counters["peak_share"] = flops / peak;
        state.counters["weight_bytes"] = {static_cast<double>(kernel_bytes()), benchmark::Counter::kDefaults,
                                          benchmark::Counter::kIs1024};
        state.counters["copies"] = static_cast<double>(layers_.size());
        report_prediction(state, plans_.front(), seconds);
        state.SetLabel(label());
    }

private:
    void add_copy(Layer layer) {
        plans_.push_back(layer.plan_without_workspace(
            x_.shape(), {.order = input_order::nhwc, .transform_budget = job_.transform_budget}));
        layers_.push_back(std::move(layer));
        if (workspace_.data() == nullptr) workspace_ = buffer<std::byte>(plans_.front().workspace_bytes());
        Layer::use_workspace(plans_.back(), workspace_.data());
    }

    template <class Oracle>
    void check(const Oracle& oracle) {
        tensor<float> expected(y_.shape(), layout::nhwc);
        auto oracle_plan = oracle.plan(x_.shape());
        oracle.run(oracle_plan, x_.view(), expected.view());
        layers_.front().run(plans_.front(), x_.view(), y_.view());
        const double error = relative_error(std::as_const(y_).view(), std::as_const(expected).view(),
                                            checked_pixels(y_.shape(), job_.shape.kernel));
        if (error > tolerance) {
            std::cerr << "wrong answer, off by " << error << " of the largest: " << plans_.front().explain() << "\n";
            std::exit(1);
        }
    }

    [[nodiscard]] index_t packed_bytes() const {
        return panel_layout(job_.shape.kernel).floats() * static_cast<index_t>(sizeof(float));
    }
    /// Bytes of the kernel that a run reads.
    [[nodiscard]] index_t kernel_bytes() const {
        const index_t transformed = plans_.front().transformed_bytes();
        return transformed > 0 ? transformed : packed_bytes();
    }
    /// Bytes of one copy in memory. Small layers consist of scales, gate and bookkeeping as much as of their kernel.
    [[nodiscard]] index_t copy_bytes() const {
        auto bytes = static_cast<index_t>(sizeof(Layer) + sizeof(typename Layer::plan_type));
        layers_.front().for_each_storage([&](const void*, index_t size) { bytes += size; });
        return bytes;
    }
    /// Bytes of one copy that a run reads: a transformed kernel replaces the packed one.
    [[nodiscard]] index_t read_bytes() const {
        return plans_.front().transformed_bytes() > 0 ? copy_bytes() - packed_bytes() : copy_bytes();
    }
    [[nodiscard]] index_t copies_for_cold_weights() const {
        // Twice the cache, since caches do not drop exactly what was used longest ago.
        constexpr index_t most_bytes = index_t{256} << 20;
        const index_t wanted = 2 * last_level_cache_bytes() / read_bytes() + 1;
        return std::clamp<index_t>(wanted, 1, std::max<index_t>(most_bytes / copy_bytes(), 1));
    }

    [[nodiscard]] std::string label() const {
        std::string text = plans_.front().explain();
        for (const occurrence& o : job_.shape.occurrences)
            text += concat("; ", o.network, ": ", o.own, " own, ", o.children, " children, ", o.plain, " plain");
        if (job_.cold && static_cast<index_t>(layers_.size()) * read_bytes() <= last_level_cache_bytes())
            text += "; NOT COLD, all copies fit the last-level cache";
        return text;
    }

    job job_;
    tensor<float> x_, y_;
    buffer<std::byte> workspace_;
    std::vector<Layer> layers_;
    std::vector<typename Layer::plan_type> plans_;
    std::size_t next_ = 0;  ///< which copy runs next
};

template <class Make, class Oracle>
[[nodiscard]] std::unique_ptr<prepared> prepare(const job& j, const Make& make, const Oracle& oracle) {
    return std::make_unique<prepared_layer<decltype(make())>>(j, make, oracle);
}

[[nodiscard]] std::unique_ptr<prepared> prepare(const job& j) {
    const layer_weights w(j.shape.kernel);
    const layer_shape& s = j.shape;
    switch (j.what) {
        case form::plain:
            return prepare(
                j, [&] { return plain_layer<backend::cpu>(s, w); }, plain_layer<sampled_reference>(s, w));
        case form::child:
            return prepare(
                j, [&] { return child_layer<backend::cpu>(s, w); }, child_layer<sampled_reference>(s, w));
        case form::expanded:
            return prepare(
                j, [&] { return expanded_layer<backend::cpu>(s, w); }, expanded_layer<sampled_reference>(s, w));
    }
    return nullptr;
}

/// Google Benchmark calls a benchmark several times until it knows how many iterations to make. The layer is prepared
/// in the first of these calls and kept until it is another one's turn.
void time_layer(benchmark::State& state, const std::shared_ptr<const job>& j) {
    static std::shared_ptr<const job> current;
    static std::unique_ptr<prepared> layer;
    if (current != j) {
        layer.reset();  // before there is another one
        layer = prepare(*j);
        current = j;
    }
    layer->time(state);
}

void fma_peak(benchmark::State& state) {
    constexpr int rounds = 1000;
    const double start = processor_seconds();
    for (auto _ : state) multiply_adds(rounds);
    const double seconds = (processor_seconds() - start) / static_cast<double>(state.iterations());
    state.counters["GFLOP/s"] = 2e-9 * fma_chains * rounds * static_cast<double>(simd::lanes) / seconds;
}

void add_benchmarks(const layer_shape& s) {
    constexpr index_t any = std::numeric_limits<index_t>::max();
    const auto add = [&](const char* variant, form what, index_t transform_budget) {
        for (const bool cold : {false, true}) {
            const std::string name = concat(s.name(), "/", variant, cold ? "/cold" : "");
            benchmark::RegisterBenchmark(name.c_str(), time_layer,
                                         std::make_shared<const job>(job{s, what, transform_budget, cold}))
                ->Unit(benchmark::kMicrosecond);
        }
    };
    add("plain", form::plain, any);
    add("child", form::child, any);
    if (s.kernel.kh == 3 && s.kernel.kw == 3 && s.kernel.groups == 1 && s.stride == 1) {
        add("plain_shared", form::plain, 0);
        add("child_shared", form::child, 0);
    }
    add("expanded_shared", form::expanded, 0);
}

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    std::vector<std::string> networks(argv + 1, argv + argc);
    if (networks.empty()) networks.assign(all_networks.begin(), all_networks.end());
    try {
        benchmark::RegisterBenchmark("fma_peak", fma_peak);
        for (const layer_shape& s : read_shapes(networks)) add_benchmarks(s);
        benchmark::RunSpecifiedBenchmarks();
    } catch (const std::exception& e) {
        std::cerr << "layers: " << e.what() << "\n";
        return 2;
    }
    benchmark::Shutdown();
}
