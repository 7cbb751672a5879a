// Definitions of nn/arena.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <numeric>

#include <kdna/core/arithmetic.hpp>
#include <kdna/nn/arena.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC arena_layout place_in_arena(std::span<const arena_value> values, std::string_view where) {
    arena_layout out{std::vector<index_t>(values.size(), 0), 0};
    std::vector<std::size_t> order(values.size()), placed;
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return values[a].bytes > values[b].bytes; });
    // In the order of offsets: past each value that is in the way, the next free place is behind it.
    const auto before = [&](std::size_t a, std::size_t b) { return out.offsets[a] < out.offsets[b]; };
    for (const std::size_t id : order) {
        const arena_value& v = values[id];
        if (v.bytes == 0) continue;
        index_t& offset = out.offsets[id];
        for (const std::size_t other : placed) {
            const arena_value& o = values[other];
            const index_t begin = out.offsets[other], end = begin + o.bytes;
            if (begin >= checked_add(offset, v.bytes, where)) break;
            if (v.first <= o.last && o.first <= v.last && offset < end) offset = end;
        }
        out.bytes = std::max(out.bytes, checked_add(offset, v.bytes, where));
        placed.insert(std::upper_bound(placed.begin(), placed.end(), id, before), id);
    }
    return out;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
