// What the readers of files with JSON in them share. Only .ipp files include it, since nlohmann's header is slow to compile.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <kdna/core/error.hpp>
#include <kdna/io/dtype.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

// Throws unless the text is what the JSON parser should see. It is lenient about two things: a byte order mark before the
// text, and a NUL, which it takes for the end.
inline void check_json_text(std::string_view text, std::string_view what, std::string_view file) {
    if (!text.starts_with('{'))
        throw error(std::string(file), concat(what, " that starts with '{'"), concat("\"", printable(text, 8), "\""));
    if (const auto nul = text.find('\0'); nul != text.npos)
        throw error(std::string(file), concat(what, " in JSON"), concat("a NUL at its byte ", nul));
}

// Why the parser stopped. Its message is "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ...;
// last read: '...'"; the last part may be as long as the text and hold any bytes.
[[nodiscard]] inline std::string json_failure(std::size_t position, const nlohmann::detail::exception& failure) {
    std::string_view reason = failure.what();
    if (const auto prefix = reason.find("] "); prefix != reason.npos) reason.remove_prefix(prefix + 2);
    if (const auto column = reason.find(": "); column != reason.npos) reason.remove_prefix(column + 2);
    reason = reason.substr(0, reason.find("; last read"));
    return concat("at its byte ", position, ": ", printable(reason));
}

// A string as JSON writes it.
[[nodiscard]] inline std::string json_string(const std::string& text) {
    try {
        return nlohmann::json(text).dump();
    } catch (const nlohmann::json::type_error&) {
        throw error(printable(text), "a text in UTF-8", "other bytes");
    }
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
