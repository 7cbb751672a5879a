// The convolutions of the published networks, from bench/shapes/<network>.txt.
#pragma once

#include <algorithm>
#include <array>
#include <fstream>
#include <kdna/core/error.hpp>
#include <kdna/core/shape.hpp>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#ifndef KDNA_BENCH_DIR
#define KDNA_BENCH_DIR "."
#endif

namespace kdna_bench {

using kdna::index_t;

inline constexpr std::array<std::string_view, 4> all_networks{"resnet18", "resnet50", "mobilenet_v2",
                                                              "mobilenet_v2_1d2"};

/// How often a network at 224x224 has a shape: in its KernelDNA form with a kernel of the layer's own and as a child,
/// and in its plain twin.
struct occurrence {
    std::string network;
    index_t own = 0, children = 0, plain = 0;
};

/// A convolution of a square kernel, padded by half of it, on a square map.
struct layer_shape {
    kdna::kernel_shape kernel;
    index_t stride = 1, extent = 1;
    std::vector<occurrence> occurrences{};

    [[nodiscard]] kdna::conv_params params() const { return {.stride = stride, .pad = kernel.kh / 2}; }
    [[nodiscard]] kdna::shape4 input() const { return {1, kernel.i, extent, extent}; }
    [[nodiscard]] kdna::shape4 output() const { return kdna::output_shape(input(), kernel, params()); }
    /// Multiply-adds of the direct algorithm, padding included, as everybody counts them.
    [[nodiscard]] double macs() const {
        return static_cast<double>(kdna::weight_count(kernel) * output().h * output().w);
    }
    /// "64-128@56_3x3s2", depthwise "dw96@112_3x3s2".
    [[nodiscard]] std::string name() const {
        return kdna::concat(kernel.depthwise() ? kdna::concat("dw", kernel.o) : kdna::concat(kernel.i, "-", kernel.o),
                            "@", extent, "_", kernel.kh, "x", kernel.kw,
                            stride == 1 ? std::string() : kdna::concat("s", stride));
    }
};

/// Throws kdna::error if there is no list for this network, or a line of it is none.
[[nodiscard]] inline std::vector<layer_shape> read_shapes(std::string_view network) {
    const std::string path = kdna::concat(KDNA_BENCH_DIR, "/shapes/", network, ".txt");
    std::ifstream file(path);
    if (!file) throw kdna::error(std::string(network), "a list of shapes", "none in bench/shapes");
    std::vector<layer_shape> out;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line.front() == '#') continue;
        std::istringstream fields(line);
        layer_shape s;
        occurrence here{.network = std::string(network)};
        fields >> s.kernel.o >> s.kernel.i >> s.kernel.kh >> s.kernel.groups >> s.stride >> s.extent >> here.own >>
            here.children >> here.plain;
        if (!fields) throw kdna::error(path, "nine numbers in a line", "\"" + line + "\"");
        s.kernel.kw = s.kernel.kh;
        s.occurrences.push_back(here);
        out.push_back(std::move(s));
    }
    return out;
}

/// The shapes of several networks, each once.
[[nodiscard]] inline std::vector<layer_shape> read_shapes(std::span<const std::string> networks) {
    std::vector<layer_shape> out;
    for (const std::string& network : networks)
        for (layer_shape& s : read_shapes(network)) {
            const auto known =
                std::find_if(out.begin(), out.end(), [&](const layer_shape& o) { return o.name() == s.name(); });
            if (known == out.end())
                out.push_back(std::move(s));
            else
                known->occurrences.push_back(s.occurrences.front());
        }
    return out;
}

}  // namespace kdna_bench
