// FDConv (Chen et al., CVPR 2025, arXiv 2503.18783): kernels from disjoint groups of frequencies, modulated weight by weight.
//
//     W[o,c,t]  =  ( sum over i < n of a_w[i] W_i[o,c,t] ) . a_c[c] . a_s[t] . 2 sigmoid( sum over j of v[o,t,j] u[c + j] )
//     y  =  a_f . conv( x, W )
//
// W_i is the inverse Fourier transform of the i-th group of frequencies of one kernel, computed once when a network is exported.
// u are the means of the input's channels after a layer norm, with zeros around them; v is a one-dimensional convolution over
// channels that gives every filter and tap a factor of its own: kernel spatial modulation's local part. The a are its global
// part, ODConv's attentions with other ranges. Frequency band modulation in front of the layer is an operation of its own
// (nn/frequency_bands.hpp).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <kdna/dna/attention.hpp>
#include <kdna/dna/mixture.hpp>
#include <kdna/dna/router.hpp>

namespace kdna::inline KDNA_ABI {

/// Where a sample's coefficients lie behind one another, as fdconv_router writes them and fdconv_kernel reads them.
struct fdconv_coefficients {
    index_t kernels = 1;   ///< n, the weights of the kernels
    index_t channels = 0;  ///< C factors, then
    index_t taps = 1;      ///< KH*KW factors, then
    index_t reach = 0;  ///< K of the convolution over channels: C + K - 1 normalised means; 0: there is no local part

    [[nodiscard]] index_t channel_at() const noexcept { return kernels; }
    [[nodiscard]] index_t tap_at() const noexcept { return channel_at() + channels; }
    [[nodiscard]] index_t means_at() const noexcept { return tap_at() + taps; }
    [[nodiscard]] index_t count() const noexcept { return means_at() + (reach > 0 ? channels + reach - 1 : 0); }
};

/// The kernels of a layer, which are mixed and modulated per sample, a panel at a time.
class fdconv_kernel {
public:
    using optional_members =
        members<member::assembly_terms, member::assemble, member::prepare, member::stored, member::needs_mixture>;
    static constexpr bool needs_mixture = true;

    /// `kernels` W [n], one group; `local` v [O*KH*KW, K], K odd, or empty for no local part. Throws kdna::error, naming `where`, if
    /// the kernels have groups or a bias, or a length does not fit.
    KDNA_FUNC fdconv_kernel(mixture_kernel kernels, std::span<const float> local, std::string_view where = "fdconv");

    [[nodiscard]] const kernel_shape& shape() const noexcept { return layout().shape(); }
    [[nodiscard]] const panel_layout& layout() const noexcept { return kernels_.layout(); }
    [[nodiscard]] const fdconv_coefficients& coefficients() const noexcept { return coefficients_; }
    [[nodiscard]] index_t mixture_size() const noexcept { return coefficients_.count(); }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }
    /// Of a weight: n, K, and what a sigmoid takes.
    [[nodiscard]] index_t assembly_terms() const noexcept {
        return coefficients_.kernels + coefficients_.reach + (coefficients_.reach > 0 ? sigmoid_terms : 1);
    }
    [[nodiscard]] KDNA_FUNC const float* panel(index_t group, index_t p, const float* mixture,
                                               float* scratch) const noexcept;
    KDNA_FUNC void assemble(index_t group, index_t p, const float* mixture, const channel_range& channels,
                            float* to) const noexcept;
    [[nodiscard]] std::span<const std::byte> stored(index_t group, index_t p, const channel_range& channels, index_t i,
                                                    index_t n) const noexcept {
        return kernels_.stored(group, p, channels, i, n);
    }
    [[nodiscard]] KDNA_FUNC double weight(index_t o, index_t c, index_t t, const float* mixture) const noexcept;
    void prepare() const { kernels_.prepare(); }
    template <class F>
    void for_each_storage(F&& f) const {
        kernels_.for_each_storage(f);
        f(static_cast<const void*>(local_->data()), static_cast<index_t>(local_->size() * sizeof(float)));
    }

private:
    static constexpr index_t sigmoid_terms = 14;
    /// v of a filter's tap: K values.
    [[nodiscard]] index_t local_at(index_t p, index_t t, index_t j) const noexcept {
        return layout().offset(0, p) / layout().depth() * shape().taps() * coefficients_.reach +
               (t * coefficients_.reach + j) * layout().width_of(p);
    }
    KDNA_FUNC void modulate(index_t p, const float* mixture, const channel_range& channels, float* to) const noexcept;

    mixture_kernel kernels_;
    fdconv_coefficients coefficients_;
    std::shared_ptr<const std::vector<float>> local_;  // [panel][tap][j][filter]
};
static_assert(kernel_source<fdconv_kernel>);

/// The tensors of an attention over C channels with h hidden units (published keys KSM_Global.{fc, bn, relu, channel_fc, filter_fc,
/// spatial_fc, kernel_fc}, KSM_Local.norm). Heads may be absent: factors of 1.
struct fdconv_weights {
    std::span<const float> fc{};  ///< [h, C], no bias
    batch_norm bn{};              ///< [h]
    float scale = 1.0F;           ///< of StarReLU, scale * relu(x)^2 + shift
    float shift = 0.0F;
    linear_weights channel{};                           ///< [C, h], [C]
    linear_weights filter{};                            ///< [O, h], [O]
    linear_weights spatial{};                           ///< [KH*KW, h], [KH*KW]
    linear_weights kernel{};                            ///< [n, h], [n]
    std::span<const float> norm_weight{}, norm_bias{};  ///< [C] of the layer norm, eps 1e-5; empty: 1 and 0
};

/// z = StarReLU( BN( fc mean(x) ) );  a_c, a_f, a_s = 2 sigmoid( head z ),  a_w = 2 / n sigmoid( head z );  u = layer_norm( mean(x) ).
class fdconv_router {
public:
    using optional_members = members<member::floats, member::routes_mixture>;
    static constexpr bool routes_mixture = true;

    /// The router of a layer with that kernel. Throws kdna::error naming the tensor that does not fit.
    KDNA_FUNC fdconv_router(const fdconv_weights& w, const fdconv_kernel& kernel, std::string_view where = "fdconv");

    [[nodiscard]] index_t input_channels() const noexcept { return squeeze_.channels(); }
    [[nodiscard]] route_widths widths() const noexcept {
        return {.mixture = coefficients_.count(), .filter = filter_.outputs()};
    }
    [[nodiscard]] index_t scratch_floats() const noexcept { return squeeze_.hidden(); }
    [[nodiscard]] KDNA_FUNC index_t floats() const noexcept;
    KDNA_FUNC void operator()(const float* pooled, const route& out, float* z) const noexcept;

private:
    fdconv_coefficients coefficients_;
    squeeze squeeze_;
    optional_head channel_, filter_, spatial_, kernel_;
    std::vector<float> norm_weight_, norm_bias_;
};
static_assert(router<fdconv_router>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/fdconv.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
