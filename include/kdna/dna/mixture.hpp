// A kernel that is a per-sample weighted sum of n stored ones.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <kdna/dna/source.hpp>

namespace kdna::inline KDNA_ABI {

/// W = sum over i < n of a[i] * W_i, with a [n] routed per sample. The sum is made one panel at a time, in scratch. All n
/// kernels are packed once and shared by every copy of this handle.
class mixture_kernel {
public:
    /// `weights` [n, O, I/groups, KH, KW]; `biases` [n, O], mixed with the same coefficients, or empty. Throws kdna::error
    /// if n < 1 or a length does not fit.
    [[nodiscard]] static mixture_kernel pack(index_t n, const kernel_shape& k, std::span<const float> weights,
                                             std::span<const float> biases = {},
                                             std::string_view where = "mixture_kernel") {
        if (n < 1) throw error(std::string(where), "at least one kernel", concat(n));
        const index_t size = weight_count(k, where);
        if (static_cast<index_t>(weights.size()) != checked_mul(n, size, where))
            throw error(std::string(where), concat(n, " x ", size, " weights for ", to_string(k)),
                        concat(weights.size()));
        if (!biases.empty() && static_cast<index_t>(biases.size()) != checked_mul(n, k.o, where))
            throw error(concat(where, " bias"), concat(n, " x ", k.o, " values"), concat(biases.size()));
        auto parts = std::make_shared<storage>();
        for (index_t i = 0; i < n; ++i)
            parts->kernels.emplace_back(
                k, weights.subspan(static_cast<std::size_t>(i * size), static_cast<std::size_t>(size)), where);
        parts->biases.assign(biases.begin(), biases.end());
        return mixture_kernel(std::move(parts));
    }

    [[nodiscard]] const kernel_shape& shape() const noexcept { return layout().shape(); }
    [[nodiscard]] const panel_layout& layout() const noexcept { return parts_->kernels.front().layout(); }
    [[nodiscard]] index_t mixture_size() const noexcept { return static_cast<index_t>(parts_->kernels.size()); }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }

    [[nodiscard]] const float* panel(index_t group, index_t p, const float* mixture, float* scratch) const noexcept {
        const index_t count = layout().depth() * layout().width_of(p);
        std::fill_n(scratch, count, 0.0F);
        for (std::size_t i = 0; i < parts_->kernels.size(); ++i)
            simd::axpy(mixture[i], parts_->kernels[i].panel(group, p), scratch, count);
        return scratch;
    }
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float* mixture) const noexcept {
        double sum = 0.0;
        for (std::size_t i = 0; i < parts_->kernels.size(); ++i)
            sum += static_cast<double>(mixture[i]) * static_cast<double>(parts_->kernels[i].weight(o, c, t));
        return sum;
    }

    [[nodiscard]] bool has_bias() const noexcept { return !parts_->biases.empty(); }
    [[nodiscard]] float bias(index_t o, const float* mixture) const noexcept {
        float sum = 0.0F;
        for (std::size_t i = 0; i < parts_->kernels.size(); ++i)
            sum += mixture[i] * parts_->biases[i * static_cast<std::size_t>(shape().o) + static_cast<std::size_t>(o)];
        return sum;
    }

    template <class F>
    void for_each_storage(F&& f) const {
        for (const packed_kernel& k : parts_->kernels) f(static_cast<const void*>(&k), k.bytes());
    }

private:
    struct storage {
        std::vector<packed_kernel> kernels;
        std::vector<float> biases;
    };
    explicit mixture_kernel(std::shared_ptr<const storage> parts) : parts_(std::move(parts)) {}
    std::shared_ptr<const storage> parts_;
};
static_assert(kernel_source<mixture_kernel>);

}  // namespace kdna::inline KDNA_ABI
