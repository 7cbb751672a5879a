// The dynamic layers beside the plain layer of the same shape, alone, on one thread: the 3x3 shapes of ResNet18 at
// batch 1 and 8, channels-last input and output, BatchNorm and ReLU behind them; and kernels that come with the call.
//
//     plain                      the plain layer by its best plan: what the others are compared with
//     plain_direct               Winograd forbidden
//     odconv_1x, odconv_4x       ODConv with one kernel, and mixing four
//     condconv_4x, dyconv_4x     mixtures of four kernels
//     dcd                        2 x 2 pooling, as in basic blocks
//     kernel_warehouse_1x        56, 47, 47 and 27 cells, as in ResNet18
//     acdc_expanded              ACDC with four atoms, its kernel written out when it is loaded
//     acdc, acdc_assembled       put together panel by panel: when it is first planned, and in every run
//     child                      KernelDNA
//     dymn_4x                    DyMN: a mixture of four kernels, routed by a context that comes with the call
//     modulated                  StyleGAN2: the style of a latent vector of 512 values, demodulated
//     fdconv, fdconv_kernels     FDConv of four kernels, with frequency band modulation and without
//     lsconv                     LSNet's: a network gives each position a 3x3 kernel that eight channels share
//     ..._bf16, ..._f16          the same with kernels stored in bfloat16 or float16
//     plain_transformed_bf16, _f16  the plain layer, its kernel kept transformed for Winograd in 16 bits
//     constant, runtime          blur kernels of one channel for RGB images, circular: one known beforehand, and one
//                                for each sample that comes with the call
//
//     dynamic --benchmark_min_time=0.1 --benchmark_counters_tabular=true        everything, 2 minutes
//     dynamic --benchmark_filter='^256-256@14_3x3/.*/batch:8/'                  one shape and batch, all its variants
//     dynamic --benchmark_filter='/(plain|odconv_4x)/batch:1/'                  two variants of all shapes
//     dynamic --benchmark_filter='^dw3@256'                                     kernels that come with the call
//
// Names are <shape>/<variant>/batch:<N>/manual_time; times are a batch's, of the processor. Bursts of a layer and of
// the plain layer take turns, each after a run that brings its weights into the caches.
//
// Counters:
//     ms/image       the median over the bursts
//     vs_plain       by the plain (runtime: the constant) layer's, the median over pairs of bursts
//     vs_bar         by the plain layer's and, where every run puts the kernel together from others, the time of the
//                    multiply-adds for that at the processor's peak
//     GFLOP/s        operations of the plain layer by the direct algorithm, two a multiply-add
// The label says how the layer ran, and how much routes differ: the smallest difference between two neighbouring
// samples, relative to the largest factor. Every answer is checked against the double-precision reference before it is
// timed, and batches for routes that differ; what is wrong ends the program.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/dynamic_layers.hpp"
#include "support/oracle.hpp"
#include "support/peak.hpp"
#include "support/random.hpp"
#include "support/shapes.hpp"
#include "support/stopwatch.hpp"

namespace {

using namespace kdna;
using namespace kdna_bench;

constexpr index_t no_limit = std::numeric_limits<index_t>::max();
constexpr double tolerance = 1e-5;  ///< of the largest output, as in layers.cpp
constexpr double least_route_spread = 0.05;

/// A kernel for each sample that comes with the call; it is used like a conv2d.
template <conv_backend B>
struct blur {
    using plan_type = typename basic_runtime_conv2d<B>::plan_type;

    [[nodiscard]] plan_type plan(const shape4& in, const plan_options& options) const { return conv.plan(in, options); }
    void run(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y) const noexcept {
        conv.run(p, x, std::span(kernels).first(static_cast<std::size_t>(x.shape.n * conv.weights())), y);
    }
    basic_runtime_conv2d<B> conv;
    std::vector<float> kernels;
};

/// A method with its kernels stored in another format.
template <class Method, number_format Storage>
struct stored_in : Method {
    static constexpr number_format storage = Storage;
};
/// The plain layer with its transformed kernel stored so. Its answer is off by the rounding of that.
template <number_format Storage>
struct plain_transformed : plain_method {
    static constexpr number_format transformed = Storage;
    static constexpr double tolerance = Storage == number_format::float16 ? 2e-3 : 2e-2;
};

[[nodiscard]] conv_params circular(const layer_shape& s) {
    conv_params p = s.params();
    p.mode = padding_mode::circular;
    return p;
}
struct runtime_method {
    template <conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kernel_shape& k = s.kernel;
        const auto kernels = t.values("kernels", {most_samples, k.kh, k.kw});
        return blur<B>{
            basic_runtime_conv2d<B>(runtime_kernel::shared(k.o, {k.kh, k.kw}), circular(s), {.name = "layer"}),
            {kernels.begin(), kernels.end()}};
    }
};

