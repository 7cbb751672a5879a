// Definitions of train/adam.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/train/adam.hpp>

namespace kdna::inline KDNA_ABI::train {

KDNA_FUNC adam::adam(parameters& p, const adam_options& options) : parameters_(&p), options_(options) {
    for (const parameter& q : p.all()) {
        const auto count = static_cast<std::size_t>(q.gradient.size());
        averages_.push_back({std::vector<float>(count), std::vector<float>(count)});
    }
}

KDNA_FUNC void adam::step(double rate_scale) {
    ++steps_;
    const auto steps = static_cast<double>(steps_);
    const double first = 1.0 - std::pow(options_.beta1, steps), second = 1.0 - std::pow(options_.beta2, steps);
    for (index_t i = 0; i < parameters_->size(); ++i) {
        parameter& p = (*parameters_)[i];
        averages& a = averages_[static_cast<std::size_t>(i)];
        for (std::size_t k = 0; k < a.gradient.size(); ++k) {
            const auto g = static_cast<double>(p.gradient.span()[k]);
            const double m = options_.beta1 * static_cast<double>(a.gradient[k]) + (1.0 - options_.beta1) * g,
                         v = options_.beta2 * static_cast<double>(a.square[k]) + (1.0 - options_.beta2) * g * g;
            a.gradient[k] = static_cast<float>(m);
            a.square[k] = static_cast<float>(v);
            float& value = p.values.span()[k];
            value = static_cast<float>(static_cast<double>(value) - options_.rate * rate_scale * (m / first) /
                                                                        (std::sqrt(v / second) + options_.epsilon));
        }
    }
    parameters_->zero_gradients();
}

KDNA_FUNC index_t adam::bytes() const noexcept {
    index_t out = 0;
    for (const averages& a : averages_)
        out += static_cast<index_t>((a.gradient.size() + a.square.size()) * sizeof(float));
    return out;
}

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
