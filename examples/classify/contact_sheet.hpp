// A picture of some test images with what the network made of them.
#pragma once

#include <algorithm>
#include <array>
#include <common/fashion_evaluation.hpp>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace fashion {

/// Images for the contact sheet, a column for each class: the first two that were recognised, and below them the first
/// two that were not. -1 where there are not as many.
class samples {
public:
    static constexpr int rows = 4, right_rows = 2;

    samples(const examples::labelled_images& set, const std::vector<prediction>& predictions) {
        image_.fill(-1);
        for (index_t i = 0; i < std::ssize(predictions); ++i) {
            const bool right = predictions[static_cast<std::size_t>(i)].label == set.label(i);
            const int end = right ? right_rows : rows;
            int row = right ? 0 : right_rows;
            while (row < end && image(row, set.label(i)) >= 0) ++row;
            if (row < end) image_[place(row, set.label(i))] = i;
        }
    }
    [[nodiscard]] index_t image(int row, int column) const { return image_[place(row, column)]; }

private:
    static std::size_t place(int row, int column) { return static_cast<std::size_t>(row * class_count + column); }
    std::array<index_t, rows * class_count> image_{};
};

/// One image of the sheet. The column is its true class.
struct tile {
    int row = 0, column = 0;
    std::span<const std::uint8_t> pixels;
    int truth = 0;
    prediction predicted;
    std::vector<std::vector<float>> gates;  ///< one list per child convolution, a value from 0 to 1 per channel
};

struct sheet {
    std::string title;
    std::vector<tile> tiles;
};

/// Draws the sheet into a PNG file. Throws kdna::error if it cannot be written.
void write_contact_sheet(const std::filesystem::path& file, const sheet& s);

}  // namespace fashion
