// Descriptions of machines as files.
#include <kdna/io/machine_file.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "io/support.hpp"

namespace {

using kdna::machine;

/// A file of its own, removed in the end.
struct machine_file {
    std::filesystem::path path = std::filesystem::temp_directory_path() / "kdna_test_machine.json";
    explicit machine_file(const std::string& text = {}) { std::ofstream(path, std::ios::binary) << text; }
    ~machine_file() { std::filesystem::remove(path); }
    machine_file(const machine_file&) = delete;
    machine_file& operator=(const machine_file&) = delete;
    [[nodiscard]] std::string text() const {
        std::ifstream stream(path, std::ios::binary);
        std::ostringstream out;
        out << stream.rdbuf();
        return out.str();
    }
};

/// The text of a machine with one piece of it replaced.
std::string text_with(const std::string& what, const std::string& by) {
    const machine_file file;
    save_machine(file.path, machine{.name = "mine"});
    std::string text = file.text();
    const auto at = text.find(what);
    REQUIRE(at != std::string::npos);
    return text.replace(at, what.size(), by);
}

void machine_rejects(const std::string& text, std::string_view where, std::string_view expected,
                     std::string_view found) {
    const machine_file file(text);
    CAPTURE(text);
    io_test::check_error(io_test::error_of([&] { static_cast<void>(kdna::load_machine(file.path)); }), where, expected,
                         found);
}

}  // namespace

TEST_CASE("machine file: what is written is read") {
    machine m{.name = "a \"machine\" of mine"};
    m.l1_bytes = 49152;
    m.l1_ways = 12;
    m.l2_bytes = 1310720;
    m.l3_bytes = 0;
    m.vectors_per_cycle = 1.71;
    m.floats_per_cycle = 13.7;
    m.l3_bytes_per_cycle = 1.0 / 3.0;
    m.memory_bytes_per_cycle = 4.65;
    const machine_file file;
    save_machine(file.path, m);
    CHECK(kdna::load_machine(file.path) == m);
    CHECK(kdna::find_machine(file.path.string()) == m);
    CHECK(kdna::find_machine("zen3") == machine::named("zen3"));
    for (const machine& known : machine::known()) {
        save_machine(file.path, known);
        CHECK(kdna::load_machine(file.path) == known);
    }
    m.l2_bytes = 0;
    io_test::check_error(io_test::error_of([&] { save_machine(file.path, m); }), "L2", "bytes", "0");
    CHECK(kdna::load_machine(file.path) == machine::known().back());
}

TEST_CASE("machine file: everything is there once, is what it must be, and nothing else is") {
    machine_rejects("", "kdna_test_machine.json", "'{'", "");
    machine_rejects("{", "kdna_test_machine.json", "JSON", "");
    machine_rejects("{}", "kdna.machine", "an integer", "nothing");
    machine_rejects(text_with("\"kdna.machine\": 1", "\"kdna.machine\": 2"), "kdna.machine", "1", "2");
    machine_rejects(text_with("\"l2_bytes\"", "\"l2\""), "l2_bytes", "an integer", "nothing");
    machine_rejects(text_with("\"l2_bytes\": 524288", "\"l2_bytes\": 524288.5"), "l2_bytes", "an integer", "a number");
    machine_rejects(text_with("\"l2_bytes\": 524288", "\"l2_bytes\": 0"), "machine mine L2", "bytes", "0");
    machine_rejects(text_with("\"name\": \"mine\"", "\"name\": 3"), "name", "a string", "an integer");
    machine_rejects(text_with("\"floats_per_cycle\": 16.0", "\"floats_per_cycle\": \"16\""), "floats_per_cycle",
                    "a number", "a string");
    machine_rejects(text_with("\"floats_per_cycle\": 16.0", "\"floats_per_cycle\": -16"), "machine mine floats",
                    "above 0", "-16");
    machine_rejects(text_with("{", "{\"clock\": 4, "), "kdna_test_machine.json", "members of a machine", "\"clock\"");
    machine_rejects(text_with("{", "{\"name\": \"twice\", "), "kdna_test_machine.json", "", "name");
    machine_rejects(std::string(100000, ' '), "kdna_test_machine.json", "at most 65536 bytes", "100000");
    io_test::check_error(io_test::error_of([] { static_cast<void>(kdna::load_machine("/no/such.json")); }), "such.json",
                         "", "");
}
