// A convolution whose kernel is an input.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <utility>

#include <kdna/dna/runtime_kernel.hpp>
#include <kdna/nn/conv2d.hpp>

namespace kdna::inline KDNA_ABI {

/// The kernels of one call: floats in PyTorch's order, without gaps. Either one kernel for all samples, or one
/// per sample, one after another.
using kernel_view = std::span<const float>;

/// A convolution layer whose weights come with each call, everything else being conv2d's: strides, dilation, groups, zero or
/// circular padding, BatchNorm, bias, residual, activation. Immutable; it may be run from many threads, each with a plan of its
/// own. The weights are read where the caller has them, and nothing is kept of them.
template <layer_backend Backend = backend::cpu>
class basic_runtime_conv2d {
    KDNA_REQUIRE_HOST_BACKEND(Backend);

public:
    using layer_type = conv2d<runtime_kernel, given_mixture, Backend>;
    using plan_type = typename layer_type::plan_type;

    /// Throws kdna::error, naming the layer, if an option does not fit the kernel's shape.
    basic_runtime_conv2d(const runtime_kernel& kernel, const conv_params& params, const conv_options& options = {})
        : weights_(kernel.mixture_size()), layer_(kernel, params, options, given_mixture{weights_}) {}

    [[nodiscard]] const std::string& name() const noexcept { return layer_.name(); }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return layer_.kernel(); }
    [[nodiscard]] const conv_params& params() const noexcept { return layer_.params(); }
    /// The layer underneath, whose coefficients are the weights, for those who run it elsewhere.
    [[nodiscard]] const layer_type& layer() const noexcept { return layer_; }
    /// Number of floats of one kernel.
    [[nodiscard]] index_t weights() const noexcept { return weights_; }
    /// Throws kdna::error if the layer cannot run on an input of this shape.
    [[nodiscard]] shape4 output_shape(const shape4& in) const { return layer_.output_shape(in); }

    /// Decides how to run on inputs of shape `in` and allocates everything a run needs. Throws kdna::error.
    [[nodiscard]] plan_type plan(const shape4& in, const plan_options& options = {}) const {
        return layer_.plan(in, options);
    }

    /// Throws kdna::error unless `run` may be called with these arguments: what conv2d::check asks, and one kernel, or one
    /// per sample, of weights() floats.
    void check(const plan_type& p, const tensor_view<const float>& x, const kernel_view& kernels,
               const tensor_view<float>& y, const tensor_view<const float>& residual = {},
               const channel_means& means = {}) const {
        const index_t samples = p.input_shape().n, found = static_cast<index_t>(kernels.size());
        if (found != weights_ && found != samples * weights_)
            throw error(concat(name(), " kernel"),
                        concat(weights_, samples > 1 ? concat(" or ", samples, " x ", weights_) : std::string(),
                               " weights for ", to_string(kernel())),
                        concat(found));
        layer_.check(p, x, coefficients(p, kernels), y, residual, means);
    }

    /// y = act( BN( conv(x, kernels) + bias ) + residual ). Allocates nothing. Arguments that do not fit the plan end the
    /// program with a message (KDNA_CHECK=0: are undefined); call `check` first where they are not known to fit.
    void run(plan_type& p, const tensor_view<const float>& x, const kernel_view& kernels, const tensor_view<float>& y,
             const tensor_view<const float>& residual = {}, const channel_means& means = {}) const noexcept {
        detail::enforce([&] { check(p, x, kernels, y, residual, means); });
        layer_.run(p, x, coefficients(p, kernels), y, residual, means);
    }

    /// Plans and runs in one go and returns the output, in NCHW. Throws kdna::error. For tests and for code that runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x, const kernel_view& kernels,
                                           const tensor_view<const float>& residual = {},
                                           const plan_options& options = {}) const {
        plan_type p = plan(x.shape, options);
        tensor<float> y(p.output_shape(), layout::nchw, options.memory);
        check(p, x, kernels, y.view(), residual);
        run(p, x, kernels, y.view(), residual);
        return y;
    }

private:
    [[nodiscard]] given_coefficients coefficients(const plan_type& p, const kernel_view& kernels) const noexcept {
        const bool each = p.input_shape().n > 1 && static_cast<index_t>(kernels.size()) > weights_;
        return {kernels.data(), each ? weights_ : 0};
    }
    index_t weights_;
    layer_type layer_;
};

using runtime_conv2d = basic_runtime_conv2d<>;

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
