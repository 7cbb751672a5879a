// What layers have in common whose kernel differs from position to position.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <vector>

#include <kdna/conv/position/nest.hpp>
#include <kdna/dna/position_kernel.hpp>
#include <kdna/nn/layer.hpp>

namespace kdna::inline KDNA_ABI {

/// The memory of a position layer for one input shape.
class position_plan : public layer_plan {
private:
    friend class position_layer;
    conv::position::plan decisions_{};
};

/// A layer with kernels per position by what it has besides them: shapes, plans and the epilogue.
class position_layer : public layer_base {
public:
    using plan_type = position_plan;

    /// C channels to C, as a convolution's kernel would be described.
    [[nodiscard]] kernel_shape kernel() const noexcept {
        return {shape_.channels, shape_.channels, shape_.window.h, shape_.window.w};
    }
    [[nodiscard]] const conv_params& params() const noexcept { return params_; }
    [[nodiscard]] static constexpr bool reads_channel_means() noexcept { return false; }
    [[nodiscard]] static constexpr bool gives_channel_means() noexcept { return false; }
    /// Rows are computed for whole maps.
    [[nodiscard]] static band_support bands(const plan_type&) noexcept { return {}; }
    /// The weights are functions of the input; what is kept are scale and shift.
    template <class F>
    void for_each_storage(F&& f) const {
        f(static_cast<const void*>(scale_.data()),
          static_cast<index_t>((scale_.size() + shift_.size()) * sizeof(float)));
    }
    /// Throws kdna::error if the layer cannot run on an input of this shape.
    [[nodiscard]] KDNA_FUNC_COLD shape4 output_shape(const shape4& in) const;
    /// Decides how to run; the scratch (`workspace_bytes()`, 64-byte aligned) is the caller's, given to `use_workspace`. Throws
    /// kdna::error.
    [[nodiscard]] KDNA_FUNC_COLD plan_type plan_without_workspace(const shape4& in,
                                                                  const plan_options& options = {}) const;
    static void use_workspace(plan_type& p, std::byte* workspace) noexcept { p.workspace_ = workspace; }

protected:
    /// Throws kdna::error, naming the layer, unless the window is odd, groups divide the channels, the options are of as many
    /// channels, and the padding is zeros.
    KDNA_FUNC_COLD position_layer(const given_position_weights& shape, const conv_params& params,
                                  const conv_options& options);
    [[nodiscard]] const given_position_weights& position_shape() const noexcept { return shape_; }
    [[nodiscard]] static const conv::position::plan& decisions(const plan_type& p) noexcept { return p.decisions_; }
    void check_views(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                     const tensor_view<const float>& residual, const channel_means& means) const {
        check_call(p, x, y, residual, means, p.decisions_.stages);
    }
    /// Runs a kernel of the layer's shape; returns the input channels last.
    template <position_kernel Kernel>
    tensor_view<const float> run_kernel(const Kernel& kernel, plan_type& p, const tensor_view<const float>& x,
                                        const tensor_view<float>& y,
                                        const tensor_view<const float>& residual) const noexcept {
        return conv::position::run(kernel, p.decisions_,
                                   {x, y, residual, scale_.data(), shift_.data(), act_.value(), params_}, p.workspace_,
                                   p.executor_);
    }

private:
    given_position_weights shape_;
    conv_params params_;
    layer_activation act_;
    std::vector<float> scale_, shift_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/position_layer.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
