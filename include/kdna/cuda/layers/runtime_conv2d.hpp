// runtime_conv2d on a device: nn/runtime_conv2d.hpp with backend::cuda.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <utility>

#include <kdna/cuda/layers/conv2d.hpp>
#include <kdna/nn/runtime_conv2d.hpp>

namespace kdna::inline KDNA_ABI {

/// A convolution layer on a device whose kernels come with each call, in device memory: one for all samples, or, in a
/// plan with cuda::given_kernels::each, one for each. A handle, whose copies are the same layer.
template <class Device>
class basic_runtime_conv2d<backend::on<Device>> {
public:
    using layer_type = conv2d<runtime_kernel, given_mixture, backend::on<Device>>;
    using plan_type = typename layer_type::plan_type;
    using context_type = typename layer_type::context_type;
    using stream = typename Device::stream;

    /// Throws kdna::error, naming the layer, if an option does not fit the kernel's shape.
    basic_runtime_conv2d(const runtime_kernel& kernel, const conv_params& params, const conv_options& options = {},
                         const context_type& where = context_type::standard(), stream s = {})
        : weights_(kernel.mixture_size()), layer_(kernel, params, options, given_mixture{weights_}, where, s) {}

    [[nodiscard]] const std::string& name() const noexcept { return layer_.name(); }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return layer_.kernel(); }
    [[nodiscard]] const conv_params& params() const noexcept { return layer_.params(); }
    [[nodiscard]] const context_type& context() const noexcept { return layer_.context(); }
    /// Number of floats of one kernel.
    [[nodiscard]] index_t weights() const noexcept { return weights_; }
    [[nodiscard]] shape4 output_shape(const shape4& in) const { return layer_.output_shape(in); }

    /// Decides how to run on inputs of shape `in` and allocates everything a run needs. Throws kdna::error.
    [[nodiscard]] plan_type plan(const shape4& in, const cuda::device_layer_options& options = {}) const {
        return layer_.plan(in, options);
    }
    /// As conv2d::run. `kernels`: float32, shape [1 or N, weights(), 1, 1], weights in PyTorch's order.
    template <class T>
    void run(plan_type& p, const std::type_identity_t<cuda::device_view<const T>>& x,
             const cuda::device_view<const float>& kernels, const cuda::device_view<T>& y,
             const std::type_identity_t<cuda::device_view<const T>>& residual = {}, stream s = {}) const {
        layer_.run(p, x, kernels, y, residual, s);
    }
    /// Plans and runs in one go on host tensors, and returns the output, in NCHW. Throws kdna::error. For tests and for
    /// code that runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x, const kernel_view& kernels,
                                           const tensor_view<const float>& residual = {}, stream s = {}) const {
        const auto found = static_cast<index_t>(kernels.size());
        const bool each = x.shape.n > 1 && found == x.shape.n * weights_;
        if (!each && found != weights_)
            throw error(concat(name(), " kernel"), concat(weights_, " weights, or as many for every sample"),
                        concat(found));
        plan_type p = plan(x.shape, {.kernels = each ? cuda::given_kernels::each : cuda::given_kernels::one});
        Device& device = context().device();
        cuda::basic_device_tensor<float, Device> given(device, {each ? x.shape.n : 1, weights_, 1, 1});
        given.upload(nchw_view(kernels.data(), given.shape().n, weights_, 1, 1), s);
        return cuda::detail::run_on_host_tensors(device, p.output_shape(), x, residual, s,
                                                 [&](const auto& in, const auto& out, const auto& added) {
                                                     run(p, in, std::as_const(given).view(), out, added, s);
                                                 });
    }

private:
    index_t weights_;
    layer_type layer_;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