struct constant_method {
    template <conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kernel_shape& k = s.kernel;
        const auto first = t.values("kernels", {most_samples, k.kh, k.kw}).first(static_cast<std::size_t>(k.taps()));
        std::vector<float> all;
        for (index_t c = 0; c < k.o; ++c) all.insert(all.end(), first.begin(), first.end());
        return conv2d<dense_kernel, no_router, B>(dense_kernel::pack(k, all), circular(s), {.name = "layer"});
    }
};

/// Samples differ in the means of their channels, which is what routers see.
[[nodiscard]] tensor<float> random_input(const shape4& shape) {
    std::mt19937 generator(1);
    tensor<float> x(shape, layout::nhwc);
    const auto view = x.view();
    for (index_t n = 0; n < shape.n; ++n) {
        const auto means = normal_values(generator, shape.c, 0.0F, 1.0F);
        std::normal_distribution<float> normal(0.0F, 1.0F);
        for (index_t h = 0; h < shape.h; ++h)
            for (index_t w = 0; w < shape.w; ++w)
                for (index_t c = 0; c < shape.c; ++c)
                    view(n, c, h, w) = means[static_cast<std::size_t>(c)] + normal(generator);
    }
    return x;
}

[[noreturn]] void give_up(const std::string& layer, const std::string& why) {
    std::cerr << layer << ": " << why << "\n";
    std::exit(1);
}

