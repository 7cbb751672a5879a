// Routers: from the pooled input of a layer to the factors that depend on it.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <concepts>
#include <span>
#include <string_view>

#include <kdna/core/config.hpp>
#include <kdna/dna/members.hpp>

namespace kdna::inline KDNA_ABI {

/// How many values a router gives per sample along each axis; 0: that axis is not routed.
struct route_widths {
    index_t mixture = 0;  ///< weights of a mixture's kernels
    index_t channel = 0;  ///< g, must be the layer's input channels C
    index_t filter = 0;   ///< multiplies m, must be the layer's filters O
    index_t spatial = 0;  ///< multiplies s, must be KH*KW
    friend constexpr bool operator==(const route_widths&, const route_widths&) = default;
    [[nodiscard]] constexpr index_t total() const noexcept { return mixture + channel + filter + spatial; }
};

/// Where a router writes one sample's factors; the pointers of axes that are not routed are null.
struct route {
    float* mixture = nullptr;
    float* channel = nullptr;
    float* filter = nullptr;
    float* spatial = nullptr;
};

/// A router is a small network on the averaged input of one sample, or on a context that comes with the call.
///
///     input_channels()       C of the pooled input it reads, or the length of the context
///     widths()               what it routes
///     scratch_floats()       floats it needs while it runs
///     r(pooled, out, scratch) computes one sample's factors from pooled [C]
///     optional_members       members<...>: which of the following it has (dna/members.hpp)
///
/// Optional:
///
///     pool_grid()            g: `pooled` is [C][g][g], means of g x g windows (nn/pool.hpp, adaptive_average); else 1
///     floats()               floats of its weights in memory
///     routes_mixture         static constexpr bool: whether it routes a mixture, where the type knows
///     routes_spatial         static constexpr bool: whether it routes spatial factors, where the type knows
///     takes_coefficients     static constexpr bool, true: it computes nothing, and a layer that has it reads the coefficients
///                            that come with each call (conv2d::run with `given_coefficients`)
///     reads_context          static constexpr bool, true: `pooled` is not the layer's pooled input but a context of
///                            input_channels() values, which comes with each call (conv2d::run with `given_context`)
///
/// It is called once per sample and per run, from any thread, so it must be const and allocate nothing.
// clang-format off
template <class R>
concept router = std::copy_constructible<R> && requires(const R& r, const float* pooled, const route& out, float* scratch) {
    { r.input_channels() } -> std::convertible_to<index_t>;
    { r.widths() } -> std::convertible_to<route_widths>;
    { r.scratch_floats() } -> std::convertible_to<index_t>;
    { r(pooled, out, scratch) } noexcept;
} && lists_optional_members<R, member::pool_grid, member::floats, member::routes_mixture, member::routes_spatial,
                            member::takes_coefficients, member::reads_context>
  && optional_member_as_listed<R, member::pool_grid> && optional_member_as_listed<R, member::floats>
  && optional_member_as_listed<R, member::routes_mixture> && optional_member_as_listed<R, member::routes_spatial>
  && optional_member_as_listed<R, member::takes_coefficients> && optional_member_as_listed<R, member::reads_context>;
// clang-format on

/// What a layer's factors come from.
enum class route_origin {
    none,         ///< there is no router
    input,        ///< the router reads the layer's pooled input
    context,      ///< the router reads a context that comes with each call
    coefficients  ///< there is nothing to compute: the factors come with each call
};
struct no_router;
namespace detail {
// A function, because nvcc 13 takes no second constrained specialisation of a variable.
template <class R>
[[nodiscard]] consteval route_origin find_origin() {
    if constexpr (std::same_as<R, no_router>) return route_origin::none;
    if constexpr (requires { requires bool{R::takes_coefficients}; }) return route_origin::coefficients;
    if constexpr (requires { requires bool{R::reads_context}; }) return route_origin::context;
    return route_origin::input;
}
}  // namespace detail
template <class R>
inline constexpr route_origin origin_of = detail::find_origin<R>();

/// Whether something comes with each call of a layer with this router, for each sample: coefficients, or a context.
template <class R>
inline constexpr bool routes_given =
    origin_of<R> == route_origin::coefficients || origin_of<R> == route_origin::context;

/// The router of a layer that has none: nothing is routed and the input is not pooled.
struct no_router {
    using optional_members = members<member::routes_mixture, member::routes_spatial>;
    static constexpr bool routes_mixture = false, routes_spatial = false;

