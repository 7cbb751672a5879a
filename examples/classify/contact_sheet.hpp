// A picture of some test images with what the network made of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "evaluation.hpp"

namespace fashion {

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
