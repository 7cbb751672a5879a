// Optional members of kernel sources and routers. A type lists those that it has, so that a misspelt one is an error.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

/// Channels [first, first + count) of a group.
struct channel_range {
    index_t first, count;
};

/// The optional members that a kernel source or a router has, by the tags of `kdna::member`:
///
///     using optional_members = kdna::members<kdna::member::assemble, kdna::member::stored>;
///
/// Every source and router says so, with members<> where it has none. The concepts refuse a type that lists a member which is
/// missing, misspelt, or of another signature, and a type that has a member which it does not list.
template <class... Tags>
struct members {
    template <class Tag>
    static constexpr bool has = (std::same_as<Tag, Tags> || ...);
};

namespace detail {

/// Whether a name is a function's, found by the type of a pointer to it.
template <class Pointer>
inline constexpr bool is_function =
    std::is_member_function_pointer_v<Pointer> || std::is_function_v<std::remove_pointer_t<Pointer>>;

}  // namespace detail

/// Each tag is a member's name. `named<T>`: T has such a member, whatever its signature, as far as a compiler can say (not of
/// overloads and templates); `fits<T>`: T has it as the library calls it.
namespace member {
// clang-format off

/// Of a source: has_bias() and bias(o, mixture).
struct bias {
    template <class T> static constexpr bool named = requires { requires detail::is_function<decltype(&T::has_bias)>; };
    template <class T> static constexpr bool fits = requires(const T& t, index_t o, const float* mixture) {
        { t.has_bias() } -> std::convertible_to<bool>;
        { t.bias(o, mixture) } -> std::convertible_to<float>;
    };
};
/// Of a source: assembly_terms().
struct assembly_terms {
    template <class T> static constexpr bool named = requires { requires detail::is_function<decltype(&T::assembly_terms)>; };
    template <class T> static constexpr bool fits = requires(const T& t) {
        { t.assembly_terms() } -> std::convertible_to<index_t>;
    };
};
/// Of a source: assemble(group, p, mixture, channels, to).
struct assemble {
    template <class T> static constexpr bool named = requires { requires detail::is_function<decltype(&T::assemble)>; };
    template <class T> static constexpr bool fits =
        requires(const T& t, index_t i, const float* mixture, const channel_range& channels, float* to) {
            { t.assemble(i, i, mixture, channels, to) } noexcept;
        };
};
/// Of a source: prepare().
struct prepare {
    template <class T> static constexpr bool named = requires { requires detail::is_function<decltype(&T::prepare)>; };
    template <class T> static constexpr bool fits = requires(const T& t) { t.prepare(); };
};
/// Of a source: copy_weights(to).
struct copy_weights {
    template <class T> static constexpr bool named = requires { requires detail::is_function<decltype(&T::copy_weights)>; };
    template <class T> static constexpr bool fits = requires(const T& t, std::span<float> to) { t.copy_weights(to); };
};
/// Of a source: expanded(group, p).
struct expanded {
    template <class T> static constexpr bool named = requires { requires detail::is_function<decltype(&T::expanded)>; };
    template <class T> static constexpr bool fits = requires(const T& t, index_t i) {
        { t.expanded(i, i) } noexcept -> std::same_as<const float*>;
    };
};
/// Of a source: stored(group, p, channels, i, n).
struct stored {
    template <class T> static constexpr bool named = requires { requires detail::is_function<decltype(&T::stored)>; };
    template <class T> static constexpr bool fits = requires(const T& t, index_t i, const channel_range& channels) {
        { t.stored(i, i, channels, i, i) } noexcept -> std::same_as<std::span<const std::byte>>;
    };
};
/// Of a source: static constexpr bool needs_mixture.
struct needs_mixture {
    template <class T> static constexpr bool named = requires { T::needs_mixture; };
    template <class T> static constexpr bool fits = requires { typename std::bool_constant<T::needs_mixture>; };
};
/// Of a source: static constexpr bool pointwise.
struct pointwise {
    template <class T> static constexpr bool named = requires { T::pointwise; };
    template <class T> static constexpr bool fits = requires { typename std::bool_constant<T::pointwise>; };
};
/// Of a router: pool_grid().
struct pool_grid {
    template <class T> static constexpr bool named = requires { requires detail::is_function<decltype(&T::pool_grid)>; };
    template <class T> static constexpr bool fits = requires(const T& t) {
        { t.pool_grid() } -> std::convertible_to<index_t>;
    };
};
/// Of a router: floats().
struct floats {
    template <class T> static constexpr bool named = requires { requires detail::is_function<decltype(&T::floats)>; };
    template <class T> static constexpr bool fits = requires(const T& t) {
        { t.floats() } -> std::convertible_to<index_t>;
    };
};
/// Of a router: static constexpr bool routes_mixture.
struct routes_mixture {
    template <class T> static constexpr bool named = requires { T::routes_mixture; };
    template <class T> static constexpr bool fits = requires { typename std::bool_constant<T::routes_mixture>; };
};
/// Of a router: static constexpr bool routes_spatial.
struct routes_spatial {
    template <class T> static constexpr bool named = requires { T::routes_spatial; };
    template <class T> static constexpr bool fits = requires { typename std::bool_constant<T::routes_spatial>; };
};
/// Of a router: static constexpr bool takes_coefficients.
struct takes_coefficients {
    template <class T> static constexpr bool named = requires { T::takes_coefficients; };
    template <class T> static constexpr bool fits = requires { typename std::bool_constant<T::takes_coefficients>; };
};

/// Of a router: static constexpr bool reads_context.
struct reads_context {
    template <class T> static constexpr bool named = requires { T::reads_context; };
    template <class T> static constexpr bool fits = requires { typename std::bool_constant<T::reads_context>; };
};

// clang-format on
}  // namespace member

namespace detail {

template <class List, class... Tags>
inline constexpr bool lists_only = false;
template <class... Listed, class... Tags>
inline constexpr bool lists_only<members<Listed...>, Tags...> = (members<Tags...>::template has<Listed> && ...);

}  // namespace detail

// clang-format off
/// T has `using optional_members = kdna::members<...>`, and lists none but these.
template <class T, class... Tags>
concept lists_optional_members = requires { requires detail::lists_only<typename T::optional_members, Tags...>; };

/// T lists an optional member and has it with the signature that the library calls; or it neither lists nor has it.
template <class T, class Tag>
concept optional_member_as_listed =
    (T::optional_members::template has<Tag> ? Tag::template fits<T> : !Tag::template named<T>);
// clang-format on

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
