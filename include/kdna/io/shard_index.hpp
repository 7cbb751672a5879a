// The index of weights that are stored in several safetensors files, as model.safetensors.index.json is written by Hugging
// Face's libraries:
//
//     {"metadata": {"total_size": 96}, "weight_map": {"conv1.weight": "model-00001-of-00002.safetensors", ...}}
#pragma once

#include <kdna/core/macros_push.hpp>

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// Which shard holds each tensor.
using shard_map = std::map<std::string, std::string, std::less<>>;

// Reads the text of an index. Throws kdna::error naming `file` unless it is an object of an optional "metadata", of which
// nothing is used, and a "weight_map" that names a file in the folder of the index for each tensor. Any text is safe to pass.
[[nodiscard]] KDNA_FUNC shard_map parse_shard_index(std::string_view text, std::string_view file);

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/shard_index.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
