// Element types and shapes of tensors in files: their sizes, overflow checked, and how messages spell them.
#pragma once

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
[[nodiscard]] inline std::string printable(std::string_view text, std::size_t limit = 200) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::size_t end = text.size();
    if (end > limit) {
        end = limit;
        // Not in the middle of a UTF-8 sequence.
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) --end;
    }
    std::string out;
    for (const char c : text.substr(0, end)) {
        if (is_control(c)) {
            const auto byte = static_cast<unsigned char>(c);
            out += "\\x";
            out += digits[byte >> 4U];
            out += digits[byte & 15U];
        } else {
            out += c;
        }
    }
    if (end < text.size()) out += "...";
    return out;
}

// Bytes of a tensor. Extents of 0 are allowed, but do not excuse the other extents: their product must fit as well, so
// that strides computed from the shape cannot overflow either.
[[nodiscard]] inline index_t byte_count(dtype type, std::span<const index_t> shape, std::string_view where) {
    if (shape.size() > max_rank)
        throw error(std::string(where), concat("a shape of at most ", max_rank, " extents"),
                    concat(shape.size(), " extents"));
    index_t bytes = size_of(type);
    bool empty = false;
    for (const index_t extent : shape) {
        empty = empty || extent == 0;
        bytes = checked_mul(bytes, extent == 0 ? 1 : extent, where);
    }
    return empty ? 0 : bytes;
}

}  // namespace detail

/// "float32 256x256x3x3", "int64 scalar".
[[nodiscard]] inline std::string to_string(dtype type, std::span<const index_t> shape) {
    std::string out = concat(name_of(type), shape.empty() ? " scalar" : " ");
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) out += 'x';
        out += std::to_string(shape[i]);
    }
    return out;
}

}  // namespace kdna::inline KDNA_ABI
