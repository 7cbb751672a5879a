// Running a network over the images of Fashion-MNIST.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <common/confusion_matrix.hpp>
#include <common/fashion_net.hpp>
#include <common/idx.hpp>
#include <common/progress.hpp>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

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

/// Runs all images of a set, a batch at a time.
inline evaluation evaluate(const char* name, const kdna::network& net, const examples::labelled_images& set,
                           index_t batch, const kdna::plan_options& options) {
    std::vector<index_t> numbers(static_cast<std::size_t>(set.count));
    std::iota(numbers.begin(), numbers.end(), 0);
    examples::progress_bar progress(name, set.count);
    classifier c(net, set, options);
    evaluation result;
    for (index_t done = 0; done < set.count; progress.update(done)) {
        const index_t count = std::min(batch, set.count - done);
        c.run(std::span(numbers).subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(count)), result);
        done += count;
    }
    return result;
}

/// A network's answers beside the truth.
inline examples::confusion_matrix confusion(const examples::labelled_images& set, const evaluation& e) {
    examples::confusion_matrix out(class_count);
    for (std::size_t i = 0; i < e.predictions.size(); ++i)
        out.add(set.label(static_cast<index_t>(i)), e.predictions[i].label);
    return out;
}

}  // namespace fashion
