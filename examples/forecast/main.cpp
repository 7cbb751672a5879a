// Forecasts four years of weekly CO2 from the four years before, with a linear Kernel-U-Net: convolutions whose kernel, stride and patch
// are one length (tools/train_forecast.py).
#include <cmath>
#include <common/program.hpp>
#include <cstdio>
#include <filesystem>
#include <kdna/core/thread_pool.hpp>
#include <string>
#include <vector>

#include "chart.hpp"
#include "forecaster.hpp"
#include "series.hpp"

#ifndef KDNA_EXAMPLES_DATA
#define KDNA_EXAMPLES_DATA "examples/data"
#endif

namespace {

using namespace forecast;
namespace fs = std::filesystem;

const fs::path committed = KDNA_EXAMPLES_DATA;
constexpr index_t length = 208, season = 52;  // weeks: what is read, and what is forecast; a year
constexpr double pytorch_error = 1.273;       // ppm, of the committed network, printed by tools/train_forecast.py

struct arguments {
    fs::path network = committed / "forecast.safetensors", series = committed / "co2.csv", picture = "forecast.png";
    index_t threads = 1;
    bool quick = false;
};

/// The last year once more, plus the growth from the year before to it, for every year ahead.
float seasonal(std::span<const float> past, index_t ahead) {
    const auto year = [&](index_t back) { return past.last(static_cast<std::size_t>(back * season)).first(season); };
    double growth = 0;
    for (std::size_t i = 0; i < season; ++i) growth += static_cast<double>(year(1)[i] - year(2)[i]) / season;
    return year(1)[static_cast<std::size_t>(ahead % season)] +
           static_cast<float>(growth) * static_cast<float>(ahead / season + 1);
}

int run(const arguments& a) {
    const series all = read_series(a.series);
    const index_t first = all.size() * 4 / 5 - length;  // of the windows whose forecasts were not trained on
    const index_t windows = all.size() - 2 * length + 1 - first;
    if (first < 0 || windows < 1)
        throw kdna::error(a.series.string(), kdna::concat("at least ", 10 * length, " values"),
                          kdna::concat(all.size()));
    const std::span<const float> values = std::span(all.values).subspan(static_cast<std::size_t>(first));

    kdna::thread_pool pool(a.threads);
    forecaster net(a.network, length, windows, {.executor = pool});
    std::vector<float> found(static_cast<std::size_t>(windows * length));
    net.run(values, found);

    double squares = 0, baseline = 0;
    for (index_t i = 0; i < windows; ++i) {
        const auto past = values.subspan(static_cast<std::size_t>(i), length);
        for (index_t t = 0; t < length; ++t) {
            const double truth = static_cast<double>(values[static_cast<std::size_t>(i + length + t)]);
            squares += std::pow(static_cast<double>(found[static_cast<std::size_t>(i * length + t)]) - truth, 2);
            baseline += std::pow(static_cast<double>(seasonal(past, t)) - truth, 2);
        }
    }
    const auto count = static_cast<double>(windows * length);
    const double error = std::sqrt(squares / count);
    std::printf("%td windows of %td weeks, each forecasts the next %td\n", windows, length, length);
    std::printf("root mean square error    Kernel-U-Net %.3f ppm, the last year and its growth %.3f ppm\n", error,
                std::sqrt(baseline / count));
    std::printf("parameters                %s\n", examples::grouped(net.parameters()).c_str());
    std::printf("time of a window          %.1f us in one batch\n", 1e6 * net.seconds() / static_cast<double>(windows));

    const auto last = values.subspan(static_cast<std::size_t>(windows - 1));
    std::vector<line> lines{{"measured", {32, 34, 40}, 0, {last.begin(), last.end()}},
                            {"last year and growth", {230, 159, 0}, length, {}},
                            {"Kernel-U-Net", {0, 114, 178}, length, {found.end() - length, found.end()}}};
    for (index_t t = 0; t < length; ++t) lines[1].values.push_back(seasonal(last.first(length), t));
    draw_chart(a.picture, "CO2 at Mauna Loa, ppm: the last window and its forecast", lines, 2 * length,
               all.dates[all.dates.size() - 2 * length], all.dates.back());
    std::printf("picture                   %s\n", a.picture.string().c_str());
    return a.quick && std::abs(error - pytorch_error) > 1e-3 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Forecasts a series with a linear Kernel-U-Net.", "forecast");
    arguments a;
    app.option_defaults()->always_capture_default();
    auto* network = app.add_option("--network", a.network, "network file, [N, 1, 208] to [N, 1, 208]");
    auto* series = app.add_option("--series", a.series, "a heading and lines date,number, one for each week");
    app.add_option("--picture", a.picture, "picture to write, .png");
    app.add_option("--threads", a.threads, "threads")->check(CLI::Range(1, 1024));
    app.option_defaults()->always_capture_default(false);
    app.add_flag("--quick", a.quick, "exit code 1 if the error is not that of PyTorch")
        ->excludes(network)
        ->excludes(series);
    return examples::run_program(app, argc, argv, [&] { return run(a); });
}
