// Programs compute with 32-bit indices. These functions convert the counts and extents of the host.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <limits>
#include <string>
#include <string_view>

#include <kdna/core/shape.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

/// A count or extent as a 32-bit index. Throws kdna::error where it does not fit.
[[nodiscard]] inline int checked_int(index_t v, std::string_view where) {
    if (v < 0 || v > std::numeric_limits<int>::max())
        throw error(std::string(where), "fewer than 2^31 elements in a device tensor", concat(v));
    return static_cast<int>(v);
}
/// The number of elements of a tensor as a 32-bit index. Throws kdna::error where it does not fit.
[[nodiscard]] inline int checked_elements(const shape4& s, std::string_view where) {
    return checked_int(element_count(s, where), where);
}
/// The same for a value that is known to fit, because the plan checked it.
[[nodiscard]] constexpr int known_int(index_t v) noexcept { return static_cast<int>(v); }

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
