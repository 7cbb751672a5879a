// A picture of some scenes with what the networks made of them.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "scenes.hpp"

namespace segment {

/// One row of the picture: maps of one size, and the gates of the child convolutions.
struct picture_row {
    std::span<const std::uint8_t> image, truth, dna, twin;
    std::vector<std::vector<float>> gates;  ///< one list per child convolution, a value from 0 to 1 per channel
};

struct picture {
    std::string title;
    int rows = 0, columns = 0;          ///< of a map
    std::vector<std::string> children;  ///< what to call the child convolutions, in the order of the gates
    std::vector<picture_row> scenes;
};

/// Draws the picture into a PNG file. Throws kdna::error if it cannot be written.
void write_picture(const std::filesystem::path& file, const picture& p);

}  // namespace segment
