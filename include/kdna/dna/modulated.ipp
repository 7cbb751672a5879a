// Definitions of dna/modulated.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>

#include <kdna/dna/modulated.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// D of an affine layer with C outputs; 0 for none.
[[nodiscard]] inline index_t style_context(const linear_weights& affine, index_t channels, std::string_view where) {
    if (affine.weight.empty() && affine.bias.empty()) return 0;
    const auto count = static_cast<index_t>(affine.weight.size());
    if (count < channels || count % channels != 0)
        throw error(concat(where, ".affine.weight"), concat(channels, " rows, one for each channel"),
                    concat(count, " values"));
    return count / channels;
}

}  // namespace detail

KDNA_FUNC modulated_router::modulated_router(const dense_kernel& kernel, const modulation& m, std::string_view where)
    : channels_(kernel.shape().i),
      filters_(m.demodulate ? kernel.shape().o : 0),
      affine_(m.affine, detail::style_context(m.affine, channels_, where), concat(where, ".affine")) {
    if (!m.demodulate) return;
    if (!(m.eps > 0.0) || !std::isfinite(m.eps)) throw error(concat(where, ".eps"), "a positive number", concat(m.eps));
    const kernel_shape& k = kernel.shape();
    const index_t wide = k.channels_per_group(), tall = k.filters_per_group();
    const std::vector<float> eps(static_cast<std::size_t>(tall), static_cast<float>(m.eps));
    for (index_t g = 0; g < k.groups; ++g) {
        std::vector<float> sums;
        for (index_t o = g * tall; o < (g + 1) * tall; ++o)
            for (index_t c = 0; c < wide; ++c) {
                double sum = 0.0;
                for (index_t t = 0; t < k.taps(); ++t) {
                    const double w = kernel.weight(o, c, t, nullptr);
                    sum += w * w;
                }
                sums.push_back(static_cast<float>(sum));
            }
        norms_.emplace_back(sums, eps, wide, concat(where, ".weight"));
    }
}

KDNA_FUNC index_t modulated_router::floats() const noexcept {
    index_t count = affine_.floats();
    for (const fully_connected& q : norms_) count += q.floats();
    return count;
}

KDNA_FUNC void modulated_router::operator()(const float* context, const route& out, float* squares) const noexcept {
    float* style = out.channel;
    if (affine_.layer() != nullptr)
        affine_(context, style);
    else
        std::copy_n(context, channels_, style);
    if (!demodulates()) return;
    for (index_t c = 0; c < channels_; ++c) squares[c] = style[c] * style[c];
    const float* from = squares;
    float* to = out.filter;
    for (const fully_connected& q : norms_) {
        q(from, to);
        for (index_t o = 0; o < q.outputs(); ++o) to[o] = 1.0F / std::sqrt(to[o]);
        from += q.inputs();
        to += q.outputs();
    }
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
