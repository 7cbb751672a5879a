// main FOLDER: a program that knows nothing of kdna but <kdna/library.hpp>. Runs the network of make_case and compares.
#include <cmath>
#include <cstdio>
#include <fstream>
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
    std::puts(passed ? "passed" : "FAILED");
    return passed ? 0 : 1;
}
