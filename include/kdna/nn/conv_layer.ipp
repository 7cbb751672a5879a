// Definitions of nn/conv_layer.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/dna/algebra.hpp>
#include <kdna/nn/autotune.hpp>
#include <kdna/nn/conv_layer.hpp>
#include <kdna/nn/pool.hpp>

namespace kdna::inline KDNA_ABI {

template <conv_backend Backend>
conv_layer<Backend>::conv_layer(const parts& of, std::vector<float> spatial, const std::vector<float>& filter,
                                const conv_params& params, const conv_options& options)
    : layer_base(options.name, options.residual),
      kernel_(of.source.layout().shape()),
      params_(params),
      act_(options.act, kernel_.o, panel_layout::width, options.name),
      spatial_(std::move(spatial)),
      varies_scale_(of.router.widths().filter > 0),
      mixes_bias_(of.source.has_bias() && of.source.mixture_size() > 0) {
    check_params();
    check_adapter(filter);
    check_router(of);
    const scale_shift folded = fold(options.bn, filter, options.bias, kernel_.o, name_);
    // Whole panels are read from any filter on, so the arrays go on past the last filter.
    scale_ = padded_floats(folded.scale, panel_layout::width);
    shift_ = padded_floats(folded.shift, panel_layout::width);
    if (!of.source.has_bias()) return;
    bias_scale_ = padded_floats(fold(options.bn, {}, {}, kernel_.o, name_).scale, panel_layout::width);
    if (!mixes_bias_) mix_bias(of.source, nullptr, shift_.data());
}

template <conv_backend Backend>
auto conv_layer<Backend>::plan_without_workspace(const shape4& in, const plan_options& options) const -> plan_type {
    const parts of = refs();
    of.source.prepare();
    // There is something to choose where the backend uses the CPU's plans, as one of a user's own may.
    if constexpr (std::is_same_v<typename Backend::plan, conv::plan>)
        if (options.autotune && of.router.origin() != route_origin::coefficients) return tuned_plan(of, in, options);
    return planned(of, options,
                   Backend::make_plan(problem(of, options), in, options.order, options.executor.concurrency(), name_));
}

/// The plan of a layer whose backend has decided.
template <conv_backend Backend>
auto conv_layer<Backend>::planned(const parts& of, const plan_options& options, typename Backend::plan decisions) const
    -> plan_type {
    plan_type p;
    p.decisions_ = std::move(decisions);
    own(p, p.decisions_.in, p.decisions_.out, options);
    p.bytes_ = p.decisions_.workspace_bytes;
    const router_ref& r = of.router;
    if (r.computes()) p.widths_ = r.widths();
    index_t floats = p.widths_.total();
    const auto reserve = [&](index_t count) { return std::exchange(floats, checked_add(floats, count, name_)); };
    if (varies_scale_) p.scale_at_ = reserve(static_cast<index_t>(scale_.size()));
    if (mixes_bias_) p.shift_at_ = reserve(static_cast<index_t>(shift_.size()));
    if (r.origin() == route_origin::input)
        p.pooled_at_ = reserve(checked_mul(r.input_channels(), r.pool_grid() * r.pool_grid(), name_));
    // Pooling in a grid works in the scratch before the router does.
    p.scratch_at_ = reserve(std::max(r.scratch_floats(), r.pool_grid() > 1 ? r.input_channels() : 0));
    p.route_floats_ = floats;
    p.routes_ = buffer<float>(checked_mul(p.in_.n, floats, name_), options.memory);
    p.text_ = concat(name_, ": ", to_string(kernel_), " on ", to_string(p.in_), ": ",
                     Backend::explain(problem(of, options), p.decisions_));
    if (r.origin() == route_origin::context)
        p.text_ += concat(", routed by a context of ", r.given_floats(), " values of each sample");
    return p;
}

/// The fastest of the candidates, timed one against the other.
template <conv_backend Backend>
auto conv_layer<Backend>::tuned_plan(const parts& of, const shape4& in, const plan_options& options) const
    -> plan_type {
    detail::tuning t(problem(of, options), in, options.order, options.executor.concurrency(), name_);
    std::size_t best = 0;
    if (t.count() > 1) {
        t.make_tensors(residual_, options.channel_means);
        plan_type p = planned(of, options, t.candidate(0));
        use_workspace(p, t.workspace());
        const std::vector<float> context(static_cast<std::size_t>(of.router.given_floats()), 0.5F);
        best = t.fastest([&](index_t i) {
            p.decisions_ = t.candidate(static_cast<std::size_t>(i));
            if (context.empty())
                run_routed(p, t.x(), t.y(), t.residual(), {.output = t.means()}, {});
            else
                run_given(p, t.x(), {context.data(), 0}, t.y(), t.residual(), {.output = t.means()});
        });
    }
    plan_type p = planned(of, options, t.candidate(best));
    p.text_ += t.text();
    t.drop_candidates();
    prepared_->drop_unused();
    return p;
}

template <conv_backend Backend>
conv::problem conv_layer<Backend>::problem(const parts& of, const plan_options& options) const noexcept {
    const route_widths& w = of.router.widths();
    return {.source = of.source,
            .params = params_,
            .static_spatial = spatial_.empty() ? nullptr : spatial_.data(),
            .channel_factor = w.channel > 0,
            .spatial_factor = !spatial_.empty() || w.spatial > 0,
            .routed_kernel = of.source.mixture_size() > 0 || w.spatial > 0,
            .equal_routes = options.equal_routes,
            .channel_means = options.channel_means,
            .in_bands = options.in_bands,
            .transform_budget = options.transform_budget,
            .prepared_format = options.transformed_storage,
            .target = &options.target,
            .prepared = prepared_.get()};
}

template <conv_backend Backend>
band_support conv_layer<Backend>::bands(const plan_type& p) const noexcept {
    const row_window window{(kernel_.kh - 1) * params_.dilation.h + 1, params_.stride.h, params_.pad.top};
    const bool circular = params_.mode == padding_mode::circular;  // the first rows need the last
    const router_ref r = refs().router;
    if (r.origin() != route_origin::none || circular || p.takes_means_ || p.in_.n != 1) return {0, window};
    if constexpr (std::is_same_v<typename Backend::plan, conv::plan>)
        return {conv::row_multiple(p.decisions_), window};
    else
        return {1, window};
}

template <conv_backend Backend>
void conv_layer<Backend>::check_params() const {
    const auto& [stride, pad, dilation, mode] = params_;
    if (stride.h < 1 || stride.w < 1 || dilation.h < 1 || dilation.w < 1)
        throw error(name_, "stride and dilation >= 1",
                    concat("stride ", stride.h, "x", stride.w, ", dilation ", dilation.h, "x", dilation.w));
    if (pad.top < 0 || pad.bottom < 0 || pad.left < 0 || pad.right < 0)
        throw error(name_, "padding >= 0", concat(pad.top, ", ", pad.bottom, ", ", pad.left, ", ", pad.right));
}

/// Adapters need not come from adapt().
template <conv_backend Backend>
void conv_layer<Backend>::check_adapter(const std::vector<float>& filter) const {
    if (!spatial_.empty() && kernel_.taps() == 1)
        throw error(concat(name_, " spatial"), "no spatial modulation on a 1x1 kernel", concat(spatial_.size()));
    if (!spatial_.empty() && static_cast<index_t>(spatial_.size()) != kernel_.taps())
        throw error(concat(name_, " spatial"), concat(kernel_.taps(), " values"), concat(spatial_.size()));
    if (!filter.empty() && static_cast<index_t>(filter.size()) != kernel_.o)
        throw error(concat(name_, " filter"), concat(kernel_.o, " values"), concat(filter.size()));
}

template <conv_backend Backend>
void conv_layer<Backend>::check_router(const parts& of) const {
    const router_ref& r = of.router;
    const route_widths& w = r.widths();
    const auto fit = [&](std::string_view axis, index_t found, index_t expected) {
        if (found != expected) throw error(concat(name_, " router"), concat(expected, " ", axis), concat(found));
    };
    fit("mixture weights", w.mixture, of.source.mixture_size());
    if (w.channel != 0) fit("channel gates", w.channel, kernel_.i);
    if (w.filter != 0) fit("filter factors", w.filter, kernel_.o);
    if (w.spatial != 0 && kernel_.taps() == 1)
        throw error(concat(name_, " router"), "no spatial factors on a 1x1 kernel", concat(w.spatial));
    if (w.spatial != 0) fit("spatial factors", w.spatial, kernel_.taps());
    if (r.computes() && r.pool_grid() < 1)
        throw error(concat(name_, " router"), "a pool grid >= 1", concat(r.pool_grid()));
    static_cast<void>(checked_mul(r.pool_grid(), r.pool_grid(), name_));
    if (r.origin() == route_origin::input && w.total() != 0) fit("input channels", r.input_channels(), kernel_.i);
    if (r.origin() == route_origin::context && (r.input_channels() < 1 || r.pool_grid() != 1))
        throw error(concat(name_, " router"), "a context of at least one value, and no pool grid",
                    concat(r.input_channels(), " values, a grid of ", r.pool_grid()));
}

template <conv_backend Backend>
void conv_layer<Backend>::check_views(const plan_type& p, const tensor_view<const float>& x,
                                      const tensor_view<float>& y, const tensor_view<const float>& residual,
                                      const channel_means& means) const {
    bool strided_input = true;
    if constexpr (requires { p.decisions_.order; }) strided_input = p.decisions_.order != conv::input_order::nhwc;
    check_call(p, x, y, residual, means, strided_input);
}

template <conv_backend Backend>
void conv_layer<Backend>::check_given(const plan_type& p, const tensor_view<const float>& x, const given_values& given,
                                      const tensor_view<float>& y, const tensor_view<const float>& residual,
                                      const channel_means& means) const {
    if (const index_t floats = given_floats(); !given && floats > 0)
        throw error(concat(name_, " ", given_name()), concat(floats, " values per sample"), "a null pointer");
    check_views(p, x, y, residual, means);
}

template <conv_backend Backend>
bool conv_layer<Backend>::reads_channel_means() const noexcept {
    const router_ref r = refs().router;
    return r.origin() == route_origin::input && r.pool_grid() == 1;
}

template <conv_backend Backend>
void conv_layer<Backend>::visit_own_storage(const storage_visitor& f) const {
    const auto floats = static_cast<index_t>(scale_.size() + shift_.size() + bias_scale_.size() + spatial_.size()) +
                        act_.floats() + refs().router.floats();
    prepared_->for_each_storage(f);
    f(scale_.data(), floats * static_cast<index_t>(sizeof(float)));
}

template <conv_backend Backend>
void conv_layer<Backend>::run_routed(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                                     const tensor_view<const float>& residual, const channel_means& means,
                                     const conv::row_band& rows) const noexcept {
    detail::enforce([&] { check_views(p, x, y, residual, means); });
    const parts of = refs();
    if (of.router.computes()) route_samples(of, p, x, {means.input, x.shape.c});
    compute(of, p, x, y, residual, means, rows, {});
}

template <conv_backend Backend>
void conv_layer<Backend>::run_given(plan_type& p, const tensor_view<const float>& x, const given_values& given,
                                    const tensor_view<float>& y, const tensor_view<const float>& residual,
                                    const channel_means& means) const noexcept {
    detail::enforce([&] { check_given(p, x, given, y, residual, means); });
    const parts of = refs();
    if (of.router.computes()) {
        route_samples(of, p, x, given);
        return compute(of, p, x, y, residual, means, {}, {});
    }
    for (index_t n = 0; n < x.shape.n; ++n) {
        float* base = p.routes_.data() + n * p.route_floats_;
        if (varies_scale_) scale_filters(given.of(n) + of.source.mixture_size(), base + p.scale_at_);
        if (mixes_bias_) mix_bias(of.source, given.of(n), base + p.shift_at_);
    }
    compute(of, p, x, y, residual, means, {}, given);
}

/// Pools each sample unless what its router reads is known, means or a context, routes it, and resolves the factors that are part
/// static, part routed.
template <conv_backend Backend>
void conv_layer<Backend>::route_samples(const parts& of, plan_type& p, const tensor_view<const float>& x,
                                        factor_set::per_sample known) const noexcept {
    const route_widths w = p.widths_;
    const index_t grid = of.router.pool_grid();
    if (grid > 1) known = {};
    if (!known && grid == 1) pool_samples(x, p.routes_.data() + p.pooled_at_, p.route_floats_, p.executor_);
    const auto one = [&](index_t n) {
        float* base = p.routes_.data() + n * p.route_floats_;
        if (grid > 1) adaptive_average(x, n, grid, base + p.pooled_at_, base + p.scratch_at_);
        const float* pooled = known ? known.of(n) : base + p.pooled_at_;
        const auto at = [&](index_t width, index_t offset) { return width > 0 ? base + offset : nullptr; };
        const route out{.mixture = at(w.mixture, 0),
                        .channel = at(w.channel, w.mixture),
                        .filter = at(w.filter, w.mixture + w.channel),
                        .spatial = at(w.spatial, w.mixture + w.channel + w.filter)};
        of.router(pooled, out, base + p.scratch_at_);
        if (out.spatial != nullptr && !spatial_.empty())
            for (index_t t = 0; t < w.spatial; ++t) out.spatial[t] *= spatial_[static_cast<std::size_t>(t)];
        if (out.filter != nullptr) scale_filters(out.filter, base + p.scale_at_);
        if (mixes_bias_) mix_bias(of.source, out.mixture, base + p.shift_at_);
    };
    p.executor_.parallel_for(x.shape.n, one);
}

/// The scale m [O] of a sample with filter factors.
template <conv_backend Backend>
void conv_layer<Backend>::scale_filters(const float* filter, float* scale) const noexcept {
    for (index_t o = 0; o < kernel_.o; ++o) scale[o] = scale_[static_cast<std::size_t>(o)] * filter[o];
}

/// The shift b [O] with the source's own bias for these coefficients.
template <conv_backend Backend>
void conv_layer<Backend>::mix_bias(const source_ref& source, const float* mixture, float* shift) const noexcept {
    for (index_t o = 0; o < kernel_.o; ++o)
        shift[o] =
            shift_[static_cast<std::size_t>(o)] + bias_scale_[static_cast<std::size_t>(o)] * source.bias(o, mixture);
}

template <conv_backend Backend>
void conv_layer<Backend>::compute(const parts& of, plan_type& p, const tensor_view<const float>& x,
                                  const tensor_view<float>& y, const tensor_view<const float>& residual,
                                  const channel_means& means, const conv::row_band& rows,
                                  const given_values& given) const noexcept {
    factor_set f = factors(p);
    if (of.router.origin() == route_origin::coefficients) f.mixture = given;
    Backend::run(p.decisions_, {of.source, params_, x, y, residual, f, act_.value(), means.output, rows}, p.workspace_,
                 p.executor_);
}

template <conv_backend Backend>
factor_set conv_layer<Backend>::factors(const plan_type& p) const noexcept {
    const route_widths w = p.widths_;
    const float* base = p.routes_.data();
    const auto routed_at = [&](index_t width, index_t offset) -> factor_set::per_sample {
        return width > 0 ? factor_set::per_sample{base + offset, p.route_floats_} : factor_set::per_sample{};
    };
    factor_set f;
    f.mixture = routed_at(w.mixture, 0);
    f.channel = routed_at(w.channel, w.mixture);
    f.spatial = routed_at(w.spatial, w.mixture + w.channel + w.filter);
    if (!f.spatial && !spatial_.empty()) f.spatial = {spatial_.data(), 0};
    f.scale = varies_scale_ ? factor_set::per_sample{base + p.scale_at_, p.route_floats_}
                            : factor_set::per_sample{scale_.data(), 0};
    f.shift = mixes_bias_ ? factor_set::per_sample{base + p.shift_at_, p.route_floats_}
                          : factor_set::per_sample{shift_.data(), 0};
    return f;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
