// Definitions of to_float32.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <kdna/core/error.hpp>
#include <kdna/core/number_format.hpp>
#include <kdna/io/to_float32.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC std::string to_string(const load_report& report) {
    std::string types;
    index_t rounded = 0;
    for (const dtype from : {dtype::f16, dtype::bf16, dtype::f64}) {
        index_t count = 0;
        for (const float32_conversion& c : report.converted)
            if (c.from == from) {
                ++count;
                rounded += c.rounded;
            }
        if (count > 0) types += concat(types.empty() ? "" : ", ", count, " from ", name_of(from));
    }
    std::string out;
    if (!types.empty()) {
        out += concat(report.converted.size(), report.converted.size() == 1 ? " tensor" : " tensors",
                      " converted to float32: ", types);
        if (rounded > 0) out += concat("; ", rounded, rounded == 1 ? " value" : " values", " rounded");
        out += '\n';
    }
    if (!report.prefix.empty()) out += concat("\"", detail::printable(report.prefix), "\" taken off every name\n");
    return out;
}

namespace detail {

KDNA_FUNC float32_values to_float32(dtype type, std::span<const std::byte> bytes, std::string_view where) {
    const auto element = static_cast<std::size_t>(size_of(type));
    float32_values out{buffer<float>(static_cast<index_t>(bytes.size() / element)), 0};
    const auto read = [&](std::size_t i, auto value) {
        std::memcpy(&value, bytes.data() + i * element, sizeof(value));
        return value;
    };
    // From here on, a float64 is rounded to infinity: the middle between the largest float32 and 2^128.
    constexpr double too_large = 0x1.ffffffp127;
    for (std::size_t i = 0; i < out.values.span().size(); ++i) {
        float& to = out.values.span()[i];
        if (type == dtype::f16) {
            to = widen(read(i, float16{}));
        } else if (type == dtype::bf16) {
            to = widen(read(i, bfloat16{}));
        } else {
            const double from = read(i, double{});
            if (std::abs(from) >= too_large && !std::isinf(from)) {
                std::array<char, 32> number{};
                std::snprintf(number.data(), number.size(), "%g", from);
                throw error(std::string(where), "float64 values within the range of float32",
                            concat(number.data(), " at element ", i));
            }
            to = static_cast<float>(from);
            if (!std::isnan(from) && static_cast<double>(to) != from) ++out.rounded;
        }
    }
    return out;
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
