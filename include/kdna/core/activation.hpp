// The activation functions that can follow a layer.
#pragma once

#include <limits>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

enum class activation { none, relu, relu6 };

[[nodiscard]] constexpr const char* to_string(activation a) noexcept {
    return a == activation::relu ? "relu" : a == activation::relu6 ? "relu6" : "none";
}

/// An activation as the interval it clamps to: no branch per vector.
struct clamp_range {
    float low, high;
};
[[nodiscard]] inline clamp_range range_of(activation a) noexcept {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    return {a == activation::none ? -infinity : 0.0F, a == activation::relu6 ? 6.0F : infinity};
}

}  // namespace kdna::inline KDNA_ABI
