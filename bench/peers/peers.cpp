// The part of `peers` that runs in C++: kdna, oneDNN and Eigen in one process. It reads one JSON request a line and answers
// each with one line, as the Python workers do; peers.py is at the other end and alternates between all of them.
//
//     {"do": "info"}                                              what there is here, and versions
//     {"do": "prepare", "key": K, "variant": V, "form": F, "item": {...}}   builds, runs once and checks
//     {"do": "time", "key": K, "ms": 25, "least": 3}              a burst of calls, each timed on its own; further
//                                                                 "processor": true, by the time that this process runs;
//                                                                 "warm": the least number of calls before (2)
//     {"do": "peak"}                                              multiply-adds a second on registers alone
//     {"do": "drop"}                                              forgets all that was prepared
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <iostream>
#include <kdna/core/thread_pool.hpp>
#include <kdna/simd/simd.hpp>
#include <map>

#include "eigen_gemm.hpp"
#include "item.hpp"
#include "ours.hpp"
#include "ours_dynamic.hpp"
#ifdef PEERS_ONEDNN
#include "onednn.hpp"
#endif

namespace {

using peers::json;
using clock_type = std::chrono::steady_clock;

double milliseconds_since(clock_type::time_point start) {
    return std::chrono::duration<double, std::milli>(clock_type::now() - start).count();
}

double processor_milliseconds() {
    return 1e3 * static_cast<double>(std::clock()) / static_cast<double>(CLOCKS_PER_SEC);
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

std::string compiler() {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "g++ " __VERSION__;
#else
    return "unknown";
#endif
}

#ifdef PEERS_ONEDNN
// The algorithm, and whether it is oneDNN's second choice of an implementation.
const std::map<std::string, std::pair<dnnl::algorithm, bool>> onednn_choices{
    {"onednn-direct", {dnnl::algorithm::convolution_direct, false}},
    {"onednn-direct-2nd", {dnnl::algorithm::convolution_direct, true}},
    {"onednn-winograd", {dnnl::algorithm::convolution_winograd, false}},
    {"onednn-winograd-2nd", {dnnl::algorithm::convolution_winograd, true}},
};
#endif

class server {
public:
    explicit server(int threads) : threads_(threads), pool_(threads) { Eigen::setNbThreads(threads); }

    json answer(const json& request) {
        const std::string what = request.at("do").get<std::string>();
        if (what == "info") return info();
        if (what == "prepare") return prepare(request);
        if (what == "time")
            return time(ready_.at(request.at("key").get<std::string>()), request.at("ms").get<double>(),
                        request.at("least").get<std::size_t>(), request.value("warm", 2),
                        request.value("processor", false));
        if (what == "peak") return {{"gflops", peak()}};
        if (what == "drop") {
            ready_.clear();
            return json::object();
        }
        throw std::invalid_argument("no request \"" + what + "\"");
    }

private:
    static json info() {
        json versions{{"compiler", compiler()},
                      {"kdna", kdna::concat(KDNA_VERSION_MAJOR, ".", KDNA_VERSION_MINOR, ".", KDNA_VERSION_PATCH)},
                      {"Eigen", kdna::concat(EIGEN_WORLD_VERSION, ".", EIGEN_MAJOR_VERSION, ".", EIGEN_MINOR_VERSION)}};
        // An implementation and the form of the item that it runs.
        json layers = json::array({"kdna plain"}), missing = json::object();
#ifdef PEERS_ONEDNN
        const dnnl_version_t* v = dnnl_version();
        versions["oneDNN"] = kdna::concat(v->major, ".", v->minor, ".", v->patch);
        for (const auto& [name, choice] : onednn_choices) layers.push_back(name + " plain");
#else
        missing["oneDNN"] = "version 2 was not there when this was built";
#endif
        layers.push_back("eigen plain");
        const json children{"kdna plain", "kdna child", "kdna-shared plain", "kdna-shared child"};
        const json networks{"kdna child", "kdna plain"};
        return {{"versions", versions},
                {"missing", missing},
                {"variants", {{"layer", layers}, {"child", children}, {"network", networks}}}};
    }

    json prepare(const json& request) {
        const json& item = request.at("item");
        const std::string form = request.at("form").get<std::string>();
        try {
            peers::runnable made;
            double error = 0.0;
            if (item.at("kind") == "dynamic") {
                made = peers::our_dynamic(item, form, executor());
                made.run();
                if (item.contains("file")) {
                    const auto tensors = kdna::load_safetensors(item.at("file").get<std::string>());
                    error = peers::relative_error(made.output(), tensors.at("y").values<float>());
                }
            } else if (item.at("kind") == "network") {
                const auto tensors = kdna::load_safetensors(item.at("file").get<std::string>());
                made = peers::our_network(item, tensors, form, shared(request), executor());
                made.run();
                error = peers::relative_error(made.output(), tensors.at("y." + form).values<float>());
            } else {
                const peers::layer layer(item);
                made = layer_of(request, layer, form);
                made.run();
                error = peers::relative_error(made.output(), layer.values("y." + form));
            }
            // JSON has no infinity.
            const json answer{{"error", std::isfinite(error) ? error : 1e30}, {"explain", made.explain}};
            ready_[request.at("key").get<std::string>()] = std::move(made);
            return answer;
        } catch (const peers::not_applicable&) {
            return {{"not_applicable", true}};
        }
    }

    peers::runnable layer_of(const json& request, const peers::layer& layer, const std::string& form) {
        const std::string variant = request.at("variant").get<std::string>();
        if (variant.starts_with("kdna")) return peers::our_layer(layer, form, shared(request), executor());
        if (variant == "eigen") return peers::eigen_layer(layer);
#ifdef PEERS_ONEDNN
        if (const auto choice = onednn_choices.find(variant); choice != onednn_choices.end())
            return peers::onednn_layer(layer, choice->second.first, choice->second.second);
#endif
        throw std::invalid_argument("no implementation \"" + variant + "\"");
    }

    static bool shared(const json& request) { return request.at("variant") == "kdna-shared"; }
    kdna::executor_ref executor() { return threads_ > 1 ? kdna::executor_ref(pool_) : kdna::executor_ref(); }

    /// `warm_calls` at least and `warm_ms` to warm up; then calls until `ms` have passed and `least` of them are done.
    static json time(const peers::runnable& r, double ms, std::size_t least, int warm_calls, bool processor) {
        constexpr double warm_ms = 3.0;
        const auto warm = clock_type::now();
        for (int i = 0; i < warm_calls || milliseconds_since(warm) < warm_ms; ++i) r.run();
        std::vector<double> calls;
        const auto start = clock_type::now();
        while (calls.size() < least || milliseconds_since(start) < ms) {
            const auto before = clock_type::now();
            const double ran = processor_milliseconds();
            r.run();
            calls.push_back(processor ? processor_milliseconds() - ran : milliseconds_since(before));
        }
        return {{"ms", median(calls)}, {"calls", calls.size()}};
    }

    /// GFLOP/s of all threads together, the median of a few tries of about half a millisecond.
    double peak() {
        using kdna::index_t;
        namespace simd = kdna::simd;
        constexpr int chains = simd::registers >= 32 ? 16 : 12, rounds = 50'000;
        std::vector<float> sink(static_cast<std::size_t>(threads_));
        const auto work = [&](index_t thread) {
            simd::vec acc[chains];
            for (int i = 0; i < chains; ++i) acc[i] = simd::vec(static_cast<float>(i));
            const simd::vec a(0.999F), b(0.001F);
            for (int r = 0; r < rounds; ++r) {
                KDNA_UNROLL
                for (int i = 0; i < chains; ++i) acc[i] = simd::multiply_add(acc[i], a, b);
            }
            simd::vec sum = simd::zero();
            for (int i = 0; i < chains; ++i) sum = sum + acc[i];
            float lanes[simd::lanes];
            simd::store(lanes, sum);
            sink[static_cast<std::size_t>(thread)] = lanes[0];
        };
        std::vector<double> tries;
        for (int i = 0; i < 7; ++i) {
            const auto start = clock_type::now();
            executor().parallel_for(threads_, work);
            tries.push_back(2e-6 * chains * rounds * static_cast<double>(simd::lanes) * threads_ /
                            milliseconds_since(start));
        }
        volatile float keep = sink.front();  // without a reader the work would be left out
        static_cast<void>(keep);
        return median(tries);
    }

    int threads_;
    kdna::thread_pool pool_;
    std::map<std::string, peers::runnable> ready_;
};

}  // namespace

int main(int argc, char** argv) {
    server s(argc > 1 ? std::max(std::atoi(argv[1]), 1) : 1);
    for (std::string line; std::getline(std::cin, line);) {
        json reply;
        try {
            reply = s.answer(json::parse(line));
            reply["ok"] = true;
        } catch (const std::exception& e) {
            reply = {{"ok", false}, {"reason", e.what()}};
        }
        std::cout << reply.dump() << std::endl;
    }
}
