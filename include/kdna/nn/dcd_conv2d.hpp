// A DCD layer in whichever of its two forms is cheaper: one kernel per sample, or the low-rank part on activations.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/dcd.hpp>
#include <kdna/nn/conv2d.hpp>

namespace kdna::inline KDNA_ABI {

/// y = act( BN( lambda(x) . (W0 * x) + P (Phi(x) + I) Q x ) + residual )   (dna/dcd.hpp)
///
/// As one kernel, the layer is a convolution whose panels are assembled for each sample. As parts, q = Q' x and
/// r = BN(P T^T q + P u) + residual are computed first, and W0 * x, whose kernel is the same for all samples, takes r as its
/// residual. Large maps are cheaper as one kernel, large kernels in parts; the plan chooses, and says so. It is used like a
/// conv2d.
template <conv_backend Backend = backend::cpu>
class basic_dcd_conv2d : public layer_base, public layer_calls<basic_dcd_conv2d<Backend>> {
    using whole_layer = conv2d<dcd_kernel, dcd_router, Backend>;
    using main_layer = conv2d<dense_kernel, given_mixture, Backend>;
    using low_layer = conv2d<low_rank_kernel, given_mixture, Backend>;
    using q_layer = conv2d<dense_kernel, no_router, Backend>;

public:
    class plan_type : public layer_plan {
    public:
        /// Whether the low-rank part runs on activations.
        [[nodiscard]] bool in_parts() const noexcept { return parts_ != nullptr; }
        [[nodiscard]] double predicted_cycles() const noexcept {
            return whole_ ? whole_->predicted_cycles() : parts_->predicted_cycles();
        }
        [[nodiscard]] index_t transformed_bytes() const noexcept {
            return whole_ ? whole_->transformed_bytes() : parts_->main.transformed_bytes();
        }

    private:
        friend class basic_dcd_conv2d;
        struct parts {
            typename main_layer::plan_type main;
            typename low_layer::plan_type low;
            typename q_layer::plan_type q;
            index_t q_at = 0, r_at = 0, workspace_bytes = 0;
            index_t route_floats = 0, pooled_at = 0,
                    scratch_at = 0;  // of a sample: routes | pooled input | router scratch
            buffer<float> routes{};
            [[nodiscard]] double predicted_cycles() const noexcept {
                return main.predicted_cycles() + low.predicted_cycles() + q.predicted_cycles();
            }
        };
        std::optional<typename whole_layer::plan_type> whole_{};
        std::unique_ptr<parts> parts_{};
    };

    /// `bias` [O] is added to W0 * x, so that lambda scales it; empty: none. Throws kdna::error, naming the layer, if a tensor
    /// does not fit, or unless the padding is that of an output as large as the input at stride one: Q is not padded.
    basic_dcd_conv2d(const dense_kernel& w0, const dcd_weights& w, const conv_params& params,
                     const conv_options& options = {}, std::span<const float> bias = {})
        : basic_dcd_conv2d{dcd_router(w, w0.shape().i, options.name), dcd_kernel(w0, w, bias, options.name), params,
                           options} {}

    [[nodiscard]] const kernel_shape& kernel() const noexcept { return whole_.kernel(); }
    [[nodiscard]] const conv_params& params() const noexcept { return whole_.params(); }
    [[nodiscard]] bool reads_channel_means() const noexcept { return whole_.reads_channel_means(); }
    [[nodiscard]] shape4 output_shape(const shape4& in) const { return whole_.output_shape(in); }
    /// The layer as one kernel, for those who run it elsewhere.
    [[nodiscard]] const conv2d<dcd_kernel, dcd_router, Backend>& as_one_kernel() const noexcept { return whole_; }

    /// Chooses the form and decides how to run it; the scratch is the caller's, given to `use_workspace`. Throws kdna::error.
    [[nodiscard]] plan_type plan_without_workspace(const shape4& in, const plan_options& options = {}) const {
        plan_type p;
        p.whole_ = whole_.plan_without_workspace(in, options);
        this->own(p, in, p.whole_->output_shape(), options);
        p.bytes_ = p.whole_->workspace_bytes();
        if (parts_ != nullptr) {
            auto parts = plan_parts(p.out_, in, options);
            // Without a cost model (other backends) both predict nothing, and one kernel is the simpler form.
            if (parts->predicted_cycles() < p.whole_->predicted_cycles()) {
                p.text_ = concat(parts->main.explain(), "\n  ", parts->q.explain(), "\n  ", parts->low.explain());
                p.bytes_ = parts->workspace_bytes;
                p.parts_ = std::move(parts);
                p.whole_.reset();
                return p;
            }
        }
        p.text_ = concat(p.whole_->explain(), ", low-rank part in the kernel");
        return p;
    }
    static void use_workspace(plan_type& p, std::byte* workspace) noexcept {
        p.workspace_ = workspace;
        if (p.whole_) return whole_layer::use_workspace(*p.whole_, workspace);
        main_layer::use_workspace(p.parts_->main, workspace);
        low_layer::use_workspace(p.parts_->low, workspace);
        q_layer::use_workspace(p.parts_->q, workspace);
    }

    /// Throws kdna::error unless `run` may be called with these arguments; see conv2d::check.
    void check(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
               const tensor_view<const float>& residual = {}, const channel_means& means = {}) const {
        this->check_call(p, x, y, residual, means, true);
        if (p.whole_) whole_.check(*p.whole_, x, y, residual, means);
    }

