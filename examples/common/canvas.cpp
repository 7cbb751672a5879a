#include "canvas.hpp"

#include <algorithm>
#include <cstddef>
#include <kdna/core/error.hpp>

// Two public-domain headers: a font made of rectangles, and a PNG writer.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_easy_font.h>
#include <stb_image_write.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

namespace examples {

canvas::canvas(int width, int height, colour background)
    : width_(width), height_(height), rgb_(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3) {
    fill(0, 0, width, height, background);
}

void canvas::fill(int x, int y, int width, int height, colour c) {
    const int right = std::min(x + width, width_), bottom = std::min(y + height, height_);
    for (int row = std::max(y, 0); row < bottom; ++row)
        for (int column = std::max(x, 0); column < right; ++column) {
            std::uint8_t* pixel = rgb_.data() + (std::ptrdiff_t{row} * width_ + column) * 3;
            pixel[0] = c.r;
            pixel[1] = c.g;
            pixel[2] = c.b;
        }
}

void canvas::frame(int x, int y, int width, int height, int thickness, colour c) {
    fill(x - thickness, y - thickness, width + 2 * thickness, thickness, c);
    fill(x - thickness, y + height, width + 2 * thickness, thickness, c);
    fill(x - thickness, y, thickness, height, c);
    fill(x + width, y, thickness, height, c);
}

void canvas::image(int x, int y, int scale, std::span<const std::uint8_t> grey, int width) {
    for (int i = 0; i < static_cast<int>(grey.size()); ++i) {
        const std::uint8_t v = grey[static_cast<std::size_t>(i)];
        fill(x + i % width * scale, y + i / width * scale, scale, scale, {v, v, v});
    }
}

void canvas::text(int x, int y, int scale, std::string_view line, colour c) {
    struct vertex {
        float x, y, z;
        std::uint8_t colour[4];
    };
    std::string text(line);
    std::vector<vertex> quads(text.size() * 96 + 4);
    const int count =
        stb_easy_font_print(0, 0, text.data(), nullptr, quads.data(), static_cast<int>(quads.size() * sizeof(vertex)));
    for (std::size_t q = 0; q < static_cast<std::size_t>(count); ++q) {
        const vertex &from = quads[q * 4], &to = quads[q * 4 + 2];  // opposite corners, at whole numbers
        const auto at = [&](float v) { return static_cast<int>(v) * scale; };
        fill(x + at(from.x), y + at(from.y), at(to.x) - at(from.x), at(to.y) - at(from.y), c);
    }
}

void canvas::picture(int x, int y, int scale, std::span<const std::uint8_t> rgb, int width) {
    for (int i = 0; i < static_cast<int>(rgb.size() / 3); ++i) {
        const std::uint8_t* pixel = rgb.data() + std::ptrdiff_t{i} * 3;
        fill(x + i % width * scale, y + i / width * scale, scale, scale, {pixel[0], pixel[1], pixel[2]});
    }
}

int canvas::text_width(int scale, std::string_view line) {
    std::string text(line);
    return stb_easy_font_width(text.data()) * scale;
}

void canvas::save_png(const std::filesystem::path& file) const {
    if (stbi_write_png(file.string().c_str(), width_, height_, 3, rgb_.data(), width_ * 3) == 0)
        throw kdna::error(file.string(), "a place to write a picture to", "one that cannot be written");
}

}  // namespace examples
