// The description of a machine: that of this one, those with a name, what is checked, and where it is found out.
#include <kdna/core/machine.hpp>
#include <kdna/core/machine_detection.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "support/errors.hpp"

using namespace kdna;
using kdna_test::check_error;

namespace {

constexpr index_t kib = 1024, mib = 1024 * kib;

/// A folder like /sys/devices/system/cpu, removed in the end.
class processor_folder {
public:
    explicit processor_folder(const std::string& name)
        : root_(std::filesystem::temp_directory_path() / concat("kdna_machine_", name)) {
        std::filesystem::remove_all(root_);
        std::filesystem::create_directories(root_);
    }
    ~processor_folder() { std::filesystem::remove_all(root_); }
    processor_folder(const processor_folder&) = delete;
    processor_folder& operator=(const processor_folder&) = delete;

    void add(int processor, int index, const char* level, const char* type, const char* size, const char* shared,
             const char* ways = "8") const {
        const std::filesystem::path cache = root_ / concat("cpu", processor) / "cache" / concat("index", index);
        std::filesystem::create_directories(cache);
        for (const auto& [file, text] : {std::pair("level", level),
                                         {"type", type},
                                         {"size", size},
                                         {"shared_cpu_list", shared},
                                         {"ways_of_associativity", ways}})
            std::ofstream(cache / file) << text << "\n";
    }
    [[nodiscard]] detail::core_caches caches() const { return detail::caches_from_files(root_.string()); }

private:
    std::filesystem::path root_;
};

/// A made-up processor's answers to CPUID; zeros for what is not in the table.
std::map<std::pair<std::uint32_t, std::uint32_t>, std::array<std::uint32_t, 4>> answers;
std::array<std::uint32_t, 4> cpuid(std::uint32_t leaf, std::uint32_t subleaf) { return answers[{leaf, subleaf}]; }

/// One cache as the leaves 4 and 0x8000001D describe it.
std::array<std::uint32_t, 4> cache(std::uint32_t type, std::uint32_t level, std::uint32_t threads, std::uint32_t ways,
                                   std::uint32_t sets) {
    return {type | level << 5U | (threads - 1) << 14U, (ways - 1) << 22U | 63U, sets - 1, 0};
}

constexpr std::uint32_t of_data = 1, of_instructions = 2, of_both = 3;

void be_zen2() {
    answers = {{{0, 0}, {0x10, 0x68747541, 0x444D4163, 0x69746E65}},
               {{1, 0}, {0x00830F10, 0, 0, 0}},
               {{0x80000000, 0}, {0x80000020, 0, 0, 0}},
               {{0x80000001, 0}, {0, 0, 1U << 22U, 0}},
               {{0x8000001D, 0}, cache(of_data, 1, 2, 8, 64)},
               {{0x8000001D, 1}, cache(of_instructions, 1, 2, 8, 64)},
               {{0x8000001D, 2}, cache(of_both, 2, 2, 8, 1024)},
               {{0x8000001D, 3}, cache(of_both, 3, 8, 16, 16384)}};
}

void be_gracemont() {  // four cores share an L2
    answers = {{{0, 0}, {0x20, 0x756E6547, 0x6C65746E, 0x49656E69}},
               {{1, 0}, {0x000B06E0, 0, 0, 0}},
               {{4, 0}, cache(of_data, 1, 1, 8, 64)},
               {{4, 1}, cache(of_instructions, 1, 1, 8, 128)},
               {{4, 2}, cache(of_both, 2, 4, 16, 2048)},
               {{4, 3}, cache(of_both, 3, 16, 12, 8192)}};
}

}  // namespace

TEST_CASE("This machine has a description, plans can be made for it, and it stays the same") {
    const machine& m = machine::host();
    INFO(to_string(m));
    m.check();
    CHECK(&m == &machine::host());
    CHECK(m == detail::detect_machine());
    CHECK(m.l1_bytes >= 4 * kib);
    CHECK(m.l2_bytes >= m.l1_bytes);
    CHECK(m.l2_bytes <= 64 * mib);
    CHECK((m.l3_bytes == 0 || m.l3_bytes >= 256 * kib));
    CHECK(!m.name.empty());
    CHECK(to_string(m).starts_with(m.name));
}

