// Stored element types as float32, and the report of what was converted.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/core/config.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/io/dtype.hpp>

namespace kdna::inline KDNA_ABI {

/// A tensor that was stored as float16, bfloat16 or float64 and asked for as float32.
struct float32_conversion {
    std::string name;
    dtype from = dtype::f16;
    index_t rounded = 0;  ///< values that float32 does not hold exactly; there are none of float16 and bfloat16
};

/// What loading did to the tensors beyond reading them.
struct load_report {
    std::string prefix;                         ///< what was taken off every name, such as "_orig_mod.module."
    std::vector<float32_conversion> converted;  ///< in the order of their names
};

/// One line for each thing done: how many tensors were converted from which type, how many values were rounded, and which
/// prefix was taken off. Empty if nothing was done.
[[nodiscard]] KDNA_FUNC std::string to_string(const load_report& report);

namespace detail {

// Whether float32 can be made of a type. It is for float16, bfloat16 and float64 only.
[[nodiscard]] constexpr bool converts_to_float32(dtype type) noexcept {
    return type == dtype::f16 || type == dtype::bf16 || type == dtype::f64;
}

struct float32_values {
    buffer<float> values;
    index_t rounded = 0;
};

// The elements of a tensor of such a type. Infinities and NaN stay what they are. Throws kdna::error naming the tensor for a
// finite float64 that is too large.
[[nodiscard]] KDNA_FUNC float32_values to_float32(dtype type, std::span<const std::byte> bytes, std::string_view where);

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/to_float32.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
