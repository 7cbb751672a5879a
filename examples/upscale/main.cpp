// Enlarges a photo with realesr-animevideov3 converted to shared kernels (docs/sharing.md), in tiles, and compares it with the original
// network.
#include <cmath>
#include <common/canvas.hpp>
#include <common/program.hpp>
#include <common/progress.hpp>
#include <cstdio>
#include <filesystem>
#include <kdna/core/thread_pool.hpp>
#include <optional>
#include <string>

#include "upscaler.hpp"

#ifndef KDNA_EXAMPLES_DATA
#define KDNA_EXAMPLES_DATA "examples/data"
#endif

namespace {

using namespace upscale;
using examples::photo;
namespace fs = std::filesystem;

const fs::path committed = KDNA_EXAMPLES_DATA;
constexpr double lowest_psnr = 34.6;      // dB, of the committed network on the committed photo
constexpr index_t receptive_radius = 18;  // pixels: the network has 18 convolutions of 3x3

struct arguments {
    fs::path input = committed / "astronaut192.png", network = committed / "upscale_dna.safetensors";
    fs::path original, reference, output = "upscaled.png", comparison;
    index_t tile = 128, overlap = receptive_radius, threads = 1;
    bool winograd = true, quick = false;
};

/// Clipped to 0..1 and rounded, as PNG stores it.
photo to_photo(const kdna::tensor<float>& image) {
    const kdna::shape4 s = image.shape();
    photo out{static_cast<int>(s.w), static_cast<int>(s.h), {}};
    out.rgb.reserve(static_cast<std::size_t>(s.h * s.w * 3));
    for (index_t y = 0; y < s.h; ++y)
        for (index_t x = 0; x < s.w; ++x)
            for (index_t c = 0; c < 3; ++c)
                out.rgb.push_back(
                    static_cast<std::uint8_t>(std::lround(255.0F * std::clamp(image(0, c, y, x), 0.0F, 1.0F))));
    return out;
}

/// Peak signal-to-noise ratio in dB. Throws kdna::error unless the pictures have one size.
double psnr(const photo& a, const photo& b) {
    if (a.width != b.width || a.height != b.height)
        throw kdna::error("reference", kdna::concat(a.width, " x ", a.height, " pixels"),
                          kdna::concat(b.width, " x ", b.height));
    double squares = 0;
    for (std::size_t i = 0; i < a.rgb.size(); ++i) {
        const int difference = a.rgb[i] - b.rgb[i];
        squares += difference * difference;
    }
    return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.rgb.size()) / std::max(squares, 1e-9));
}

void save(const fs::path& file, const photo& picture) {
    examples::canvas c(picture.width, picture.height, {0, 0, 0});
    c.picture(0, 0, 1, picture.rgb, picture.width);
    c.save_png(file);
}

/// The photo in squares, the original network's result, the converted one's, and eight times their difference, side by side.
void save_comparison(const fs::path& file, const photo& input, const photo& original, const photo& converted) {
    constexpr int gap = 12, heading = 34;
    const int scale = converted.width / input.width, pitch = converted.width + gap;
    photo difference = converted;
    for (std::size_t i = 0; i < difference.rgb.size(); ++i)
        difference.rgb[i] = static_cast<std::uint8_t>(std::min(8 * std::abs(converted.rgb[i] - original.rgb[i]), 255));
    examples::canvas c(gap + 4 * pitch, heading + converted.height + gap, {250, 250, 248});
    int x = gap;
    const auto draw = [&](const char* title, int squares, const photo& p) {
        c.text(x, 10, 2, title, {32, 34, 40});
        c.picture(x, heading, squares, p.rgb, p.width);
        x += pitch;
    };
    draw("input", scale, input);
    draw("original network", 1, original);
    draw("shared kernels", 1, converted);
    draw("difference x 8", 1, difference);
    c.save_png(file);
}

struct result {
    photo picture;
    double seconds;
};

result enlarge(const char* name, upscaler& net, const photo& input, const arguments& a) {
    examples::progress_bar progress(name, 100);
    const auto tell = [&](index_t done, index_t all) { progress.update(100 * done / all); };
    const double before = net.seconds();
    const kdna::tensor<float> made = net.run(input, a.tile, a.overlap, tell);
    return {to_photo(made), net.seconds() - before};
}

