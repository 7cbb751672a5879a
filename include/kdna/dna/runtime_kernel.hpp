// A kernel whose weights come with each call: an input like the map itself.
#pragma once

#include <algorithm>
#include <string_view>

#include <kdna/dna/source.hpp>

namespace kdna::inline KDNA_ABI {

/// A kernel without weights of its own. Its coefficients (`mixture`) are the weights, in PyTorch's order; a panel is laid out
/// from them when the loop nest asks for it. A blur kernel that a flow has drawn (FKP) or that is being estimated is the case
/// in point: one kernel, a new one in every call, for all channels of the image.
class runtime_kernel {
public:
    using optional_members = members<>;

    /// Weights [O, I/groups, KH, KW]. Throws kdna::error if the shape is not a kernel's.
    [[nodiscard]] static runtime_kernel dense(const kernel_shape& k, std::string_view where = "runtime_kernel") {
        return runtime_kernel(k, weight_count(k, where), false);
    }
    /// Weights [C, KH, KW], one filter per channel. Throws kdna::error if an extent is not positive.
    [[nodiscard]] static runtime_kernel depthwise(index_t channels, const extent2& window,
                                                  std::string_view where = "runtime_kernel") {
        return dense(each_channel(channels, window), where);
    }
    /// Weights [KH, KW], the same for every channel. Throws kdna::error if an extent is not positive.
    [[nodiscard]] static runtime_kernel shared(index_t channels, const extent2& window,
                                               std::string_view where = "runtime_kernel") {
        const kernel_shape k = each_channel(channels, window);
        static_cast<void>(weight_count(k, where));
        return runtime_kernel(k, k.taps(), true);
    }

    [[nodiscard]] const kernel_shape& shape() const noexcept { return layout_.shape(); }
    [[nodiscard]] const panel_layout& layout() const noexcept { return layout_; }
    /// Number of weights a call brings, per sample.
    [[nodiscard]] index_t mixture_size() const noexcept { return count_; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout_.panel_floats(); }

    [[nodiscard]] const float* panel(index_t group, index_t p, const float* weights, float* scratch) const noexcept {
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
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float* weights) const noexcept {
        return shared_ ? weights[t] : weights[(o * shape().channels_per_group() + c) * shape().taps() + t];
    }
    template <class F>
    void for_each_storage(F&&) const {}

private:
    runtime_kernel(const kernel_shape& k, index_t count, bool shared) : layout_(k), count_(count), shared_(shared) {}
    [[nodiscard]] static kernel_shape each_channel(index_t channels, const extent2& window) noexcept {
        return {.o = channels, .i = channels, .kh = window.h, .kw = window.w, .groups = channels};
    }
    panel_layout layout_;
    index_t count_;
    bool shared_;
};
static_assert(kernel_source<runtime_kernel>);

}  // namespace kdna::inline KDNA_ABI
