// How the machine that a program runs on is found out: from the system's files or calls, or from the processor.
//
// A system may hide anything, and a virtual one may tell nonsense. What is missing or not plausible is taken from the
// description of the processor's family.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

struct machine;

namespace detail {

/// The caches of one core as somebody tells them; 0 for what is not told.
struct core_caches {
    index_t l1_bytes = 0, l1_ways = 0;
    index_t l2_bytes = 0;  ///< this core's share
    index_t l3_bytes = 0;
};

/// Answers the CPUID instruction: registers eax, ebx, ecx and edx of a leaf and its subleaf.
using cpuid_function = std::array<std::uint32_t, 4> (*)(std::uint32_t leaf, std::uint32_t subleaf);

/// What CPUID tells: AMD's leaf 0x8000001D, or Intel's 4. Nothing for a processor with several kinds of cores, whose
/// answers depend on the core that asks.
[[nodiscard]] KDNA_FUNC_COLD core_caches caches_from_cpuid(cpuid_function cpuid);
/// The name of the description of the processor's family (machine::known), empty for one that has none.
[[nodiscard]] KDNA_FUNC_COLD std::string_view family_from_cpuid(cpuid_function cpuid);
/// The same from the identification register of 64-bit ARM, MIDR_EL1.
[[nodiscard]] KDNA_FUNC_COLD std::string_view family_from_midr(std::uint64_t midr);

/// What Linux tells in a folder such as /sys/devices/system/cpu, of the core with the largest share of an L2.
[[nodiscard]] KDNA_FUNC_COLD core_caches caches_from_files(const std::string& folder);

/// The description of a family with the caches that were told, as far as they are plausible. Where no L1 or L2 is told,
/// an L3 that is not told is the family's; otherwise there is none.
[[nodiscard]] KDNA_FUNC_COLD machine describe(std::string_view family, const core_caches& told);

/// The machine that this runs on.
[[nodiscard]] KDNA_FUNC_COLD machine detect_machine();

}  // namespace detail
}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/core/machine_detection.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
