// A layer whose kernels per position are a value of the network: involution, LSConv.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>

#include <kdna/nn/layer_operations.hpp>
#include <kdna/nn/position_layer.hpp>

namespace kdna::inline KDNA_ABI {

/// y(x0) = act( BN( sum over xi in A(x0) of w[g(c)](x0, i) * xi + bias ) + residual ), with weights that come with each call:
/// [N, G, KH*KW, H', W'], or [N, G*KH*KW, H', W'] in the same order, for outputs [N, C, H', W']. Zeros outside the map; x0 is the
/// middle of the window. Immutable once made.
class given_position_conv2d : public position_layer {
public:
    /// Throws kdna::error, naming the layer, unless the window is odd, groups divide the channels, the options are of as many
    /// channels, and the padding is zeros.
    given_position_conv2d(const given_position_weights& weights, const conv_params& params,
                          const conv_options& options = {})
        : position_layer(weights, params, options) {}

    [[nodiscard]] const given_position_weights& weights() const noexcept { return position_shape(); }
    /// Decides how to run on inputs of shape `in` and allocates everything a run needs. Throws kdna::error.
    [[nodiscard]] plan_type plan(const shape4& in, const plan_options& options = {}) const {
        plan_type p = plan_without_workspace(in, options);
        use_workspace(p, allocate_workspace(p, options.memory));
        return p;
    }
    /// Throws kdna::error, naming the layer, unless weights of this shape are those of outputs `y`.
    KDNA_FUNC_COLD void check_weights(const nd_shape& weights, const shape4& y) const;
    /// Throws kdna::error unless `run` may be called with these arguments.
    KDNA_FUNC_COLD void check(const plan_type& p, const tensor_view<const float>& x,
                              const nd_view<const float>& weights, const tensor_view<float>& y,
                              const tensor_view<const float>& residual = {}) const;
    /// x to y, views of the plan's shape, any strides; x and y must not overlap, y and residual may be the same view.
    /// Allocates nothing. Arguments that do not fit the plan end the program with a message (KDNA_CHECK=0: are undefined).
    KDNA_FUNC void run(plan_type& p, const tensor_view<const float>& x, const nd_view<const float>& weights,
                       const tensor_view<float>& y, const tensor_view<const float>& residual = {}) const noexcept;
};

/// The layer as a step. Its inputs are the image, the weights, and the residual, if it takes one.
class given_position_operation final : public detail::layer_step<given_position_operation, position_plan> {
public:
    explicit given_position_operation(given_position_conv2d l) : layer_(std::move(l)) {}
    [[nodiscard]] const given_position_conv2d& layer() const noexcept { return layer_; }

    [[nodiscard]] index_t inputs() const noexcept override { return layer_.takes_residual() ? 3 : 2; }
    [[nodiscard]] KDNA_FUNC_COLD nd_shape output_shape(std::span<const nd_shape> in) const override;
    [[nodiscard]] KDNA_FUNC_COLD std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                                       const plan_options& options) const override;
    KDNA_FUNC void run(operation_state& s, const operation_call& c) const noexcept override;
    void for_each_storage(const storage_visitor& f) const override { layer_.for_each_storage(f); }
    [[nodiscard]] any_ref computes() const noexcept override { return any_ref::to(layer_); }

private:
    given_position_conv2d layer_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/given_position_conv2d.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
