// One kernel at several places of a network, from a file that PyTorch wrote (tools/make_cases.py).
#include <kdna/io/safetensors.hpp>
#include <kdna/load.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "support/catch.hpp"
#include "support/frames.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

constexpr index_t channels = 16, levels = 3;
constexpr std::array<const char*, 4> shared_kernels{"convs.scores.0.weight", "convs.scores.1.weight",
                                                    "convs.boxes.0.weight", "convs.boxes.1.weight"};

/// What make_cases.py adds to the tensors of a network file.
struct pyramid_case {
    state_dict network;
    std::map<std::string, tensor_data> values;  // "input.NAME", "output.NAME"
};

pyramid_case read_pyramid_case() {
    pyramid_case out{load_safetensors(concat(KDNA_TESTS_DIR, "/golden/networks/pyramid_head.safetensors")), {}};
    for (const std::string& name : out.network.names())
        if (name.starts_with("input.") || name.starts_with("output."))
            out.values.emplace(name, out.network.extract(name));
    return out;
}

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

std::map<std::string, std::vector<float>> run_on_inputs(const network& net, const pyramid_case& c) {
    std::vector<nd_shape> shapes;
    std::vector<nd_view<const float>> inputs;
    for (index_t i = 0; i < net.input_count(); ++i) {
        const tensor_data& x = c.values.at("input." + net.input_name(i));
        shapes.emplace_back(x.shape(), net.input_name(i));
        inputs.push_back(row_major_view<const float>(x.values<float>().data(), shapes.back()));
    }
    network_plan plan = net.plan(shapes);
    std::map<std::string, std::vector<float>> out;
    std::vector<nd_view<float>> outputs;
    for (index_t i = 0; i < net.output_count(); ++i) {
        std::vector<float>& y = out[net.output_name(i)];
        y.resize(static_cast<std::size_t>(element_count(plan.output_shape(i))));
        outputs.push_back(row_major_view(y.data(), plan.output_shape(i)));
    }
    net.run(plan, inputs, outputs);
    return out;
}

}  // namespace

TEST_CASE("A detection head on three levels gives what PyTorch gives") {
    const pyramid_case c = read_pyramid_case();
    const auto found = run_on_inputs(load(c.network, "pyramid_head"), c);
    REQUIRE(found.size() == 2 * levels);
    // Two 3x3 convolutions and a 1x1: the lengths of the dot products that follow each other.
    constexpr float terms = 2 * 9 * channels + channels, eps = std::numeric_limits<float>::epsilon();
    for (const auto& [name, y] : found) {
        const auto want = c.values.at("output." + name).values<float>();
        REQUIRE(y.size() == want.size());
        float largest = 0, error = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            largest = std::max(largest, std::abs(want[i]));
            error = std::max(error, std::abs(y[i] - want[i]));
        }
        INFO(name << ": error " << error << ", largest " << largest);
        CHECK(largest > 1.0F);
        CHECK(error <= terms * eps * largest);
    }
}

TEST_CASE("The kernels of a network file are stored as the options say, and still once") {
    pyramid_case c = read_pyramid_case();
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
    pyramid_case c = read_pyramid_case();
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
