// What is measured: a layer or a network with its weights, an input and the answer expected, as items.py writes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <kdna/models.hpp>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace peers {

using json = nlohmann::json;

/// One implementation of one item, ready to be run as often as one likes.
struct runnable {
    std::function<void()> run;                   ///< one inference; all preparation lies behind it
    std::function<std::vector<float>()> output;  ///< what the last run gave, in NCHW
    std::string explain{};                       ///< the algorithm, in the implementation's own words
};

/// Thrown where an implementation has nothing for an item, such as Winograd for a 1x1 kernel.
struct not_applicable {};

/// A convolution, BatchNorm and ReLU, and with `child` what makes it a KernelDNA child.
struct layer {
    explicit layer(const json& item) : tensors(kdna::load_safetensors(item.at("file").get<std::string>())) {
        const auto number = [&](const char* key) { return item.at(key).get<kdna::index_t>(); };
        const kdna::index_t k = number("k"), extent = number("extent");
        kernel = {.o = number("o"), .i = number("i"), .kh = k, .kw = k, .groups = number("groups")};
        params = {.stride = number("stride"), .pad = k / 2};
        in = {.n = number("batch"), .c = kernel.i, .h = extent, .w = extent};
        out = kdna::output_shape(in, kernel, params);
        residual = tensors.contains("residual");
    }

    [[nodiscard]] std::span<const float> values(const std::string& name) const {
        return tensors.at(name).values<float>(name);
    }
    [[nodiscard]] kdna::batch_norm bn(const std::string& prefix) const {
        return {.weight = values(prefix + ".weight"),
                .bias = values(prefix + ".bias"),
                .mean = values(prefix + ".mean"),
                .var = values(prefix + ".var")};
    }
    /// A tensor of the file, which is NCHW, in the order that channels-last implementations read.
    [[nodiscard]] kdna::tensor<float> channels_last(const std::string& name, const kdna::shape4& shape) const {
        kdna::tensor<float> copy(shape, kdna::layout::nhwc);
        kdna::copy(kdna::make_view(values(name).data(), shape, kdna::layout::nchw), copy.view());
        return copy;
    }

    kdna::state_dict tensors;
    kdna::kernel_shape kernel;
    kdna::conv_params params;
    kdna::shape4 in, out;
    bool residual = false;
};

/// The values of a view in NCHW.
inline std::vector<float> channels_first(const kdna::tensor_view<const float>& y) {
    std::vector<float> copy(static_cast<std::size_t>(kdna::element_count(y.shape)));
    kdna::copy(y, kdna::make_view(copy.data(), y.shape, kdna::layout::nchw));
    return copy;
}

/// The largest error relative to the largest value expected; infinity for anything that is not a number.
inline double relative_error(const std::vector<float>& found, std::span<const float> expected) {
    if (found.size() != expected.size()) return INFINITY;
    double worst = 0.0, largest = 0.0;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const double difference = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
        if (!(difference <= worst)) worst = std::isnan(difference) ? INFINITY : difference;
        largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    }
    return worst / largest;
}

}  // namespace peers
