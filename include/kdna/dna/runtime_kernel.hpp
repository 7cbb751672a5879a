// A kernel whose weights come with each call: an input like the map itself.
#pragma once

#include <kdna/core/macros_push.hpp>

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
    [[nodiscard]] KDNA_FUNC static runtime_kernel dense(const kernel_shape& k,
                                                        std::string_view where = "runtime_kernel");
    /// Weights [C, KH, KW], one filter per channel. Throws kdna::error if an extent is not positive.
    [[nodiscard]] KDNA_FUNC static runtime_kernel depthwise(index_t channels, const extent2& window,
                                                            std::string_view where = "runtime_kernel");
    /// Weights [KH, KW], the same for every channel. Throws kdna::error if an extent is not positive.
    [[nodiscard]] KDNA_FUNC static runtime_kernel shared(index_t channels, const extent2& window,
                                                         std::string_view where = "runtime_kernel");

    [[nodiscard]] const kernel_shape& shape() const noexcept { return layout_.shape(); }
    [[nodiscard]] const panel_layout& layout() const noexcept { return layout_; }
    /// Number of weights a call brings, per sample.
    [[nodiscard]] index_t mixture_size() const noexcept { return count_; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout_.panel_floats(); }

    [[nodiscard]] KDNA_FUNC const float* panel(index_t group, index_t p, const float* weights,
                                               float* scratch) const noexcept;
    [[nodiscard]] KDNA_FUNC double weight(index_t o, index_t c, index_t t, const float* weights) const noexcept;
    template <class F>
    void for_each_storage(F&&) const {}

private:
    runtime_kernel(const kernel_shape& k, index_t count, bool shared) : layout_(k), count_(count), shared_(shared) {}
    [[nodiscard]] KDNA_FUNC static kernel_shape each_channel(index_t channels, const extent2& window) noexcept;
    panel_layout layout_;
    index_t count_;
    bool shared_;
};
static_assert(kernel_source<runtime_kernel>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/runtime_kernel.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