TEST_CASE("Descriptions are found by their names") {
    std::set<std::string> names;
    for (const machine& m : machine::known()) {
        INFO(m.name);
        m.check();
        CHECK(names.insert(m.name).second);
        CHECK(machine::named(m.name) == m);
        CHECK(m.l2_bytes >= m.l1_bytes);
        CHECK(detail::describe(m.name, {}) == m);
    }
    CHECK(machine::known().front() == machine{});
    CHECK(to_string(machine::named("zen3")) == "zen3 (32 KiB L1 in 8 ways, 512 KiB L2, 32768 KiB L3)");
    CHECK(to_string(machine::named("apple_m1")) == "apple_m1 (128 KiB L1 in 8 ways, 3072 KiB L2, no L3)");
    const machine zen4 = machine::named("zen4");
    CHECK(zen4.multiply_adds_per_cycle(4) == 2.0);
    CHECK(zen4.multiply_adds_per_cycle(8) == 2.0);
    CHECK(zen4.multiply_adds_per_cycle(16) == 1.0);
    check_error([] { return machine::named("zen"); }, "machine", "one of generic, zen2, zen3, zen4", "\"zen\"");
}

TEST_CASE("A description with a size or a rate that no machine has is refused") {
    const auto refused = [](const auto& change, std::string_view where, std::string_view expected,
                            std::string_view found) {
        machine m{.name = "mine"};
        m.check();
        change(m);
        check_error([&] { return m.check(), 0; }, where, expected, found);
    };
    refused([](machine& m) { m.l1_bytes = 0; }, "machine mine L1", "1024 to", "0");
    refused([](machine& m) { m.l2_bytes = -1; }, "machine mine L2", "1024 to", "-1");
    refused([](machine& m) { m.l2_bytes = std::numeric_limits<index_t>::max(); }, "machine mine L2", "bytes", "9223");
    refused([](machine& m) { m.l3_bytes = 1023; }, "machine mine L3", "1024 to", "1023");
    refused([](machine& m) { m.l1_ways = 0; }, "machine mine ways of L1", "1 to 512", "0");
    refused([](machine& m) { m.l1_ways = 513; }, "machine mine ways of L1", "1 to 512", "513");
    refused([](machine& m) { m.vectors_per_cycle = 0; }, "machine mine vectors", "above 0", "0");
    refused([](machine& m) { m.floats_per_cycle = -1; }, "machine mine floats", "above 0", "-1");
    refused([](machine& m) { m.l3_bytes_per_cycle = std::numeric_limits<double>::infinity(); },
            "machine mine bytes a cycle from L3", "above 0", "inf");
    refused([](machine& m) { m.memory_bytes_per_cycle = std::numeric_limits<double>::quiet_NaN(); },
            "machine mine bytes a cycle from memory", "above 0", "nan");
    machine none{.l3_bytes = 0};
    none.check();
}

TEST_CASE("CPUID tells the caches and the family") {
    be_zen2();
    detail::core_caches told = detail::caches_from_cpuid(cpuid);
    CHECK(told.l1_bytes == 32 * kib);
    CHECK(told.l1_ways == 8);
    CHECK(told.l2_bytes == 512 * kib);  // two threads of one core
    CHECK(told.l3_bytes == 16 * mib);
    CHECK(detail::family_from_cpuid(cpuid) == "zen2");
    answers[{1, 0}] = {0x00A10F11, 0, 0, 0};
    CHECK(detail::family_from_cpuid(cpuid) == "zen4");
    answers[{1, 0}] = {0x00A20F10, 0, 0, 0};
    CHECK(detail::family_from_cpuid(cpuid) == "zen3");

    be_gracemont();
    told = detail::caches_from_cpuid(cpuid);
    CHECK(told.l2_bytes == 512 * kib);
    CHECK(told.l3_bytes == 6 * mib);
    CHECK(detail::family_from_cpuid(cpuid).empty());
    answers[{1, 0}] = {0x000906EA, 0, 0, 0};
    CHECK(detail::family_from_cpuid(cpuid) == "skylake");
    // Beside cores of another kind, the answers are those of the core that asked.
    answers[{7, 0}] = {0, 0, 0, 1U << 15U};
    CHECK(detail::caches_from_cpuid(cpuid).l2_bytes == 0);

    answers.clear();
    CHECK(detail::caches_from_cpuid(cpuid).l1_bytes == 0);
    CHECK(detail::family_from_cpuid(cpuid).empty());
    // Nonsense: 2^32 sets, and no end of the list.
    answers = {{{0, 0}, {4, 0, 0, 0}}};
    for (std::uint32_t i = 0; i < 100; ++i) answers[{4, i}] = {of_both | 2U << 5U, ~0U, ~0U, 0};
    CHECK(detail::caches_from_cpuid(cpuid).l2_bytes == 0);
}

