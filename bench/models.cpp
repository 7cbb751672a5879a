// The four published networks and their plain twins, whole, with random weights, at 224x224: batches of 1, 8 and 32, on
// one and two threads, with Winograd allowed and forbidden ("shared": children run on
// their parents' own panels, and nothing is added to the weights).
//
//     models --benchmark_counters_tabular=true                                          everything, 3 minutes
//     models --benchmark_filter='^resnet18/.*/batch:1/threads:1/'                       one image, one thread
//     models --benchmark_filter='^mobilenet_v2/plain/winograd/batch:8/threads:2/'       one benchmark
//
// Names are <network>/<kernel_dna or plain>/<winograd or shared>/batch:<N>/threads:<T>/real_time; times are a batch's.
//
// Counters:
//     ms/image, images/s
//     GMAC/image          multiply-adds of the convolutions by the direct algorithm; gates and classifier are left out
//     weight_bytes        of the loaded network, packed; what layers share counts once
//     transformed_bytes   kernels transformed for Winograd, on top
//     arena_bytes         activations at their peak
// Before a network is timed it classifies a 64x64 image on both paths, and the logits are compared with those of the
// double-precision reference. A wrong answer, or one that is not finite, ends the program.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <kdna/core/thread_pool.hpp>
#include <kdna/models.hpp>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/networks.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"
#include "support/shapes.hpp"
#include "support/stopwatch.hpp"

namespace {

using namespace kdna;
using namespace kdna_bench;
using models::arch;
using models::form;

constexpr index_t winograd_allowed = std::numeric_limits<index_t>::max(), winograd_forbidden = 0;
constexpr double tolerance = 1e-4;  ///< of the largest logit; rounding adds up over some fifty layers

[[nodiscard]] tensor<float> random_images(index_t count, index_t extent) {
    std::mt19937 generator(2);
    tensor<float> images({count, 3, extent, extent});
    const std::vector<float> values = normal_values(generator, images.size(), 0.0F, 1.0F);
    std::copy(values.begin(), values.end(), images.data());
    return images;
}

[[noreturn]] void give_up(arch a, form f, const std::string& why) {
    std::cerr << name_of(a) << (f == form::plain ? ", plain" : ", KernelDNA") << ": " << why << "\n";
    std::exit(1);
}

void check(arch a, form f, const network& net) {
    const tensor<float> image = random_images(1, 64);
    const tensor<float> expected = random_network<backend::reference>(a, f)(image.view());
    for (const index_t budget : {winograd_allowed, winograd_forbidden}) {
        const tensor<float> found = net(image.view(), {.transform_budget = budget});
        const double error = relative_error(found.view(), expected.view(), {{0, 0}});
        if (error > tolerance) give_up(a, f, concat("wrong logits, off by ", error, " of the largest"));
    }
}

/// A network that gives the right answer.
struct loaded {
    loaded(arch a, form f) : which(a), what(f), net(random_network(a, f)), weight_bytes(net.weight_bytes()) {
        check(a, f, net);
        for (const layer_shape& s : read_shapes(name_of(a)))
            for (const occurrence& o : s.occurrences)
                macs += static_cast<double>(f == form::plain ? o.plain : o.own + o.children) * s.macs();
    }
    arch which;
    form what;
    network net;
    index_t weight_bytes;  ///< before any plan adds transformed kernels
    double macs = 0.0;     ///< of the convolutions, for an image
};

/// Loaded and checked when its first benchmark runs, kept until it is another network's turn.
[[nodiscard]] const loaded& current_network(arch a, form f) {
    static std::unique_ptr<loaded> current;
    if (current == nullptr || current->which != a || current->what != f) {
        current.reset();  // before there is another one
        current = std::make_unique<loaded>(a, f);
    }
    return *current;
}

void classify(benchmark::State& state, arch a, form f, index_t transform_budget) {
    const loaded& l = current_network(a, f);
    const index_t batch = state.range(0), threads = state.range(1);
    const tensor<float> images = random_images(batch, 224);
    thread_pool pool(threads);
    plan_options options{.transform_budget = transform_budget};
    if (threads > 1) options.executor = pool;
    network_plan plan = l.net.plan(images.shape(), options);
    tensor<float> logits(plan.output_shape());
    l.net.run(plan, images.view(), logits.view());  // also touches all memory once
    if (!std::all_of(logits.span().begin(), logits.span().end(), [](float v) { return std::isfinite(v); }))
        give_up(a, f, "logits that are not finite");

    const double start = wall_seconds();
    for (auto _ : state) {
        l.net.run(plan, images.view(), logits.view());
        benchmark::DoNotOptimize(logits.data());
        benchmark::ClobberMemory();
    }
    const double seconds = (wall_seconds() - start) / static_cast<double>(state.iterations() * batch);

    using benchmark::Counter;
    const auto bytes = [](index_t n) { return Counter(static_cast<double>(n), Counter::kDefaults, Counter::kIs1024); };
    state.counters["ms/image"] = 1e3 * seconds;
    state.counters["images/s"] = 1.0 / seconds;
    state.counters["GMAC/image"] = 1e-9 * l.macs;
    state.counters["weight_bytes"] = bytes(l.weight_bytes);
    state.counters["transformed_bytes"] = bytes(plan.transformed_bytes());
    state.counters["arena_bytes"] = bytes(plan.arena_bytes());
}

}  // namespace

int main(int argc, char** argv) {
    for (const arch a : {arch::resnet18, arch::resnet50, arch::mobilenet_v2, arch::mobilenet_v2_1d2})
        for (const form f : {form::kernel_dna, form::plain})
            for (const index_t budget : {winograd_allowed, winograd_forbidden}) {
                const std::string name = concat(name_of(a), f == form::plain ? "/plain" : "/kernel_dna",
                                                budget == winograd_forbidden ? "/shared" : "/winograd");
                benchmark::RegisterBenchmark(name.c_str(), classify, a, f, budget)
                    ->ArgNames({"batch", "threads"})
                    ->ArgsProduct({{1, 8, 32}, {1, 2}})
                    ->UseRealTime()
                    ->Unit(benchmark::kMillisecond);
            }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    try {
        benchmark::RunSpecifiedBenchmarks();
    } catch (const std::exception& e) {
        std::cerr << "models: " << e.what() << "\n";
        return 2;
    }
    benchmark::Shutdown();
}
