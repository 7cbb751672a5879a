// A network that gives a class to each pixel, from a file that PyTorch wrote.
#pragma once

#include <algorithm>
#include <chrono>
#include <common/numbers.hpp>
#include <kdna/io/safetensors.hpp>
#include <kdna/load.hpp>
#include <optional>
#include <string>
#include <vector>

#include "scenes.hpp"

namespace segment {

/// A network, the number of its trainable parameters, and the bytes its weights take in memory; what layers share counts once.
struct loaded_net {
    kdna::network net;
    index_t parameters = 0;
    index_t weight_bytes = net.weight_bytes();
};

/// Reads a network file. Throws kdna::error unless the network takes grey images and gives a score for each class.
inline loaded_net load(const std::filesystem::path& file) {
    const kdna::state_dict weights = kdna::load_safetensors(file);
    loaded_net out{kdna::load(weights, file.string()), examples::trained_parameters(weights)};
    if (out.net.input_channels() != 1 || out.net.output_channels() != class_count)
        throw kdna::error(file.string(), kdna::concat("a network of 1 channel to ", class_count),
                          kdna::concat(out.net.input_channels(), " to ", out.net.output_channels()));
    return out;
}

/// Runs scenes through a network, a batch at a time. The plan, with all the memory a run needs, is made anew only when the
/// batch size changes; running allocates nothing.
class segmenter {
public:
    segmenter(const kdna::network& net, const maps& images, const kdna::plan_options& options)
        : net_(net), images_(images), options_(options) {}

    /// Appends the classes of the pixels of images [first, first + count) to `out`.
    void run(index_t first, index_t count, std::vector<std::uint8_t>& out) {
        if (!plan_ || plan_->input_shape().n != count) prepare(count);
        for (index_t i = 0; i < count; ++i) normalise(images_.map(first + i), &input_(i, 0, 0, 0));

        const auto start = std::chrono::steady_clock::now();
        net_.run(*plan_, input_.view(), scores_.view());
        seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

        for (index_t i = 0; i < count; ++i)
            for (index_t row = 0; row < images_.rows; ++row)
                for (index_t column = 0; column < images_.columns; ++column) out.push_back(decide(i, row, column));
    }
    /// Spent in the network so far.
    [[nodiscard]] double seconds() const { return seconds_; }

    /// How much image i of the last batch let through each input channel of each child convolution, in the order in which they run.
    /// Valid until the next run.
    [[nodiscard]] std::vector<kdna::network_plan::layer_gate> gates(index_t i) const { return plan_->gates(i); }

private:
    void prepare(index_t count) {
        plan_ = net_.plan({count, 1, images_.rows, images_.columns}, options_);
        input_ = kdna::tensor<float>(plan_->input_shape());
        scores_ = kdna::tensor<float>(plan_->output_shape());
    }
    /// As in training (tools/train_segment.py).
    static void normalise(std::span<const std::uint8_t> pixels, float* out) {
        for (const std::uint8_t pixel : pixels) *out++ = (static_cast<float>(pixel) / 255.0F - 0.45F) / 0.22F;
    }
    [[nodiscard]] std::uint8_t decide(index_t i, index_t row, index_t column) const {
        int best = 0;
        for (int c = 1; c < class_count; ++c)
            if (scores_(i, c, row, column) > scores_(i, best, row, column)) best = c;
        return static_cast<std::uint8_t>(best);
    }

    const kdna::network& net_;
    const maps& images_;
    kdna::plan_options options_;
    std::optional<kdna::network_plan> plan_;
    kdna::tensor<float> input_, scores_;
    double seconds_ = 0;
};

}  // namespace segment