/// The smallest difference between a sample's routes and the next one's; nothing where a layer has none to show.
template <class Plan>
[[nodiscard]] std::optional<double> route_spread(const Plan& p) {
    if constexpr (requires { p.mixture(0); }) {
        const auto routes = [&](index_t n) { return p.mixture(n).empty() ? p.gate(n) : p.mixture(n); };
        if (p.input_shape().n == 1 || routes(0).empty()) return std::nullopt;
        double least = std::numeric_limits<double>::infinity();
        for (index_t n = 0; n + 1 < p.input_shape().n; ++n) {
            const auto a = routes(n), b = routes(n + 1);
            double difference = 0.0, largest = 0.0;
            for (std::size_t i = 0; i < a.size(); ++i) {
                difference = std::max(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
                largest = std::max(largest, std::abs(static_cast<double>(a[i])));
            }
            least = std::min(least, difference / largest);
        }
        return least;
    } else {
        return std::nullopt;
    }
}

/// A checked layer, ready to be run.
struct runnable {
    std::function<void()> run;
    std::string explain;
    std::optional<double> spread;
};

template <class Method>
[[nodiscard]] runnable prepare(const std::string& name, const layer_shape& s, const tensor<float>& x,
                               index_t transform_budget) {
    using layer_type = decltype(Method::template make<backend::cpu>(s, std::declval<random_tensors&>()));
    struct state {
        layer_type layer;
        typename layer_type::plan_type plan;
        tensor<float> y;
    };
    random_tensors tensors, same;
    if constexpr (requires { Method::storage; }) tensors.storage = same.storage = Method::storage;
    layer_type layer = Method::template make<backend::cpu>(s, tensors);
    plan_options options{.order = input_order::nhwc, .transform_budget = transform_budget};
    double most = tolerance;
    if constexpr (requires { Method::transformed; }) {
        options.transformed_storage = Method::transformed;
        most = Method::tolerance;
    }
    auto plan = layer.plan(x.shape(), options);
    tensor<float> y(plan.output_shape(), layout::nhwc);
    const auto made = std::make_shared<state>(state{std::move(layer), std::move(plan), std::move(y)});
    const auto run = [made, &x] { made->layer.run(made->plan, x.view(), made->y.view()); };
    run();

    constexpr bool steps = requires { Method::steps; };
    constexpr bool dense =
        !steps && !std::is_same_v<Method, runtime_method> && !std::is_same_v<Method, constant_method>;
    using sampled = std::conditional_t<dense, assembled_reference, sampled_reference>;
    auto oracle = Method::template make<std::conditional_t<steps, backend::reference, sampled>>(s, same);
    tensor<float> expected(made->y.shape(), layout::nhwc);
    auto oracle_plan = oracle.plan(x.shape(), {});
    oracle.run(oracle_plan, x.view(), expected.view());
    const double error = relative_error(std::as_const(made->y).view(), std::as_const(expected).view(),
                                        checked_pixels(made->y.shape(), s.kernel),
                                        dense ? checked_filters(s.kernel) : std::vector<index_t>());
    if (!(error <= most))
        give_up(name, concat("wrong answer, off by ", error, " of the largest: ", made->plan.explain()));
    const std::optional<double> spread = route_spread(oracle_plan);  // those of a DCD layer in parts do not show
    if (spread && *spread < least_route_spread) give_up(name, concat("samples take routes that differ by ", *spread));
    return {run, made->plan.explain(), spread};
}

using preparation = runnable (*)(const std::string&, const layer_shape&, const tensor<float>&, index_t);

/// One benchmark.
struct job {
    std::string name;
    layer_shape shape;
    preparation layer, plain;  ///< the latter null where `layer` is the plain one
    index_t transform_budget;
    index_t batch;
    index_t assembly_terms;  ///< multiply-adds for each weight in every run
};

[[nodiscard]] double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

class pair_of_layers {
public:
    explicit pair_of_layers(const job& j) : job_(j), x_(random_input(input_of(j))) {
        layer_ = j.layer(j.name, j.shape, x_, j.transform_budget);
        if (j.plain != nullptr) plain_ = j.plain(j.name + ", plain", j.shape, x_, no_limit);
    }

    void time(benchmark::State& state) {
        const double peak = peak_multiply_adds() * static_cast<double>(simd::lanes);
        const index_t terms = job_.assembly_terms * weight_count(job_.shape.kernel) * job_.batch;
        const double assembly = static_cast<double>(terms) / peak;
        std::vector<double> seconds, by_plain, by_bar;
        for (auto _ : state) {
            const double plain = plain_.run ? burst(plain_) : 0.0, own = burst(layer_);
            state.SetIterationTime(own);
            seconds.push_back(own);
            by_plain.push_back(own / plain);
            by_bar.push_back(own / (plain + assembly));
        }
        const auto batch = static_cast<double>(job_.batch);
        const double typical = median(seconds);
        state.counters["ms/image"] = 1e3 * typical / batch;
        state.counters["GFLOP/s"] = 2e-9 * batch * job_.shape.macs() / typical;
        state.counters["vs_plain"] = plain_.run ? median(by_plain) : 1.0;
        state.counters["vs_bar"] = plain_.run ? median(by_bar) : 1.0;
        state.SetLabel(label());
    }

private:
    [[nodiscard]] static shape4 input_of(const job& j) {
        shape4 in = j.shape.input();
        in.n = j.batch;
        return in;
    }
    [[nodiscard]] std::string label() const {
        std::string text;
        for (const char c : layer_.explain)  // of some layers it has several lines
            text += c == '\n' ? ';' : c;
        return layer_.spread ? concat(text, "; routes differ by ", *layer_.spread) : text;
    }
    /// Processor time of a run, the mean of a few.
    [[nodiscard]] double burst(const runnable& r) const {
        const int runs = job_.batch == 1 ? 3 : 1;
        r.run();
        const double start = processor_seconds();
        for (int i = 0; i < runs; ++i) r.run();
        return (processor_seconds() - start) / runs;
    }
    job job_;
    tensor<float> x_;
    runnable layer_, plain_{};
};

/// Google Benchmark calls a benchmark several times until it knows how many iterations to make. The layers are prepared
/// in the first of these calls and kept until it is others' turn.
void time_layer(benchmark::State& state, const std::shared_ptr<const job>& j) {
    static std::shared_ptr<const job> current;
    static std::unique_ptr<pair_of_layers> layers;
    if (current != j) {
        layers.reset();  // before there are others
        layers = std::make_unique<pair_of_layers>(*j);
        current = j;
    }
    layers->time(state);
}

/// What is put together once, when it is planned, costs a run nothing.
template <class Method>
[[nodiscard]] index_t assembly_terms(const layer_shape& s, index_t transform_budget) {
    if constexpr (std::is_base_of_v<warehouse_method, Method>) return warehouse_cells(s.kernel.i);
    if constexpr (std::is_same_v<Method, acdc_method>) return transform_budget == no_limit ? 0 : acdc_method::atoms;
    if constexpr (requires { Method::kernels; }) return Method::kernels;
    return 0;
}

template <class Method, class Plain>
void add_benchmark(const layer_shape& s, const char* variant, index_t transform_budget = no_limit) {
    constexpr bool is_plain = std::is_same_v<Method, Plain>;
    for (const index_t batch : {index_t{1}, most_samples}) {
        const std::string name = concat(s.name(), "/", variant, "/batch:", batch);
        const bool best = is_plain && transform_budget == no_limit;
        benchmark::RegisterBenchmark(
            name.c_str(), time_layer,
            std::make_shared<const job>(job{name, s, prepare<Method>, best ? nullptr : prepare<Plain>, transform_budget,
                                            batch, assembly_terms<Method>(s, transform_budget)}))
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond);
    }
}

