// Classifies the Fashion-MNIST test images with a KernelDNA network and with its plain twin, and shows what came out.
#include <common/fashion_evaluation.hpp>
#include <common/fashion_images.hpp>
#include <common/program.hpp>
#include <cstdio>
#include <filesystem>
#include <kdna/core/thread_pool.hpp>
#include <string>

#include "contact_sheet.hpp"
#include "report.hpp"

namespace {

using namespace fashion;
namespace fs = std::filesystem;

const fs::path committed = KDNA_EXAMPLES_DATA;

struct arguments {
    fs::path data;  // empty: the Debian package's, or what is in the repository
    fs::path weights = committed / "fashion_dna.safetensors", plain_weights = committed / "fashion_plain.safetensors";
    fs::path sheet = "classify.png";
    std::string storage = "float32";
    index_t batch = 100, threads = 1, limit = 0;
    bool quick = false;
};

/// Runs the chosen images once more, to see their gates.
sheet make_sheet(const kdna::network& net, const examples::labelled_images& set, const samples& chosen) {
    sheet out;
    classifier c(net, set, {});
    for (int row = 0; row < samples::rows; ++row)
        for (int column = 0; column < class_count; ++column) {
            const index_t i = chosen.image(row, column);
            if (i < 0) continue;
            evaluation one;
            c.run({&i, 1}, one);
            out.tiles.push_back({row, column, set.image(i), set.label(i), one.predictions[0], c.gates(0)});
        }
    return out;
}

int run(const arguments& a) {
    const kdna::load_options storage{.storage = kdna::storage_named(a.storage)};
    const loaded_net dna = load(a.weights, form::kernel_dna, storage),
                     plain = load(a.plain_weights, form::plain, storage);
    const examples::labelled_images set = load_test_images(a.data, a.quick, a.limit);
    const index_t batch = std::min(a.batch, set.count);
    std::printf("in batches of %td on %td thread%s\n\n", batch, a.threads, a.threads == 1 ? "" : "s");

    kdna::thread_pool pool(a.threads);
    const kdna::plan_options options{.executor = pool};
    const evaluation dna_result = evaluate("KernelDNA ", dna.net, set, batch, options);
    const evaluation plain_result = evaluate("plain twin", plain.net, set, batch, options);

    const contestant c1{"KernelDNA", dna, dna_result, confusion(set, dna_result)};
    const contestant c2{"plain twin", plain, plain_result, confusion(set, plain_result)};
    print_summary(c1, c2);
    print_confusion(c1, c2);
    print_disagreement(set, c1, c2);

    sheet s = make_sheet(dna.net, set, samples(set, dna_result.predictions));
    char title[128];
    std::snprintf(title, sizeof title, "KernelDNA on Fashion-MNIST: %.2f %% of %s test images right",
                  c1.table.accuracy(), grouped(set.count).c_str());
    s.title = title;
    write_contact_sheet(a.sheet, s);
    std::printf("contact sheet: %s\n", a.sheet.string().c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Classifies the Fashion-MNIST test images with a KernelDNA network and its plain twin.", "classify");
    arguments a;
    app.add_option("--data", a.data,
                   "folder with t10k-{images-idx3,labels-idx1}-ubyte.gz (default: " + debian_package.string() + ")");
    app.option_defaults()->always_capture_default();
    app.add_option("--weights", a.weights, "KernelDNA network, .safetensors");
    app.add_option("--plain-weights", a.plain_weights, "its plain twin, .safetensors");
    app.add_option("--sheet", a.sheet, "contact sheet to write, .png");
    app.add_option("--batch", a.batch, "images per run")->check(CLI::Range(1, 10000));
    app.add_option("--storage", a.storage, "of kernels in memory: float32, float16 or bfloat16")
        ->check(CLI::IsMember({"float32", "float16", "bfloat16"}));
    app.add_option("--threads", a.threads, "threads")->check(CLI::Range(1, 1024));
    app.option_defaults()->always_capture_default(false);
    app.add_option("--limit", a.limit, "use only so many images")->check(CLI::Range(1, 1000000));
    app.add_flag("--quick", a.quick, "use the 400 images in the repository")->excludes("--data");
    return examples::run_program(app, argc, argv, [&] { return run(a); });
}
