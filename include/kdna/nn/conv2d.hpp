// A convolution layer: kernel source x factors, with an optional router and a fused epilogue.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <utility>

#include <kdna/nn/conv_layer.hpp>

namespace kdna::inline KDNA_ABI {

/// One convolution layer. Immutable once made: it may be run from many threads, each with a plan of its own.
///
/// `Source` gives the weights (dense_kernel: a plain layer, a parent, or with an adapter a child; mixture_kernel: CondConv;
/// or a type of yours), `Router` the factors that depend on the input, `Backend` computes.
template <kernel_source Source = dense_kernel, router Router = no_router, layer_backend Backend = backend::cpu>
class conv2d : public conv_layer<Backend>, public layer_calls<conv2d<Source, Router, Backend>> {
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
    using base = conv_layer<Backend>;

public:
    using plan_type = conv_plan<Backend>;

    /// Throws kdna::error, naming the layer, if any part does not fit the kernel.
    conv2d(adapted<Source> kernel, const conv_params& params, const conv_options& options = {}, Router r = {})
        : base({source_ref(kernel.source), router_ref(r)}, std::move(kernel.spatial_factors), kernel.filter_factors,
               params, options),
          source_(std::move(kernel.source)),
          router_(std::move(r)) {}
    conv2d(Source source, const conv_params& params, const conv_options& options = {}, Router r = {})
        : conv2d(adapted<Source>{std::move(source), {}, {}}, params, options, std::move(r)) {}

    [[nodiscard]] const Source& source() const noexcept { return source_; }
    [[nodiscard]] const Router& routing() const noexcept { return router_; }
    /// Whether coefficients of the kernel source, or a context for the router, come with each call.
    [[nodiscard]] static constexpr bool takes_given() noexcept { return routes_given<Router>; }
    /// Throws kdna::error unless `run` may be called with these arguments: coefficients or a context where the layer wants some,
    /// and all that the other form asks for. For layers with a `given_mixture`, or with a router that reads a context.
    void check(const plan_type& p, const tensor_view<const float>& x, const given_values& given,
               const tensor_view<float>& y, const tensor_view<const float>& residual = {},
               const channel_means& means = {}) const requires(takes_given()) {
        this->check_given(p, x, given, y, residual, means);
    }
    /// Throws kdna::error unless `run` may be called with these arguments: a plan of this layer or a copy of it, and views of
    /// the plan's shapes.
    void check(const plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
               const tensor_view<const float>& residual = {}, const channel_means& means = {}) const
        requires(!takes_given()) {
        this->check_views(p, x, y, residual, means);
    }

    /// y = act( BN( conv(x) + bias ) + residual ). Views of the plan's shapes, any strides; x and y must not overlap, y and
    /// residual may be the same view. Allocates nothing. Arguments that do not fit the plan end the program with a message
    /// (KDNA_CHECK=0: are undefined); call `check` first where they are not known to fit.
    ///
    /// `rows`: only these rows of y, for a plan that `bands` allows it. x and y then need to hold only the rows in question,
    /// from rows.x_first and rows.y_first on, and have the shapes of the whole maps nevertheless.
    void run(plan_type& p, const tensor_view<const float>& x, const tensor_view<float>& y,
             const tensor_view<const float>& residual = {}, const channel_means& means = {},
             const conv::row_band& rows = {}) const noexcept requires(!takes_given()) {
        this->run_routed(p, x, y, residual, means, rows);
    }
    /// The same for a layer with a `given_mixture`, or with a router that reads a context: the source's coefficients, or the
    /// context, are read where the caller has them.
    void run(plan_type& p, const tensor_view<const float>& x, const given_values& given, const tensor_view<float>& y,
             const tensor_view<const float>& residual = {}, const channel_means& means = {}) const noexcept
        requires(takes_given()) {
        this->run_given(p, x, given, y, residual, means);
    }

    /// Calls f(address, bytes) for every block of weights this layer keeps in memory; shared blocks come up in every layer
    /// that shares them, with the same address.
    template <class F>
    void for_each_storage(F&& f) const {
        visit_storage([&](const void* address, index_t bytes) { f(address, bytes); });
    }
    void visit_storage(const storage_visitor& f) const override {
        source_.for_each_storage(f);
        this->visit_own_storage(f);
    }

    [[nodiscard]] any_ref as_any() const noexcept override { return any_ref::to(*this); }
    [[nodiscard]] typename base::parts refs() const noexcept override {
        return {source_ref(source_), router_ref(router_)};
    }

private:
    Source source_;
    Router router_;
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

#include <kdna/core/macros_pop.hpp>
