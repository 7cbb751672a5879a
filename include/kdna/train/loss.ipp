// Definitions of train/loss.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>

#include <kdna/train/loss.hpp>

namespace kdna::inline KDNA_ABI::train {

KDNA_FUNC double softmax_cross_entropy(const tensor_view<const float>& logits, std::span<const int> labels,
                                       const tensor_view<float>& gradient) {
    const auto& [samples, classes, rows, columns] = logits.shape;
    if (rows != 1 || columns != 1) throw error("logits", "maps of one pixel", to_string(logits.shape));
    if (gradient.shape != logits.shape)
        throw error("gradient of logits", to_string(logits.shape), to_string(gradient.shape));
    if (static_cast<index_t>(labels.size()) != samples)
        throw error("labels", concat(samples, ", one a sample"), concat(labels.size()));
    double loss = 0.0;
    const double share = 1.0 / static_cast<double>(samples);
    for (index_t n = 0; n < samples; ++n) {
        const int label = labels[static_cast<std::size_t>(n)];
        if (label < 0 || label >= classes) throw error("labels", concat("0 to ", classes - 1), concat(label));
        double largest = -std::numeric_limits<double>::infinity(), sum = 0.0;
        for (index_t k = 0; k < classes; ++k) largest = std::max(largest, static_cast<double>(logits(n, k, 0, 0)));
        for (index_t k = 0; k < classes; ++k) sum += std::exp(static_cast<double>(logits(n, k, 0, 0)) - largest);
        for (index_t k = 0; k < classes; ++k) {
            const double p = std::exp(static_cast<double>(logits(n, k, 0, 0)) - largest) / sum;
            gradient(n, k, 0, 0) = static_cast<float>((p - (k == label ? 1.0 : 0.0)) * share);
        }
        loss -= (static_cast<double>(logits(n, label, 0, 0)) - largest - std::log(sum)) * share;
    }
    return loss;
}

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
