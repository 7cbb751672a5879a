// Numbers as people read them.
#pragma once

#include <cstdio>
#include <iterator>
#include <kdna/io/state_dict.hpp>
#include <string>

namespace examples {

using kdna::index_t;

/// 1234567 as 1,234,567.
inline std::string grouped(index_t number) {
    std::string digits = std::to_string(number);
    for (auto at = std::ssize(digits) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), ",");
    return digits;
}

/// 12.345 as "12.35 %".
inline std::string percentage(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f %%", value);
    return text;
}

/// How many numbers of a state_dict were trained; the statistics of batch norms were measured.
inline index_t trained_parameters(const kdna::state_dict& weights) {
    index_t count = 0;
    for (const auto& [name, tensor] : weights.tensors()) {
        const bool measured = name.ends_with(".running_mean") || name.ends_with(".running_var");
        const kdna::dtype type = tensor.type();
        const bool floating = type == kdna::dtype::f32 || type == kdna::dtype::f16 || type == kdna::dtype::bf16;
        index_t elements = floating && !measured ? 1 : 0;
        for (const index_t extent : tensor.shape()) elements *= extent;
        count += elements;
    }
    return count;
}

}  // namespace examples
