// NumPy's .npy files of float32 arrays in C order, as numpy.save writes them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include <kdna/core/config.hpp>
#include <kdna/core/memory.hpp>

namespace kdna::inline KDNA_ABI {

/// An array from a .npy file: its shape (empty for a scalar) and its elements, row-major.
struct npy_array {
    std::vector<index_t> shape;
    buffer<float> data;
};

/// Reads the bytes of a .npy file (versions 1.0 to 3.0): little-endian float32 in C order, the data exactly as long as
/// the shape says. Throws kdna::error for anything else, naming `source`. Any bytes are safe to pass.
[[nodiscard]] KDNA_FUNC npy_array parse_npy(std::span<const std::byte> bytes, std::string_view source = "npy");

/// Reads a .npy file as `parse_npy` does. Throws kdna::error, naming the file, also if it cannot be read.
[[nodiscard]] KDNA_FUNC npy_array load_npy(const std::filesystem::path& path);

/// Writes a .npy file (version 1.0). The file appears under its name when it is complete; a file that was there is
/// replaced. Throws kdna::error if `shape` does not have as many elements as `data`, or the file cannot be written.
KDNA_FUNC void save_npy(const std::filesystem::path& path, const std::vector<index_t>& shape,
                        std::span<const float> data);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/npy.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
