// JSON as a tree, within limits that a hostile text cannot pass.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI {

/// A value of a JSON text.
struct json_value {
    enum class kind { null, boolean, integer, number, string, array, object };
    kind is = kind::null;
    bool boolean = false;
    std::int64_t integer = 0;  ///< of an integer
    double number = 0.0;       ///< of an integer or number
    std::string string{};
    std::vector<std::string> keys{};  ///< of an object's members, in the order of the text
    std::vector<json_value> items{};  ///< elements of an array, or the members of an object

    /// The member of that name; null if there is none, or this is no object.
    [[nodiscard]] KDNA_FUNC const json_value* find(std::string_view key) const noexcept;
};

/// What it is, for messages: "a string".
[[nodiscard]] KDNA_FUNC std::string_view name_of(json_value::kind k) noexcept;

/// How much a text may hold.
struct json_limits {
    index_t depth = 64;          ///< arrays and objects inside each other
    index_t values = 4'000'000;  ///< in all
};

/// Parses a JSON text (RFC 8259). Throws kdna::error, naming `where`, for anything else, for a key that an object has twice, for an
/// integer that does not fit in 64 bits, and beyond the limits.
[[nodiscard]] KDNA_FUNC json_value parse_json(std::string_view text, std::string_view where,
                                              const json_limits& limits = {});

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/json.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
