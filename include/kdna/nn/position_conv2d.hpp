// A layer whose kernel differs from position to position: attention in a window.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <kdna/conv/position/nest.hpp>
#include <kdna/nn/layer.hpp>

namespace kdna::inline KDNA_ABI {

/// The memory of a position layer for one input shape.
class position_plan : public layer_plan {
private:
    template <position_kernel>
    friend class position_conv2d;
    conv::position::plan decisions_{};
};

/// y(x0) = act( BN( sum over xi in A(x0) of w(x0, i) * xi + bias ) + residual ), with the weights of a position kernel. C
/// channels to C, zeros outside the map; x0 is the middle of the window. Immutable once made.
template <position_kernel Kernel>
class position_conv2d : public layer_base, public layer_calls<position_conv2d<Kernel>> {
public:
    using plan_type = position_plan;

    /// Throws kdna::error, naming the layer, if the kernel's window is not odd, its groups do not divide its channels, an option
    /// is not of as many channels, or the padding is not zeros.
    position_conv2d(Kernel kernel, const conv_params& params, const conv_options& options)
        : layer_base(options.name, options.residual),
          kernel_(std::move(kernel)),
          params_(params),
          act_(options.act, kernel_.channels(), simd::lanes, options.name) {
        const index_t channels = kernel_.channels(), groups = kernel_.groups();
        const extent2 window = kernel_.window();
        if (channels < 1 || groups < 1 || channels % groups != 0)
            throw error(name_, "groups that divide the channels", concat(channels, " channels, ", groups, " groups"));
        if (window.h < 1 || window.w < 1 || window.h % 2 == 0 || window.w % 2 == 0)
            throw error(name_, "an odd window", concat(window.h, "x", window.w));
        if (params.mode != padding_mode::zeros) throw error(name_, "padding with zeros", "circular padding");
        const scale_shift folded = fold(options.bn, {}, options.bias, channels, name_);
        scale_ = padded_floats(folded.scale, simd::lanes);
        shift_ = padded_floats(folded.shift, simd::lanes);
    }
    /// With stride 1 and an output as large as the input.
    explicit position_conv2d(Kernel kernel, const conv_options& options = {})
        : position_conv2d(kernel, {.pad = {kernel.window().h / 2, kernel.window().w / 2}}, options) {}

    [[nodiscard]] const Kernel& position() const noexcept { return kernel_; }
    /// C channels to C, as a convolution's kernel would be described.
    [[nodiscard]] kernel_shape kernel() const noexcept {
        const extent2 window = kernel_.window();
        return {kernel_.channels(), kernel_.channels(), window.h, window.w};
    }
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
    [[nodiscard]] shape4 output_shape(const shape4& in) const {
        static_cast<void>(element_count(in, name_));
        if (in.c != kernel_.channels())
            throw error(name_, concat("an input of ", kernel_.channels(), " channels"), to_string(in));
        const extent2 window = kernel_.window();
        return KDNA_ABI::output_shape(in, {in.c, in.c, window.h, window.w}, params_, name_);
    }

    /// Decides how to run; the scratch (`workspace_bytes()`, 64-byte aligned) is the caller's, given to `use_workspace`. Throws
    /// kdna::error.
    [[nodiscard]] plan_type plan_without_workspace(const shape4& in, const plan_options& options = {}) const {
        plan_type p;
        this->own(p, in, output_shape(in), options);
        p.takes_means_ = false;
        p.decisions_ = conv::position::make_plan(in, p.out_, kernel_.window(), kernel_.groups(), options.order,
                                                 p.executor_.concurrency(), name_);
        p.bytes_ = p.decisions_.workspace_bytes;
        p.text_ = concat(name_, ": ", conv::position::explain(p.decisions_));
        return p;
    }
    static void use_workspace(plan_type& p, std::byte* workspace) noexcept { p.workspace_ = workspace; }

    /// Throws kdna::error unless `run` may be called with these arguments.
    void check(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
               const tensor_view<const float>& residual = {}, const channel_means& means = {}) const {
        this->check_call(p, x, y, residual, means, p.decisions_.stages);
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
        return conv::position::run(kernel_, p.decisions_,
                                   {x, y, residual, scale_.data(), shift_.data(), act_.value(), params_}, p.workspace_,
                                   p.executor_);
    }

private:
    Kernel kernel_;
    conv_params params_;
    layer_activation act_;
    std::vector<float> scale_, shift_;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
