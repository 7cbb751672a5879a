// main FOLDER: a program that knows nothing of kdna but <kdna/library.hpp>. Runs the network of make_case and compares.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include <kdna/library.hpp>

namespace {

std::vector<float> read(const std::string& path, std::size_t count) {
    std::vector<float> values(count);
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(float)));
    if (!file) std::printf("cannot read %s\n", path.c_str());
    return values;
}

/// Whether f() throws library::error whose text has `words`.
template <class F>
bool throws(const F& f, const char* words) {
    try {
        f();
    } catch (const kdna::library::error& e) {
        const std::string text = e.what();
        std::printf("as it should: %s\n", text.c_str());
        return text.find(words) != std::string::npos && text.find(e.expected()) != std::string::npos;
    }
    return false;
}

/// The largest difference, relative to the largest value.
float difference(const std::vector<float>& found, const std::vector<float>& expected) {
    float error = 0.0F, largest = 0.0F;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        error = std::max(error, std::abs(found[i] - expected[i]));
        largest = std::max(largest, std::abs(expected[i]));
    }
    return largest > 0.0F ? error / largest : 1.0F;
}

/// A network file with two inputs and two outputs of different ranks.
bool runs_network_file(const std::string& folder) {
    namespace library = kdna::library;
    using library::nd_shape;
    const library::network net = library::network::load(folder + "/graph.safetensors");
    bool passed = net.input_count() == 2 && net.output_count() == 2 && net.input_name(1) == "bias" &&
                  net.output_name(0) == "map" && net.input_named("image") == 0 && net.output_named("mean") == 1 &&
                  net.input_extents(0) == nd_shape{0, 3, 0, 0} && net.input_extents(1) == nd_shape{4, 1, 1};
    passed = throws([&] { return net.input_named("x"); }, "image, bias") && passed;
    passed = throws([&] { return net.output_name(2); }, "0 to 1") && passed;
    passed = throws([&] { return library::network::load(folder + "/net.safetensors"); }, "kdna.graph") && passed;
    passed = throws([&] { return net.plan({1, 3, 5, 7}); }, "one image") && passed;
    const nd_shape shapes[] = {{2, 3, 5, 7}, {4, 1, 1}}, deep[] = {{1, 1, 1, 1, 1, 1}, {4, 1, 1}};
    passed = throws([&] { return net.plan(deep); }, "rank of 1 to 5") && passed;
    passed = throws([&] { return net.plan(std::span(shapes).first(1)); }, "network inputs") && passed;

    library::plan plan = net.plan(shapes);
    passed = plan.input_shape(1) == shapes[1] && plan.output_shape(0) == nd_shape{2, 4, 5, 7} &&
             plan.output_shape(1) == nd_shape{2, 4} && plan.input_shape().c == 3 && passed;
    passed = throws([&] { return plan.output_shape(2); }, "0 to 1") && passed;
    const std::vector<float> x = read(folder + "/x", 504);
    std::vector<float> map(2 * 4 * 5 * 7), mean(2 * 4);
    const library::nd_view<const float> in[] = {library::row_major(x.data(), shapes[0]),
                                                library::row_major(x.data() + 500, shapes[1])};
    const library::nd_view<float> out[] = {library::row_major(map.data(), plan.output_shape(0)),
                                           library::row_major(mean.data(), plan.output_shape(1))};
    passed = throws([&] { net.run(plan, std::span(in).first(1), out); }, "network inputs") && passed;
    const library::nd_view<float> wrong[] = {out[1], out[0]};
    passed = throws([&] { net.run(plan, in, wrong); }, "network output map") && passed;
    net.run(plan, in, out);
    return difference(map, read(folder + "/map", map.size())) <= 1e-5F &&
           difference(mean, read(folder + "/mean", mean.size())) <= 1e-5F && passed;
}

}  // namespace

int main(int, char** argv) {
    namespace library = kdna::library;
    const std::string folder = argv[1];
    std::printf("libkdna %s for %s\n", library::version(), library::instruction_set());
    bool passed =
        throws([&] { return library::network::load(folder + "/net.safetensors", "resnet18"); }, "net.safetensors");
    passed =
        throws([&] { return library::network::load(folder + "/net.safetensors", "resnet17"); }, "resnet17") && passed;
    passed = throws([] { return library::thread_pool(0); }, "threads") && passed;

    const library::network net = library::network::load(folder + "/net.safetensors", "mobilenet_v2_1d2");
    const library::shape in{1, net.input_channels(), 64, 48};
    const std::vector<float> x = read(folder + "/x", 3 * 64 * 48), expected = read(folder + "/y", 1000);
    float largest = 0.0F;
    for (const float v : expected) largest = std::max(largest, std::abs(v));
    passed = largest > 0.0F && net.output_channels() == 1000 && net.weight_bytes() > 0 && passed;
    passed = throws([&] { return net.plan({1, 4, 64, 48}); }, "channels") && passed;

    passed = throws([&] { return net.plan(in, {.machine = "zen"}); }, "one of generic") && passed;
    passed =
        net.plan(in, {.machine = "skylake"}).explain().find("planned for skylake (") != std::string::npos && passed;

    const auto load = [&](const char* storage) {
        return library::network::load(folder + "/net.safetensors", "mobilenet_v2_1d2", "kernel_dna",
                                      {.storage = storage});
    };
    passed = load("float16").weight_bytes() < net.weight_bytes() * 6 / 10 && passed;
    passed = throws([&] { return load("int8"); }, "bfloat16") && passed;
    const auto overlaid = [&](const std::string& overlay) {
        return library::network::load(folder + "/net.safetensors", "mobilenet_v2_1d2", "kernel_dna",
                                      {.overlay = folder + overlay});
    };
    passed = overlaid("/net.safetensors").weight_bytes() == load("float32").weight_bytes() && passed;
    passed = throws([&] { return overlaid("/none.safetensors"); }, "none.safetensors") && passed;
    passed = throws([&] { return net.plan(in, {.transformed_storage = "file"}); }, "bfloat16") && passed;

    library::thread_pool threads(2);
    for (library::thread_pool* pool : {static_cast<library::thread_pool*>(nullptr), &threads}) {
        library::plan plan = net.plan(in, {.threads = pool});
        std::vector<float> y(1000);
        passed = throws(
                     [&] {
                         net.run(plan, library::nchw(x.data(), {1, 3, 48, 64}),
                                 library::nchw(y.data(), plan.output_shape()));
                     },
                     "network input") &&
                 passed;
        net.run(plan, library::nchw(x.data(), in), library::nchw(y.data(), plan.output_shape()));
        float error = 0.0F;
        for (std::size_t i = 0; i < y.size(); ++i) error = std::max(error, std::abs(y[i] - expected[i]));
        std::printf("%d threads: largest difference %g of %g, plan of %lld bytes\n",
                    pool == nullptr ? 1 : pool->threads(), static_cast<double>(error), static_cast<double>(largest),
                    static_cast<long long>(plan.bytes()));
        passed = error <= 1e-4F * largest && plan.explain().find("activations") != std::string::npos && passed;
    }
    passed = runs_network_file(folder) && passed;
    std::puts(passed ? "passed" : "FAILED");
    return passed ? 0 : 1;
}