    [[nodiscard]] static constexpr index_t input_channels() noexcept { return 0; }
    [[nodiscard]] static constexpr route_widths widths() noexcept { return {}; }
    [[nodiscard]] static constexpr index_t scratch_floats() noexcept { return 0; }
    void operator()(const float*, const route&, float*) const noexcept {}
};
static_assert(router<no_router>);

/// The router of a layer whose coefficients come with each call: nothing is pooled or computed, and the layer reads the
/// caller's memory (conv2d::run with `given_coefficients`): a sample's `count` mixture coefficients, then its `filters` filter
/// factors.
struct given_mixture {
    using optional_members = members<member::takes_coefficients>;
    static constexpr bool takes_coefficients = true;

    index_t count = 0;    ///< the source's mixture_size()
    index_t filters = 0;  ///< O, or 0: none
    [[nodiscard]] static constexpr index_t input_channels() noexcept { return 0; }
    [[nodiscard]] constexpr route_widths widths() const noexcept { return {.mixture = count, .filter = filters}; }
    [[nodiscard]] static constexpr index_t scratch_floats() noexcept { return 0; }
    void operator()(const float*, const route&, float*) const noexcept {}
};
static_assert(router<given_mixture> && routes_given<given_mixture> && !routes_given<no_router>);

/// Any router by reference, as layers take it, so that what they do with routes is compiled once and not once per method.
class router_ref {
public:
    // clang-format off
    template <class R>
        requires(!std::same_as<R, router_ref> && router<R>)
    explicit router_ref(const R& r) noexcept  // clang-format on
        : router_(&r),
          widths_(r.widths()),
          input_channels_(r.input_channels()),
          scratch_floats_(r.scratch_floats()),
          origin_(origin_of<R>),
          route_([](const void* p, const float* pooled, const route& out, float* scratch) noexcept {
              (*static_cast<const R*>(p))(pooled, out, scratch);
          }) {
        using has = typename R::optional_members;
        if constexpr (has::template has<member::pool_grid>) pool_grid_ = r.pool_grid();
        if constexpr (has::template has<member::floats>) floats_ = r.floats();
    }

    [[nodiscard]] const route_widths& widths() const noexcept { return widths_; }
    [[nodiscard]] index_t input_channels() const noexcept { return input_channels_; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return scratch_floats_; }
    [[nodiscard]] route_origin origin() const noexcept { return origin_; }
    /// Windows along each axis that the router wants the means of; 1: means of whole maps.
    [[nodiscard]] index_t pool_grid() const noexcept { return pool_grid_; }
    /// Floats of its weights in memory.
    [[nodiscard]] index_t floats() const noexcept { return floats_; }
    /// Whether factors are computed, from the input or from a context.
    [[nodiscard]] bool computes() const noexcept {
        return origin_ == route_origin::input || origin_ == route_origin::context;
    }
    /// How many floats of each sample come with each call, coefficients or a context; 0: nothing does.
    [[nodiscard]] index_t given_floats() const noexcept {
        if (origin_ == route_origin::coefficients) return widths_.total();
        return origin_ == route_origin::context ? input_channels_ : 0;
    }
    /// What they are called in messages.
    [[nodiscard]] std::string_view given_name() const noexcept {
        return origin_ == route_origin::context ? "context" : "coefficients";
    }
    void operator()(const float* pooled, const route& out, float* scratch) const noexcept {
        route_(router_, pooled, out, scratch);
    }

private:
    const void* router_;
    route_widths widths_;
    index_t input_channels_, scratch_floats_, pool_grid_ = 1, floats_ = 0;
    route_origin origin_;
    void (*route_)(const void*, const float*, const route&, float*) noexcept;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
