// Element types and shapes of tensors in files: their sizes, overflow checked, and how messages spell them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI {

/// Element types a state_dict can hold. The library computes with f32 only; the others are kept so that a file is
/// described and written back faithfully.
enum class dtype : std::uint8_t { f32, f64, f16, bf16, i64, i32, i16, i8, u8, boolean };

/// Bytes of one element.
[[nodiscard]] constexpr index_t size_of(dtype type) noexcept {
    switch (type) {
        case dtype::f64:
        case dtype::i64: return 8;
        case dtype::f32:
        case dtype::i32: return 4;
        case dtype::f16:
        case dtype::bf16:
        case dtype::i16: return 2;
        case dtype::i8:
        case dtype::u8:
        case dtype::boolean: return 1;
    }
    return 1;
}

/// The name PyTorch and NumPy use: "float32", "bfloat16", "bool".
[[nodiscard]] constexpr std::string_view name_of(dtype type) noexcept {
    switch (type) {
        case dtype::f32: return "float32";
        case dtype::f64: return "float64";
        case dtype::f16: return "float16";
        case dtype::bf16: return "bfloat16";
        case dtype::i64: return "int64";
        case dtype::i32: return "int32";
        case dtype::i16: return "int16";
        case dtype::i8: return "int8";
        case dtype::u8: return "uint8";
        case dtype::boolean: return "bool";
    }
    return "unknown";
}

namespace detail {

// More than any framework writes, and few enough that a shape always fits in a message.
inline constexpr std::size_t max_rank = 32;

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
    static constexpr dtype value = dtype::f32;
};
template <>
struct dtype_of<double> {
    static constexpr dtype value = dtype::f64;
};
template <>
struct dtype_of<std::int64_t> {
    static constexpr dtype value = dtype::i64;
};
template <>
struct dtype_of<std::int32_t> {
    static constexpr dtype value = dtype::i32;
};
template <>
struct dtype_of<std::int16_t> {
    static constexpr dtype value = dtype::i16;
};
template <>
struct dtype_of<std::int8_t> {
    static constexpr dtype value = dtype::i8;
};
template <>
struct dtype_of<std::uint8_t> {
    static constexpr dtype value = dtype::u8;
};

[[nodiscard]] constexpr bool is_control(char c) noexcept { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// Text from a file as part of a message: at most `limit` bytes of it, control characters escaped, because a message may
// end up on a terminal and a file may be made to write escape sequences there.
[[nodiscard]] KDNA_FUNC std::string printable(std::string_view text, std::size_t limit = 200);

// Bytes of a tensor. Extents of 0 are allowed, but do not excuse the other extents: their product must fit as well, so
// that strides computed from the shape cannot overflow either.
[[nodiscard]] KDNA_FUNC index_t byte_count(dtype type, std::span<const index_t> shape, std::string_view where);

}  // namespace detail

/// "float32 256x256x3x3", "int64 scalar".
[[nodiscard]] KDNA_FUNC std::string to_string(dtype type, std::span<const index_t> shape);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/dtype.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
