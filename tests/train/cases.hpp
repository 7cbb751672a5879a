// Known gradients (tools/make_gradient_cases.py), and how far the library's are from them.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/io/safetensors.hpp>
#include <kdna/train/network.hpp>

#include "support/catch.hpp"

namespace kdna_test {

/// A case: its tensors under the names of a state_dict, and what is not one of them.
struct gradient_case {
    kdna::state_dict weights{}, others{};

    [[nodiscard]] std::span<const float> of(const std::string& name) const {
        return (weights.contains(name) ? weights : others).at(name).values<float>(name);
    }
    [[nodiscard]] bool has(std::string_view name) const { return weights.contains(name); }
    [[nodiscard]] kdna::shape4 shape_of(const std::string& name) const {
        const std::vector<kdna::index_t>& s = others.at(name).shape();
        return {s.at(0), s.at(1), s.size() > 2 ? s[2] : 1, s.size() > 3 ? s[3] : 1};
    }
};

/// Those of a file whose names begin with `prefix`, which is taken off.
inline gradient_case take_case(const kdna::state_dict& file, const std::string& prefix) {
    gradient_case out;
    for (const auto& [full, tensor] : file.tensors()) {
        if (!full.starts_with(prefix)) continue;
        const std::string name = full.substr(prefix.size());
        const bool other =
            name.starts_with("grad.") || name == "input" || name == "up" || name == "output" || name == "loss";
        (other ? out.others : out.weights)
            .add(name, kdna::tensor_data::copy_of<float>(tensor.shape(), tensor.values<float>(full)));
    }
    return out;
}

inline kdna::state_dict load_gradients(std::string_view name) {
    return kdna::load_safetensors(kdna::concat(KDNA_TESTS_DIR, "/golden/train/", name, ".safetensors"));
}

/// The largest difference, relative to the largest of the expected values.
template <class Values>
double relative_error(const Values& found, std::span<const float> expected) {
    double largest = 0.0, difference = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
        const double d = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
        difference = d <= difference ? difference : d;  // NaN is the largest of all
    }
    return difference == 0.0 ? 0.0 : difference / largest;
}

/// The elements of a view in PyTorch's order.
inline std::vector<float> values_of(const kdna::tensor_view<const float>& v) {
    std::vector<float> out;
    for (kdna::index_t n = 0; n < v.shape.n; ++n)
        for (kdna::index_t c = 0; c < v.shape.c; ++c)
            for (kdna::index_t h = 0; h < v.shape.h; ++h)
                for (kdna::index_t w = 0; w < v.shape.w; ++w) out.push_back(v(n, c, h, w));
    return out;
}

/// Sums of float32 have at most a few hundred terms here, each of which adds eps to the relative error; a hundredth of what is asked
/// for of gradients.
inline constexpr double gradient_tolerance = 1e-5;

/// Checks the gradients of all that is trained; returns how many tensors that are.
inline int check_gradients(const kdna::train::network& net, const gradient_case& expected) {
    int checked = 0;
    for (const kdna::train::parameter& p : net.parameters().all()) {
        if (!p.trained) continue;
        INFO(p.name);
        CHECK(relative_error(p.gradient.span(), expected.of("grad." + p.name)) <= gradient_tolerance);
        ++checked;
    }
    return checked;
}

}  // namespace kdna_test