void add_dynamic_layers(index_t channels, index_t extent) {
    const layer_shape s{.kernel = {.o = channels, .i = channels, .kh = 3, .kw = 3}, .extent = extent};
    add_benchmark<plain_method, plain_method>(s, "plain");
    add_benchmark<plain_method, plain_method>(s, "plain_direct", 0);
    add_benchmark<odconv_1x_method, plain_method>(s, "odconv_1x");
    add_benchmark<odconv_4x_method, plain_method>(s, "odconv_4x");
    add_benchmark<condconv_4x_method, plain_method>(s, "condconv_4x");
    add_benchmark<dyconv_4x_method, plain_method>(s, "dyconv_4x");
    add_benchmark<dcd_method, plain_method>(s, "dcd");
    add_benchmark<warehouse_method, plain_method>(s, "kernel_warehouse_1x");
    add_benchmark<acdc_expanded_method, plain_method>(s, "acdc_expanded");
    add_benchmark<acdc_method, plain_method>(s, "acdc");
    // No transformed kernel fits a budget of one byte, so nothing of it is kept.
    add_benchmark<acdc_method, plain_method>(s, "acdc_assembled", 1);
    add_benchmark<child_method, plain_method>(s, "child");
    add_benchmark<dymn_4x_method, plain_method>(s, "dymn_4x");
    add_benchmark<modulated_method, plain_method>(s, "modulated");
    add_benchmark<lsconv_method, plain_method>(s, "lsconv");
    add_benchmark<fdconv_method<true>, plain_method>(s, "fdconv");
    add_benchmark<fdconv_method<false>, plain_method>(s, "fdconv_kernels");

    add_benchmark<stored_in<odconv_4x_method, number_format::bfloat16>, plain_method>(s, "odconv_4x_bf16");
    add_benchmark<stored_in<condconv_4x_method, number_format::bfloat16>, plain_method>(s, "condconv_4x_bf16");
    add_benchmark<stored_in<condconv_4x_method, number_format::float16>, plain_method>(s, "condconv_4x_f16");
    add_benchmark<stored_in<warehouse_method, number_format::bfloat16>, plain_method>(s, "kernel_warehouse_1x_bf16");
    add_benchmark<stored_in<child_method, number_format::bfloat16>, plain_method>(s, "child_bf16", 0);
    add_benchmark<plain_transformed<number_format::bfloat16>, plain_method>(s, "plain_transformed_bf16");
    add_benchmark<plain_transformed<number_format::float16>, plain_method>(s, "plain_transformed_f16");
}

void add_blurs(index_t window, index_t stride) {
    const layer_shape s{
        .kernel = {.o = 3, .i = 3, .kh = window, .kw = window, .groups = 3}, .stride = stride, .extent = 256};
    add_benchmark<constant_method, constant_method>(s, "constant");
    add_benchmark<runtime_method, constant_method>(s, "runtime");
}

}  // namespace

int main(int argc, char** argv) {
    for (const auto& [channels, extent] : {std::pair<index_t, index_t>{64, 56}, {128, 28}, {256, 14}, {512, 7}})
        add_dynamic_layers(channels, extent);
    for (const index_t window : {11, 15, 19})
        for (const index_t stride : {1, 2, 4}) add_blurs(window, stride);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    try {
        benchmark::RunSpecifiedBenchmarks();
    } catch (const std::exception& e) {
        std::cerr << "dynamic: " << e.what() << "\n";
        return 2;
    }
    benchmark::Shutdown();
}
