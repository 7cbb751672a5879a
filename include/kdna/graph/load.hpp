// Any network from one file (docs/graph-file.md).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <filesystem>
#include <string_view>

#include <kdna/io/state_dict.hpp>
#include <kdna/nn/network.hpp>

namespace kdna::inline KDNA_ABI {

/// Reads a network file: a .safetensors file whose `__metadata__` has the graph under "kdna.graph". Throws kdna::error naming what is
/// wrong with the file, the node that is unknown or does not fit, or the tensor that is missing, superfluous, of another shape or out
/// of the range of the format that it is to be stored in.
[[nodiscard]] KDNA_FUNC network load(const std::filesystem::path& file, const load_options& options = {});

/// The same from tensors and metadata in memory, with the options of `weights`. `where` is what messages call them. Nothing of
/// `weights` is referred to afterwards.
[[nodiscard]] KDNA_FUNC network load(const state_dict& weights, std::string_view where);

/// Whether tensors come with a graph.
[[nodiscard]] KDNA_FUNC bool has_graph(const state_dict& weights);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/graph/load.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
