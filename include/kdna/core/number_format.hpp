// The formats in which weights are stored, and the two of 16 bits as numbers.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <bit>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

/// How weights are stored. All arithmetic is float32: numbers of 16 bits are widened when they are read.
///
///     format     bits of sign, exponent, fraction   largest   relative error of rounding
///     float32    1, 8, 23                           3.4e38    -
///     float16    1, 5, 10 (IEEE binary16)           65504     2^-11 from 6.1e-5 on, below that 2^-25 absolute
///     bfloat16   1, 8, 7 (upper half of a float32)  3.4e38    2^-8
enum class number_format : std::uint8_t { float32, float16, bfloat16 };

/// The names that PyTorch and NumPy use.
inline constexpr std::array<std::string_view, 3> number_format_names{"float32", "float16", "bfloat16"};
[[nodiscard]] constexpr std::string_view to_string(number_format format) noexcept {
    return number_format_names[static_cast<std::size_t>(format)];
}
/// Bytes of a number.
[[nodiscard]] constexpr index_t size_of(number_format format) noexcept {
    return format == number_format::float32 ? 4 : 2;
}

/// A number of format float16.
struct float16 {
    std::uint16_t bits = 0;
};
/// A number of format bfloat16.
struct bfloat16 {
    std::uint16_t bits = 0;
};

/// The float32 of the same value; a NaN keeps its payload.
[[nodiscard]] constexpr float widen(float v) noexcept { return v; }
[[nodiscard]] constexpr float widen(bfloat16 v) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(v.bits) << 16U);
}
[[nodiscard]] constexpr float widen(float16 v) noexcept {
    const std::uint32_t sign = (v.bits & 0x8000U) << 16U, exponent = (v.bits >> 10U) & 31U, fraction = v.bits & 0x3ffU;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000U | fraction << 13U);
    if (exponent == 0) {  // zero, and what is below 2^-14: a multiple of 2^-24
        const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
        return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
    }
    return std::bit_cast<float>(sign | (exponent + 112U) << 23U | fraction << 13U);
}

/// The nearest T (float, float16 or bfloat16), ties to even; infinity beyond its range, and a NaN for a NaN.
template <class T>
[[nodiscard]] constexpr T narrow(float v) noexcept {
    if constexpr (std::is_same_v<T, float>) {
        return v;
    } else if constexpr (std::is_same_v<T, float16>) {
        const auto all = std::bit_cast<std::uint32_t>(v);
        const std::uint32_t sign = all >> 16U & 0x8000U;
        std::uint32_t u = all & 0x7fffffffU;
        if (u > 0x7f800000U) return {0x7fffU};
        if (u >= 0x47800000U) return {static_cast<std::uint16_t>(sign | 0x7c00U)};
        if (u < 0x38800000U)  // below 2^-14: near one half, floats lie 2^-24 apart
            u = std::bit_cast<std::uint32_t>(std::bit_cast<float>(u) + 0.5F) - 0x3f000000U;
        else
            u = (u + 0x0fffU + (u >> 13U & 1U) - (112U << 23U)) >> 13U;
        return {static_cast<std::uint16_t>(sign | u)};
    } else {
        static_assert(std::is_same_v<T, bfloat16>, "kdna: numbers are stored as float, float16 or bfloat16");
        const auto u = std::bit_cast<std::uint32_t>(v);
        if ((u & 0x7fffffffU) > 0x7f800000U) return {0x7fffU};
        return {static_cast<std::uint16_t>((u + 0x7fffU + (u >> 16U & 1U)) >> 16U)};
    }
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
