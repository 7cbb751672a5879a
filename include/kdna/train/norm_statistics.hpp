// Measured means and variances of what a BatchNorm reads.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <kdna/train/network.hpp>

namespace kdna::inline KDNA_ABI::train {

/// Averages over batches of the mean and of the variance of each channel, as PyTorch keeps them with momentum=None: the mean of all
/// batches' means, and of their variances, each with the divisor count - 1.
struct norm_statistics {
    std::vector<double> mean{}, var{};
    index_t batches = 0;

    /// Adds a batch: mean [C] and squared distances from it, summed over `count` values, [C].
    void add(const std::vector<double>& batch_mean, const std::vector<double>& squares, index_t count) {
        mean.resize(batch_mean.size());
        var.resize(batch_mean.size());
        ++batches;
        const double share = 1.0 / static_cast<double>(batches), divisor = static_cast<double>(count - 1);
        for (std::size_t c = 0; c < mean.size(); ++c) {
            mean[c] += (batch_mean[c] - mean[c]) * share;
            var[c] += (squares[c] / divisor - var[c]) * share;
        }
    }
    /// Makes them the norm's running statistics, and forgets them.
    void adopt(const norm& bn, parameters& p) {
        if (batches == 0) return;
        const auto write = [&](const part& to, const std::vector<double>& from) {
            parameter& q = p[to.parameter];
            std::transform(from.begin(), from.end(), q.values.data() + to.first,
                           [](double v) { return static_cast<float>(v); });
            q.changed = true;
        };
        write(bn.mean, mean);
        write(bn.var, var);
        *this = {};
    }
};

/// What a BatchNorm does to channel c, weight * (v - mean) * inverse + bias, by what it is told to take for mean and variance.
struct norm_view {
    const float *weight, *bias;
    std::vector<double> mean, inverse;  // [C]

    [[nodiscard]] double scale(std::size_t c) const noexcept { return static_cast<double>(weight[c]) * inverse[c]; }

    /// By the running statistics.
    norm_view(const norm& bn, const parameters& p) : weight(p.values(bn.weight)), bias(p.values(bn.bias)) {
        const float *running_mean = p.values(bn.mean), *running_var = p.values(bn.var);
        for (index_t c = 0; c < bn.channels; ++c) {
            mean.push_back(running_mean[c]);
            inverse.push_back(1.0 / std::sqrt(static_cast<double>(running_var[c]) + bn.eps));
        }
    }
    /// By a batch's, whose squared distances from the mean are summed over `count` values.
    norm_view(const norm& bn, const parameters& p, std::vector<double> batch_mean, const std::vector<double>& squares,
              index_t count)
        : weight(p.values(bn.weight)), bias(p.values(bn.bias)), mean(std::move(batch_mean)) {
        for (const double s : squares) inverse.push_back(1.0 / std::sqrt(s / static_cast<double>(count) + bn.eps));
    }
};

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
