// Scenes of several Fashion-MNIST items, with a class for each pixel (tools/make_scenes.py).
#pragma once

#include <algorithm>
#include <common/fashion_classes.hpp>
#include <common/idx.hpp>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace segment {

using kdna::index_t;

/// The background, then the classes of Fashion-MNIST.
inline constexpr int class_count = 1 + static_cast<int>(examples::fashion_classes.size());

[[nodiscard]] inline const char* class_name(int c) {
    return c == 0 ? "background" : examples::fashion_classes.at(static_cast<std::size_t>(c - 1));
}

/// A byte for each pixel of a number of maps: grey values, or classes.
struct maps {
    index_t count = 0, rows = 0, columns = 0;
    std::vector<std::uint8_t> values;  ///< [count][rows][columns]

    [[nodiscard]] std::span<const std::uint8_t> map(index_t i) const {
        const auto size = static_cast<std::size_t>(rows * columns);
        return std::span(values).subspan(static_cast<std::size_t>(i) * size, size);
    }
};

inline maps load_maps(const std::filesystem::path& file) {
    examples::idx_array a = examples::load_idx(file, 3);
    return {a.shape[0], a.shape[1], a.shape[2], std::move(a.values)};
}

/// Classes of the pixels of `images`. Throws kdna::error if they are of other maps, or not classes.
inline maps load_classes(const std::filesystem::path& file, const maps& images) {
    maps out = load_maps(file);
    if (out.count != images.count || out.rows != images.rows || out.columns != images.columns)
        throw kdna::error(file.string(), kdna::concat(images.count, " x ", images.rows, " x ", images.columns),
                          kdna::concat(out.count, " x ", out.rows, " x ", out.columns));
    if (const auto largest = std::max_element(out.values.begin(), out.values.end());
        largest != out.values.end() && *largest >= class_count)
        throw kdna::error(file.string(), kdna::concat("classes below ", class_count), kdna::concat(int{*largest}));
    return out;
}

struct scenes {
    std::string name;  ///< of the files, without their ends
    maps images, truth;
};

/// Reads STEM-images-idx3-ubyte.gz and STEM-labels-idx3-ubyte.gz. Throws kdna::error for anything else than scenes of extents that
/// the networks can halve twice.
inline scenes load_scenes(const std::string& stem) {
    const std::string images = stem + "-images-idx3-ubyte.gz";
    scenes out{stem, load_maps(images), {}};
    if (out.images.values.empty() || out.images.rows % 4 != 0 || out.images.columns % 4 != 0)
        throw kdna::error(images, "at least one image, rows and columns that are multiples of 4",
                          kdna::concat(out.images.count, " x ", out.images.rows, " x ", out.images.columns));
    out.truth = load_classes(stem + "-labels-idx3-ubyte.gz", out.images);
    return out;
}

}  // namespace segment
