// Segments scenes with a KernelDNA encoder and decoder and with its plain twin, both read from network files, and shows what came out.
#include <algorithm>
#include <common/confusion_matrix.hpp>
#include <common/program.hpp>
#include <common/progress.hpp>
#include <cstdio>
#include <filesystem>
#include <kdna/core/thread_pool.hpp>
#include <map>
#include <numeric>
#include <string>

#include "picture.hpp"
#include "scenes.hpp"
#include "segmenter.hpp"

#ifndef KDNA_EXAMPLES_DATA
#define KDNA_EXAMPLES_DATA "examples/data"
#endif

namespace {

using namespace segment;
using examples::grouped, examples::percentage;
namespace fs = std::filesystem;

const fs::path committed = KDNA_EXAMPLES_DATA;
const std::string committed_scenes = (committed / "scenes100").string();
constexpr double lowest_mean_iou = 64;  // of the trained KernelDNA network on the scenes in the repository

struct arguments {
    std::string scenes = committed_scenes;
    fs::path weights = committed / "segment_dna.safetensors", plain_weights = committed / "segment_plain.safetensors";
    fs::path picture = "segment.png";
    index_t batch = 10, threads = 1;
    bool quick = false;
};

/// A network with what it made of the scenes.
struct contestant {
    const char* name;
    loaded_net loaded;
    maps found{};
    double seconds = 0;
    examples::confusion_matrix table{class_count};
};

contestant evaluate(const char* name, const fs::path& weights, const scenes& set, index_t batch,
                    const kdna::plan_options& options) {
    contestant out{name, load(weights)};
    out.found = {set.images.count, set.images.rows, set.images.columns, {}};
    examples::progress_bar progress(name, set.images.count);
    segmenter s(out.loaded.net, set.images, options);
    for (index_t done = 0; done < set.images.count; progress.update(done)) {
        const index_t count = std::min(batch, set.images.count - done);
        s.run(done, count, out.found.values);
        done += count;
    }
    out.seconds = s.seconds();
    for (std::size_t i = 0; i < out.found.values.size(); ++i) out.table.add(set.truth.values[i], out.found.values[i]);
    return out;
}

void print_summary(const contestant& dna, const contestant& twin) {
    const auto line = [&](const char* what, auto&& text_of) {
        std::printf("%-24s %14s %14s\n", what, text_of(dna).c_str(), text_of(twin).c_str());
    };
    line("", [](const contestant& c) { return std::string(c.name); });
    line("mean IoU", [](const contestant& c) { return percentage(c.table.mean_iou()); });
    line("pixels right", [](const contestant& c) { return percentage(c.table.accuracy()); });
    line("parameters", [](const contestant& c) { return grouped(c.loaded.parameters); });
    line("bytes of weights", [](const contestant& c) { return grouped(c.loaded.weight_bytes); });
    line("images per second", [](const contestant& c) {
        return grouped(static_cast<index_t>(static_cast<double>(c.found.count) / c.seconds));
    });
    std::printf("\n%-24s %14s %14s\n", "IoU", dna.name, twin.name);
    for (int c = 0; c < class_count; ++c)
        std::printf("%-24s %14s %14s\n", class_name(c), percentage(dna.table.iou(c)).c_str(),
                    percentage(twin.table.iou(c)).c_str());
}

/// Says how many pixels of the scenes in the repository get another class than from PyTorch, whose answers lie beside them. Whether
/// these are as few as rounding explains, which decides only where two classes have almost the same score.
bool agrees_with_pytorch(const contestant& c, const fs::path& weights, const scenes& set) {
    const fs::path file = set.name + "-" + weights.stem().string() + "-idx3-ubyte.gz";
    const maps expected = load_classes(file, set.images);
    index_t differ = 0;
    for (std::size_t i = 0; i < expected.values.size(); ++i) differ += expected.values[i] != c.found.values[i] ? 1 : 0;
    std::printf("%s: of %s pixels %s differ from PyTorch's\n", c.name, grouped(std::ssize(expected.values)).c_str(),
                grouped(differ).c_str());
    return differ * 20000 <= std::ssize(expected.values);
}

/// Scenes from the one that was segmented worst to the best, evenly spaced.
std::vector<index_t> choose(const scenes& set, const contestant& c, index_t count) {
    std::vector<index_t> order(static_cast<std::size_t>(set.images.count)), right(order.size());
    std::iota(order.begin(), order.end(), 0);
    for (const index_t i : order) {
        const auto truth = set.truth.map(i), found = c.found.map(i);
        for (std::size_t p = 0; p < truth.size(); ++p)
            right[static_cast<std::size_t>(i)] += truth[p] == found[p] ? 1 : 0;
    }
    std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) {
        return right[static_cast<std::size_t>(a)] < right[static_cast<std::size_t>(b)];
    });
    std::vector<index_t> out;
    count = std::min(count, set.images.count);
    for (index_t i = 0; i < count; ++i)
        out.push_back(order[static_cast<std::size_t>(i * (set.images.count - 1) / std::max(count - 1, index_t{1}))]);
    return out;
}

