// The gate of a child convolution as a strip of colours, one for each input channel.
#pragma once

#include <algorithm>
#include <cmath>
#include <common/canvas.hpp>
#include <span>
#include <string_view>

namespace examples {

/// 0 is purple, 0.5 pale, 1 orange. The root keeps what lies near the middle, where most gates are, from being lost.
inline colour gate_colour(float v) {
    constexpr colour shut{84, 39, 136}, middle{238, 238, 236}, open{179, 88, 6};
    const float strength = std::sqrt(std::min(std::abs(v - 0.5F) * 2.0F, 1.0F));
    const colour end = v < 0.5F ? shut : open;
    const auto mix = [&](std::uint8_t from, std::uint8_t to) {
        return static_cast<std::uint8_t>(
            std::lround(static_cast<float>(from) + strength * static_cast<float>(to - from)));
    };
    return {mix(middle.r, end.r), mix(middle.g, end.g), mix(middle.b, end.b)};
}

/// Draws a gate's values side by side into the given rectangle.
inline void draw_gate(canvas& c, int x, int y, int width, int height, std::span<const float> gate) {
    const int count = static_cast<int>(gate.size());
    for (int i = 0; i < count; ++i) {
        const int from = i * width / count, to = (i + 1) * width / count;
        c.fill(x + from, y, to - from, height, gate_colour(gate[static_cast<std::size_t>(i)]));
    }
}

/// The scale of the colours, with a word at either end.
inline void draw_gate_scale(canvas& c, int x, int y, int height, colour ink) {
    constexpr int bar = 256, space = 12;
    const auto write = [&](std::string_view word) {
        c.text(x, y, 2, word, ink);
        x += canvas::text_width(2, word) + space;
    };
    write("from 0, shut");
    for (int i = 0; i < bar; ++i)
        c.fill(x + i, y, 1, height, gate_colour(static_cast<float>(i) / static_cast<float>(bar - 1)));
    x += bar + space;
    write("to 1, open");
}

}  // namespace examples
