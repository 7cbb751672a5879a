// Integer arithmetic on extents and counts; products and sums throw kdna::error instead of overflowing.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <limits>
#include <string_view>

#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI {

/// a / b rounded up, for a >= 0 and b > 0.
[[nodiscard]] constexpr index_t ceil_div(index_t a, index_t b) noexcept { return (a + b - 1) / b; }

namespace detail {

/// Throws what checked_mul and checked_add throw, in one place and not at every call of them.
[[noreturn]] KDNA_COLD void refuse_arithmetic(index_t a, const char* sign, index_t b, std::string_view where) {
    if (a < 0 || b < 0) throw error(std::string(where), "extents >= 0", concat(a, " and ", b));
    throw error(std::string(where), *sign == '*' ? "a product that fits in 64 bits" : "a sum that fits in 64 bits",
                concat(a, " ", sign, " ", b));
}

}  // namespace detail

/// a * b for extents and counts, both >= 0. Throws kdna::error when the product does not fit.
[[nodiscard]] inline index_t checked_mul(index_t a, index_t b, std::string_view where) {
    if (a < 0 || b < 0 || (b != 0 && a > std::numeric_limits<index_t>::max() / b))
        detail::refuse_arithmetic(a, "*", b, where);
    return a * b;
}

/// a + b for extents and counts, both >= 0. Throws kdna::error when the sum does not fit.
[[nodiscard]] inline index_t checked_add(index_t a, index_t b, std::string_view where) {
    if (a < 0 || b < 0 || a > std::numeric_limits<index_t>::max() - b) detail::refuse_arithmetic(a, "+", b, where);
    return a + b;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
