#include "picture.hpp"

#include <algorithm>
#include <array>
#include <common/canvas.hpp>
#include <common/gate_strip.hpp>
#include <functional>
#include <numeric>

namespace segment {
namespace {

using examples::canvas, examples::colour;

constexpr colour paper{250, 250, 248}, ink{32, 34, 40}, faint{120, 124, 132};

// The tops are cool, the shoes are warm, so that what is easily mistaken for each other can still be told apart by lightness.
constexpr std::array<colour, class_count> palette{{{38, 41, 48},
                                                   {86, 180, 233},
                                                   {240, 228, 66},
                                                   {0, 114, 178},
                                                   {204, 121, 167},
                                                   {20, 160, 130},
                                                   {213, 94, 0},
                                                   {180, 222, 205},
                                                   {245, 150, 60},
                                                   {150, 110, 215},
                                                   {166, 54, 40}}};

// Everything in pixels.
constexpr int zoom = 3, margin = 30, gap = 18, line = 22, caption = 24, swatch = 14, names = 190, gates_width = 320;
constexpr int heading = margin + 44, top = heading + 30;

struct layout {
    explicit layout(const picture& p)
        : map_width(zoom * p.columns),
          map_height(zoom * p.rows),
          strip_pitch(std::clamp(map_height / std::max(static_cast<int>(p.children.size()), 1), 20, 64)),
          pitch(std::max(map_height + caption, static_cast<int>(p.children.size()) * strip_pitch) + gap),
          gates_x(margin + 4 * (map_width + gap) + gap),
          legend_y(top + static_cast<int>(p.scenes.size()) * pitch + 6),
          width(gates_x + names + gates_width + margin),
          height(legend_y + 2 * (line + 6) + margin) {}
    [[nodiscard]] int map_x(int column) const { return margin + column * (map_width + gap); }
    [[nodiscard]] int row_y(std::size_t row) const { return top + static_cast<int>(row) * pitch; }

    int map_width, map_height, strip_pitch, pitch, gates_x, legend_y, width, height;
};

void draw_classes(canvas& c, int x, int y, std::span<const std::uint8_t> classes, int columns) {
    for (int i = 0; i < static_cast<int>(classes.size()); ++i)
        c.fill(x + i % columns * zoom, y + i / columns * zoom, zoom, zoom,
               palette.at(classes[static_cast<std::size_t>(i)]));
}

std::string share_right(std::span<const std::uint8_t> truth, std::span<const std::uint8_t> found) {
    const auto differ =
        std::inner_product(truth.begin(), truth.end(), found.begin(), index_t{0}, std::plus<>(), std::not_equal_to<>());
    const double share = 100.0 * (1.0 - static_cast<double>(differ) / static_cast<double>(truth.size()));
    return std::to_string(static_cast<int>(share)) + " % right";
}

void draw_row(canvas& c, const layout& at, const picture& p, std::size_t row) {
    const picture_row& s = p.scenes[row];
    const int y = at.row_y(row), text_y = y + at.map_height + 6;
    c.image(at.map_x(0), y, zoom, s.image, p.columns);
    int column = 1;
    for (const auto& classes : {s.truth, s.dna, s.twin}) draw_classes(c, at.map_x(column++), y, classes, p.columns);
    c.text(at.map_x(2), text_y, 2, share_right(s.truth, s.dna), faint);
    c.text(at.map_x(3), text_y, 2, share_right(s.truth, s.twin), faint);
    for (std::size_t i = 0; i < s.gates.size(); ++i) {
        const int strip_y = y + static_cast<int>(i) * at.strip_pitch;
        c.text(at.gates_x, strip_y + (at.strip_pitch - 6 - swatch) / 2, 2, p.children[i], faint);
        examples::draw_gate(c, at.gates_x + names, strip_y, gates_width, at.strip_pitch - 6, s.gates[i]);
    }
}

void draw_legend(canvas& c, const layout& at) {
    int x = margin;
    for (int i = 0; i < class_count; ++i) {
        c.fill(x, at.legend_y, swatch, swatch, palette.at(static_cast<std::size_t>(i)));
        c.text(x + swatch + 6, at.legend_y, 2, class_name(i), ink);
        x += swatch + 6 + canvas::text_width(2, class_name(i)) + gap;
    }
    const int y = at.legend_y + line + 6;
    constexpr const char* strips = "Gates: how far each input channel of a child convolution is let through,";
    c.text(margin, y, 2, strips, ink);
    examples::draw_gate_scale(c, margin + canvas::text_width(2, strips) + 12, y, swatch, ink);
}

}  // namespace

void write_picture(const std::filesystem::path& file, const picture& p) {
    const layout at(p);
    canvas c(at.width, at.height, paper);
    c.text(margin, margin, 3, p.title, ink);
    int column = 0;
    for (const char* name : {"image", "truth", "KernelDNA", "plain twin"})
        c.text(at.map_x(column++), heading, 2, name, ink);
    c.text(at.gates_x, heading, 2, "gates of KernelDNA's children", ink);
    for (std::size_t row = 0; row < p.scenes.size(); ++row) draw_row(c, at, p, row);
    draw_legend(c, at);
    c.save_png(file);
}

}  // namespace segment
