// A router that reads a context in the place of its layer's pooled input: a vector that comes with the call, of another part of the
// network. Style vectors of generators, conditioning, a block's shared context (DyMN) are contexts.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <type_traits>
#include <utility>

#include <kdna/dna/router.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

template <class... Lists>
struct joined_members;
template <class... Tags>
struct joined_members<members<Tags...>> {
    using type = members<Tags...>;
};
template <class... A, class... B, class... Lists>
struct joined_members<members<A...>, members<B...>, Lists...> : joined_members<members<A..., B...>, Lists...> {};

/// A router's routes_mixture and routes_spatial, if it has them.
template <class R>
struct routes_mixture_of {
    using listed = members<>;
};
template <class R>
requires(R::optional_members::template has<member::routes_mixture>) struct routes_mixture_of<R> {
    using listed = members<member::routes_mixture>;
    static constexpr bool routes_mixture = R::routes_mixture;
};
template <class R>
struct routes_spatial_of {
    using listed = members<>;
};
template <class R>
requires(R::optional_members::template has<member::routes_spatial>) struct routes_spatial_of<R> {
    using listed = members<member::routes_spatial>;
    static constexpr bool routes_spatial = R::routes_spatial;
};

}  // namespace detail

/// Any router, fed by a context of as many values as it would read of a pooled input: C * g * g for one that pools in a g x g
/// grid. A router that has no other form than this one declares `reads_context` itself (modulated.hpp, dymn.hpp).
template <router R>
class from_context : public detail::routes_mixture_of<R>, public detail::routes_spatial_of<R> {
    static_assert(origin_of<R> == route_origin::input, "kdna: from_context takes a router that reads a pooled input");

public:
    using optional_members = typename detail::joined_members<members<member::reads_context, member::floats>,
                                                             typename detail::routes_mixture_of<R>::listed,
                                                             typename detail::routes_spatial_of<R>::listed>::type;
    static constexpr bool reads_context = true;

    explicit from_context(R r) : router_(std::move(r)) {}

    [[nodiscard]] index_t input_channels() const noexcept {
        const router_ref r(router_);
        return r.input_channels() * r.pool_grid() * r.pool_grid();
    }
    [[nodiscard]] route_widths widths() const noexcept { return router_.widths(); }
    [[nodiscard]] index_t scratch_floats() const noexcept { return router_.scratch_floats(); }
    [[nodiscard]] index_t floats() const noexcept { return router_ref(router_).floats(); }
    [[nodiscard]] const R& inner() const noexcept { return router_; }

    void operator()(const float* context, const route& out, float* scratch) const noexcept {
        router_(context, out, scratch);
    }

private:
    R router_;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
