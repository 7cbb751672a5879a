// Definitions of runtime_kernel.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/runtime_kernel.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC runtime_kernel runtime_kernel::dense(const kernel_shape& k, std::string_view where) {
    return runtime_kernel(k, weight_count(k, where), false);
}

KDNA_FUNC runtime_kernel runtime_kernel::depthwise(index_t channels, const extent2& window, std::string_view where) {
    return dense(each_channel(channels, window), where);
}

KDNA_FUNC runtime_kernel runtime_kernel::shared(index_t channels, const extent2& window, std::string_view where) {
    const kernel_shape k = each_channel(channels, window);
    static_cast<void>(weight_count(k, where));
    return runtime_kernel(k, k.taps(), true);
}

KDNA_FUNC const float* runtime_kernel::panel(index_t group, index_t p, const float* weights,
                                             float* scratch) const noexcept {
    const index_t filters = layout_.filters_of(p), width = layout_.width_of(p), taps = shape().taps(),
                  channels = shape().channels_per_group(), per_filter = shared_ ? 0 : channels * taps;
    const float* first = weights + (group * layout_.filters() + p * panel_layout::width) * per_filter;
    // Filter by filter through the weights' own order: as many streams are read as a panel has filters.
    for (index_t t = 0; t < taps; ++t)
        for (index_t c = 0; c < channels; ++c) {
            float* to = scratch + (t * channels + c) * width;
            const float* from = first + c * taps + t;
            for (index_t f = 0; f < filters; ++f) to[f] = from[f * per_filter];
            std::fill(to + filters, to + width, 0.0F);
        }
    return scratch;
}

KDNA_FUNC double runtime_kernel::weight(index_t o, index_t c, index_t t, const float* weights) const noexcept {
    return shared_ ? weights[t] : weights[(o * shape().channels_per_group() + c) * shape().taps() + t];
}

KDNA_FUNC kernel_shape runtime_kernel::each_channel(index_t channels, const extent2& window) noexcept {
    return {.o = channels, .i = channels, .kh = window.h, .kw = window.w, .groups = channels};
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
