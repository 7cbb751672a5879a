// ODConv (Li, Zhou, Yao, arXiv 2209.07947): attention along all four axes of a kernel.
//
//     y  =  a_f . conv( a_c . x,  sum over i < n of  a_w[i] . a_s . W_i )
//
// a_c scales the input's channels, a_f the output's, a_s is one map over the taps for all kernels and channels, a_w mixes
// the n kernels: exactly the factors of the algebra (factors.hpp), all routed. With n = 1 the source is a dense_kernel.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>

#include <kdna/dna/attention.hpp>
#include <kdna/dna/mixture.hpp>
#include <kdna/dna/router.hpp>

namespace kdna::inline KDNA_ABI {

/// The tensors of an attention over C channels with h hidden units (reference keys attention.{fc, bn, channel_fc, filter_fc,
/// spatial_fc, kernel_fc}).
struct odconv_weights {
    std::span<const float> fc{};  ///< [h, C, 1, 1], no bias
    batch_norm bn{};              ///< [h]
    linear_weights channel{};     ///< [C, h], [C]
    linear_weights filter{};      ///< [O, h], [O]; empty for depthwise kernels
    linear_weights spatial{};     ///< [KH*KW, h], [KH*KW]; empty for 1x1 kernels
    linear_weights kernel{};      ///< [n, h], [n]; empty for a single kernel
};

/// z = ReLU( BN( fc mean(x) ) );  a_c, a_f, a_s = sigmoid( head z ),  a_w = softmax( head z ). The temperature of training is
/// 1 at inference; it is not in the state_dict.
class odconv_router {
public:
    using optional_members = members<member::floats>;

    /// C follows from `channel`. Throws kdna::error naming the tensor that does not fit.
    explicit odconv_router(const odconv_weights& w, std::string_view where = "attention")
        : squeeze_(w.fc, w.bn, channels_of(w, where), concat(where, ".fc"), concat(where, ".bn")),
          channel_(w.channel, squeeze_.hidden(), concat(where, ".channel_fc")),
          filter_(w.filter, squeeze_.hidden(), concat(where, ".filter_fc")),
          spatial_(w.spatial, squeeze_.hidden(), concat(where, ".spatial_fc")),
          kernel_(w.kernel, squeeze_.hidden(), concat(where, ".kernel_fc")) {}

    [[nodiscard]] index_t input_channels() const noexcept { return squeeze_.channels(); }
    [[nodiscard]] KDNA_FUNC route_widths widths() const noexcept;
    [[nodiscard]] index_t scratch_floats() const noexcept { return squeeze_.hidden(); }
    [[nodiscard]] KDNA_FUNC index_t floats() const noexcept;

    /// fc with BN folded in, and the heads; null: there is none.
    [[nodiscard]] const fully_connected& squeezing() const noexcept { return squeeze_.layer(); }
    [[nodiscard]] const fully_connected* channel_head() const noexcept { return channel_.layer(); }
    [[nodiscard]] const fully_connected* filter_head() const noexcept { return filter_.layer(); }
    [[nodiscard]] const fully_connected* spatial_head() const noexcept { return spatial_.layer(); }
    [[nodiscard]] const fully_connected* kernel_head() const noexcept { return kernel_.layer(); }

    KDNA_FUNC void operator()(const float* pooled, const route& out, float* z) const noexcept;

private:
    [[nodiscard]] KDNA_FUNC static index_t channels_of(const odconv_weights& w, std::string_view where);
    squeeze squeeze_;
    optional_head channel_, filter_, spatial_, kernel_;
};
static_assert(router<odconv_router>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/odconv.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
