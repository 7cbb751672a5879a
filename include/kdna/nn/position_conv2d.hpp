// A layer whose kernel differs from position to position: attention in a window.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <utility>

#include <kdna/nn/position_layer.hpp>

namespace kdna::inline KDNA_ABI {

/// y(x0) = act( BN( sum over xi in A(x0) of w(x0, i) * xi + bias ) + residual ), with the weights of a position kernel. C
/// channels to C, zeros outside the map; x0 is the middle of the window. Immutable once made.
template <position_kernel Kernel>
class position_conv2d : public position_layer, public layer_calls<position_conv2d<Kernel>> {
public:
    /// Throws kdna::error, naming the layer, if the kernel's window is not odd, its groups do not divide its channels, an option
    /// is not of as many channels, or the padding is not zeros.
    position_conv2d(Kernel kernel, const conv_params& params, const conv_options& options)
        : position_layer({.channels = kernel.channels(), .groups = kernel.groups(), .window = kernel.window()}, params,
                         options),
          kernel_(std::move(kernel)) {}
    /// With stride 1 and an output as large as the input.
    explicit position_conv2d(Kernel kernel, const conv_options& options = {})
        : position_conv2d(kernel, {.pad = {kernel.window().h / 2, kernel.window().w / 2}}, options) {}

    [[nodiscard]] const Kernel& position() const noexcept { return kernel_; }

    /// Throws kdna::error unless `run` may be called with these arguments.
    void check(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
               const tensor_view<const float>& residual = {}, const channel_means& means = {}) const {
        check_views(p, x, y, residual, means);
    }

    /// x to y, views of the plan's shape, any strides; x and y must not overlap, y and residual may be the same view.
    /// Allocates nothing. Arguments that do not fit the plan end the program with a message (KDNA_CHECK=0: are undefined).
    void run(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
             const tensor_view<const float>& residual = {}, const channel_means& = {},
             const conv::row_band& = {}) const noexcept {
        static_cast<void>(run_staged(p, x, y, residual));
    }
    /// The same; returns the input channels last: x itself, or the copy in the plan's workspace.
    tensor_view<const float> run_staged(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                                        const tensor_view<const float>& residual = {}) const noexcept {
        detail::enforce([&] { check(p, x, y, residual); });
        return run_kernel(kernel_, p, x, y, residual);
    }

private:
    Kernel kernel_;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
