// Colour pictures from files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace examples {

/// RGB, [height][width][3].
struct photo {
    int width = 0, height = 0;
    std::vector<std::uint8_t> rgb{};
    [[nodiscard]] const std::uint8_t* pixel(int x, int y) const {
        return rgb.data() + (std::ptrdiff_t{y} * width + x) * 3;
    }
};

/// Reads a PNG or JPEG; transparency is dropped. Throws kdna::error naming the file and what is wrong with it.
[[nodiscard]] photo load_photo(const std::filesystem::path& file);

}  // namespace examples
