// Layers whose kernel differs from position to position: attention in a window, and X-volution.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <kdna/conv/position/nest.hpp>
#include <kdna/core/arithmetic.hpp>
#include <kdna/nn/operation.hpp>

namespace kdna::inline KDNA_ABI {

/// The memory of a position layer for one input shape. A plan serves one run at a time; make one per thread.
class position_plan {
public:
    [[nodiscard]] const shape4& input_shape() const noexcept { return decisions_.in; }
    [[nodiscard]] const shape4& output_shape() const noexcept { return decisions_.out; }
    [[nodiscard]] index_t workspace_bytes() const noexcept { return decisions_.workspace_bytes; }
    /// A few words about the window, its groups, and the workspace.
    [[nodiscard]] const std::string& explain() const noexcept { return text_; }

private:
    template <position_kernel>
    friend class position_conv2d;
    std::shared_ptr<const char> owner_{};
    conv::position::plan decisions_{};
    executor_ref executor_{};
    buffer<std::byte> own_workspace_{};
    std::byte* workspace_ = nullptr;
    std::string text_{};
};

/// y(x0) = act( BN( sum over xi in A(x0) of w(x0, i) * xi + bias ) + residual ), with the weights of a position kernel. C
/// channels to C, zeros outside the map; x0 is the middle of the window. Immutable once made.
template <position_kernel Kernel>
class position_conv2d {
public:
    using plan_type = position_plan;

