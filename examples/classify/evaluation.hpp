// Running a network over a set of images.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <common/idx.hpp>
#include <optional>
#include <span>
#include <vector>

#include "fashion_net.hpp"

namespace fashion {

/// The class a network chose, and how sure it was.
struct prediction {
    int label = 0;
    float probability = 0;
};

struct evaluation {
    std::vector<prediction> predictions;
    double seconds = 0;  ///< spent in the network
};

/// What the networks were trained on: grey values of mean 0 and variance 1.
inline void normalise(std::span<const std::uint8_t> pixels, float* out) {
    for (const std::uint8_t pixel : pixels) *out++ = (static_cast<float>(pixel) / 255.0F - 0.2860F) / 0.3530F;
}

/// The largest logit's class, with its softmax probability.
inline prediction decide(std::span<const float> logits) {
    const auto best = std::max_element(logits.begin(), logits.end());
    float sum = 0;
    for (const float logit : logits) sum += std::exp(logit - *best);
    return {static_cast<int>(best - logits.begin()), 1.0F / sum};
}

/// Runs images of one size through a network, a batch at a time. The plan, with all the memory a run needs, is made
/// anew only when the batch size changes; running allocates nothing.
class classifier {
public:
    classifier(const kdna::network& net, const examples::labelled_images& set, const kdna::plan_options& options)
        : net_(net), set_(set), options_(options) {}

    /// Predictions for the images of these numbers, appended to `out`.
    void run(std::span<const index_t> images, evaluation& out) {
        const auto count = std::ssize(images);
        if (!plan_ || plan_->input_shape().n != count) prepare(count);
        for (index_t i = 0; i < count; ++i)
            normalise(set_.image(images[static_cast<std::size_t>(i)]), &input_(i, 0, 0, 0));

        const auto start = std::chrono::steady_clock::now();
        net_.run(*plan_, input_.view(), logits_.view());
        out.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

        for (index_t i = 0; i < count; ++i) out.predictions.push_back(decide({&logits_(i, 0, 0, 0), class_count}));
    }

    /// How much image i of the last batch let through each input channel of each child convolution, in order.
    [[nodiscard]] std::vector<std::vector<float>> gates(index_t i) const {
        std::vector<std::vector<float>> out;
        for (const auto& layer : plan_->gates(i)) out.emplace_back(layer.gate.begin(), layer.gate.end());
        return out;
    }

private:
    void prepare(index_t count) {
        plan_ = net_.plan({count, 1, set_.rows, set_.columns}, options_);
        input_ = kdna::tensor<float>(plan_->input_shape());
        logits_ = kdna::tensor<float>(plan_->output_shape());
    }

    const kdna::network& net_;
    const examples::labelled_images& set_;
    kdna::plan_options options_;
    std::optional<kdna::network_plan> plan_;
    kdna::tensor<float> input_, logits_;
};

/// Images for the contact sheet, a column for each class: the first two that were recognised, and below them the first
/// two that were not. -1 where there are not as many.
class samples {
public:
    static constexpr int rows = 4, right_rows = 2;

    samples(const examples::labelled_images& set, const std::vector<prediction>& predictions) {
        image_.fill(-1);
        for (index_t i = 0; i < std::ssize(predictions); ++i) {
            const bool right = predictions[static_cast<std::size_t>(i)].label == set.label(i);
            const int end = right ? right_rows : rows;
            int row = right ? 0 : right_rows;
            while (row < end && image(row, set.label(i)) >= 0) ++row;
            if (row < end) image_[place(row, set.label(i))] = i;
        }
    }
    [[nodiscard]] index_t image(int row, int column) const { return image_[place(row, column)]; }

private:
    static std::size_t place(int row, int column) { return static_cast<std::size_t>(row * class_count + column); }
    std::array<index_t, rows * class_count> image_{};
};

}  // namespace fashion
