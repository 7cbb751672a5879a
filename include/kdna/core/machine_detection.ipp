// Definitions of machine_detection.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>

#include <kdna/core/error.hpp>
#include <kdna/core/machine.hpp>
#include <kdna/core/machine_detection.hpp>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(_M_X64)
#include <intrin.h>
#endif

namespace kdna::inline KDNA_ABI::detail {

KDNA_FUNC_COLD core_caches caches_from_cpuid(cpuid_function cpuid) {
    const std::uint32_t highest = cpuid(0, 0)[0];
    // Bit 15 of edx: cores of several kinds.
    if (highest >= 7 && (cpuid(7, 0)[3] >> 15U & 1U) != 0) return {};
    constexpr std::uint32_t amd_leaf = 0x8000001D, intel_leaf = 4;
    std::uint32_t leaf = intel_leaf;
    // Bit 22 of ecx: leaf 0x8000001D is there.
    if (cpuid(0x80000000, 0)[0] >= amd_leaf && (cpuid(0x80000001, 0)[2] >> 22U & 1U) != 0)
        leaf = amd_leaf;
    else if (highest < intel_leaf)
        return {};
    core_caches told;
    index_t threads_of_core = 1;
    for (std::uint32_t i = 0; i < 16; ++i) {
        const auto [eax, ebx, ecx, edx] = cpuid(leaf, i);
        static_cast<void>(edx);
        const std::uint32_t type = eax & 31U, level = eax >> 5U & 7U;
        constexpr std::uint32_t none = 0, instructions = 2;
        if (type == none) break;
        if (type == instructions) continue;
        const index_t ways = (ebx >> 22U) + 1, partitions = (ebx >> 12U & 1023U) + 1, line = (ebx & 4095U) + 1,
                      sets = static_cast<index_t>(ecx) + 1, threads = (eax >> 14U & 4095U) + 1;
        if (sets > (index_t{1} << 32) / (ways * partitions * line)) continue;
        const index_t bytes = ways * partitions * line * sets;
        if (level == 1) {
            told.l1_bytes = bytes;
            told.l1_ways = ways;
            threads_of_core = threads;
        } else if (level == 2) {
            told.l2_bytes = bytes / std::max<index_t>(threads / threads_of_core, 1);
        } else if (level == 3) {
            told.l3_bytes = bytes;
        }
    }
    return told;
}

KDNA_FUNC_COLD std::string_view family_from_cpuid(cpuid_function cpuid) {
    const auto [highest, ebx, ecx, edx] = cpuid(0, 0);
    if (highest < 1) return {};
    std::string vendor;
    for (const std::uint32_t part : {ebx, edx, ecx})
        for (std::uint32_t shift = 0; shift < 32; shift += 8) vendor += static_cast<char>(part >> shift & 255U);
    const std::uint32_t id = cpuid(1, 0)[0];
    const std::uint32_t base = id >> 8U & 15U, family = base == 15 ? base + (id >> 20U & 255U) : base,
                        model = (id >> 4U & 15U) | (id >> 16U & 15U) << 4U;
    const auto model_is = [&](std::initializer_list<std::uint32_t> models) {
        return std::find(models.begin(), models.end(), model) != models.end();
    };
    if (vendor == "AuthenticAMD") {
        if (family == 0x17) return model >= 0x30 ? "zen2" : "";
        if (family == 0x19) {
            const std::uint32_t row = model >> 4U;
            return row == 1 || row == 6 || row == 7 || row == 10 ? "zen4" : "zen3";
        }
        return family == 0x1A ? "zen5" : "";
    }
    if (vendor == "GenuineIntel" && family == 6) {
        if (model_is({0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6})) return "skylake";
        if (model_is({0x55})) return "skylake_server";
        if (model_is({0x97, 0x9A, 0xB7, 0xBA, 0xBF})) return "golden_cove";
        if (model_is({0x8F, 0xCF})) return "sapphire_rapids";
    }
    return {};
}

KDNA_FUNC_COLD std::string_view family_from_midr(std::uint64_t midr) {
    constexpr std::uint64_t arm = 0x41, apple = 0x61;
    const std::uint64_t implementer = midr >> 24U & 255U, part = midr >> 4U & 4095U;
    if (implementer == apple) return "apple_m1";
    if (implementer != arm) return {};
    switch (part) {
        case 0xD08: return "cortex_a72";
        case 0xD0B: return "cortex_a76";
        case 0xD0C: return "neoverse_n1";
        default: return {};
    }
}

/// The first line of a file, empty if it cannot be read.
[[nodiscard]] KDNA_COLD std::string first_line(const std::string& path) {
    struct closer {
        void operator()(std::FILE* f) const noexcept { static_cast<void>(std::fclose(f)); }
    };
    const std::unique_ptr<std::FILE, closer> file(std::fopen(path.c_str(), "r"));
    char text[256];
    if (file == nullptr || std::fgets(text, sizeof(text), file.get()) == nullptr) return {};
    std::string line(text);
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
    return line;
}

/// Bytes of "512K", "32M" or "4096"; 0 for anything else.
[[nodiscard]] KDNA_COLD index_t bytes_of(const std::string& text) {
    char* end = nullptr;
    const long long number = std::strtoll(text.c_str(), &end, 10);
    if (end == text.c_str() || number < 0 || number > (1LL << 30)) return 0;
    const std::string_view unit = end;
    if (unit.empty()) return static_cast<index_t>(number);
    if (unit == "K") return static_cast<index_t>(number) << 10;
    return unit == "M" ? static_cast<index_t>(number) << 20 : 0;
}

/// The processors in a list such as "0-3,8"; 1 for a list that cannot be read.
[[nodiscard]] KDNA_COLD index_t processors_in(const std::string& list) {
    index_t count = 0;
    for (const char* at = list.c_str(); *at != '\0';) {
        char* end = nullptr;
        const long first = std::strtol(at, &end, 10);
        if (end == at) return 1;
        long last = first;
        if (*end == '-') last = std::strtol(at = end + 1, &end, 10);
        if (last < first || last - first > 65535 || (*end != ',' && *end != '\0')) return 1;
        count += last - first + 1;
        at = *end == ',' ? end + 1 : end;
    }
    return std::max<index_t>(count, 1);
}

/// The caches of one processor, from its folder.
[[nodiscard]] KDNA_COLD core_caches caches_of_processor(const std::string& folder) {
    core_caches told;
    index_t threads_of_core = 1;
    for (int i = 0; i < 8; ++i) {
        const std::string cache = concat(folder, "/cache/index", i, "/"), level = first_line(cache + "level");
        if (level.empty()) break;
        if (first_line(cache + "type") == "Instruction") continue;
        const index_t bytes = bytes_of(first_line(cache + "size")),
                      threads = processors_in(first_line(cache + "shared_cpu_list"));
        if (level == "1") {
            told.l1_bytes = bytes;
            told.l1_ways = bytes_of(first_line(cache + "ways_of_associativity"));
            threads_of_core = threads;
        } else if (level == "2") {
            told.l2_bytes = bytes / std::max<index_t>(threads / threads_of_core, 1);
        } else if (level == "3") {
            told.l3_bytes = bytes;
        }
    }
    return told;
}

KDNA_FUNC_COLD core_caches caches_from_files(const std::string& folder) {
    // Cores of a kind have neighbouring numbers, and there are no more kinds than can be seen in the first ones.
    constexpr int most_processors = 64;
    core_caches best;
    for (int i = 0; i < most_processors; ++i) {
        const core_caches told = caches_of_processor(concat(folder, "/cpu", i));
        if (told.l1_bytes == 0 && told.l2_bytes == 0 && i > 0) break;
        if (told.l2_bytes > best.l2_bytes || i == 0) best = told;
    }
    return best;
}

KDNA_FUNC_COLD machine describe(std::string_view family, const core_caches& told) {
    const std::span<const machine> known = machine::known();
    const auto of_family = std::find_if(known.begin(), known.end(), [&](const machine& m) { return m.name == family; });
    machine m = of_family != known.end() ? *of_family : known.front();
    const auto within = [](index_t bytes, index_t least_kib, index_t most_kib) {
        return bytes >= least_kib << 10 && bytes <= most_kib << 10;
    };
    if (within(told.l1_bytes, 4, 1 << 10)) {
        m.l1_bytes = told.l1_bytes;
        if (told.l1_ways >= 1 && told.l1_ways <= 64) m.l1_ways = told.l1_ways;
    }
    const bool has_l2 = within(told.l2_bytes, 32, 1 << 18);
    if (has_l2) m.l2_bytes = told.l2_bytes;
    if (within(told.l3_bytes, 256, 1 << 24))
        m.l3_bytes = told.l3_bytes;
    else if (has_l2)
        m.l3_bytes = 0;
    return m;
}

#if defined(__x86_64__) || defined(__i386__)
[[nodiscard]] KDNA_COLD std::array<std::uint32_t, 4> processor_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    std::array<std::uint32_t, 4> r{};
    __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
    return r;
}
#elif defined(_M_X64)
[[nodiscard]] KDNA_COLD std::array<std::uint32_t, 4> processor_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    int r[4];
    __cpuidex(r, static_cast<int>(leaf), static_cast<int>(subleaf));
    return {static_cast<std::uint32_t>(r[0]), static_cast<std::uint32_t>(r[1]), static_cast<std::uint32_t>(r[2]),
            static_cast<std::uint32_t>(r[3])};
}
#endif