    /// Throws kdna::error, naming the layer, if the kernel's window is not odd, its groups do not divide its channels, an option
    /// is not of as many channels, or the padding is not zeros.
    position_conv2d(Kernel kernel, const conv_params& params, const conv_options& options)
        : kernel_(std::move(kernel)),
          params_(params),
          name_(options.name),
          residual_(options.residual),
          act_(options.act) {
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

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const Kernel& position() const noexcept { return kernel_; }
    [[nodiscard]] bool takes_residual() const noexcept { return residual_; }
    /// Throws kdna::error if the layer cannot run on an input of this shape.
    [[nodiscard]] shape4 output_shape(const shape4& in) const {
        static_cast<void>(element_count(in, name_));
        if (in.c != kernel_.channels())
            throw error(name_, concat("an input of ", kernel_.channels(), " channels"), to_string(in));
        const extent2 window = kernel_.window();
        return KDNA_ABI::output_shape(in, {in.c, in.c, window.h, window.w}, params_, name_);
    }

    /// Allocates everything a run needs for inputs of shape `in`. Throws kdna::error.
    [[nodiscard]] plan_type plan(const shape4& in, const plan_options& options = {}) const {
        plan_type p = plan_without_workspace(in, options);
        p.own_workspace_ = buffer<std::byte>(p.workspace_bytes(), options.memory);
        p.workspace_ = p.own_workspace_.data();
        return p;
    }
    /// As plan(), but the scratch (`workspace_bytes()`, 64-byte aligned) is the caller's, given to `use_workspace`.
    [[nodiscard]] plan_type plan_without_workspace(const shape4& in, const plan_options& options = {}) const {
        plan_type p;
        p.owner_ = identity_;
        p.executor_ = options.executor;
        p.decisions_ = conv::position::make_plan(in, output_shape(in), kernel_.window(), kernel_.groups(),
                                                 options.order, p.executor_.concurrency(), name_);
        p.text_ = concat(name_, ": ", conv::position::explain(p.decisions_));
        return p;
    }
    static void use_workspace(plan_type& p, std::byte* workspace) noexcept { p.workspace_ = workspace; }

    /// Throws kdna::error unless `run` may be called with these arguments.
    void check(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
               const tensor_view<const float>& residual = {}) const {
        const auto require = [&](std::string_view what, const shape4& expected, const shape4& found, const void* data) {
            if (data == nullptr) throw error(concat(name_, " ", what), "a view of memory", "a null pointer");
            if (found != expected) throw error(concat(name_, " ", what), to_string(expected), to_string(found));
        };
        if (p.owner_ != identity_) throw error(name_, "a plan of this layer", "another layer's");
        require("input", p.input_shape(), x.shape, x.data);
        require("output", p.output_shape(), y.shape, y.data);
        if (residual_)
            require("residual", p.output_shape(), residual.shape, residual.data);
        else if (residual.data != nullptr)
            throw error(concat(name_, " residual"), "none (the layer was made without)", to_string(residual.shape));
        if (p.workspace_ == nullptr) throw error(name_, "a plan with a workspace", "one without");
        if (x.stride.c != 1 && x.shape.c > 1 && !p.decisions_.stages)
            throw error(concat(name_, " input"), "neighbouring channels side by side, as the plan was promised",
                        concat("channel stride ", x.stride.c));
    }

    /// x to y, views of the plan's shape, any strides; x and y must not overlap, y and residual may be the same view.
    /// Allocates nothing. Arguments that do not fit the plan end the program with a message (KDNA_CHECK=0: are undefined).
    void run(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
             const tensor_view<const float>& residual = {}) const noexcept {
        static_cast<void>(run_staged(p, x, y, residual));
    }
    /// The same; returns the input channels last: x itself, or the copy in the plan's workspace.
    tensor_view<const float> run_staged(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                                        const tensor_view<const float>& residual = {}) const noexcept {
#if KDNA_CHECK
        try {
            check(p, x, y, residual);
        } catch (const error& e) {
            contract_failure(e);
        }
#endif
        return conv::position::run(kernel_, p.decisions_, {x, y, residual, scale_.data(), shift_.data(), act_, params_},
                                   p.workspace_, p.executor_);
    }

private:
    Kernel kernel_;
    conv_params params_;
    std::string name_;
    bool residual_;
    activation act_;
    std::vector<float> scale_, shift_;
    std::shared_ptr<const char> identity_ = std::make_shared<const char>();
};

/// What the plans of an X-volution keep: those of both parts, and the attention's output.
class x_volution_plan {
public:
    [[nodiscard]] const shape4& input_shape() const noexcept { return attention_.input_shape(); }
    [[nodiscard]] const shape4& output_shape() const noexcept { return attention_.output_shape(); }
    [[nodiscard]] index_t workspace_bytes() const noexcept { return bytes_; }
    [[nodiscard]] index_t transformed_bytes() const noexcept { return convolution_.transformed_bytes(); }
    [[nodiscard]] const std::string& explain() const noexcept { return text_; }
    /// It has no gate.
    [[nodiscard]] static std::span<const float> gate(index_t) noexcept { return {}; }

private:
    friend class x_volution;
    position_plan attention_{};
    conv_plan<backend::cpu> convolution_{};
    index_t convolution_at_ = 0, attended_at_ = 0, bytes_ = 0;
    buffer<std::byte> own_workspace_{};
    std::byte* workspace_ = nullptr;
    std::string text_{};
};

/// X-volution as it runs, one convolution whose kernel is part attention, part static:
///     y(x0) = act( BN( sum over xi in A(x0) of ( w_att(x0, xi) + W[i] ) xi + b ) + residual )
/// with w_att = w_q w_k w_v <x0, xi>. W [C, C/groups, KH, KW] goes the way of every convolution, Winograd included; what the
/// attention adds enters it as a residual, BatchNorm's scale multiplied in. Zeros outside the map; x0 is the middle of the window.
class x_volution {
public:
    using plan_type = x_volution_plan;

    /// `factor` is w_q * w_k * w_v. Throws kdna::error, naming the layer, unless the kernel maps C channels to C with an odd
    /// window, the padding is zeros, and the options fit.
    x_volution(const dense_kernel& kernel, float factor, const conv_params& params, const conv_options& options)
        : attention_(attention_of(kernel.shape(), factor, params, options)),
          convolution_(convolution_of(kernel, params, options)) {}
    /// With stride 1 and an output as large as the input.
    x_volution(const dense_kernel& kernel, float factor, const conv_options& options = {})
        : x_volution(kernel, factor, {.pad = {kernel.shape().kh / 2, kernel.shape().kw / 2}}, options) {}

