// Random weights for one layer, with everything a KernelDNA child has.
#pragma once

#include <algorithm>
#include <cmath>
#include <kdna/kdna.hpp>
#include <random>
#include <span>
#include <vector>

#include "support/random.hpp"

namespace kdna_bench {

/// Kernel, static adapter, gate and BatchNorm for a kernel shape, none of them near the identity. A gate has a quarter
/// of the channels as hidden units, as in the published networks.
struct layer_weights {
    explicit layer_weights(const kdna::kernel_shape& k)
        : shape(k),
          hidden(std::max<index_t>(k.i / 4, 1)),
          kernel(normal_values(generator, kdna::weight_count(k), 0.0F,
                               std::sqrt(2.0F / static_cast<float>(k.channels_per_group() * k.taps())))),
          spatial(normal_values(generator, k.taps(), 0.0F, 0.25F)),
          filter(normal_values(generator, k.o, 0.0F, 0.25F)),
          fc1(normal_values(generator, hidden * k.i, 0.0F, 0.1F)),
          fc2(normal_values(generator, hidden * k.i, 0.0F, 0.1F)),
          fc2_bias(normal_values(generator, k.i, 0.0F, 1.0F)),
          ones(static_cast<std::size_t>(std::max(k.o, k.i)), 1.0F),
          tenths(ones.size(), 0.1F) {}

    [[nodiscard]] kdna::batch_norm bn(index_t channels) const {
        const auto n = static_cast<std::size_t>(channels);
        const std::span<const float> one = std::span(ones).first(n), tenth = std::span(tenths).first(n);
        return {.weight = one, .bias = tenth, .mean = tenth, .var = one};
    }
    [[nodiscard]] kdna::squeeze_excite gate() const {
        return kdna::squeeze_excite({.fc1 = fc1, .bn = bn(hidden), .fc2 = fc2, .fc2_bias = fc2_bias});
    }
    [[nodiscard]] kdna::static_adapter adapter() const {
        return {.spatial = shape.taps() > 1 ? std::span<const float>(spatial) : std::span<const float>(),
                .filter = filter};
    }
    /// The child's kernel written out: the adapter multiplied in, nothing shared.
    [[nodiscard]] std::vector<float> expanded_kernel() const {
        std::vector<float> own = kernel;
        const auto taps = static_cast<std::size_t>(shape.taps());
        const std::size_t per_filter = own.size() / static_cast<std::size_t>(shape.o);
        for (std::size_t i = 0; i < own.size(); ++i) {
            if (taps > 1) own[i] *= 1.0F + spatial[i % taps];
            own[i] *= 1.0F + filter[i / per_filter];
        }
        return own;
    }

    std::mt19937 generator{20250330};
    kdna::kernel_shape shape;
    index_t hidden;
    std::vector<float> kernel, spatial, filter, fc1, fc2, fc2_bias, ones, tenths;
};

}  // namespace kdna_bench