    /// As conv2d::run. Allocates nothing.
    void run(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
             const tensor_view<const float>& residual = {}, const channel_means& means = {},
             const conv::row_band& = {}) const noexcept {
        if (p.whole_) return whole_.run(*p.whole_, x, y, residual, means);  // which checks the same
        detail::enforce([&] { check(p, x, y, residual, means); });
        typename plan_type::parts& parts = *p.parts_;
        route_samples(p, x, means.input);
        const auto view = [&](index_t at, const shape4& s) {
            return tensor_view<float>{at_offset<float>(p.workspace_, at), s, {s.h * s.w * s.c, 1, s.w * s.c, s.c}};
        };
        const tensor_view<float> q = view(parts.q_at, parts.q.output_shape()), r = view(parts.r_at, p.out_);
        const given_coefficients routes{parts.routes.data(), parts.route_floats};
        parts_->q.run(parts.q, x, q);
        parts_->low.run(parts.low, q, routes, r, residual);
        parts_->main.run(parts.main, x, routes, y, r, {.output = means.output});
    }
    [[nodiscard]] band_support bands(const plan_type&) const noexcept { return {}; }

    template <class F>
    void for_each_storage(F&& f) const {
        whole_.for_each_storage(f);
        if (parts_ == nullptr) return;
        parts_->main.for_each_storage(f);
        parts_->low.for_each_storage(f);
        parts_->q.for_each_storage(f);
    }

private:
    struct layers {
        main_layer main;
        low_layer low;
        q_layer q;
    };
    /// Both forms share W0 and the low-rank factors.
    basic_dcd_conv2d(dcd_router r, const dcd_kernel& kernel, const conv_params& params, const conv_options& options)
        : layer_base(options.name, options.residual),
          router_(std::move(r)),
          whole_(kernel, checked(params, kernel.layout().shape(), options.name), options, router_) {
        if (kernel.has_static_bias()) return;
        const kernel_shape& k = kernel.layout().shape();
        const index_t routes = router_.widths().mixture;
        conv_options low = options, main{.residual = true, .act = options.act, .name = options.name};
        low.act = activation::none;
        low.name = concat(options.name, " low rank");
        // BatchNorm's shift comes with the low-rank part.
        std::vector<float> scale;
        if (options.bn)
            for (const double m : fold(*options.bn, k.o, options.name).scale) scale.push_back(static_cast<float>(m));
        parts_ = std::make_shared<const layers>(layers{
            main_layer(adapted<dense_kernel>{kernel.w0(), {}, std::move(scale)}, params, main, {.filters = k.o}),
            low_layer(low_rank_kernel(kernel.low_rank()), {}, low, {.count = routes}),
            q_layer(kernel.low_rank()->q_kernel(), {.stride = params.stride}, {.name = concat(options.name, " q")})});
    }
    [[nodiscard]] static const conv_params& checked(const conv_params& p, const kernel_shape& k,
                                                    std::string_view where) {
        const index_t rows = p.dilation.h * (k.kh / 2), columns = p.dilation.w * (k.kw / 2);
        if (p.pad != padding(rows, columns) || p.mode != padding_mode::zeros)
            throw error(std::string(where), concat("zero padding of ", rows, " rows and ", columns, " columns"),
                        concat(p.pad.top, ", ", p.pad.bottom, ", ", p.pad.left, ", ", p.pad.right,
                               p.mode == padding_mode::zeros ? "" : ", circular"));
        return p;
    }
    [[nodiscard]] std::unique_ptr<typename plan_type::parts> plan_parts(const shape4& out, const shape4& in,
                                                                        const plan_options& options) const {
        plan_options inner = options;
        inner.channel_means = false;
        auto p = std::make_unique<typename plan_type::parts>();
        p->q = parts_->q.plan_without_workspace(in, inner);
        inner.order = input_order::nhwc;
        p->low = parts_->low.plan_without_workspace(p->q.output_shape(), inner);
        p->main = parts_->main.plan_without_workspace(in, options);
        // One scratch for the three, then their maps.
        workspace_layout w;
        static_cast<void>(
            w.add<std::byte>(std::max({p->q.workspace_bytes(), p->low.workspace_bytes(), p->main.workspace_bytes()})));
        p->q_at = w.add<float>(element_count(p->q.output_shape()));
        p->r_at = w.add<float>(element_count(out));
        p->workspace_bytes = w.bytes();
        const index_t grid = router_.pool_grid();
        p->pooled_at = router_.widths().total();
        p->scratch_at = p->pooled_at + in.c * grid * grid;
        p->route_floats = p->scratch_at + std::max(router_.scratch_floats(), in.c);
        p->routes = buffer<float>(checked_mul(in.n, p->route_floats, this->name()), options.memory);
        return p;
    }
    void route_samples(plan_type& p, const tensor_view<const float>& x, const float* means) const noexcept {
        typename plan_type::parts& parts = *p.parts_;
        const index_t grid = router_.pool_grid();
        p.executor_.parallel_for(x.shape.n, [&](index_t n) {
            float* base = parts.routes.data() + n * parts.route_floats;
            float* pooled = base + parts.pooled_at;
            if (grid > 1)
                adaptive_average(x, n, grid, pooled, base + parts.scratch_at);
            else if (means == nullptr)
                global_average(x, n, pooled);
            router_(grid == 1 && means != nullptr ? means + n * x.shape.c : pooled, {.mixture = base},
                    base + parts.scratch_at);
        });
    }

    dcd_router router_;
    whole_layer whole_;
    std::shared_ptr<const layers> parts_{};
};
using dcd_conv2d = basic_dcd_conv2d<>;

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
