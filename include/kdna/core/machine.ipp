// Definitions of machine.hpp. How a machine is found out: core/machine_detection.ipp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/core/error.hpp>
#include <kdna/core/machine.hpp>
#include <kdna/core/machine_detection.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC_COLD std::span<const machine> machine::known() noexcept {
    constexpr index_t kib = 1024, mib = 1024 * kib;
    static const machine all[] = {
        {.name = "generic"},
        {.name = "zen2", .l3_bytes = 16 * mib},
        {.name = "zen3", .l3_bytes = 32 * mib},
        {.name = "zen4", .l2_bytes = mib, .l3_bytes = 32 * mib},
        {.name = "zen5",
         .l1_bytes = 48 * kib,
         .l1_ways = 12,
         .l2_bytes = mib,
         .l3_bytes = 32 * mib,
         .floats_per_cycle = 32},
        {.name = "skylake",
         .l2_bytes = 256 * kib,
         .l3_bytes = 8 * mib,
         .l3_bytes_per_cycle = 12,
         .memory_bytes_per_cycle = 4},
        {.name = "skylake_server",
         .l2_bytes = mib,
         .l3_bytes = 33 * mib,
         .floats_per_cycle = 32,
         .l3_bytes_per_cycle = 8,
         .memory_bytes_per_cycle = 4},
        {.name = "golden_cove",
         .l1_bytes = 48 * kib,
         .l1_ways = 12,
         .l2_bytes = 1280 * kib,
         .l3_bytes = 30 * mib,
         .l3_bytes_per_cycle = 12,
         .memory_bytes_per_cycle = 4},
        {.name = "sapphire_rapids",
         .l1_bytes = 48 * kib,
         .l1_ways = 12,
         .l2_bytes = 2 * mib,
         .l3_bytes = 60 * mib,
         .floats_per_cycle = 32,
         .l3_bytes_per_cycle = 8,
         .memory_bytes_per_cycle = 4},
        {.name = "cortex_a72",
         .l1_ways = 2,
         .l2_bytes = 256 * kib,
         .l3_bytes = 0,
         .vectors_per_cycle = 1,
         .floats_per_cycle = 4,
         .memory_bytes_per_cycle = 3},
        {.name = "cortex_a76",
         .l1_bytes = 64 * kib,
         .l1_ways = 4,
         .l3_bytes = 2 * mib,
         .floats_per_cycle = 8,
         .l3_bytes_per_cycle = 10,
         .memory_bytes_per_cycle = 4},
        {.name = "neoverse_n1",
         .l1_bytes = 64 * kib,
         .l1_ways = 4,
         .l2_bytes = mib,
         .l3_bytes = 32 * mib,
         .floats_per_cycle = 8,
         .l3_bytes_per_cycle = 8,
         .memory_bytes_per_cycle = 4},
        {.name = "apple_m1",
         .l1_bytes = 128 * kib,
         .l2_bytes = 3 * mib,
         .l3_bytes = 0,
         .vectors_per_cycle = 4,
         .memory_bytes_per_cycle = 15},
    };
    return all;
}

KDNA_FUNC_COLD machine machine::named(std::string_view name) {
    std::string names;
    for (const machine& m : known()) {
        if (m.name == name) return m;
        names += concat(names.empty() ? "" : ", ", m.name);
    }
    throw error("machine", concat("one of ", names), concat("\"", name, "\""));
}

KDNA_FUNC_COLD const machine& machine::host() noexcept {
    static const machine found = [] {
        try {
            return detail::detect_machine();
        } catch (...) {  // no memory for a path
            return machine{};
        }
    }();
    return found;
}

KDNA_FUNC_COLD void machine::check() const {
    constexpr index_t least = 1 << 10, most = index_t{1} << 40, line = 64;
    const auto size = [&](std::string_view what, index_t bytes) {
        if (bytes < least || bytes > most)
            throw error(concat("machine ", name, " ", what), concat(least, " to ", most, " bytes"), concat(bytes));
    };
    const auto rate = [&](std::string_view what, double found) {
        if (!(found > 0.0) || !std::isfinite(found))
            throw error(concat("machine ", name, " ", what), "a number above 0", concat(found));
    };
    size("L1", l1_bytes);
    if (l1_ways < 1 || l1_ways > l1_bytes / line)
        throw error(concat("machine ", name, " ways of L1"), concat("1 to ", l1_bytes / line), concat(l1_ways));
    size("L2", l2_bytes);
    if (l3_bytes != 0) size("L3", l3_bytes);
    rate("vectors a cycle", vectors_per_cycle);
    rate("floats a cycle", floats_per_cycle);
    rate("bytes a cycle from L3", l3_bytes_per_cycle);
    rate("bytes a cycle from memory", memory_bytes_per_cycle);
}

KDNA_FUNC_COLD std::string to_string(const machine& m) {
    return concat(m.name, " (", m.l1_bytes / 1024, " KiB L1 in ", m.l1_ways, m.l1_ways == 1 ? " way, " : " ways, ",
                  m.l2_bytes / 1024, " KiB L2, ",
                  m.l3_bytes > 0 ? concat(m.l3_bytes / 1024, " KiB L3)") : std::string("no L3)"));
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
