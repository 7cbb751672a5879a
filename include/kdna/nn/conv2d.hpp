// A convolution layer: kernel source x factors, with an optional router and a fused epilogue.
#pragma once

#include <limits>
#include <memory>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <kdna/backend/cpu.hpp>
#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/algebra.hpp>
#include <kdna/dna/factors.hpp>
#include <kdna/dna/router.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/nn/autotune.hpp>
#include <kdna/nn/bands.hpp>
#include <kdna/nn/pool.hpp>
#include <kdna/tensor/tensor.hpp>

namespace kdna::inline KDNA_ABI {

/// What surrounds a convolution: y = act( BN( conv(x) + bias ) + residual ). Spans are read in the constructor only.
struct conv_options {
    std::optional<batch_norm> bn{};  ///< [O]; folded into the epilogue
    std::span<const float> bias{};   ///< [O], or empty
    bool residual = false;           ///< `run` takes a residual of the output's shape
    activation act = activation::none;
    std::string name = "conv2d";  ///< appears in every error and in explain()
};

using conv::input_order;

/// What a plan is made with.
struct plan_options {
    executor_ref executor{};  ///< threads; must outlive the plan. Default: the calling thread
    std::pmr::memory_resource* memory = std::pmr::get_default_resource();  ///< workspace, routes, arena
    input_order order = input_order::any;                                  ///< promise about the input's strides
    /// Bytes that may be spent on kernels that are kept transformed for Winograd, by a layer or by all layers of a network
    /// together; they lie with the layer, beside the shared kernel. Kernels that differ from sample to sample, and those that do
    /// not fit the budget, are transformed panel by panel as they are used: 1 means all, and 0 forbids Winograd.
    index_t transform_budget = std::numeric_limits<index_t>::max();
    /// A promise that the kernels of all samples of a call are the same, because their coefficients are given or because the
    /// samples are alike (tiles of one image): those of any one sample may be used for all, and are put together once.
    bool equal_routes = false;
    /// Whether a run takes the means of the output's channels on its way (`channel_means::output`).
    bool channel_means = false;
    /// Whether a layer that could run by more than one algorithm tries them on made-up inputs and takes the fastest, instead of
    /// relying on the cost model: some runs more for each plan, on the plan's own executor. Which one wins may depend on the
    /// moment, and with it the last bits of results. For the CPU backend; others have nothing to choose.
    bool autotune = false;
};

/// Means over H and W, [N][channels], that travel beside the tensors: a router needs those of its input, and the layer before
/// can take them while it stores its output, which saves a pass over memory.
struct channel_means {
    const float* input = nullptr;  ///< of x; null: a router pools x itself
    float* output = nullptr;       ///< where those of y go; for plans made with plan_options::channel_means
};

/// Coefficients of a kernel source that come with a call: those of sample n at data + n * stride, 0: one set for all samples.
/// For a runtime kernel they are its weights.
using given_coefficients = factor_set::per_sample;

/// The decisions and the memory of one layer for one input shape. A plan serves one run at a time; make one per thread.
template <conv_backend Backend>
class conv_plan {
public:
    [[nodiscard]] const shape4& input_shape() const noexcept { return decisions_.in; }
    [[nodiscard]] const shape4& output_shape() const noexcept { return decisions_.out; }
    /// Bytes of scratch, shared or owned; the routes come on top.
    [[nodiscard]] index_t workspace_bytes() const noexcept { return decisions_.workspace_bytes; }
    /// What the cost model expects of a run on one thread: cycles of a vector multiply-add a cycle, routing not included. 0
    /// for backends without a cost model.
    [[nodiscard]] double predicted_cycles() const noexcept {
        if constexpr (requires { decisions_.predicted_cycles; })
            return decisions_.predicted_cycles;
        else
            return 0.0;
    }
    /// A few words about the algorithm, the tile, where each factor is applied, and the workspace.
    [[nodiscard]] const std::string& explain() const noexcept { return text_; }
    /// Bytes of the transformed kernel this plan uses, 0 for none; it belongs to the layer.
    [[nodiscard]] index_t transformed_bytes() const noexcept {
        return transformed_ == nullptr ? 0 : transformed_->bytes();
    }
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
    template <kernel_source, router, layer_backend>
    friend class conv2d;

