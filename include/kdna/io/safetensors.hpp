// The safetensors format, https://github.com/huggingface/safetensors, in one file or in shards. JSON is included by the .ipp
// files of it and of shard_index.hpp only.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

#include <kdna/core/config.hpp>
#include <kdna/io/dtype.hpp>
#include <kdna/io/state_dict.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

// The names of element types in files.
using safetensors_dtype = std::pair<std::string_view, dtype>;
inline constexpr std::array<safetensors_dtype, 10> safetensors_dtypes{safetensors_dtype{"F32", dtype::f32},
                                                                      {"F64", dtype::f64},
                                                                      {"F16", dtype::f16},
                                                                      {"BF16", dtype::bf16},
                                                                      {"I64", dtype::i64},
                                                                      {"I32", dtype::i32},
                                                                      {"I16", dtype::i16},
                                                                      {"I8", dtype::i8},
                                                                      {"U8", dtype::u8},
                                                                      {"BOOL", dtype::boolean}};

}  // namespace detail

/// Reads the bytes of a safetensors file. Throws kdna::error naming `source` and the tensor at fault unless the bytes
/// are exactly such a file: known fields and dtypes only, no name twice, and the data of the tensors contiguous, with
/// nothing between, before or after. Any bytes are safe to pass.
[[nodiscard]] KDNA_FUNC state_dict parse_safetensors(std::span<const std::byte> bytes,
                                                     std::string_view source = "safetensors");

/// Reads a safetensors file as `parse_safetensors` does, or, where `path` is the index of a sharded one
/// (model.safetensors.index.json), all shards, which lie beside it. Each shard must hold exactly the tensors that the index
/// looks for there. Throws kdna::error, naming the file, also if it is unreadable. A file of another kind that is often
/// taken for weights is named, with what to do: an archive of torch.save, a Git LFS pointer, an HTML page and others.
[[nodiscard]] KDNA_FUNC state_dict load_safetensors(const std::filesystem::path& path);

/// The same, with the tensors of options.overlay in the place of those of the same names (state_dict::replace), and with these
/// options. Throws kdna::error also if a tensor of the second file replaces none.
[[nodiscard]] KDNA_FUNC state_dict load_safetensors(const std::filesystem::path& path, const load_options& options);

/// Writes a safetensors file, the data of wide element types first so that everything in it is aligned. The file
/// appears under its name when it is complete; a file that was there is replaced. Throws kdna::error if a name is
/// "__metadata__" or not UTF-8, or the file cannot be written.
KDNA_FUNC void save_safetensors(const std::filesystem::path& path, const state_dict& dict);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/safetensors.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
