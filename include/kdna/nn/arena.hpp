// Places values in one block of memory: those that are never alive at the same time may share it.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string_view>
#include <vector>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

/// A value that is alive during the steps first ... last, both included.
struct arena_value {
    index_t first = 0, last = 0;
    index_t bytes = 0;
};

/// Offsets of the values, in bytes, and the bytes of the whole arena.
struct arena_layout {
    std::vector<index_t> offsets{};
    index_t bytes = 0;
};

/// Gives every value an offset at which it overlaps no value alive at the same time. The largest values are placed
/// first, each at the lowest offset where it fits. Offsets are sums of the values' bytes: bytes that are multiples of
/// an alignment give aligned offsets. Throws kdna::error, naming `where`, if the arena's size overflows.
[[nodiscard]] KDNA_FUNC arena_layout place_in_arena(std::span<const arena_value> values, std::string_view where);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/arena.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
