// Definitions of dtype.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/io/dtype.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

KDNA_FUNC std::string printable(std::string_view text, std::size_t limit) {
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

KDNA_FUNC index_t byte_count(dtype type, std::span<const index_t> shape, std::string_view where) {
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

KDNA_FUNC std::string to_string(dtype type, std::span<const index_t> shape) {
    std::string out = concat(name_of(type), shape.empty() ? " scalar" : " ");
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) out += 'x';
        out += std::to_string(shape[i]);
    }
    return out;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