/// Runs some scenes once more, to see their gates.
picture make_picture(const scenes& set, const contestant& dna, const contestant& twin) {
    picture out;
    out.title = "Mean IoU on " + grouped(set.images.count) + " scenes: KernelDNA " + percentage(dna.table.mean_iou()) +
                ", plain twin " + percentage(twin.table.mean_iou());
    out.rows = static_cast<int>(set.images.rows);
    out.columns = static_cast<int>(set.images.columns);
    segmenter s(dna.loaded.net, set.images, {});
    for (const index_t i : choose(set, dna, 6)) {
        std::vector<std::uint8_t> classes;
        s.run(i, 1, classes);
        picture_row row{set.images.map(i), set.truth.map(i), dna.found.map(i), twin.found.map(i), {}};
        out.children.clear();
        std::map<std::string, int> children_of;  // a stage's children bear its name
        for (const auto& [name, gate] : s.gates(0)) {
            out.children.push_back(kdna::concat(name, " child ", children_of[name]++));
            row.gates.emplace_back(gate.begin(), gate.end());
        }
        out.scenes.push_back(std::move(row));
    }
    return out;
}

int run(const arguments& a) {
    const scenes set = load_scenes(a.scenes);
    const index_t batch = std::min(a.batch, set.images.count);
    std::printf("%s scenes from %s, in batches of %td on %td thread%s\n\n", grouped(set.images.count).c_str(),
                set.name.c_str(), batch, a.threads, a.threads == 1 ? "" : "s");

    kdna::thread_pool pool(a.threads);
    const kdna::plan_options options{.executor = pool};
    const contestant dna = evaluate("KernelDNA", a.weights, set, batch, options);
    const contestant twin = evaluate("plain twin", a.plain_weights, set, batch, options);
    print_summary(dna, twin);

    write_picture(a.picture, make_picture(set, dna, twin));
    std::printf("\npicture: %s\n", a.picture.string().c_str());
    if (!a.quick) return 0;
    const bool both = agrees_with_pytorch(dna, a.weights, set);
    return agrees_with_pytorch(twin, a.plain_weights, set) && both && dna.table.mean_iou() > lowest_mean_iou ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Segments scenes with a KernelDNA network and with its plain twin.", "segment");
    arguments a;
    app.option_defaults()->always_capture_default();
    auto* scenes = app.add_option("--scenes", a.scenes,
                                  "stem of STEM-{images,labels}-idx3-ubyte.gz, as tools/make_scenes.py writes them");
    auto* weights = app.add_option("--weights", a.weights, "KernelDNA network, a network file");
    auto* plain_weights = app.add_option("--plain-weights", a.plain_weights, "its plain twin, a network file");
    app.add_option("--picture", a.picture, "picture to write, .png");
    app.add_option("--batch", a.batch, "scenes per run")->check(CLI::Range(1, 10000));
    app.add_option("--threads", a.threads, "threads")->check(CLI::Range(1, 1024));
    app.option_defaults()->always_capture_default(false);
    app.add_flag("--quick", a.quick, "compare with PyTorch on the scenes in the repository; exit code 1 if they differ")
        ->excludes(scenes)
        ->excludes(weights)
        ->excludes(plain_weights);
    return examples::run_program(app, argc, argv, [&] { return run(a); });
}
