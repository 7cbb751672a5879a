// Definitions of mixture.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/mixture.hpp>
#include <kdna/simd/combine.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC mixture_kernel mixture_kernel::pack(index_t n, const kernel_shape& k, std::span<const float> weights,
                                              std::span<const float> biases, std::string_view where,
                                              number_format format) {
    if (n < 1) throw error(std::string(where), "at least one kernel", concat(n));
    const index_t size = weight_count(k, where);
    if (static_cast<index_t>(weights.size()) != checked_mul(n, size, where))
        throw error(std::string(where), concat(n, " x ", size, " weights for ", to_string(k)), concat(weights.size()));
    if (!biases.empty() && static_cast<index_t>(biases.size()) != checked_mul(n, k.o, where))
        throw error(concat(where, " bias"), concat(n, " x ", k.o, " values"), concat(biases.size()));
    return mixture_kernel(std::make_shared<const storage>(n, k, weights, biases, where, format));
}

KDNA_FUNC const float* mixture_kernel::panel(index_t group, index_t p, const float* mixture,
                                             float* scratch) const noexcept {
    assemble(group, p, mixture, {0, layout().depth() / shape().taps()}, scratch);
    return scratch;
}

KDNA_FUNC void mixture_kernel::assemble(index_t group, index_t p, const float* mixture, const channel_range& channels,
                                        float* to) const noexcept {
    const index_t width = layout().width_of(p), taps = shape().taps(), n = storage_->n,
                  stride = layout().depth() * width;
    rows(group, p, channels.first).visit([&](const auto* from) {
        for (index_t c = 0; c < channels.count; ++c, from += taps * width) {
            if (width == simd::lanes)
                combine_runs<1>(mixture, from, stride, n, taps, to + c * width, channels.count * width);
            else
                combine_runs<2>(mixture, from, stride, n, taps, to + c * width, channels.count * width);
        }
    });
}

KDNA_FUNC std::span<const std::byte> mixture_kernel::stored(index_t group, index_t p, const channel_range& channels,
                                                            index_t i, index_t n) const noexcept {
    const index_t width = layout().width_of(p);
    return share_of_runs(rows(group, p, channels.first), layout().depth() * width, storage_->n,
                         channels.count * shape().taps() * width, i, n);
}

KDNA_FUNC double mixture_kernel::weight(index_t o, index_t c, index_t t, const float* mixture) const noexcept {
    double sum = 0.0;
    for (index_t i = 0; i < storage_->n; ++i)
        sum += static_cast<double>(mixture[i]) * static_cast<double>(storage_->data()[storage_->offset_of(o, c, t, i)]);
    return sum;
}

KDNA_FUNC void mixture_kernel::prepare() const { static_cast<void>(storage_->data()); }

KDNA_FUNC void mixture_kernel::copy_weights(std::span<float> to) const { storage_->weights.copy(to, *storage_); }

KDNA_FUNC float mixture_kernel::kernel_weight(index_t i, index_t o, index_t c, index_t t) const noexcept {
    return storage_->data()[storage_->offset_of(o, c, t, i)];
}

KDNA_FUNC float mixture_kernel::kernel_bias(index_t i, index_t o) const noexcept {
    return storage_->biases[static_cast<std::size_t>(i * shape().o + o)];
}

KDNA_FUNC float mixture_kernel::bias(index_t o, const float* mixture) const noexcept {
    float sum = 0.0F;
    for (index_t i = 0; i < storage_->n; ++i)
        sum += mixture[i] * storage_->biases[static_cast<std::size_t>(i * shape().o + o)];
    return sum;
}

KDNA_FUNC stored_numbers mixture_kernel::rows(index_t group, index_t p, index_t c) const noexcept {
    return storage_->data() + storage_->n * layout().offset(group, p) + c * shape().taps() * layout().width_of(p);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