    std::shared_ptr<const void> owner_{};  // which layer made it; copies of a layer are the same layer
    typename Backend::plan decisions_{};
    executor_ref executor_{};
    route_widths widths_{};
    bool takes_means_ = false;
    // Per sample: routed mixture, channel, filter, spatial | scale, shift where they vary | pooled input | router scratch.
    index_t route_floats_ = 0, scale_at_ = 0, shift_at_ = 0, pooled_at_ = 0, scratch_at_ = 0;
    buffer<float> routes_{};
    buffer<std::byte> own_workspace_{};
    std::byte* workspace_ = nullptr;
    std::shared_ptr<const conv::winograd_kernel> transformed_{};
    std::string text_{};
};

/// One convolution layer. Immutable once made: it may be run from many threads, each with a plan of its own.
///
/// `Source` gives the weights (dense_kernel: a plain layer, a parent, or with an adapter a child; mixture_kernel: CondConv;
/// or a type of yours), `Router` the factors that depend on the input, `Backend` computes (backend::cuda: kdna/cuda/conv2d.hpp).
template <kernel_source Source = dense_kernel, router Router = no_router, layer_backend Backend = backend::cpu>
class conv2d {
    KDNA_REQUIRE_HOST_BACKEND(Backend);
    // What the types know of each other; the rest is checked when a layer is made.
    // clang-format off
    static_assert(!(requires { requires Source::needs_mixture; } && requires { requires !Router::routes_mixture; }),
                  "kdna: this kernel source is combined with routed coefficients; give conv2d a router that routes them");
    static_assert(!(requires { requires !Source::needs_mixture; } && requires { requires Router::routes_mixture; }),
                  "kdna: this router routes coefficients of a mixture, and this kernel source takes none");
    static_assert(!(requires { requires Source::pointwise; } && requires { requires Router::routes_spatial; }),
                  "kdna: this router routes spatial factors, and this kernel source is 1x1");
    // clang-format on

public:
    using plan_type = conv_plan<Backend>;

    /// Throws kdna::error, naming the layer, if any part does not fit the kernel.
    conv2d(adapted<Source> kernel, const conv_params& params, const conv_options& options = {}, Router r = {})
        : source_(std::move(kernel.source)),
          spatial_(std::move(kernel.spatial)),
          params_(params),
          router_(std::move(r)),
          name_(options.name),
          residual_(options.residual),
          act_(options.act) {
        const kernel_shape k = source_.layout().shape();
        check_params();
        check_adapter(k, kernel.filter);
        check_router(k);
        const scale_shift folded = fold(options.bn, kernel.filter, options.bias, k.o, name_);
        // Whole panels are read from any filter on, so the arrays go on past the last filter.
        scale_ = padded_floats(folded.scale, panel_layout::width);
        shift_ = padded_floats(folded.shift, panel_layout::width);
        if constexpr (requires { source_.has_bias(); })
            if (source_.has_bias()) {
                bias_scale_ = padded_floats(fold(options.bn, {}, {}, k.o, name_).scale, panel_layout::width);
                if (!mixes_bias())
                    for (index_t o = 0; o < k.o; ++o)
                        shift_[static_cast<std::size_t>(o)] +=
                            bias_scale_[static_cast<std::size_t>(o)] * static_cast<float>(source_.bias(o, nullptr));
            }
    }
    conv2d(Source source, const conv_params& params, const conv_options& options = {}, Router r = {})
        : conv2d(adapted<Source>{std::move(source), {}, {}}, params, options, std::move(r)) {}

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return source_.layout().shape(); }
    [[nodiscard]] const conv_params& params() const noexcept { return params_; }
    [[nodiscard]] bool takes_residual() const noexcept { return residual_; }
    /// What the layer is made of, for those who run it elsewhere. The factors s = 1 + a_sp [KH*KW], or empty; m and b [O] with
    /// everything static folded in; and, of a source with a bias of its own that is mixed, what that is multiplied by [O].
    [[nodiscard]] const Source& source() const noexcept { return source_; }
    [[nodiscard]] const Router& routing() const noexcept { return router_; }
    [[nodiscard]] activation act() const noexcept { return act_; }
    [[nodiscard]] std::span<const float> spatial() const noexcept { return spatial_; }
    [[nodiscard]] std::span<const float> scale() const noexcept { return per_filter(scale_); }
    [[nodiscard]] std::span<const float> shift() const noexcept { return per_filter(shift_); }
    [[nodiscard]] std::span<const float> mixed_bias_scale() const noexcept {
        return mixes_bias() ? per_filter(bias_scale_) : std::span<const float>();
    }
    /// Whether the coefficients of the kernel source come with each call.
    [[nodiscard]] static constexpr bool takes_coefficients() noexcept { return std::is_same_v<Router, given_mixture>; }
    /// Whether a router reads the means of the input's channels.
    [[nodiscard]] bool reads_channel_means() const noexcept { return routed() && pool_grid() == 1; }
    /// Throws kdna::error if the layer cannot run on an input of this shape.
    [[nodiscard]] shape4 output_shape(const shape4& in) const {
        return KDNA_ABI::output_shape(in, kernel(), params_, name_);
    }

