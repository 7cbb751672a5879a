// Files that are taken for weights and are something else, told apart by their first bytes.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <string_view>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

// As many bytes are enough to recognise a file.
inline constexpr std::size_t recognised_bytes = 512;

// What a file is that begins with these bytes, and what to do about it; empty if it is none of the known kinds.
[[nodiscard]] KDNA_FUNC std::string_view foreign_file(std::string_view head);

// Whether these bytes begin a JSON object.
[[nodiscard]] KDNA_FUNC bool begins_json_object(std::string_view head);

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/foreign_file.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
