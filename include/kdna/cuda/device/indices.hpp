// Programs compute with 32-bit indices: counts and extents of the host, checked on their way there.
#pragma once

#include <limits>
#include <string>
#include <string_view>

#include <kdna/core/shape.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

/// As a 32-bit index. Throws kdna::error.
[[nodiscard]] inline int checked_int(index_t v, std::string_view where) {
    if (v < 0 || v > std::numeric_limits<int>::max())
        throw error(std::string(where), "fewer than 2^31 elements in a device tensor", concat(v));
    return static_cast<int>(v);
}
/// The elements of a tensor of that shape. Throws kdna::error.
[[nodiscard]] inline int checked_elements(const shape4& s, std::string_view where) {
    return checked_int(element_count(s, where), where);
}
/// Of a value that was checked when the plan was made.
[[nodiscard]] constexpr int known_int(index_t v) noexcept { return static_cast<int>(v); }

}  // namespace kdna::inline KDNA_ABI::cuda::detail