    /// Decides how to run on inputs of shape `in` and allocates everything a run needs. Throws kdna::error.
    [[nodiscard]] plan_type plan(const shape4& in, const plan_options& options = {}) const {
        plan_type p = plan_without_workspace(in, options);
        p.own_workspace_ = buffer<std::byte>(p.decisions_.workspace_bytes, options.memory);
        p.workspace_ = p.own_workspace_.data();
        return p;
    }

    /// As plan(), but the scratch (`workspace_bytes()`, 64-byte aligned) is the caller's, given to `use_workspace`; layers
    /// that run one after another can share it.
    [[nodiscard]] plan_type plan_without_workspace(const shape4& in, const plan_options& options = {}) const {
        if constexpr (tunable())
            if (options.autotune) return tuned_plan(in, options);
        return plan_variant(in, options, std::nullopt);
    }
    static void use_workspace(plan_type& p, std::byte* workspace) noexcept { p.workspace_ = workspace; }

    /// Throws kdna::error unless `run` may be called with these arguments: coefficients where the source wants some, and all
    /// that the other form asks for. For layers with a `given_mixture`.
    void check(const plan_type& p, const tensor_view<const float>& x, const given_coefficients& coefficients,
               const tensor_view<float>& y, const tensor_view<const float>& residual = {},
               const channel_means& means = {}) const requires(takes_coefficients()) {
        if (!coefficients && router_.widths().total() > 0)
            throw error(concat(name_, " coefficients"), concat(router_.widths().total(), " values per sample"),
                        "a null pointer");
        check_views(p, x, y, residual, means);
    }
    /// Throws kdna::error unless `run` may be called with these arguments: a plan of this layer or a copy of it, and views of
    /// the plan's shapes.
    void check(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
               const tensor_view<const float>& residual = {}, const channel_means& means = {}) const
        requires(!takes_coefficients()) {
        check_views(p, x, y, residual, means);
    }

    /// y = act( BN( conv(x) + bias ) + residual ). Views of the plan's shapes, any strides; x and y must not overlap, y and
    /// residual may be the same view. Allocates nothing. Arguments that do not fit the plan end the program with a message
    /// (KDNA_CHECK=0: are undefined); call `check` first where they are not known to fit.
    ///
    /// `rows`: only these rows of y, for a plan that `bands` allows it. x and y then need to hold only the rows in question,
    /// from rows.x_first and rows.y_first on, and have the shapes of the whole maps nevertheless.
    void run(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
             const tensor_view<const float>& residual = {}, const channel_means& means = {},
             const conv::row_band& rows = {}) const noexcept requires(!takes_coefficients()) {
#if KDNA_CHECK
        try {
            check(p, x, y, residual, means);
        } catch (const error& e) {
            contract_failure(e);
        }
#endif
        if constexpr (routed()) route_samples(p, x, means.input);
        compute(p, x, y, residual, means, rows, {});
    }
    /// The same for a layer with a `given_mixture`: the source's coefficients are read where the caller has them.
    void run(plan_type& p, const tensor_view<const float>& x, const given_coefficients& coefficients,
             const tensor_view<float>& y, const tensor_view<const float>& residual = {},
             const channel_means& means = {}) const noexcept requires(takes_coefficients()) {
#if KDNA_CHECK
        try {
            check(p, x, coefficients, y, residual, means);
        } catch (const error& e) {
            contract_failure(e);
        }
#endif
        for (index_t n = 0; n < x.shape.n; ++n) {
            float* base = p.routes_.data() + n * p.route_floats_;
            if (varies_scale()) scale_filters(coefficients.of(n) + source_.mixture_size(), base + p.scale_at_);
            mix_bias(coefficients.of(n), base + p.shift_at_);
        }
        compute(p, x, y, residual, means, {}, coefficients);
    }

