// Routers: from the pooled input of a layer to the factors that depend on it.
#pragma once

#include <concepts>
#include <span>

#include <kdna/core/config.hpp>

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
///
/// Optional:
///
///     pool_grid()            g: `pooled` is [C][g][g], means of g x g windows (nn/pool.hpp, adaptive_average); else 1
///     floats()               floats of its weights in memory
///     routes_mixture         static constexpr bool: whether it routes a mixture, where the type knows
///     routes_spatial         static constexpr bool: whether it routes spatial factors, where the type knows
///
/// It is called once per sample and per run, from any thread, so it must be const and allocate nothing.
// clang-format off
template <class R>
concept router = std::copy_constructible<R> && requires(const R& r, const float* pooled, const route& out, float* scratch) {
    { r.input_channels() } -> std::convertible_to<index_t>;
    { r.widths() } -> std::convertible_to<route_widths>;
    { r.scratch_floats() } -> std::convertible_to<index_t>;
    { r(pooled, out, scratch) } noexcept;
};
// clang-format on

/// The router of a layer that has none: nothing is routed and the input is not pooled.
struct no_router {
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
    index_t count = 0;    ///< the source's mixture_size()
    index_t filters = 0;  ///< O, or 0: none
    [[nodiscard]] static constexpr index_t input_channels() noexcept { return 0; }
    [[nodiscard]] constexpr route_widths widths() const noexcept { return {.mixture = count, .filter = filters}; }
    [[nodiscard]] static constexpr index_t scratch_floats() noexcept { return 0; }
    void operator()(const float*, const route&, float*) const noexcept {}
};
static_assert(router<given_mixture>);

}  // namespace kdna::inline KDNA_ABI
