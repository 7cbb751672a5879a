// Adapting a network to images: its norms' statistics without labels, then what belongs to children and norms with them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <common/fashion_evaluation.hpp>
#include <common/progress.hpp>
#include <kdna/train/train.hpp>
#include <numbers>
#include <numeric>
#include <random>
#include <span>
#include <vector>

namespace adapt {

using kdna::index_t;

struct settings {
    index_t batch = 50, epochs = 15;
    double rate = 4e-3;
    unsigned seed = 1;
};

/// What adapting took.
struct effort {
    double statistics_seconds = 0, training_seconds = 0;
    index_t pass_bytes = 0,
            parameter_bytes = 0;           ///< of values and gradients; of parameters, their gradients and averages
    double first_loss = 0, last_loss = 0;  ///< means of the first and the last epoch
};

/// As std::shuffle, whose results differ between libraries.
inline void shuffle(std::vector<index_t>& order, std::mt19937& random) {
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
}

class adapter {
public:
    adapter(kdna::train::network& net, const examples::labelled_images& set, const settings& s,
            const kdna::executor_ref& executor)
        : net_(net),
          set_(set),
          settings_(s),
          pass_(net, {std::min(s.batch, set.count), 1, set.rows, set.columns}, {.executor = executor}),
          images_(pass_.input_shape()),
          labels_(static_cast<std::size_t>(images_.shape().n)),
          order_(static_cast<std::size_t>(set.count)) {
        std::iota(order_.begin(), order_.end(), 0);
    }

    /// Makes the statistics of the batch norms those of the images. No label is looked at.
    void estimate_statistics(effort& e) {
        const auto start = std::chrono::steady_clock::now();
        for (std::size_t b = 0; b < batches(); ++b) {
            fill(b);
            pass_.estimate_statistics(images_.view());
        }
        pass_.adopt_statistics();
        e.statistics_seconds = seconds_since(start);
    }

    /// Adam on the cross entropy of the labels, at a rate that falls to zero like a cosine.
    void train(effort& e) {
        const auto start = std::chrono::steady_clock::now();
        kdna::train::adam optimiser(net_.parameters(), {.rate = settings_.rate});
        std::mt19937 random(settings_.seed);
        const auto steps = settings_.epochs * static_cast<index_t>(batches());
        examples::progress_bar progress("adapting", steps);
        for (index_t step = 0, epoch = 0; epoch < settings_.epochs; ++epoch) {
            shuffle(order_, random);
            double loss = 0;
            for (std::size_t b = 0; b < batches(); ++b) {
                fill(b);
                pass_.forward(images_.view());
                loss += kdna::train::softmax_cross_entropy(pass_.output(), labels_, pass_.output_gradient());
                pass_.backward();
                const double done = static_cast<double>(step) / static_cast<double>(steps);
                optimiser.step(0.5 + 0.5 * std::cos(std::numbers::pi * done));
                progress.update(++step);
            }
            e.last_loss = loss / static_cast<double>(batches());
            if (epoch == 0) e.first_loss = e.last_loss;
        }
        e.training_seconds = seconds_since(start);
        e.pass_bytes = pass_.bytes();
        e.parameter_bytes = optimiser.bytes();
        for (const kdna::train::parameter& p : net_.parameters().all())
            e.parameter_bytes += p.values.bytes() + p.gradient.bytes();
    }

private:
    static double seconds_since(std::chrono::steady_clock::time_point start) {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    /// Whole batches; what is left over comes another time, since the order changes.
    [[nodiscard]] std::size_t batches() const { return order_.size() / labels_.size(); }
    void fill(std::size_t batch) {
        for (std::size_t i = 0; i < labels_.size(); ++i) {
            const index_t image = order_[batch * labels_.size() + i];
            fashion::normalise(set_.image(image), &images_(static_cast<index_t>(i), 0, 0, 0));
            labels_[i] = set_.label(image);
        }
    }

    kdna::train::network& net_;
    const examples::labelled_images& set_;
    settings settings_;
    kdna::train::pass pass_;
    kdna::tensor<float> images_;
    std::vector<int> labels_;
    std::vector<index_t> order_;
};

}  // namespace adapt