KDNA_FUNC_COLD machine detect_machine() {
    core_caches told;
    std::string_view family;
#if defined(__APPLE__)
    // Apple's cores of performance level 0 are the fast ones; processors of Intel have one level.
    const auto number = [](const char* name) {
        std::int64_t value = 0;
        std::size_t size = sizeof(value);
        return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? static_cast<index_t>(value) : index_t{0};
    };
    const auto either = [&](const char* fast, const char* only) {
        const index_t value = number(fast);
        return value > 0 ? value : number(only);
    };
    told.l1_bytes = either("hw.perflevel0.l1dcachesize", "hw.l1dcachesize");
    told.l2_bytes =
        either("hw.perflevel0.l2cachesize", "hw.l2cachesize") / std::max<index_t>(number("hw.perflevel0.cpusperl2"), 1);
    told.l3_bytes = either("hw.perflevel0.l3cachesize", "hw.l3cachesize");
#if defined(__aarch64__)
    family = "apple_m1";
#endif
#elif defined(__linux__)
    told = caches_from_files("/sys/devices/system/cpu");
#if defined(__aarch64__)
    family = family_from_midr(
        std::strtoull(first_line("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1").c_str(), nullptr, 16));
#endif
#endif
#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64)
    family = family_from_cpuid(processor_cpuid);
    if (told.l2_bytes == 0) told = caches_from_cpuid(processor_cpuid);
#endif
    return describe(family, told);
}

}  // namespace kdna::inline KDNA_ABI::detail

#include <kdna/core/macros_pop.hpp>
