// What makes a camera's images differ from those that a network was trained on.
#pragma once

#include <algorithm>
#include <cmath>
#include <common/idx.hpp>
#include <cstdint>
#include <numbers>
#include <random>
#include <string>
#include <string_view>

namespace adapt {

using kdna::index_t;

/// Dark for light.
inline void invert(examples::labelled_images& set) {
    for (std::uint8_t& pixel : set.pixels) pixel = static_cast<std::uint8_t>(255 - pixel);
}

/// Adds normal noise of this standard deviation, in grey values, and cuts off what is below 0 and above 255.
inline void add_noise(examples::labelled_images& set, double deviation, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> noise(0.0, deviation);
    for (std::uint8_t& pixel : set.pixels)
        pixel = static_cast<std::uint8_t>(std::clamp(static_cast<double>(pixel) + noise(random), 0.0, 255.0) + 0.5);
}

/// Turns every image about its middle, with black around it, interpolating between four pixels.
inline void rotate(examples::labelled_images& set, double degrees) {
    const double angle = degrees * std::numbers::pi / 180.0, c = std::cos(angle), s = std::sin(angle);
    const double middle_h = static_cast<double>(set.rows - 1) / 2.0,
                 middle_w = static_cast<double>(set.columns - 1) / 2.0;
    const std::vector<std::uint8_t> from = set.pixels;
    const auto pixel = [&](index_t n, index_t h, index_t w) {
        if (h < 0 || w < 0 || h >= set.rows || w >= set.columns) return 0.0;
        return static_cast<double>(from[static_cast<std::size_t>((n * set.rows + h) * set.columns + w)]);
    };
    for (index_t n = 0; n < set.count; ++n)
        for (index_t h = 0; h < set.rows; ++h)
            for (index_t w = 0; w < set.columns; ++w) {
                const double y = static_cast<double>(h) - middle_h, x = static_cast<double>(w) - middle_w;
                const double row = c * y - s * x + middle_h, column = s * y + c * x + middle_w;
                const auto top = static_cast<index_t>(std::floor(row)), left = static_cast<index_t>(std::floor(column));
                const double down = row - static_cast<double>(top), right = column - static_cast<double>(left);
                const double value =
                    (1 - down) * ((1 - right) * pixel(n, top, left) + right * pixel(n, top, left + 1)) +
                    down * ((1 - right) * pixel(n, top + 1, left) + right * pixel(n, top + 1, left + 1));
                set.pixels[static_cast<std::size_t>((n * set.rows + h) * set.columns + w)] =
                    static_cast<std::uint8_t>(value + 0.5);
            }
}

/// How much of each: a standard deviation of 100 grey values, and 40 degrees.
inline void shift(examples::labelled_images& set, std::string_view kind, unsigned seed) {
    if (kind == "invert")
        invert(set);
    else if (kind == "noise")
        add_noise(set, 100.0, seed);
    else
        rotate(set, 40.0);
}

}  // namespace adapt
