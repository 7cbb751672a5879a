// One kernel at several places of a network, from a file that PyTorch wrote (tools/make_cases.py).
#include <kdna/load.hpp>

#include <array>
#include <limits>

#include "graph/network_case.hpp"
#include "support/frames.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

constexpr index_t channels = 16, levels = 3;
constexpr std::array<const char*, 4> shared_kernels{"convs.scores.0.weight", "convs.scores.1.weight",
                                                    "convs.boxes.0.weight", "convs.boxes.1.weight"};

/// Gives every node that names the tensor, but the first, a copy of its own.
void copy_for_each_node(state_dict& d, const std::string& name) {
    std::string& graph = d.metadata()["kdna.graph"];
    const std::string quoted = concat("\"", name, "\"");
    index_t copies = 0;
    for (auto at = graph.find(quoted); at != std::string::npos; at = graph.find(quoted, at + 1)) {
        if (copies > 0) {
            const std::string own = concat(name, ".", copies);
            graph.replace(at, quoted.size(), concat("\"", own, "\""));
            d.add(own, tensor_data::copy_of<float>(d.at(name).shape(), d.at(name).values<float>()));
        }
        ++copies;
    }
    REQUIRE(copies == levels);
}

}  // namespace

TEST_CASE("A detection head on three levels gives what PyTorch gives") {
    const network_case c("pyramid_head");
    const auto found = run_on_inputs(load(c.network, "pyramid_head"), c);
    REQUIRE(found.size() == 2 * levels);
    // Two 3x3 convolutions and a 1x1: the lengths of the dot products that follow each other.
    constexpr float terms = 2 * 9 * channels + channels, eps = std::numeric_limits<float>::epsilon();
    for (const auto& [name, y] : found) {
        const comparison to_pytorch = compare(y, c.values.at("output." + name).values<float>());
        INFO(name << ": error " << to_pytorch.error << ", largest " << to_pytorch.largest);
        CHECK(to_pytorch.largest > 1.0F);
        CHECK(to_pytorch.error <= terms * eps * to_pytorch.largest);
    }
}

TEST_CASE("The kernels of a network file are stored as the options say, and still once") {
    network_case c("pyramid_head");
    const network all = load(c.network, "pyramid_head");
    c.network.set_options({.storage = number_format::float16});
    const network half = load(c.network, "pyramid_head");
    index_t kernels = 0;
    for (const auto& [name, tensor] : c.network.tensors())
        if (tensor.shape().size() == 4) kernels += static_cast<index_t>(tensor.bytes().size());
    CHECK(all.weight_bytes() - half.weight_bytes() == kernels / 2);
    const auto expected = run_on_inputs(all, c), found = run_on_inputs(half, c);
    for (const auto& [name, y] : found) {
        const double error = error_of(y, expected.at(name));
        INFO(name << ": error " << error);
        CHECK(error <= 3 * 0x1p-11);  // three convolutions
        CHECK(error > 0x1p-16);
    }
}

TEST_CASE("The levels of a detection head keep one kernel, and BatchNorms of their own") {
    network_case c("pyramid_head");
    const network shared = load(c.network, "pyramid_head");
    for (const char* name : shared_kernels) copy_for_each_node(c.network, name);
    const network apart = load(c.network, "pyramid_head, each level with its own kernels");

    constexpr index_t kernel = channels * channels * 9 * static_cast<index_t>(sizeof(float));
    constexpr index_t spared = (levels - 1) * static_cast<index_t>(shared_kernels.size()) * kernel;
    CHECK(apart.weight_bytes() - shared.weight_bytes() == spared);
    // The plans pack the kernels, and may keep transformed ones: never fewer bytes apart than shared.
    CHECK(run_on_inputs(shared, c) == run_on_inputs(apart, c));
    CHECK(apart.weight_bytes() - shared.weight_bytes() >= spared);
}
