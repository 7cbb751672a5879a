// Definitions of train/gate_pass.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>

#include <kdna/train/gate_pass.hpp>

namespace kdna::inline KDNA_ABI::train {

KDNA_FUNC gate_pass::gate_pass(const gate& g, parameters& p, index_t samples, index_t padding)
    : gate_(g),
      parameters_(&p),
      samples_(samples),
      hidden_(g.bn.channels),
      stride_(g.channels + padding),
      pooled_(samples * stride_),
      gates_(samples * stride_),
      squeezed_(static_cast<std::size_t>(samples * hidden_)),
      normalised_(static_cast<std::size_t>(hidden_)),
      excited_(static_cast<std::size_t>(hidden_)) {}

KDNA_FUNC index_t gate_pass::bytes() const noexcept {
    return pooled_.bytes() + gates_.bytes() + static_cast<index_t>(squeezed_.size() * sizeof(double));
}

KDNA_FUNC norm_view gate_pass::normalisation(norm_statistics* statistics) const {
    if (statistics == nullptr) return {gate_.bn, *parameters_};
    const auto width = static_cast<std::size_t>(hidden_);
    std::vector<double> mean(width), squares(width);
    for (std::size_t i = 0; i < squeezed_.size(); ++i) mean[i % width] += squeezed_[i] / static_cast<double>(samples_);
    for (std::size_t i = 0; i < squeezed_.size(); ++i) {
        const double d = squeezed_[i] - mean[i % width];
        squares[i % width] += d * d;
    }
    statistics->add(mean, squares, samples_);
    return {gate_.bn, *parameters_, mean, squares, samples_};
}

/// The hidden units of sample n before and behind the ReLU.
KDNA_FUNC void gate_pass::excite(index_t n) {
    const norm_view& bn = norm_.front();
    for (index_t j = 0; j < hidden_; ++j) {
        const auto i = static_cast<std::size_t>(j);
        normalised_[i] = (squeezed_[static_cast<std::size_t>(n * hidden_ + j)] - bn.mean[i]) * bn.inverse[i];
        excited_[i] =
            std::max(0.0, static_cast<double>(bn.weight[j]) * normalised_[i] + static_cast<double>(bn.bias[j]));
    }
}

KDNA_FUNC void gate_pass::forward(norm_statistics* statistics) {
    const index_t channels = gate_.channels;
    const float *fc1 = parameters_->values(gate_.fc1), *fc2 = parameters_->values(gate_.fc2),
                *bias = parameters_->values(gate_.fc2_bias);
    for (index_t n = 0; n < samples_; ++n)
        for (index_t j = 0; j < hidden_; ++j) {
            double sum = 0.0;
            for (index_t c = 0; c < channels; ++c)
                sum += static_cast<double>(fc1[j * channels + c]) * static_cast<double>(pooled(n)[c]);
            squeezed_[static_cast<std::size_t>(n * hidden_ + j)] = sum;
        }
    norm_.assign(1, normalisation(statistics));
    for (index_t n = 0; n < samples_; ++n) {
        excite(n);
        for (index_t c = 0; c < channels; ++c) {
            auto sum = static_cast<double>(bias[c]);
            for (index_t j = 0; j < hidden_; ++j)
                sum += static_cast<double>(fc2[c * hidden_ + j]) * excited_[static_cast<std::size_t>(j)];
            gates_[n * stride_ + c] = static_cast<float>(1.0 / (1.0 + std::exp(-sum)));
        }
    }
}

KDNA_FUNC void gate_pass::backward(index_t n, std::vector<double>& gradient) {
    const index_t channels = gate_.channels;
    const float *fc1 = parameters_->values(gate_.fc1), *fc2 = parameters_->values(gate_.fc2);
    float *fc1_to = parameters_->gradient(gate_.fc1), *fc2_to = parameters_->gradient(gate_.fc2),
          *bias_to = parameters_->gradient(gate_.fc2_bias), *weight_to = parameters_->gradient(gate_.bn.weight),
          *shift_to = parameters_->gradient(gate_.bn.bias);
    const norm_view& bn = norm_.front();
    const auto add = [](float& to, double value) { to += static_cast<float>(value); };
    excite(n);
    // Through the sigmoid.
    for (index_t c = 0; c < channels; ++c) {
        const auto g = static_cast<double>(of(n)[c]);
        gradient[static_cast<std::size_t>(c)] *= g * (1.0 - g);
    }
    std::vector<double> hidden(static_cast<std::size_t>(hidden_));
    for (index_t c = 0; c < channels; ++c) {
        const double e = gradient[static_cast<std::size_t>(c)];
        if (bias_to != nullptr) add(bias_to[c], e);
        for (index_t j = 0; j < hidden_; ++j) {
            const auto i = static_cast<std::size_t>(j);
            if (fc2_to != nullptr) add(fc2_to[c * hidden_ + j], e * excited_[i]);
            hidden[i] += e * static_cast<double>(fc2[c * hidden_ + j]);
        }
    }
    std::fill(gradient.begin(), gradient.end(), 0.0);
    for (index_t j = 0; j < hidden_; ++j) {
        const auto i = static_cast<std::size_t>(j);
        const double a = excited_[i] > 0.0 ? hidden[i] : 0.0;
        if (weight_to != nullptr) add(weight_to[j], a * normalised_[i]);
        if (shift_to != nullptr) add(shift_to[j], a);
        const double h = a * static_cast<double>(bn.weight[j]) * bn.inverse[i];
        for (index_t c = 0; c < channels; ++c) {
            if (fc1_to != nullptr) add(fc1_to[j * channels + c], h * static_cast<double>(pooled(n)[c]));
            gradient[static_cast<std::size_t>(c)] += h * static_cast<double>(fc1[j * channels + c]);
        }
    }
}

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