TEST_CASE("The identification register of ARM tells the family") {
    CHECK(detail::family_from_midr(0x414FD0B1) == "cortex_a76");
    CHECK(detail::family_from_midr(0x413FD0C1) == "neoverse_n1");
    CHECK(detail::family_from_midr(0x410FD083) == "cortex_a72");
    CHECK(detail::family_from_midr(0x611F0221) == "apple_m1");
    CHECK(detail::family_from_midr(0x410FD034).empty());
    CHECK(detail::family_from_midr(0).empty());
}

TEST_CASE("The files of Linux tell the caches, of the core with the largest L2") {
    {
        const processor_folder threads_and_cores("uniform");
        for (int i = 0; i < 4; ++i) {
            threads_and_cores.add(i, 0, "1", "Data", "32K", "0,2");
            threads_and_cores.add(i, 1, "1", "Instruction", "64K", "0,2", "16");
            threads_and_cores.add(i, 2, "2", "Unified", "2048K", "0-3");
            threads_and_cores.add(i, 3, "3", "Unified", "33M", "0-31");
        }
        const detail::core_caches told = threads_and_cores.caches();
        CHECK(told.l1_bytes == 32 * kib);
        CHECK(told.l1_ways == 8);
        CHECK(told.l2_bytes == mib);
        CHECK(told.l3_bytes == 33 * mib);
    }
    {
        const processor_folder little_first("hybrid");
        little_first.add(0, 0, "1", "Data", "32K", "0", "4");
        little_first.add(0, 1, "2", "Unified", "128K", "0");
        little_first.add(1, 0, "1", "Data", "64K", "1", "2");
        little_first.add(1, 1, "2", "Unified", "512K", "1");
        const detail::core_caches told = little_first.caches();
        CHECK(told.l1_bytes == 64 * kib);
        CHECK(told.l1_ways == 2);
        CHECK(told.l2_bytes == 512 * kib);
        CHECK(told.l3_bytes == 0);
    }
    {
        const processor_folder odd("odd");
        odd.add(0, 0, "1", "Data", "many", "x", "-3");
        odd.add(0, 1, "2", "Unified", "", "0-");
        CHECK(odd.caches().l1_bytes == 0);
        CHECK(odd.caches().l2_bytes == 0);
    }
    CHECK(detail::caches_from_files("/no/such/folder").l2_bytes == 0);
}

TEST_CASE("What a system hides, or tells wrong, is taken from the family") {
    const machine zen3 = machine::named("zen3"), generic{};
    CHECK(detail::describe("", {}) == generic);
    CHECK(detail::describe("nobody's", {}) == generic);
    CHECK(detail::describe("zen3", {}) == zen3);
    const detail::core_caches nonsense{.l1_bytes = 1, .l1_ways = 0, .l2_bytes = index_t{1} << 50, .l3_bytes = 12};
    CHECK(detail::describe("zen3", nonsense) == zen3);
    machine smaller = detail::describe("zen3", {.l1_bytes = 48 * kib, .l1_ways = 12, .l2_bytes = 256 * kib});
    CHECK(smaller.name == "zen3");
    CHECK(smaller.l1_ways == 12);
    CHECK(smaller.l2_bytes == 256 * kib);
    CHECK(smaller.l3_bytes == 0);  // there is a list, and it has none
    CHECK(detail::describe("", {.l3_bytes = 4 * mib}).l3_bytes == 4 * mib);
    smaller.check();
}
