// X-volution: attention in a window and a static convolution, as one layer.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string>
#include <utility>
#include <vector>

#include <kdna/nn/conv2d.hpp>
#include <kdna/nn/position_conv2d.hpp>

namespace kdna::inline KDNA_ABI {

/// What the plans of an X-volution keep: those of both parts, and the attention's output.
class x_volution_plan : public layer_plan {
public:
    [[nodiscard]] index_t transformed_bytes() const noexcept { return convolution_.transformed_bytes(); }

private:
    friend class x_volution;
    position_plan attention_{};
    conv_plan<backend::cpu> convolution_{};
    index_t convolution_at_ = 0, attended_at_ = 0;
};

/// X-volution as it runs, one convolution whose kernel is part attention, part static:
///     y(x0) = act( BN( sum over xi in A(x0) of ( w_att(x0, xi) + W[i] ) xi + b ) + residual )
/// with w_att = w_q w_k w_v <x0, xi>. W [C, C/groups, KH, KW] goes the way of every convolution, Winograd included; what the
/// attention adds enters it as a residual, BatchNorm's scale multiplied in. Zeros outside the map; x0 is the middle of the window.
class x_volution : public layer_base, public layer_calls<x_volution> {
public:
    using plan_type = x_volution_plan;

    /// `factor` is w_q * w_k * w_v. Throws kdna::error, naming the layer, unless the kernel maps C channels to C with an odd
    /// window, the padding is zeros, and the options fit.
    x_volution(const dense_kernel& kernel, float factor, const conv_params& params, const conv_options& options)
        : layer_base(options.name, options.residual),
          attention_(attention_of(kernel.shape(), factor, params, options)),
          convolution_(convolution_of(kernel, params, options)) {}
    /// With stride 1 and an output as large as the input.
    x_volution(const dense_kernel& kernel, float factor, const conv_options& options = {})
        : x_volution(kernel, factor, {.pad = {kernel.shape().kh / 2, kernel.shape().kw / 2}}, options) {}

    [[nodiscard]] const kernel_shape& kernel() const noexcept { return convolution_.kernel(); }
    /// Its two parts, for those who run it elsewhere: what the attention gives is the convolution's residual.
    [[nodiscard]] const position_conv2d<dot_product_attention>& attention() const noexcept { return attention_; }
    [[nodiscard]] const conv2d<>& convolution() const noexcept { return convolution_; }
    [[nodiscard]] static constexpr bool reads_channel_means() noexcept { return false; }
    /// Throws kdna::error if the layer cannot run on an input of this shape.
    [[nodiscard]] shape4 output_shape(const shape4& in) const { return convolution_.output_shape(in); }

    /// Decides how to run; the scratch (`workspace_bytes()`, 64-byte aligned) is the caller's, given to `use_workspace`. Throws
    /// kdna::error.
    [[nodiscard]] plan_type plan_without_workspace(const shape4& in, const plan_options& options = {}) const {
        plan_type p;
        p.attention_ = attention_.plan_without_workspace(in, options);
        own(p, in, p.attention_.output_shape(), options);
        plan_options inner = options;
        inner.order = input_order::nhwc;  // the attention's copy, if the caller's is not
        p.convolution_ = convolution_.plan_without_workspace(in, inner);
        // The attention's copy of the input is the convolution's input, so both workspaces live at the same time.
        workspace_layout shared;
        static_cast<void>(shared.template add<std::byte>(p.attention_.workspace_bytes()));
        p.convolution_at_ = shared.template add<std::byte>(p.convolution_.workspace_bytes());
        p.attended_at_ = shared.template add<float>(element_count(p.attention_.output_shape(), name()));
        p.bytes_ = shared.bytes();
        p.text_ = concat(p.convolution_.explain(), "; attention as its residual: ", p.attention_.explain());
        return p;
    }
    static void use_workspace(plan_type& p, std::byte* workspace) noexcept {
        p.workspace_ = workspace;
        position_conv2d<dot_product_attention>::use_workspace(p.attention_, workspace);
        conv2d<>::use_workspace(p.convolution_, workspace + p.convolution_at_);
    }

    /// Throws kdna::error unless `run` may be called with these arguments.
    void check(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
               const tensor_view<const float>& residual = {}, const channel_means& means = {}) const {
        check_call(p, x, y, residual, means, true);
        attention_.check(p.attention_, x, y, residual);
    }

    /// x to y, views of the plan's shape, any strides; x and y must not overlap, y and residual may be the same view.
    /// Allocates nothing. Arguments that do not fit the plan end the program with a message (KDNA_CHECK=0: are undefined).
    void run(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
             const tensor_view<const float>& residual = {}, const channel_means& means = {},
             const conv::row_band& = {}) const noexcept {
        detail::enforce([&] { check(p, x, y, residual, means); });
        const shape4& out = p.output_shape();
        const tensor_view<float> attended{
            at_offset<float>(p.workspace_, p.attended_at_), out, {out.h * out.w * out.c, 1, out.w * out.c, out.c}};
        const tensor_view<const float> in = attention_.run_staged(p.attention_, x, attended, residual);
        convolution_.run(p.convolution_, in, y, attended, {.output = means.output});
    }
    /// A band of rows would need the attention of that band only; it is computed for whole maps.
    [[nodiscard]] static band_support bands(const plan_type&) noexcept { return {}; }

    template <class F>
    void for_each_storage(F&& f) const {
        convolution_.for_each_storage(f);
    }

private:
    using attention_layer = position_conv2d<dot_product_attention>;

    /// BatchNorm's scale is the attention's too; everything that is added goes with the convolution.
    [[nodiscard]] static attention_layer attention_of(const kernel_shape& k, float factor, const conv_params& params,
                                                      const conv_options& options) {
        if (k.o != k.i) throw error(options.name, "a kernel with as many filters as channels", to_string(k));
        const std::vector<float> zeros(static_cast<std::size_t>(k.o), 0.0F);
        conv_options own{.residual = options.residual, .name = options.name};
        if (options.bn) {
            own.bn = options.bn;
            own.bn->bias = own.bn->mean = zeros;
        }
        return attention_layer(dot_product_attention(k.i, {k.kh, k.kw}, factor, 1.0F, 1.0F, options.name), params, own);
    }
    [[nodiscard]] static conv2d<> convolution_of(const dense_kernel& kernel, const conv_params& params,
                                                 const conv_options& options) {
        conv_options own = options;
        own.residual = true;
        return conv2d<>(kernel, params, own);
    }
    attention_layer attention_;
    conv2d<> convolution_;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
