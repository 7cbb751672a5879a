// Kernels that differ from position to position.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <concepts>
#include <string_view>

#include <kdna/core/error.hpp>
#include <kdna/core/shape.hpp>

namespace kdna::inline KDNA_ABI {

/// A position x0 of the input and its neighbourhood A(x0), as a position kernel sees them. Channels are contiguous.
struct neighbourhood {
    const float* centre;  ///< x0 [C], the middle of the window; zeros where that is outside of the map
    const float* const*
        around;       ///< xi [C] for every tap of the window, row by row [KH*KW]; zeros where it leaves the map
    index_t n, h, w;  ///< sample, row and column of x0
    index_t y_h = 0, y_w = 0;  ///< row and column of the output that the weights are for
};

/// Which channels share weights: c takes those of group g(c).
enum class weight_sharing : int {
    neighbours,   ///< g(c) = c / (C / groups): runs of neighbouring channels, as in involution
    interleaved,  ///< g(c) = c % groups: every groups-th channel, as in LSConv
};

/// A position kernel gives the weights of one position, the same for all channels of a group:
///     y[c](x0) = sum over xi in A(x0) of  w[g(c)](x0, i) * xi[c]
/// so it maps C channels to C, and what lies outside the map counts as zero.
///
///     channels()      C, of the input and the output
///     groups()        groups of neighbouring channels that share weights; divides C
///     window()        KH x KW, both odd
///     k(at, weights)  the weights [groups][KH*KW] of one position
///
/// It is called once per position and run, from any thread, so it must be const and allocate nothing.
// clang-format off
template <class K>
concept position_kernel = std::copy_constructible<K> && requires(const K& k, const neighbourhood& at, float* weights) {
    { k.channels() } -> std::convertible_to<index_t>;
    { k.groups() } -> std::convertible_to<index_t>;
    { k.window() } -> std::convertible_to<extent2>;
    { k(at, weights) } noexcept;
};
// clang-format on

/// Kernels per position that come with each call, as a value of the network that some other layers compute: the layer
/// `given_position_conv2d` (nn/given_position_conv2d.hpp) applies them. Involution (Li et al., arXiv 2103.06255) computes them by two
/// 1x1 convolutions and shares them among neighbouring channels; LSConv (Wang et al., arXiv 2503.23135) by a small network with a
/// large depthwise kernel and a group norm, and every groups-th channel takes the same ones.
struct given_position_weights {
    index_t channels = 0;  ///< C, of the input and the output
    index_t groups = 1;    ///< G, divides C
    extent2 window = 3;    ///< KH x KW, both odd
    weight_sharing sharing = weight_sharing::neighbours;
};

/// X-volution's attention:  w(x0, xi) = w_q * w_k * w_v * <x0, xi>,  the inner product over all channels.
class dot_product_attention {
public:
    /// Throws kdna::error unless there is a channel and the window is odd on both axes.
    KDNA_FUNC dot_product_attention(index_t channels, const extent2& window, float w_q = 1.0F, float w_k = 1.0F,
                                    float w_v = 1.0F, std::string_view where = "dot_product_attention");

    [[nodiscard]] index_t channels() const noexcept { return channels_; }
    [[nodiscard]] static constexpr index_t groups() noexcept { return 1; }
    [[nodiscard]] extent2 window() const noexcept { return window_; }
    [[nodiscard]] float factor() const noexcept { return factor_; }

    KDNA_FUNC void operator()(const neighbourhood& at, float* weights) const noexcept;

private:
    /// <x0, xi> for `Count` neighbours from `first` on, which share what they load of x0.
    template <int Count>
    void products(const neighbourhood& at, index_t first, float* weights) const noexcept;

    index_t channels_;
    extent2 window_;
    float factor_;
};
static_assert(position_kernel<dot_product_attention>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/position_kernel.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
