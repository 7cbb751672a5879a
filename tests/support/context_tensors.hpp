// The tensors of layers that are routed by a context, and the factors that follow from them, written from the papers' formulas with
// bounded arithmetic (oracle.hpp).
#pragma once

#include <vector>

#include <kdna/dna/context.hpp>
#include <kdna/dna/dymn.hpp>
#include <kdna/dna/modulated.hpp>

#include "support/method_tensors.hpp"

namespace kdna_test {

/// DyMN: softmax( (W g + b) / T ).
struct dymn_tensors {
    linear_tensors residuals;
    double temperature = 1.0;

    static dymn_tensors random(rng& r, index_t context, index_t kernels) {
        return {linear_tensors::random(r, kernels, context), r.chance(0.5) ? 1.0 : r.real(0.4, 30.0)};
    }
    [[nodiscard]] kdna::dymn_router router(index_t context) const {
        return {residuals.view(), context, temperature, "attention"};
    }
    [[nodiscard]] factors operator()(const bounded_vector& context) const {
        factors f;
        f.mixture = residuals(context);
        for (bounded& v : f.mixture)
            v = {v.value / temperature, v.error / temperature + 4.0 * unit_roundoff * std::abs(v.value / temperature)};
        softmax(f.mixture);
        return f;
    }
};

/// StyleGAN2: s = A w + b, m[o] = 1 / sqrt( sum over c, t of (s[c] W[o,c,t])^2 + eps ).
struct modulated_tensors {
    linear_tensors affine;  ///< empty: the context is the style
    bool demodulate = true;
    double eps = 1e-8;

    static modulated_tensors random(rng& r, index_t channels, index_t context) {
        modulated_tensors t;
        if (context != channels || r.chance(0.5))
            t.affine = linear_tensors::random(r, channels, context, r.chance(0.8));
        t.demodulate = r.chance(0.7);
        t.eps = r.pick({1e-8, 1e-3, 0.5});
        return t;
    }
    [[nodiscard]] kdna::modulation view() const {
        return {.affine = affine.view(), .demodulate = demodulate, .eps = eps};
    }
    [[nodiscard]] factors operator()(const kdna::kernel_shape& k, std::span<const float> weights,
                                     const bounded_vector& context) const {
        factors f;
        f.channel = affine.weight.empty() ? context : affine(context);
        if (!demodulate) return f;
        const index_t channels = k.channels_per_group();
        for (index_t o = 0; o < k.o; ++o) {
            const index_t first = o / k.filters_per_group() * channels;
            double sum = eps, error = 0.0;
            for (index_t c = 0; c < channels; ++c)
                for (index_t t = 0; t < k.taps(); ++t) {
                    const bounded& s = f.channel[static_cast<std::size_t>(first + c)];
                    const auto w =
                        static_cast<double>(weights[static_cast<std::size_t>((o * channels + c) * k.taps() + t)]);
                    sum += s.value * w * s.value * w;
                    error += w * w * (2.0 * std::abs(s.value) + s.error) * s.error;
                }
            error += unit_roundoff * static_cast<double>(channels + 8) * sum;
            const double m = 1.0 / std::sqrt(sum);
            // The steepest slope between here and the smallest sum there may be.
            const double least = std::max(sum - error, 0.5 * eps);
            f.filter.push_back({m, error / (2.0 * least * std::sqrt(least)) + 2.0 * unit_roundoff * m});
        }
        return f;
    }
};

}  // namespace kdna_test
