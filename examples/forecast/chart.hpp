// A line chart as a PNG.
#pragma once

#include <algorithm>
#include <cmath>
#include <common/canvas.hpp>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

namespace forecast {

/// Values at places first, first + 1, ... along the chart's axis.
struct line {
    std::string name;
    examples::colour ink;
    int first;
    std::vector<float> values;
};

/// Draws all lines over one axis of `places` places, whose ends are called `from` and `to`. Throws kdna::error if the file cannot be
/// written.
inline void draw_chart(const std::filesystem::path& file, const std::string& title, std::span<const line> lines,
                       int places, const std::string& from, const std::string& to) {
    constexpr int width = 1100, height = 520, left = 80, top = 70, right = 30, bottom = 50;
    constexpr examples::colour paper{250, 250, 248}, ink{32, 34, 40}, faint{215, 215, 212};
    float low = lines.front().values.front(), high = low;
    for (const line& l : lines)
        for (const float v : l.values) low = std::min(low, v), high = std::max(high, v);
    const float span = std::max(high - low, 1e-6F);
    const auto x_of = [&](int place) { return left + place * (width - left - right) / std::max(places - 1, 1); };
    const auto y_of = [&](float v) {
        return top + static_cast<int>(std::lround(static_cast<float>(height - top - bottom) * (high - v) / span));
    };

    examples::canvas c(width, height, paper);
    c.text(left, 18, 2, title, ink);
    for (int i = 0; i <= 4; ++i) {
        const float v = low + span * static_cast<float>(i) / 4;
        char label[32];
        std::snprintf(label, sizeof label, "%.1f", static_cast<double>(v));
        c.fill(left, y_of(v), width - left - right, 1, faint);
        c.text(left - 12 - examples::canvas::text_width(2, label), y_of(v) - 7, 2, label, ink);
    }
    c.text(left, height - 30, 2, from, ink);
    c.text(width - right - examples::canvas::text_width(2, to), height - 30, 2, to, ink);
    int at = left;
    for (const line& l : lines) {
        c.fill(at, 48, 24, 4, l.ink);
        c.text(at + 32, 43, 2, l.name, ink);
        at += 32 + examples::canvas::text_width(2, l.name) + 36;
        for (int i = 1; i < static_cast<int>(l.values.size()); ++i) {
            const int x0 = x_of(l.first + i - 1), x1 = std::max(x_of(l.first + i), x0 + 1);
            const float v0 = l.values[static_cast<std::size_t>(i - 1)], v1 = l.values[static_cast<std::size_t>(i)];
            for (int x = x0; x < x1; ++x) {
                const auto value_at = [&](int column) {
                    return v0 + (v1 - v0) * static_cast<float>(column - x0) / static_cast<float>(x1 - x0);
                };
                const int y = y_of(value_at(x)), next = y_of(value_at(x + 1));
                c.fill(x, std::min(y, next), 2, std::abs(next - y) + 2, l.ink);
            }
        }
    }
    c.save_png(file);
}

}  // namespace forecast
