// A network file with inputs and the outputs that PyTorch or a formula gave (tools/make_cases.py).
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <kdna/io/safetensors.hpp>
#include <kdna/load.hpp>

#include "support/catch.hpp"

namespace kdna_test {

/// What make_cases.py adds to the tensors of a network file, apart from them.
struct network_case {
    explicit network_case(const std::string& name)
        : network(kdna::load_safetensors(kdna::concat(KDNA_TESTS_DIR, "/golden/networks/", name, ".safetensors"))) {
        for (const std::string& tensor : network.names())
            if (tensor.starts_with("input.") || tensor.starts_with("output."))
                values.emplace(tensor, network.extract(tensor));
    }
    kdna::state_dict network;
    std::map<std::string, kdna::tensor_data> values{};  ///< "input.NAME", "output.NAME"
};

/// The outputs by name.
inline std::map<std::string, std::vector<float>> run_on_inputs(const kdna::network& net, const network_case& c) {
    std::vector<kdna::nd_shape> shapes;
    std::vector<kdna::nd_view<const float>> inputs;
    for (kdna::index_t i = 0; i < net.input_count(); ++i) {
        const kdna::tensor_data& x = c.values.at("input." + net.input_name(i));
        shapes.emplace_back(x.shape(), net.input_name(i));
        inputs.push_back(kdna::row_major_view<const float>(x.values<float>().data(), shapes.back()));
    }
    kdna::network_plan plan = net.plan(shapes);
    std::map<std::string, std::vector<float>> out;
    std::vector<kdna::nd_view<float>> outputs;
    for (kdna::index_t i = 0; i < net.output_count(); ++i) {
        std::vector<float>& y = out[net.output_name(i)];
        y.resize(static_cast<std::size_t>(kdna::element_count(plan.output_shape(i))));
        outputs.push_back(kdna::row_major_view(y.data(), plan.output_shape(i)));
    }
    net.run(plan, inputs, outputs);
    return out;
}

/// The largest value that is wanted, and the largest difference from it.
struct comparison {
    float largest = 0, error = 0;
};
inline comparison compare(std::span<const float> found, std::span<const float> want) {
    REQUIRE(found.size() == want.size());
    comparison c;
    for (std::size_t i = 0; i < found.size(); ++i) {
        c.largest = std::max(c.largest, std::abs(want[i]));
        c.error = std::max(c.error, std::abs(found[i] - want[i]));
    }
    return c;
}

}  // namespace kdna_test
