// Definitions of given_position_conv2d.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/nn/given_position_conv2d.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC_COLD void given_position_conv2d::check_weights(const nd_shape& found, const shape4& y) const {
    const index_t groups = weights().groups, taps = kernel().taps();
    const nd_shape apart{y.n, groups, taps, y.h, y.w}, together{y.n, checked_mul(groups, taps, name_), y.h, y.w};
    if (found != apart && found != together)
        throw error(concat(name_, " weights"), concat(to_string(apart), " or ", to_string(together)), to_string(found));
}

KDNA_FUNC_COLD void given_position_conv2d::check(const plan_type& p, const tensor_view<const float>& x,
                                                 const nd_view<const float>& weights, const tensor_view<float>& y,
                                                 const tensor_view<const float>& residual) const {
    check_views(p, x, y, residual, {});
    if (weights.data == nullptr) throw error(concat(name_, " weights"), "memory", "a null pointer");
    check_weights(weights.shape, p.output_shape());
}

KDNA_FUNC void given_position_conv2d::run(plan_type& p, const tensor_view<const float>& x,
                                          const nd_view<const float>& weights, const tensor_view<float>& y,
                                          const tensor_view<const float>& residual) const noexcept {
    detail::enforce([&] { check(p, x, weights, y, residual); });
    const axis_numbers& s = weights.stride;
    const conv::position::weights_view from =
        weights.rank() == 5
            ? conv::position::weights_view{weights.data, s[0], s[1], s[2], s[3], s[4]}
            : conv::position::weights_view{weights.data, s[0], s[1] * kernel().taps(), s[1], s[2], s[3]};
    static_cast<void>(run_kernel(conv::position::viewed_weights(decisions(p), from), p, x, y, residual));
}

KDNA_FUNC_COLD nd_shape given_position_operation::output_shape(std::span<const nd_shape> in) const {
    const nd_shape y = detail::layer_output_shape(layer_, in);
    layer_.check_weights(in[1], {y[0], y[1], y[2], y[3]});
    return y;
}

KDNA_FUNC_COLD std::unique_ptr<operation_state> given_position_operation::plan(std::span<const nd_shape> in,
                                                                               const plan_options& options) const {
    return std::make_unique<detail::layer_state<position_plan>>(
        layer_.plan_without_workspace(image_shape(in.front(), name()), options), &position_layer::use_workspace);
}

KDNA_FUNC void given_position_operation::run(operation_state& s, const operation_call& c) const noexcept {
    layer_.run(static_cast<detail::layer_state<position_plan>&>(s).plan, c.x(), c.inputs[1], c.y(),
               layer_.takes_residual() ? c.image(2) : tensor_view<const float>{});
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
