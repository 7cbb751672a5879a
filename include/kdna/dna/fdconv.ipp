// Definitions of fdconv.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <array>
#include <cmath>

#include <kdna/dna/fdconv.hpp>
#include <kdna/simd/activation.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// A head behind StarReLU whose input is relu(x)^2: the activation's scale goes into the weights, its shift into the bias.
struct star_head {
    star_head(const linear_weights& w, index_t inputs, float scale, float shift)
        : weight(w.weight.begin(), w.weight.end()), bias(w.bias.begin(), w.bias.end()) {
        if (bias.size() * static_cast<std::size_t>(inputs) != weight.size()) return;  // optional_head says so
        for (std::size_t o = 0; o < bias.size(); ++o) {
            double sum = 0.0;
            for (std::size_t i = 0; i < static_cast<std::size_t>(inputs); ++i) {
                float& v = weight[o * static_cast<std::size_t>(inputs) + i];
                sum += static_cast<double>(v);
                v *= scale;
            }
            bias[o] = static_cast<float>(static_cast<double>(bias[o]) + static_cast<double>(shift) * sum);
        }
    }
    [[nodiscard]] linear_weights folded() const { return {weight, bias}; }
    std::vector<float> weight, bias;
};

/// 2 sigmoid / divisor of the head's outputs, or ones where there is no head.
inline void attend(const optional_head& head, const float* z, float* to, index_t count, float divisor) noexcept {
    if (head.outputs() == 0) {
        std::fill_n(to, count, 1.0F);
        return;
    }
    head(z, to);
    simd::activate(activation_kind::sigmoid, to, count);
    for (index_t i = 0; i < count; ++i) to[i] *= 2.0F / divisor;
}

}  // namespace detail

KDNA_FUNC fdconv_kernel::fdconv_kernel(mixture_kernel kernels, std::span<const float> local, std::string_view where)
    : kernels_(std::move(kernels)) {
    const kernel_shape& k = shape();
    if (k.groups != 1) throw error(std::string(where), "a kernel of one group", to_string(k));
    if (kernels_.has_bias()) throw error(std::string(where), "kernels without a bias of their own", "one");
    const index_t rows = k.o * k.taps(), length = static_cast<index_t>(local.size());
    if (length % rows != 0 || (length > 0 && length / rows % 2 == 0))
        throw error(concat(where, " local"), concat(rows, " x K weights, K odd"), concat(length));
    coefficients_ = {.kernels = kernels_.mixture_size(), .channels = k.i, .taps = k.taps(), .reach = length / rows};
    std::vector<float> packed(
        static_cast<std::size_t>(layout().floats() / layout().depth() * k.taps() * coefficients_.reach));
    for (index_t o = 0; o < k.o && length > 0; ++o) {
        const panel_layout::position at = layout().position_of(o, 0, 0);
        for (index_t t = 0; t < k.taps(); ++t)
            for (index_t j = 0; j < coefficients_.reach; ++j)
                packed[static_cast<std::size_t>(local_at(at.panel, t, j) + at.offset % layout().width_of(at.panel))] =
                    local[static_cast<std::size_t>((o * k.taps() + t) * coefficients_.reach + j)];
    }
    local_ = std::make_shared<const std::vector<float>>(std::move(packed));
}

KDNA_FUNC const float* fdconv_kernel::panel(index_t group, index_t p, const float* mixture,
                                            float* scratch) const noexcept {
    assemble(group, p, mixture, {0, shape().i}, scratch);
    return scratch;
}

KDNA_FUNC void fdconv_kernel::assemble(index_t group, index_t p, const float* mixture, const channel_range& channels,
                                       float* to) const noexcept {
    kernels_.assemble(group, p, mixture, channels, to);
    modulate(p, mixture, channels, to);
}

/// to[tap][channel][filter] times the factors of its tap, channel and weight. Sixteen channels at a time, whose sigmoids are one
/// call.
KDNA_FUNC void fdconv_kernel::modulate(index_t p, const float* mixture, const channel_range& channels,
                                       float* to) const noexcept {
    constexpr index_t some = 16;
    alignas(64) std::array<float, static_cast<std::size_t>(some * 2 * simd::lanes)> factors;
    const index_t width = layout().width_of(p), reach = coefficients_.reach;
    const float *of_channel = mixture + coefficients_.channel_at() + channels.first,
                *of_tap = mixture + coefficients_.tap_at(),
                *means = mixture + coefficients_.means_at() + channels.first;
    for (index_t t = 0; t < shape().taps(); ++t) {
        float* row = to + t * channels.count * width;
        for (index_t first = 0; first < channels.count; first += some) {
            const index_t count = std::min(some, channels.count - first);
            for (index_t f = 0; f < width && reach > 0; f += simd::lanes) {
                const float* v = local_->data() + local_at(p, t, 0) + f;
                for (index_t c = 0; c < count; ++c) {
                    simd::vec sum = simd::zero();
                    for (index_t j = 0; j < reach; ++j)
                        sum = simd::multiply_add(simd::load(v + j * width), simd::broadcast(means[first + c + j]), sum);
                    simd::store(factors.data() + c * width + f, sum);
                }
            }
            if (reach > 0) simd::activate(activation_kind::sigmoid, factors.data(), count * width);
            for (index_t c = 0; c < count; ++c) {
                const simd::vec own = simd::broadcast((reach > 0 ? 2.0F : 1.0F) * of_channel[first + c] * of_tap[t]);
                for (index_t f = 0; f < width; f += simd::lanes) {
                    float* w = row + (first + c) * width + f;
                    const simd::vec scaled = simd::load(w) * own;
                    simd::store(w, reach > 0 ? scaled * simd::load(factors.data() + c * width + f) : scaled);
                }
            }
        }
    }
}

