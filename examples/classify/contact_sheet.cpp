#include "contact_sheet.hpp"

#include <cmath>
#include <common/canvas.hpp>
#include <common/gate_strip.hpp>

namespace fashion {
namespace {

using examples::canvas, examples::colour;

constexpr colour paper{250, 250, 248}, ink{32, 34, 40}, faint{120, 124, 132}, right{22, 128, 60}, wrong{200, 30, 40};

// Everything in pixels.
constexpr int zoom = 5, picture = zoom * static_cast<int>(image_size);
constexpr int margin = 30, labels = 108, gap = 24, line = 20, strip = 14, strip_pitch = 18, strips = 3;
constexpr int left = margin + labels, column_pitch = picture + gap, top = margin + 92;
constexpr int width = left + class_count * column_pitch - gap + margin;

/// Lines of text under an image: what it was taken for, how surely, and, where that was wrong, what it is.
constexpr int lines_of(int row) { return row < samples::right_rows ? 2 : 3; }
constexpr int strips_of(int row) { return picture + 12 + lines_of(row) * line; }
constexpr int y_of(int row) { return row == 0 ? top : y_of(row - 1) + strips_of(row - 1) + strips * strip_pitch + gap; }
constexpr int legend_at = y_of(samples::rows) + 6, height = legend_at + 3 * line + 20 + margin;

void draw_tile(canvas& c, const tile& t) {
    const int x = left + t.column * column_pitch, y = y_of(t.row), text_y = y + picture + 10;
    const bool recognised = t.predicted.label == t.truth;
    c.frame(x, y, picture, picture, 3, recognised ? right : wrong);
    c.image(x, y, zoom, t.pixels, static_cast<int>(image_size));
    c.text(x, text_y, 2, class_name(t.predicted.label), recognised ? right : wrong);
    c.text(x, text_y + line, 2, std::to_string(std::lround(t.predicted.probability * 100)) + " %", ink);
    if (!recognised) c.text(x, text_y + 2 * line, 2, std::string("is ") + class_name(t.truth), faint);
    int strip_y = y + strips_of(t.row);
    for (const auto& gates : t.gates) {
        examples::draw_gate(c, x, strip_y, picture, strip, gates);
        strip_y += strip_pitch;
    }
}

void draw_legend(canvas& c) {
    int y = legend_at;
    c.text(left, y, 2, "Green: recognised. Red: taken for something else.", ink);
    y += line + 6;
    c.text(left, y, 2, "Strips: how far the three child convolutions let each of their input channels through,", ink);
    y += line + 6;
    examples::draw_gate_scale(c, left, y, strip, ink);
}

}  // namespace

void write_contact_sheet(const std::filesystem::path& file, const sheet& s) {
    canvas c(width, height, paper);
    c.text(left, margin, 3, s.title, ink);
    for (int column = 0; column < class_count; ++column)
        c.text(left + column * column_pitch, top - 30, 2, class_name(column), ink);
    for (int row = 0; row < samples::rows; ++row)
        for (int i = 0; i < strips; ++i)
            c.text(margin, y_of(row) + strips_of(row) + i * strip_pitch, 2, "child " + std::to_string(i), faint);
    for (const tile& t : s.tiles) draw_tile(c, t);
    draw_legend(c);
    c.save_png(file);
}

}  // namespace fashion
