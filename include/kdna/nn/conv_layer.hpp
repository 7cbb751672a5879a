// What every convolution layer does on a backend, whatever its kernel source and its router: checks, folding, plans, routing, runs.
//
// A layer hands its source and its router down by reference, so this is compiled once for each backend. conv2d (nn/conv2d.hpp)
// adds the types.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <kdna/backend/cpu.hpp>
#include <kdna/core/any_ref.hpp>
#include <kdna/dna/router.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/nn/layer.hpp>

namespace kdna::inline KDNA_ABI {

template <conv_backend Backend>
class conv_layer;

/// The decisions and the memory of one convolution layer for one input shape.
template <conv_backend Backend>
class conv_plan : public layer_plan {
public:
    /// What the cost model expects of a run on one thread of the machine that was planned for: clock cycles, routing not
    /// included. 0 for backends without a cost model.
    [[nodiscard]] double predicted_cycles() const noexcept {
        if constexpr (requires { decisions_.predicted_cycles; })
            return decisions_.predicted_cycles;
        else
            return 0.0;
    }
    /// Bytes of the prepared kernel this plan uses, 0 for none; it belongs to the layer.
    [[nodiscard]] index_t transformed_bytes() const noexcept {
        if constexpr (std::is_same_v<typename Backend::plan, conv::plan>)
            return conv::prepared_bytes(decisions_);
        else
            return 0;
    }
    /// Whether runs compute factors, from the input or from a context.
    [[nodiscard]] bool routed() const noexcept { return widths_.total() > 0; }
    /// The gate g[C] of sample n in the last run, empty if the layer has none.
    [[nodiscard]] std::span<const float> gate(index_t n) const noexcept {
        if (widths_.channel == 0) return {};
        return {routes_.data() + n * route_floats_ + widths_.mixture, static_cast<std::size_t>(widths_.channel)};
    }
    /// The mixture weights of sample n in the last run, empty if the layer computes none.
    [[nodiscard]] std::span<const float> mixture(index_t n) const noexcept {
        if (widths_.mixture == 0) return {};
        return {routes_.data() + n * route_floats_, static_cast<std::size_t>(widths_.mixture)};
    }

private:
    friend class conv_layer<Backend>;

    typename Backend::plan decisions_{};
    route_widths widths_{};
    // Per sample: routed mixture, channel, filter, spatial | scale, shift where they vary | pooled input | router scratch.
    index_t route_floats_ = 0, scale_at_ = 0, shift_at_ = 0, pooled_at_ = 0, scratch_at_ = 0;
    buffer<float> routes_{};
};

/// A convolution layer by its base, which knows neither source nor router by type. Copies share identity and prepared kernels.
template <conv_backend Backend>
class conv_layer : public layer_base {
public:
    using plan_type = conv_plan<Backend>;
    /// A layer's source and router, by reference.
    struct parts {
        source_ref source;
        router_ref router;
    };

    virtual ~conv_layer() = default;
    /// Valid while the layer lives.
    [[nodiscard]] virtual parts refs() const noexcept = 0;
    /// Calls f(address, bytes) for every block of weights the layer keeps in memory; shared blocks come up in every layer that
    /// shares them, with the same address.
    virtual void visit_storage(const storage_visitor& f) const = 0;
    /// The layer by its own type.
    [[nodiscard]] virtual any_ref as_any() const noexcept = 0;

