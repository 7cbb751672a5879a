// A kernel that is a per-sample weighted sum of n stored ones.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/tensor/packed_once.hpp>

namespace kdna::inline KDNA_ABI {

/// W = sum over i < n of a[i] * W_i, with a [n] routed per sample. The sum is made one panel at a time, in scratch. All n
/// kernels are packed once, contiguous, and shared by every copy of this handle.
class mixture_kernel {
public:
    using optional_members = members<member::bias, member::assembly_terms, member::assemble, member::prepare,
                                     member::copy_weights, member::expanded, member::stored, member::needs_mixture>;
    static constexpr bool needs_mixture = true;

    /// `weights` [n, O, I/groups, KH, KW], stored in `format`; `biases` [n, O], mixed with the same coefficients, or empty.
    /// Throws kdna::error if n < 1, a length does not fit, or a weight is out of the format's range.
    [[nodiscard]] KDNA_FUNC static mixture_kernel pack(index_t n, const kernel_shape& k, std::span<const float> weights,
                                                       std::span<const float> biases = {},
                                                       std::string_view where = "mixture_kernel",
                                                       number_format format = number_format::float32);

    [[nodiscard]] const kernel_shape& shape() const noexcept { return layout().shape(); }
    [[nodiscard]] const panel_layout& layout() const noexcept { return storage_->layout; }
    [[nodiscard]] number_format format() const noexcept { return storage_->weights.format(); }
    [[nodiscard]] index_t mixture_size() const noexcept { return storage_->n; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }
    [[nodiscard]] index_t assembly_terms() const noexcept { return storage_->n; }

    [[nodiscard]] KDNA_FUNC const float* panel(index_t group, index_t p, const float* mixture,
                                               float* scratch) const noexcept;
    KDNA_FUNC void assemble(index_t group, index_t p, const float* mixture, const channel_range& channels,
                            float* to) const noexcept;
    /// [kernel][channel][tap][filter]; null unless they are float32.
    [[nodiscard]] const float* expanded(index_t group, index_t p) const noexcept {
        return format() == number_format::float32 ? rows(group, p, 0).floats() : nullptr;
    }
    [[nodiscard]] KDNA_FUNC std::span<const std::byte> stored(index_t group, index_t p, const channel_range& channels,
                                                              index_t i, index_t n) const noexcept;
    [[nodiscard]] KDNA_FUNC double weight(index_t o, index_t c, index_t t, const float* mixture) const noexcept;

    /// Packs the kernels, so that reading them allocates nothing afterwards.
    KDNA_FUNC void prepare() const;
    /// The kernels [n, O, I/groups, KH, KW] that it was made of, as they were rounded.
    KDNA_FUNC void copy_weights(std::span<float> to) const;
    /// One weight, and one bias, of kernel i.
    [[nodiscard]] KDNA_FUNC float kernel_weight(index_t i, index_t o, index_t c, index_t t) const noexcept;
    [[nodiscard]] KDNA_FUNC float kernel_bias(index_t i, index_t o) const noexcept;

    [[nodiscard]] bool has_bias() const noexcept { return !storage_->biases.empty(); }
    [[nodiscard]] KDNA_FUNC float bias(index_t o, const float* mixture) const noexcept;

    template <class F>
    void for_each_storage(F&& f) const {
        f(static_cast<const void*>(storage_.get()),
          storage_->weights.bytes() + static_cast<index_t>(storage_->biases.size() * sizeof(float)));
    }

private:
    /// Tap 0 of one channel of a panel, in kernel 0.
    [[nodiscard]] KDNA_FUNC stored_numbers rows(index_t group, index_t p, index_t c) const noexcept;
    /// data[group][panel][kernel][channel][tap][filter]: what some channels are made of is one stream for each kernel.
    struct storage {
        storage(index_t kernels, const kernel_shape& k, std::span<const float> kernel_weights,
                std::span<const float> bias, std::string_view where, number_format format)
            : n(kernels),
              layout(k),
              biases(bias.begin(), bias.end()),
              weights(kernel_weights, checked_mul(kernels, layout.floats(), where), format, where) {}
        [[nodiscard]] stored_numbers data() const { return weights.packed(*this); }
        /// Calls f(offset in the panels, place in PyTorch's order) for every weight.
        template <class F>
        void for_each_weight(const F& f) const {
            const kernel_shape& k = layout.shape();
            std::size_t next = 0;
            for (index_t i = 0; i < n; ++i)
                for (index_t o = 0; o < k.o; ++o)
                    for (index_t c = 0; c < k.channels_per_group(); ++c)
                        for (index_t t = 0; t < k.taps(); ++t) f(offset_of(o, c, t, i), next++);
        }
        [[nodiscard]] index_t offset_of(index_t o, index_t c, index_t t, index_t i) const noexcept {
            const panel_layout::position at = layout.position_of(o, c, t);
            const index_t width = layout.width_of(at.panel);
            return n * layout.offset(at.group, at.panel) +
                   (i * layout.depth() + c * layout.shape().taps() + t) * width + at.offset % width;
        }
        index_t n;
        panel_layout layout;
        std::vector<float> biases;
        packed_once weights;
    };
    explicit mixture_kernel(std::shared_ptr<const storage> s) : storage_(std::move(s)) {}
    std::shared_ptr<const storage> storage_;
};
static_assert(kernel_source<mixture_kernel>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/mixture.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
