// Routers: from the pooled input of a layer to the factors that depend on it.
#pragma once

#include <concepts>
#include <span>

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

/// A router is a small network on the averaged input of one sample.
///
///     input_channels()       C of the pooled input it reads
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
                            member::takes_coefficients>
  && optional_member_as_listed<R, member::pool_grid> && optional_member_as_listed<R, member::floats>
  && optional_member_as_listed<R, member::routes_mixture> && optional_member_as_listed<R, member::routes_spatial>
  && optional_member_as_listed<R, member::takes_coefficients>;
// clang-format on

/// Whether the coefficients of a layer with this router come with each call.
template <class R>
inline constexpr bool routes_given = false;
// clang-format off
template <class R>
    requires(R::takes_coefficients)
inline constexpr bool routes_given<R> = true;
// clang-format on

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

}  // namespace kdna::inline KDNA_ABI