    /// Whether runs of this plan may compute a few rows at a time (`rows` of `run`), and which.
    [[nodiscard]] band_support bands(const plan_type& p) const noexcept {
        const row_window window{(kernel().kh - 1) * params_.dilation.h + 1, params_.stride.h, params_.pad.top};
        const bool circular = params_.mode == padding_mode::circular;  // the first rows need the last
        if (routed() || circular || p.takes_means_ || p.input_shape().n != 1) return {0, window};
        if constexpr (requires { p.decisions_.tallest; }) {
            if (p.decisions_.algo == conv::algorithm::winograd || p.decisions_.algo == conv::algorithm::planes)
                return {0, window};
            if (p.decisions_.algo == conv::algorithm::depthwise) return {1, window};
            return {p.decisions_.tallest / std::gcd(p.decisions_.tallest, p.output_shape().w), window};
        }
        return {1, window};
    }

    /// Plans and runs in one go and returns the output, in NCHW. Throws kdna::error. For tests and for code that runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x,
                                           const tensor_view<const float>& residual = {},
                                           const plan_options& options = {}) const requires(!takes_coefficients()) {
        plan_type p = plan(x.shape, options);
        tensor<float> y(p.output_shape(), layout::nchw, options.memory);
        check(p, x, y.view(), residual);
        run(p, x, y.view(), residual);
        return y;
    }

    /// Calls f(address, bytes) for every block of weights this layer keeps in memory; shared blocks come up in every layer
    /// that shares them, with the same address.
    template <class F>
    void for_each_storage(F&& f) const {
        source_.for_each_storage(f);
        auto floats = static_cast<index_t>(scale_.size() + shift_.size() + bias_scale_.size() + spatial_.size());
        if constexpr (requires { router_.floats(); }) floats += router_.floats();
        transformed_->for_each_storage(f);
        f(static_cast<const void*>(scale_.data()), floats * static_cast<index_t>(sizeof(float)));
    }

