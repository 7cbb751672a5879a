// StyleGAN2's modulated convolution (Karras et al., arXiv 1912.04958, equations 1 to 3): a style per sample scales the input's
// channels, and demodulation brings every filter back to unit length.
//
//     w'[o,c,t] = s[c] * W[o,c,t],    w''[o,c,t] = w'[o,c,t] / sqrt( sum over c, t of w'[o,c,t]^2 + eps )
//
// s is constant along filters and taps, and the root along channels and taps: both are factors of the algebra (factors.hpp), the
// channel factor s[c] and the filter factor
//
//     m[o] = 1 / sqrt( sum over c of s[c]^2 Q[o,c] + eps ),    Q[o,c] = sum over t of W[o,c,t]^2,
//
// a matrix product with a matrix that is known when the layer is made. No kernel is made of a sample.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>
#include <vector>

#include <kdna/dna/attention.hpp>
#include <kdna/dna/router.hpp>
#include <kdna/dna/source.hpp>

namespace kdna::inline KDNA_ABI {

/// What modulates a kernel of C input channels.
struct modulation {
    /// The style s = A w + b of a context w of D values: A [C, D], b [C] or empty. Without A and b the context is the style
    /// itself, D = C.
    linear_weights affine{};
    bool demodulate = true;  ///< false: m = 1, as in the layers that make an image's colours
    double eps = 1e-8;       ///< in the root
};

/// Modulation and demodulation of one dense kernel, by a context that comes with the call. The layer's noise is a residual, its
/// bias the layer's own (conv_options), both behind the demodulation.
class modulated_router {
public:
    using optional_members =
        members<member::floats, member::routes_mixture, member::routes_spatial, member::reads_context>;
    static constexpr bool routes_mixture = false, routes_spatial = false, reads_context = true;

    /// `kernel`: the layer's; its weights as they are stored are what is demodulated. Throws kdna::error naming the tensor that
    /// does not fit, and for an eps that is not positive.
    KDNA_FUNC modulated_router(const dense_kernel& kernel, const modulation& m, std::string_view where = "modulated");

    /// D.
    [[nodiscard]] index_t input_channels() const noexcept {
        return affine_.layer() ? affine_.layer()->inputs() : channels_;
    }
    [[nodiscard]] route_widths widths() const noexcept { return {.channel = channels_, .filter = filters_}; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return demodulates() ? channels_ : 0; }
    [[nodiscard]] KDNA_FUNC index_t floats() const noexcept;
    [[nodiscard]] bool demodulates() const noexcept { return filters_ > 0; }

    KDNA_FUNC void operator()(const float* context, const route& out, float* squares) const noexcept;

private:
    index_t channels_, filters_;
    optional_head affine_;
    std::vector<fully_connected> norms_{};  // of each group of the kernel: Q with eps as its bias
};
static_assert(router<modulated_router> && routes_given<modulated_router>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/modulated.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
