// Descriptions of machines as files: what bench/calibrate.cpp has measured, to be planned for later, here or elsewhere.
//
//     {"kdna.machine": 1, "name": "mine", "l1_bytes": 32768, "l1_ways": 8, "l2_bytes": 1048576, "l3_bytes": 33554432,
//      "vectors_per_cycle": 2, "floats_per_cycle": 16, "l3_bytes_per_cycle": 20, "memory_bytes_per_cycle": 5}
#pragma once

#include <kdna/core/macros_push.hpp>

#include <filesystem>
#include <string_view>

#include <kdna/core/machine.hpp>

namespace kdna::inline KDNA_ABI {

/// Reads a description. Throws kdna::error, naming the file, unless it is a text of the form above with every member once
/// and no other, whose description is one that plans can be made for.
[[nodiscard]] KDNA_FUNC machine load_machine(const std::filesystem::path& path);
/// Writes one, replacing the file as a whole. Throws kdna::error if it cannot be written, or cannot be planned for.
KDNA_FUNC void save_machine(const std::filesystem::path& path, const machine& m);

/// A known machine by its name, or one from a file whose name ends in ".json". Throws as machine::named and load_machine.
[[nodiscard]] KDNA_FUNC machine find_machine(std::string_view name_or_file);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/machine_file.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
