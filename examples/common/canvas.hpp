// A picture in memory: rectangles, images, text, PNG.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace examples {

struct colour {
    std::uint8_t r, g, b;
};

/// RGB pixels; drawing outside is cut off.
class canvas {
public:
    canvas(int width, int height, colour background);

    void fill(int x, int y, int width, int height, colour c);
    /// A frame of `thickness` around the given rectangle, outside of it.
    void frame(int x, int y, int width, int height, int thickness, colour c);
    /// Grey values [height][width], each pixel as a square of `scale`.
    void image(int x, int y, int scale, std::span<const std::uint8_t> grey, int width);
    /// RGB values [height][width][3], each pixel as a square of `scale`.
    void picture(int x, int y, int scale, std::span<const std::uint8_t> rgb, int width);
    /// One line of text, 7 * scale pixels high without descenders, its top left at (x, y). ASCII only.
    void text(int x, int y, int scale, std::string_view line, colour c);
    [[nodiscard]] static int text_width(int scale, std::string_view line);

    /// Throws kdna::error if the file cannot be written.
    void save_png(const std::filesystem::path& file) const;

private:
    int width_, height_;
    std::vector<std::uint8_t> rgb_;
};

}  // namespace examples