private:
    [[nodiscard]] std::span<const float> per_filter(const std::vector<float>& padded) const noexcept {
        return std::span(padded).first(static_cast<std::size_t>(kernel().o));
    }
    [[nodiscard]] static constexpr bool routed() noexcept {
        return !std::is_same_v<Router, no_router> && !takes_coefficients();
    }
    /// Whether there is something to choose: a backend of somebody's own may use the CPU's plans, and be tuned like it.
    [[nodiscard]] static constexpr bool tunable() noexcept {
        return std::is_same_v<typename Backend::plan, conv::plan> && !takes_coefficients();
    }
    [[nodiscard]] conv::problem problem(const plan_options& options, std::optional<int> variant) const noexcept {
        conv::problem q = problem();
        q.transform_budget = options.transform_budget;
        q.channel_means = options.channel_means;
        q.equal_routes = options.equal_routes;
        q.winograd = variant;
        return q;
    }
    [[nodiscard]] plan_type plan_variant(const shape4& in, const plan_options& options,
                                         std::optional<int> variant) const {
        plan_type p;
        const conv::problem q = problem(options, variant);
        p.owner_ = transformed_;
        p.takes_means_ = options.channel_means;
        p.executor_ = options.executor;
        p.decisions_ = Backend::make_plan(q, in, options.order, p.executor_.concurrency(), name_);
        if constexpr (routed()) p.widths_ = router_.widths();
        index_t floats = p.widths_.total();
        const auto reserve = [&](index_t count) { return std::exchange(floats, checked_add(floats, count, name_)); };
        if (varies_scale()) p.scale_at_ = reserve(static_cast<index_t>(scale_.size()));
        if (mixes_bias()) p.shift_at_ = reserve(static_cast<index_t>(shift_.size()));
        p.pooled_at_ = reserve(checked_mul(router_.input_channels(), pool_grid() * pool_grid(), name_));
        // Pooling in a grid works in the scratch before the router does.
        p.scratch_at_ = reserve(std::max(router_.scratch_floats(), pool_grid() > 1 ? router_.input_channels() : 0));
        p.route_floats_ = floats;
        p.routes_ = buffer<float>(checked_mul(in.n, floats, name_), options.memory);
        if constexpr (requires { p.decisions_.winograd_m; })
            if (p.decisions_.winograd_m != 0 && !p.decisions_.transforms_panels)
                p.transformed_ = transformed_kernel(p.decisions_.winograd_m);
        p.text_ =
            concat(name_, ": ", to_string(kernel()), " on ", to_string(in), ": ", Backend::explain(q, p.decisions_));
        return p;
    }

    /// The fastest of the possible variants, timed one against the other.
    [[nodiscard]] KDNA_COLD plan_type tuned_plan(const shape4& in, const plan_options& options) const {
        detail::tuning t;
        for (std::size_t i = 0; i < t.count; ++i)
            t.plans[i] = Backend::make_plan(problem(options, conv::variants[i]), in, options.order,
                                            options.executor.concurrency(), name_);
        std::size_t tried = 0, best = 0;
        for (std::size_t i = 0; i < t.count; ++i)
            if (t.worth_trying(i)) {
                ++tried;
                best = i;
            }
        if (tried == 1) return plan_variant(in, options, conv::variants[best]);
        best = time_variants(t, in, options);
        plan_type p = plan_variant(in, options, conv::variants[best]);
        t.kernels = {};
        transformed_->drop_unused();
        p.text_ += t.text();
        return p;
    }
    [[nodiscard]] KDNA_COLD std::size_t time_variants(detail::tuning& t, const shape4& in,
                                                      const plan_options& options) const {
        plan_type p = plan_variant(in, options, 0);
        for (std::size_t i = 0; i < t.count; ++i)
            if (t.worth_trying(i) && conv::variants[i] != 0 && !t.plans[i].transforms_panels)
                t.kernels[i] = transformed_kernel(conv::variants[i]);
        t.prepare(residual_, options.channel_means);
        use_workspace(p, t.workspace.data());
        return t.fastest([&](index_t i) {
            p.decisions_ = t.plans[static_cast<std::size_t>(i)];
            p.transformed_ = t.kernels[static_cast<std::size_t>(i)];
            run(p, t.x.view(), t.y.view(), residual_ ? t.residual.view() : tensor_view<float>{},
                {.output = options.channel_means ? t.means.data() : nullptr});
        });
    }
    [[nodiscard]] std::shared_ptr<const conv::winograd_kernel> transformed_kernel(int m) const {
        return transformed_->get(source_ref(source_), spatial_.empty() ? nullptr : spatial_.data(), m);
    }

    [[nodiscard]] bool varies_scale() const noexcept { return router_.widths().filter > 0; }
    [[nodiscard]] bool mixes_bias() const noexcept {
        if constexpr (requires { source_.has_bias(); })
            return source_.has_bias() && source_.mixture_size() > 0;
        else
            return false;
    }
    [[nodiscard]] bool has_spatial() const noexcept { return !spatial_.empty() || router_.widths().spatial > 0; }
    [[nodiscard]] conv::problem problem() const noexcept {
        conv::problem q;
        q.kernel = &source_.layout();
        q.source_scratch = source_.scratch_floats();
        q.assembly_terms = q.source_scratch > 0 ? 1 : 0;
        if constexpr (requires { source_.assembly_terms(); }) q.assembly_terms = source_.assembly_terms();
        if (source_ref(source_).expands()) q.mixes = source_.mixture_size();
        q.assembles_parts = q.source_scratch == 0 || source_ref(source_).assembles_parts();
        q.params = params_;
        q.channel_factor = router_.widths().channel > 0;
        q.spatial_factor = has_spatial();
        q.routed_kernel = source_.mixture_size() > 0 || router_.widths().spatial > 0;
        return q;
    }

    void check_params() const {
        const auto& [stride, pad, dilation, mode] = params_;
        if (stride.h < 1 || stride.w < 1 || dilation.h < 1 || dilation.w < 1)
            throw error(name_, "stride and dilation >= 1",
                        concat("stride ", stride.h, "x", stride.w, ", dilation ", dilation.h, "x", dilation.w));
        if (pad.top < 0 || pad.bottom < 0 || pad.left < 0 || pad.right < 0)
            throw error(name_, "padding >= 0", concat(pad.top, ", ", pad.bottom, ", ", pad.left, ", ", pad.right));
    }
    /// Adapters need not come from adapt().
    void check_adapter(const kernel_shape& k, const std::vector<float>& filter) const {
        if (!spatial_.empty() && k.taps() == 1)
            throw error(concat(name_, " spatial"), "no spatial modulation on a 1x1 kernel", concat(spatial_.size()));
        if (!spatial_.empty() && static_cast<index_t>(spatial_.size()) != k.taps())
            throw error(concat(name_, " spatial"), concat(k.taps(), " values"), concat(spatial_.size()));
        if (!filter.empty() && static_cast<index_t>(filter.size()) != k.o)
            throw error(concat(name_, " filter"), concat(k.o, " values"), concat(filter.size()));
    }
    void check_router(const kernel_shape& k) const {
        const route_widths w = router_.widths();
        const auto require = [&](std::string_view axis, index_t found, index_t expected) {
            if (found != expected) throw error(concat(name_, " router"), concat(expected, " ", axis), concat(found));
        };
        require("mixture weights", w.mixture, source_.mixture_size());
        if (w.channel != 0) require("channel gates", w.channel, k.i);
        if (w.filter != 0) require("filter factors", w.filter, k.o);
        if (w.spatial != 0 && k.taps() == 1)
            throw error(concat(name_, " router"), "no spatial factors on a 1x1 kernel", concat(w.spatial));
        if (w.spatial != 0) require("spatial factors", w.spatial, k.taps());
        if (routed() && pool_grid() < 1) throw error(concat(name_, " router"), "a pool grid >= 1", concat(pool_grid()));
        static_cast<void>(checked_mul(pool_grid(), pool_grid(), name_));
        if (routed() && w.total() != 0) require("input channels", router_.input_channels(), k.i);
    }

    /// Windows along an axis that the router wants means of.
    [[nodiscard]] index_t pool_grid() const noexcept {
        if constexpr (requires { router_.pool_grid(); })
            return router_.pool_grid();
        else
            return 1;
    }

    /// Pools each sample unless its means are known, routes it, and resolves the factors that are part static, part routed.
    void route_samples(plan_type& p, const tensor_view<const float>& x, const float* means) const noexcept {
        const route_widths w = p.widths_;
        const index_t grid = pool_grid();
        if (grid > 1) means = nullptr;
        if (means == nullptr && grid == 1) pool_samples(p, x);
        const auto one = [&](index_t n) {
            float* base = p.routes_.data() + n * p.route_floats_;
            if (grid > 1) adaptive_average(x, n, grid, base + p.pooled_at_, base + p.scratch_at_);
            const float* pooled = means != nullptr ? means + n * x.shape.c : base + p.pooled_at_;
            const auto at = [&](index_t width, index_t offset) { return width > 0 ? base + offset : nullptr; };
            const route out{.mixture = at(w.mixture, 0),
                            .channel = at(w.channel, w.mixture),
                            .filter = at(w.filter, w.mixture + w.channel),
                            .spatial = at(w.spatial, w.mixture + w.channel + w.filter)};
            router_(pooled, out, base + p.scratch_at_);
            if (out.spatial != nullptr && !spatial_.empty())
                for (index_t t = 0; t < w.spatial; ++t) out.spatial[t] *= spatial_[static_cast<std::size_t>(t)];
            if (out.filter != nullptr) scale_filters(out.filter, base + p.scale_at_);
            mix_bias(out.mixture, base + p.shift_at_);
        };
        p.executor_.parallel_for(x.shape.n, one);
    }

    /// The scale m [O] of a sample with filter factors.
    void scale_filters(const float* filter, float* scale) const noexcept {
        for (index_t o = 0; o < kernel().o; ++o) scale[o] = scale_[static_cast<std::size_t>(o)] * filter[o];
    }
    /// The shift b [O] of a sample whose source mixes its bias.
    void mix_bias([[maybe_unused]] const float* mixture, [[maybe_unused]] float* shift) const noexcept {
        if constexpr (requires { source_.has_bias(); })
            if (mixes_bias())
                for (index_t o = 0; o < kernel().o; ++o)
                    shift[o] = shift_[static_cast<std::size_t>(o)] +
                               bias_scale_[static_cast<std::size_t>(o)] * source_.bias(o, mixture);
    }

    /// Means of every sample's channels, in chunks of them where there are more threads than samples.
    static void pool_samples(plan_type& p, const tensor_view<const float>& x) noexcept {
        constexpr index_t unit = 4 * simd::lanes;
        const index_t units = ceil_div(x.shape.c, unit),
                      chunks = std::min(units, ceil_div(p.executor_.concurrency(), x.shape.n));
        p.executor_.parallel_for(x.shape.n * chunks, [&](index_t task) {
            const index_t n = task / chunks, chunk = task % chunks;
            global_average(x, n, p.routes_.data() + n * p.route_floats_ + p.pooled_at_, units * chunk / chunks * unit,
                           std::min(units * (chunk + 1) / chunks * unit, x.shape.c));
        });
    }

    void check_views(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                     const tensor_view<const float>& residual, const channel_means& means) const {
        const auto require = [&](std::string_view what, const shape4& expected, const shape4& found, const void* data) {
            if (data == nullptr) throw error(concat(name_, " ", what), "a view of memory", "a null pointer");
            if (found != expected) throw error(concat(name_, " ", what), to_string(expected), to_string(found));
        };
        if (p.owner_ != transformed_) throw error(name_, "a plan of this layer", "another layer's");
        require("input", p.input_shape(), x.shape, x.data);
        require("output", p.output_shape(), y.shape, y.data);
        if (residual_)
            require("residual", p.output_shape(), residual.shape, residual.data);
        else if (residual.data != nullptr)
            throw error(concat(name_, " residual"), "none (the layer was made without)", to_string(residual.shape));
        if (p.takes_means_ != (means.output != nullptr))
            throw error(concat(name_, " channel means"), p.takes_means_ ? "memory for them" : "a plan that takes them",
                        p.takes_means_ ? "a null pointer" : "one that does not");
        if (p.workspace_ == nullptr && p.workspace_bytes() > 0)
            throw error(name_, "a plan with a workspace", "one without");
        if constexpr (requires { p.decisions_.order; })
            if (p.decisions_.order == conv::input_order::nhwc && x.stride.c != 1 && x.shape.c > 1)
                throw error(concat(name_, " input"), "neighbouring channels side by side, as the plan was promised",
                            concat("channel stride ", x.stride.c));
    }

    void compute(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                 const tensor_view<const float>& residual, const channel_means& means, const conv::row_band& rows,
                 const given_coefficients& coefficients) const noexcept {
        factor_set f = factors(p);
        if constexpr (takes_coefficients()) f.mixture = coefficients;
        Backend::run(p.decisions_,
                     {source_ref(source_), params_, x, y, residual, f, act_, p.transformed_.get(), means.output,
                      nullptr, nullptr, rows},
                     p.workspace_, p.executor_);
    }

    [[nodiscard]] factor_set factors(const plan_type& p) const noexcept {
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
        f.scale = varies_scale() ? factor_set::per_sample{base + p.scale_at_, p.route_floats_}
                                 : factor_set::per_sample{scale_.data(), 0};
        f.shift = mixes_bias() ? factor_set::per_sample{base + p.shift_at_, p.route_floats_}
                               : factor_set::per_sample{shift_.data(), 0};
        return f;
    }

    Source source_;
    std::vector<float> spatial_;
    conv_params params_;
    Router router_;
    std::string name_;
    bool residual_;
    activation act_;
    std::vector<float> scale_, shift_, bias_scale_;
    std::shared_ptr<conv::winograd_cache> transformed_ = std::make_shared<conv::winograd_cache>();
};

template <kernel_source Source>
conv2d(Source, conv_params) -> conv2d<Source>;
template <kernel_source Source>
conv2d(Source, conv_params, conv_options) -> conv2d<Source>;
template <kernel_source Source, router Router>
conv2d(Source, conv_params, conv_options, Router) -> conv2d<Source, Router>;
template <kernel_source Source>
conv2d(adapted<Source>, conv_params) -> conv2d<Source>;
template <kernel_source Source>
conv2d(adapted<Source>, conv_params, conv_options) -> conv2d<Source>;
template <kernel_source Source, router Router>
conv2d(adapted<Source>, conv_params, conv_options, Router) -> conv2d<Source, Router>;

}  // namespace kdna::inline KDNA_ABI