void report(const char* name, const upscaler& net, const result& r) {
    const double pixels = static_cast<double>(r.picture.rgb.size()) / 3;
    std::printf(
        "%-16s %11s parameters, %11s bytes of weights, %zu plans, %.1f ms, %.2f images and %.2f megapixels per "
        "second\n",
        name, examples::grouped(net.parameters()).c_str(), examples::grouped(net.weight_bytes()).c_str(), net.plans(),
        1e3 * r.seconds, 1 / r.seconds, 1e-6 * pixels / r.seconds);
}

/// The largest difference between the picture in tiles and the picture as one.
double seam(upscaler& net, const photo& input, const arguments& a) {
    const kdna::tensor<float> tiled = net.run(input, a.tile, a.overlap), whole = net.run(input, 0, 0);
    double worst = 0;
    for (index_t i = 0; i < whole.size(); ++i)
        worst = std::max(worst, std::abs(double{tiled.data()[i]} - double{whole.data()[i]}));
    return worst;
}

int run(const arguments& a) {
    const photo input = examples::load_photo(a.input);
    kdna::thread_pool pool(a.threads);
    kdna::plan_options options{.executor = pool};
    if (!a.winograd) options.transform_budget = 0;
    upscaler net(a.network, options);
    const result converted = enlarge("shared kernels", net, input, a);
    std::printf("%d x %d to %d x %d, tiles of %td with %td more on each side\n", input.width, input.height,
                converted.picture.width, converted.picture.height, a.tile, a.overlap);
    report("shared kernels", net, converted);
    save(a.output, converted.picture);
    std::printf("picture: %s\n", a.output.string().c_str());

    std::optional<photo> original;
    if (!a.original.empty()) {
        upscaler other(a.original, options);
        const result made = enlarge("original", other, input, a);
        report("original", other, made);
        std::printf("original: tiles differ from the picture as one by %.1e\n", seam(other, input, a));
        original = made.picture;
    } else if (!a.reference.empty()) {
        original = examples::load_photo(a.reference);
    }
    if (!original) return 0;
    const double found = psnr(converted.picture, *original);
    std::printf("%.2f dB between the original's picture and that of shared kernels\n", found);
    if (!a.comparison.empty()) {
        save_comparison(a.comparison, input, *original, converted.picture);
        std::printf("comparison: %s\n", a.comparison.string().c_str());
    }
    if (!a.quick) return 0;
    // Convolutions see no further than the overlap. Gates see the mean of a tile, so the converted network's tiles differ.
    const double difference = seam(net, input, a);
    std::printf("shared kernels: tiles differ from the picture as one by %.1e\n", difference);
    return found > lowest_psnr && difference < 0.1 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Enlarges a picture with a network whose layers share kernels.", "upscale");
    arguments a;
    app.option_defaults()->always_capture_default();
    auto* input = app.add_option("--input", a.input, "picture, .png or .jpg");
    auto* network = app.add_option("--network", a.network, "network file, [1, 3, H, W] to [1, 3, k H, k W]");
    app.add_option("--output", a.output, "picture to write, .png");
    app.add_option("--tile", a.tile, "pixels of a tile's side; 0: the picture as one")->check(CLI::Range(0, 16384));
    app.add_option("--overlap", a.overlap, "pixels that the network sees around a tile")->check(CLI::Range(0, 1024));
    app.add_option("--threads", a.threads, "threads")->check(CLI::Range(1, 1024));
    app.option_defaults()->always_capture_default(false);
    app.add_flag("!--no-winograd", a.winograd,
                 "slower, and without a transformed copy of the kernel for each child in memory");
    auto* original = app.add_option("--original", a.original,
                                    "network file of the network before it was converted, to compare with");
    auto* reference =
        app.add_option("--reference", a.reference, "picture that the original network made, to compare with")
            ->excludes(original);
    app.add_option("--comparison", a.comparison, "picture of both results side by side, .png");
    app.add_flag("--quick", a.quick, "the committed photo; exit code 1 if its result is not near the original's")
        ->excludes(input)
        ->excludes(network)
        ->excludes(original)
        ->excludes(reference);
    return examples::run_program(app, argc, argv, [&] {
        if (a.quick) a.reference = committed / "astronaut192_x2.png";
        return run(a);
    });
}
