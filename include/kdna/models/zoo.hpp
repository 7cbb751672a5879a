// The published networks by name, from a state_dict or a .safetensors file.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <filesystem>

#include <kdna/io/state_dict.hpp>
#include <kdna/models/arch.hpp>
#include <kdna/nn/network.hpp>

namespace kdna::inline KDNA_ABI::models {

/// A published network with the given weights, for the CPU. The numbers of input channels and of classes follow from their shapes.
/// Throws kdna::error naming the tensor that is missing, unexpected, or of the wrong type or shape, or the form that the network was
/// not published in.
[[nodiscard]] KDNA_FUNC network load(arch a, form f, state_dict weights);

/// The same from a .safetensors file, or the index of a sharded one. Throws kdna::error also for anything wrong with the file.
[[nodiscard]] KDNA_FUNC network load(arch a, const std::filesystem::path& file, form f = form::kernel_dna,
                                     const load_options& options = {});

/// The same, with a report of what loading did: tensors converted to float32, and the prefix removed from the names.
[[nodiscard]] KDNA_FUNC network load(arch a, form f, state_dict weights, load_report& report);
[[nodiscard]] KDNA_FUNC network load(arch a, const std::filesystem::path& file, form f, load_report& report,
                                     const load_options& options = {});

}  // namespace kdna::inline KDNA_ABI::models

#ifndef KDNA_COMPILED
#include <kdna/models/zoo.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
