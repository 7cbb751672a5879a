// A description of the machine that plans are made for: its caches, and how fast it multiplies and reads.
//
// Planners, the stages and bands of networks, and the cost model take their sizes from a description and from nothing
// else. The same description gives the same plans and the same bits wherever it was made (docs/numerics.md).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string>
#include <string_view>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

/// What a plan has to know of a machine. The extents of its vectors are not part of it: they are those of the
/// instruction set that a program is compiled for.
struct machine {
    std::string name = "generic";  ///< appears in explain()
    /// L1 of a core, for data, and its ways: the lines of a set, which addresses `l1_way_bytes()` apart compete for.
    index_t l1_bytes = index_t{32} << 10, l1_ways = 8;
    /// L2 of a core; where several cores share one, a core's share.
    index_t l2_bytes = index_t{512} << 10;
    /// L3, 0 for none. All of it, however many cores share it: the threads of a run read the same weights. Who runs a
    /// different network on each core sets it to a core's share.
    index_t l3_bytes = index_t{8} << 20;
    /// Multiply-adds a cycle: of vectors of any width, and of floats, of which wide vectors reach fewer at a time.
    double vectors_per_cycle = 2.0, floats_per_cycle = 16.0;
    /// What one core reads in a cycle from L3 and from memory.
    double l3_bytes_per_cycle = 20.0, memory_bytes_per_cycle = 5.0;

    /// Addresses this far apart share a set of L1.
    [[nodiscard]] constexpr index_t l1_way_bytes() const noexcept { return l1_bytes / l1_ways; }
    /// Multiply-adds a cycle of vectors of so many floats.
    [[nodiscard]] constexpr double multiply_adds_per_cycle(index_t lanes) const noexcept {
        const double of_floats = floats_per_cycle / static_cast<double>(lanes);
        return of_floats < vectors_per_cycle ? of_floats : vectors_per_cycle;
    }

    bool operator==(const machine&) const = default;

    /// Throws kdna::error, which names the machine and what is wrong, unless plans can be made for it: sizes from 1 KiB to
    /// 1 TiB (L3 may be 0), at least one way of L1 and a line (64 bytes) in each, rates above zero. Plans check theirs.
    KDNA_FUNC_COLD void check() const;

    /// The machine that this runs on, found out once. Of a system that does not tell its caches, the sizes are those of
    /// the processor's family, or `generic`'s. A system with several kinds of cores is described by the one with the
    /// largest L2, whichever of them asks.
    [[nodiscard]] KDNA_FUNC_COLD static const machine& host() noexcept;
    /// A description by its name, e.g. "zen3"; see `known`. Throws kdna::error for a name that there is none of.
    [[nodiscard]] KDNA_FUNC_COLD static machine named(std::string_view name);
    /// The descriptions with a name. Sizes are those of a common model of each family, and rates are estimates but for
    /// zen4's, which were measured.
    [[nodiscard]] KDNA_FUNC_COLD static std::span<const machine> known() noexcept;
};

/// "zen4 (32 KiB L1 in 8 ways, 1024 KiB L2, 32768 KiB L3)".
[[nodiscard]] KDNA_FUNC_COLD std::string to_string(const machine& m);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/core/machine.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