    [[nodiscard]] const std::string& name() const noexcept { return convolution_.name(); }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return convolution_.kernel(); }
    /// Its two parts, for those who run it elsewhere: what the attention gives is the convolution's residual.
    [[nodiscard]] const position_conv2d<dot_product_attention>& attention() const noexcept { return attention_; }
    [[nodiscard]] const conv2d<>& convolution() const noexcept { return convolution_; }
    [[nodiscard]] static constexpr bool reads_channel_means() noexcept { return false; }
    /// Throws kdna::error if the layer cannot run on an input of this shape.
    [[nodiscard]] shape4 output_shape(const shape4& in) const { return convolution_.output_shape(in); }

    /// Decides how to run on inputs of shape `in` and allocates everything a run needs. Throws kdna::error.
    [[nodiscard]] plan_type plan(const shape4& in, const plan_options& options = {}) const {
        plan_type p = plan_without_workspace(in, options);
        p.own_workspace_ = buffer<std::byte>(p.bytes_, options.memory);
        use_workspace(p, p.own_workspace_.data());
        return p;
    }
    /// As plan(), but the scratch (`workspace_bytes()`, 64-byte aligned) is the caller's, given to `use_workspace`.
    [[nodiscard]] plan_type plan_without_workspace(const shape4& in, const plan_options& options = {}) const {
        plan_type p;
        p.attention_ = attention_.plan_without_workspace(in, options);
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
        attention_.check(p.attention_, x, y, residual);
        static_cast<void>(means);
    }

    /// x to y, views of the plan's shape, any strides; x and y must not overlap, y and residual may be the same view.
    /// Allocates nothing. Arguments that do not fit the plan end the program with a message (KDNA_CHECK=0: are undefined).
    void run(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
             const tensor_view<const float>& residual = {}, const channel_means& means = {},
             const conv::row_band& = {}) const noexcept {
        const shape4& out = p.output_shape();
        const tensor_view<float> attended{
            at_offset<float>(p.workspace_, p.attended_at_), out, {out.h * out.w * out.c, 1, out.w * out.c, out.c}};
        const tensor_view<const float> in = attention_.run_staged(p.attention_, x, attended, residual);
        convolution_.run(p.convolution_, in, y, attended, {.output = means.output});
    }
    /// A band of rows would need the attention of that band only; it is computed for whole maps.
    [[nodiscard]] static band_support bands(const plan_type&) noexcept { return {}; }

    /// Plans and runs in one go and returns the output, in NCHW. Throws kdna::error. For tests and for code that runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x,
                                           const tensor_view<const float>& residual = {},
                                           const plan_options& options = {}) const {
        plan_type p = plan(x.shape, options);
        tensor<float> y(p.output_shape(), layout::nchw, options.memory);
        check(p, x, y.view(), residual);
        run(p, x, y.view(), residual);
        return y;
    }

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

/// An X-volution as a step of a network: network_builder::add(std::make_unique<x_volution_operation>(layer), x, channels).
using x_volution_operation = conv_operation<x_volution>;

/// A position layer as a step of a network.
template <position_kernel Kernel>
class position_operation final : public operation {
public:
    explicit position_operation(position_conv2d<Kernel> layer) : layer_(std::move(layer)) {}
    [[nodiscard]] std::string_view name() const noexcept override { return layer_.name(); }
    [[nodiscard]] shape4 output_shape(const shape4& in) const override { return layer_.output_shape(in); }
    [[nodiscard]] std::unique_ptr<operation_state> plan(const shape4& in, const plan_options& options) const override {
        return std::make_unique<state>(layer_.plan_without_workspace(in, options));
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        layer_.run(static_cast<state&>(s).plan, c.x, c.y, c.residual);
    }

private:
    struct state final : operation_state {
        explicit state(position_plan p) : plan(std::move(p)) {}
        [[nodiscard]] index_t workspace_bytes() const noexcept override { return plan.workspace_bytes(); }
        void use_workspace(std::byte* workspace) noexcept override {
            position_conv2d<Kernel>::use_workspace(plan, workspace);
        }
        [[nodiscard]] std::string explain() const override { return plan.explain(); }
        position_plan plan;
    };
    position_conv2d<Kernel> layer_;
};

}  // namespace kdna::inline KDNA_ABI