    [[nodiscard]] const kernel_shape& kernel() const noexcept { return kernel_; }
    [[nodiscard]] const conv_params& params() const noexcept { return params_; }
    /// What the layer is made of besides source and router. The factors s = 1 + a_sp [KH*KW], or empty; m and b [O] with
    /// everything static folded in; and, of a source with a bias of its own that is mixed, what that is multiplied by [O].
    [[nodiscard]] activation act() const noexcept { return act_.value(); }
    [[nodiscard]] std::span<const float> spatial() const noexcept { return spatial_; }
    [[nodiscard]] std::span<const float> scale() const noexcept { return per_filter(scale_); }
    [[nodiscard]] std::span<const float> shift() const noexcept { return per_filter(shift_); }
    [[nodiscard]] std::span<const float> mixed_bias_scale() const noexcept {
        return mixes_bias_ ? per_filter(bias_scale_) : std::span<const float>();
    }
    /// How many values of every sample come with each call, coefficients or a context; 0: none do, and `run_routed` runs the layer.
    [[nodiscard]] index_t given_floats() const noexcept { return refs().router.given_floats(); }
    /// What they are: "coefficients" or "context".
    [[nodiscard]] std::string_view given_name() const noexcept { return refs().router.given_name(); }
    /// Whether a router reads the means of the input's channels.
    [[nodiscard]] bool reads_channel_means() const noexcept;
    /// Throws kdna::error if the layer cannot run on an input of this shape.
    [[nodiscard]] shape4 output_shape(const shape4& in) const {
        return KDNA_ABI::output_shape(in, kernel_, params_, name_);
    }
    /// Decides how to run on inputs of shape `in`; the scratch (`workspace_bytes()`, 64-byte aligned) is the caller's, given to
    /// `use_workspace`, so that layers which run one after another can share it. Throws kdna::error.
    [[nodiscard]] plan_type plan_without_workspace(const shape4& in, const plan_options& options = {}) const;
    static void use_workspace(plan_type& p, std::byte* workspace) noexcept { p.workspace_ = workspace; }
    /// Whether runs of this plan may compute a few rows at a time (`rows` of `run`), and which.
    [[nodiscard]] band_support bands(const plan_type& p) const noexcept;

    /// conv2d::check and conv2d::run, of which a layer's own types allow one form: with given values or without.
    void check_views(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                     const tensor_view<const float>& residual, const channel_means& means) const;
    void check_given(const plan_type& p, const tensor_view<const float>& x, const given_values& given,
                     const tensor_view<float>& y, const tensor_view<const float>& residual,
                     const channel_means& means) const;
    void run_routed(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                    const tensor_view<const float>& residual, const channel_means& means,
                    const conv::row_band& rows) const noexcept;
    void run_given(plan_type& p, const tensor_view<const float>& x, const given_values& given,
                   const tensor_view<float>& y, const tensor_view<const float>& residual,
                   const channel_means& means) const noexcept;

protected:
    /// Throws kdna::error, naming the layer, if any part does not fit the kernel. `spatial` and `filter` are factors, 1 + a.
    conv_layer(const parts& of, std::vector<float> spatial, const std::vector<float>& filter, const conv_params& params,
               const conv_options& options);
    /// Visits what the layer keeps besides its source's weights.
    void visit_own_storage(const storage_visitor& f) const;

private:
    [[nodiscard]] std::span<const float> per_filter(const std::vector<float>& padded) const noexcept {
        return std::span(padded).first(static_cast<std::size_t>(kernel_.o));
    }
    [[nodiscard]] conv::problem problem(const parts& of, const plan_options& options) const noexcept;
    [[nodiscard]] plan_type planned(const parts& of, const plan_options& options,
                                    typename Backend::plan decisions) const;
    [[nodiscard]] plan_type tuned_plan(const parts& of, const shape4& in, const plan_options& options) const;
    void check_params() const;
    void check_adapter(const std::vector<float>& filter) const;
    void check_router(const parts& of) const;
    void route_samples(const parts& of, plan_type& p, const tensor_view<const float>& x,
                       factor_set::per_sample known) const noexcept;
    void scale_filters(const float* filter, float* scale) const noexcept;
    void mix_bias(const source_ref& source, const float* mixture, float* shift) const noexcept;
    void compute(const parts& of, plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                 const tensor_view<const float>& residual, const channel_means& means, const conv::row_band& rows,
                 const given_values& given) const noexcept;
    [[nodiscard]] factor_set factors(const plan_type& p) const noexcept;

    kernel_shape kernel_;
    conv_params params_;
    layer_activation act_;
    std::vector<float> spatial_, scale_, shift_, bias_scale_;
    bool varies_scale_, mixes_bias_;
    std::shared_ptr<conv::prepared_kernels> prepared_ = std::make_shared<conv::prepared_kernels>();
};

}  // namespace kdna::inline KDNA_ABI

#ifdef KDNA_COMPILED
namespace kdna::inline KDNA_ABI {
extern template class conv_layer<backend::cpu>;
}
#endif
#include <kdna/nn/conv_layer.ipp>

#include <kdna/core/macros_pop.hpp>
