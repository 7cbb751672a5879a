// Definitions of machine_file.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstdio>
#include <string>
#include <vector>

#include <kdna/io/file.hpp>
#include <kdna/io/json.hpp>
#include <kdna/io/json_text.hpp>
#include <kdna/io/machine_file.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

inline constexpr std::string_view machine_version_key = "kdna.machine";
inline constexpr index_t machine_version = 1, most_machine_bytes = 1 << 16;

/// Calls f(name, member) for each number of a description, in the order of the file.
template <class Machine, class F>
void for_each_number(Machine& m, const F& f) {
    f("l1_bytes", m.l1_bytes);
    f("l1_ways", m.l1_ways);
    f("l2_bytes", m.l2_bytes);
    f("l3_bytes", m.l3_bytes);
    f("vectors_per_cycle", m.vectors_per_cycle);
    f("floats_per_cycle", m.floats_per_cycle);
    f("l3_bytes_per_cycle", m.l3_bytes_per_cycle);
    f("memory_bytes_per_cycle", m.memory_bytes_per_cycle);
}

}  // namespace detail

KDNA_FUNC machine load_machine(const std::filesystem::path& path) {
    detail::file_source file(path);
    const std::string& where = file.name();
    if (file.size() > detail::most_machine_bytes)
        throw error(where, concat("a machine of at most ", detail::most_machine_bytes, " bytes"), concat(file.size()));
    std::string text(static_cast<std::size_t>(file.size()), ' ');
    file.read(std::as_writable_bytes(std::span(text)));
    detail::check_json_text(text, "a machine", where);
    const json_value root = parse_json(text, where);

    const auto member = [&](std::string_view name, std::string_view expected, const auto& fits) -> const json_value& {
        const json_value* v = root.find(name);
        const std::string at = concat(where, " ", name);
        if (v == nullptr) throw error(at, std::string(expected), "nothing");
        if (!fits(*v)) throw error(at, std::string(expected), std::string(name_of(v->is)));
        return *v;
    };
    using kind = json_value::kind;
    const auto integer = [](const json_value& v) { return v.is == kind::integer; };
    const index_t version = member(detail::machine_version_key, "an integer", integer).integer;
    if (version != detail::machine_version)
        throw error(concat(where, " ", detail::machine_version_key), concat(detail::machine_version), concat(version));
    machine m;
    m.name = member("name", "a string", [](const json_value& v) { return v.is == kind::string; }).string;
    detail::for_each_number(m, [&]<class T>(std::string_view name, T& to) {
        if constexpr (std::is_same_v<T, index_t>)
            to = member(name, "an integer", integer).integer;
        else
            to = member(name, "a number", [&](const json_value& v) {
                     return v.is == kind::number || integer(v);
                 }).number;
    });
    for (const std::string& key : root.keys) {
        bool known = key == detail::machine_version_key || key == "name";
        detail::for_each_number(m, [&](std::string_view name, const auto&) { known = known || name == key; });
        if (!known) throw error(where, "members of a machine", concat("\"", detail::printable(key), "\""));
    }
    try {
        m.check();
    } catch (const error& e) {
        throw error(concat(where, ": ", e.where()), e.expected(), e.found());
    }
    return m;
}

KDNA_FUNC void save_machine(const std::filesystem::path& path, const machine& m) {
    m.check();
    std::string text = concat("{\"", detail::machine_version_key, "\": ", detail::machine_version,
                              ", \"name\": ", detail::json_string(m.name));
    detail::for_each_number(m, [&]<class T>(std::string_view name, const T& value) {
        text += concat(",\n \"", name, "\": ");
        if constexpr (std::is_same_v<T, const index_t> || std::is_same_v<T, index_t>)
            text += concat(value);
        else
            text += nlohmann::json(value).dump();
    });
    text += "}\n";
    detail::replace_file(path, [&](std::ostream& out) { detail::write_bytes(out, text); });
}

KDNA_FUNC machine find_machine(std::string_view name_or_file) {
    return name_or_file.ends_with(".json") ? load_machine(std::filesystem::path(name_or_file))
                                           : machine::named(name_or_file);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