KDNA_FUNC double fdconv_kernel::weight(index_t o, index_t c, index_t t, const float* mixture) const noexcept {
    const fdconv_coefficients& at = coefficients_;
    double w = kernels_.weight(o, c, t, mixture) * static_cast<double>(mixture[at.channel_at() + c]) *
               static_cast<double>(mixture[at.tap_at() + t]);
    if (at.reach == 0) return w;
    const panel_layout::position place = layout().position_of(o, c, t);
    double sum = 0.0;
    for (index_t j = 0; j < at.reach; ++j) {
        const index_t v = local_at(place.panel, t, j) + place.offset % layout().width_of(place.panel);
        sum += static_cast<double>((*local_)[static_cast<std::size_t>(v)]) *
               static_cast<double>(mixture[at.means_at() + c + j]);
    }
    return w * 2.0 / (1.0 + std::exp(-sum));
}

KDNA_FUNC fdconv_router::fdconv_router(const fdconv_weights& w, const fdconv_kernel& kernel, std::string_view where)
    : coefficients_(kernel.coefficients()),
      squeeze_(w.fc, w.bn, coefficients_.channels, concat(where, ".fc"), concat(where, ".bn")),
      channel_(detail::star_head(w.channel, squeeze_.hidden(), w.scale, w.shift).folded(), squeeze_.hidden(),
               concat(where, ".channel_fc")),
      filter_(detail::star_head(w.filter, squeeze_.hidden(), w.scale, w.shift).folded(), squeeze_.hidden(),
              concat(where, ".filter_fc")),
      spatial_(detail::star_head(w.spatial, squeeze_.hidden(), w.scale, w.shift).folded(), squeeze_.hidden(),
               concat(where, ".spatial_fc")),
      kernel_(detail::star_head(w.kernel, squeeze_.hidden(), w.scale, w.shift).folded(), squeeze_.hidden(),
              concat(where, ".kernel_fc")),
      norm_weight_(w.norm_weight.begin(), w.norm_weight.end()),
      norm_bias_(w.norm_bias.begin(), w.norm_bias.end()) {
    const auto fits = [&](const char* name, index_t found, index_t expected) {
        if (found != 0 && found != expected)
            throw error(concat(where, ".", name), concat(expected, " outputs"), concat(found));
    };
    fits("channel_fc", channel_.outputs(), coefficients_.channels);
    fits("filter_fc", filter_.outputs(), kernel.shape().o);
    fits("spatial_fc", spatial_.outputs(), coefficients_.taps);
    fits("kernel_fc", kernel_.outputs(), coefficients_.kernels);
    const auto channels = static_cast<std::size_t>(coefficients_.channels);
    if (norm_weight_.empty()) norm_weight_.assign(channels, 1.0F);
    if (norm_bias_.empty()) norm_bias_.assign(channels, 0.0F);
    for (const std::vector<float>& v : {norm_weight_, norm_bias_})
        if (v.size() != channels) throw error(concat(where, ".norm"), concat(channels, " values"), concat(v.size()));
}

KDNA_FUNC index_t fdconv_router::floats() const noexcept {
    return squeeze_.floats() + channel_.floats() + filter_.floats() + spatial_.floats() + kernel_.floats() +
           2 * coefficients_.channels;
}

KDNA_FUNC void fdconv_router::operator()(const float* pooled, const route& out, float* z) const noexcept {
    const fdconv_coefficients& at = coefficients_;
    squeeze_(pooled, z);
    for (index_t i = 0; i < squeeze_.hidden(); ++i) z[i] *= z[i];
    detail::attend(kernel_, z, out.mixture, at.kernels, static_cast<float>(at.kernels));
    detail::attend(channel_, z, out.mixture + at.channel_at(), at.channels, 1.0F);
    detail::attend(spatial_, z, out.mixture + at.tap_at(), at.taps, 1.0F);
    if (filter_.outputs() > 0) detail::attend(filter_, z, out.filter, filter_.outputs(), 1.0F);
    if (at.reach == 0) return;
    double sum = 0.0, squares = 0.0;
    for (index_t c = 0; c < at.channels; ++c) sum += static_cast<double>(pooled[c]);
    const double mean = sum / static_cast<double>(at.channels);
    for (index_t c = 0; c < at.channels; ++c) {
        const double d = static_cast<double>(pooled[c]) - mean;
        squares += d * d;
    }
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(at.channels) + 1e-5);
    float* u = out.mixture + at.means_at();
    std::fill_n(u, at.channels + at.reach - 1, 0.0F);
    for (index_t c = 0; c < at.channels; ++c) {
        const auto i = static_cast<std::size_t>(c);
        u[at.reach / 2 + c] =
            static_cast<float>((static_cast<double>(pooled[c]) - mean) * scale) * norm_weight_[i] + norm_bias_[i];
    }
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
