// Adapts a deployed KernelDNA network to images that differ from those it was trained on, and keeps what it learnt in a small file.
#include <algorithm>
#include <common/fashion_evaluation.hpp>
#include <common/fashion_images.hpp>
#include <common/program.hpp>
#include <cstdio>
#include <filesystem>
#include <kdna/core/thread_pool.hpp>
#include <numeric>
#include <random>
#include <string>
#include <utility>

#include "adaptation.hpp"
#include "shifts.hpp"

namespace {

using namespace adapt;
using examples::grouped, examples::percentage;
namespace fs = std::filesystem;

struct arguments {
    fs::path data;  // empty: the Debian package's, or what is in the repository
    fs::path weights = fs::path(KDNA_EXAMPLES_DATA) / "fashion_dna.safetensors", adapters = "adapters.safetensors";
    std::string shift = "invert";
    std::vector<std::string> trained{"adapters", "gates", "norms"};
    settings how;
    index_t images = 2000, threads = 1;
    bool quick = false, keep_statistics = false;
};

/// Which parameters the arguments name.
bool is_trained(const arguments& a, kdna::train::role is) {
    using kdna::train::role;
    const auto named = [&](const char* name) {
        return std::find(a.trained.begin(), a.trained.end(), name) != a.trained.end();
    };
    switch (is) {
        case role::spatial:
        case role::filter: return named("adapters");
        case role::gate: return named("gates");
        case role::norm: return named("norms");
        case role::classifier: return named("classifier");
        case role::kernel: return named("kernels");
        default: return false;
    }
}

/// Some of the images in a random order, then the others.
std::pair<examples::labelled_images, examples::labelled_images> split(const examples::labelled_images& set,
                                                                      index_t first, unsigned seed) {
    std::vector<index_t> order(static_cast<std::size_t>(set.count));
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(seed);
    shuffle(order, random);
    std::pair<examples::labelled_images, examples::labelled_images> out;
    for (index_t i = 0; i < set.count; ++i) {
        examples::labelled_images& to = i < first ? out.first : out.second;
        const index_t image = order[static_cast<std::size_t>(i)];
        to.rows = set.rows;
        to.columns = set.columns;
        ++to.count;
        to.pixels.insert(to.pixels.end(), set.image(image).begin(), set.image(image).end());
        to.labels.push_back(static_cast<std::uint8_t>(set.label(image)));
    }
    return out;
}

double accuracy(const arguments& a, const kdna::load_options& options, const examples::labelled_images& set,
                const kdna::executor_ref& executor) {
    const fashion::loaded_net deployed = fashion::load(a.weights, fashion::form::kernel_dna, options);
    const fashion::evaluation result =
        fashion::evaluate("evaluating", deployed.net, set, std::min<index_t>(100, set.count), {.executor = executor});
    return fashion::confusion(set, result).accuracy();
}

int run(const arguments& a) {
    const examples::labelled_images set = fashion::load_test_images(a.data, a.quick, 0);
    const index_t taken = std::min(a.images, set.count / 2);
    auto parts = split(set, taken, a.how.seed);
    examples::labelled_images &known = parts.first, &held_out = parts.second;
    std::printf("adapting to %s of them, tested on the other %s\n\n", grouped(known.count).c_str(),
                grouped(held_out.count).c_str());

    kdna::thread_pool pool(a.threads);
    const double clean = accuracy(a, {}, held_out, pool);
    shift(known, a.shift, 2 * a.how.seed);
    shift(held_out, a.shift, 2 * a.how.seed + 1);
    const double shifted = accuracy(a, {}, held_out, pool);

    kdna::train::network net = kdna::train::build(
        kdna::load_safetensors(a.weights), 1,
        [](const auto& module, const auto& image) {
            return fashion::fashion_net(module, image, fashion::form::kernel_dna);
        },
        [&](std::string_view, kdna::train::role is) { return is_trained(a, is); });
    adapter work(net, known, a.how, pool);
    effort e;
    const auto adapted = [&] {
        kdna::save_safetensors(a.adapters, net.parameters().changed());
        return accuracy(a, {.overlay = a.adapters}, held_out, pool);
    };
    double measured = shifted;
    if (!a.keep_statistics) {
        work.estimate_statistics(e);
        measured = adapted();
    }
    work.train(e);
    const double trained = adapted();

    const auto line = [&](const char* what, double value) {
        const double lost = clean - shifted;
        std::printf("%-42s %9s", what, percentage(value).c_str());
        if (lost > 0 && value != clean && value != shifted)
            std::printf("   %5.1f %% of what was lost", 100.0 * (value - shifted) / lost);
        std::printf("\n");
    };
    line("top-1 accuracy, images as they are", clean);
    line(("the network on shifted images (" + a.shift + ")").c_str(), shifted);
    if (!a.keep_statistics) line("with statistics of norms, without labels", measured);
    line("with labels, and parameters trained", trained);
    const index_t touched = net.parameters().trained(), all = net.parameters().total();
    std::printf("\nparameters trained  %s of %s, %.1f %%\n", grouped(touched).c_str(), grouped(all).c_str(),
                100.0 * static_cast<double>(touched) / static_cast<double>(all));
    std::printf("bytes in %s  %s, beside %s in %s\n", a.adapters.filename().string().c_str(),
                grouped(static_cast<index_t>(fs::file_size(a.adapters))).c_str(),
                grouped(static_cast<index_t>(fs::file_size(a.weights))).c_str(), a.weights.filename().string().c_str());
    std::printf("memory  %.1f MiB for batches of %td, %.2f MiB of parameters with gradients and averages\n",
                static_cast<double>(e.pass_bytes) / 0x1p20, std::min(a.how.batch, known.count),
                static_cast<double>(e.parameter_bytes) / 0x1p20);
    std::printf("time  %.2f s for statistics, %.1f s for %td epochs on %td thread%s; loss %.3f to %.3f\n",
                e.statistics_seconds, e.training_seconds, a.how.epochs, a.threads, a.threads == 1 ? "" : "s",
                e.first_loss, e.last_loss);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Adapts a KernelDNA network to shifted Fashion-MNIST images: statistics, adapters, gates and norms.",
                 "adapt");
    arguments a;
    app.add_option(
        "--data", a.data,
        "folder with t10k-{images-idx3,labels-idx1}-ubyte.gz (default: " + fashion::debian_package.string() + ")");
    app.option_defaults()->always_capture_default();
    app.add_option("--weights", a.weights, "the deployed network, .safetensors");
    app.add_option("--adapters", a.adapters, "what was learnt, .safetensors to write");
    app.add_option("--shift", a.shift, "what is different: invert, noise or rotate")
        ->check(CLI::IsMember({"invert", "noise", "rotate"}));
    app.add_option("--train", a.trained, "what: adapters, gates, norms, classifier, kernels")
        ->check(CLI::IsMember({"adapters", "gates", "norms", "classifier", "kernels"}));
    app.add_option("--images", a.images, "images with labels to adapt to; at most half of all")
        ->check(CLI::Range(2, 1000000));
    app.add_option("--batch", a.how.batch, "images per step")->check(CLI::Range(2, 10000));
    app.add_option("--epochs", a.how.epochs, "times that each is seen")->check(CLI::Range(1, 1000));
    app.add_option("--rate", a.how.rate, "Adam's rate at the beginning")->check(CLI::PositiveNumber);
    app.add_option("--seed", a.how.seed, "of the choice of images, of their order, and of the noise");
    app.add_option("--threads", a.threads, "threads")->check(CLI::Range(1, 1024));
    app.option_defaults()->always_capture_default(false);
    app.add_flag("--keep-statistics", a.keep_statistics, "leave the norms' running statistics as they are");
    app.add_flag("--quick", a.quick, "use the 400 images in the repository")->excludes("--data");
    return examples::run_program(app, argc, argv, [&] { return run(a); });
}
