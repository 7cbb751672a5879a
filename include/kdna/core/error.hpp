// kdna::error, and the building of its messages.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

/// What kdna throws for bad shapes, parameters, files and arguments. It always says three things: where (a layer name, a
/// tensor key, a file), what was expected there, and what was found. `what()` is the three in one sentence.
class error : public std::runtime_error {
public:
    error(std::string where, std::string expected, std::string found)
        : std::runtime_error(where + ": expected " + expected + ", found " + found),
          where_(std::move(where)),
          expected_(std::move(expected)),
          found_(std::move(found)) {}

    [[nodiscard]] const std::string& where() const noexcept { return where_; }
    [[nodiscard]] const std::string& expected() const noexcept { return expected_; }
    [[nodiscard]] const std::string& found() const noexcept { return found_; }

private:
    std::string where_, expected_, found_;
};

namespace detail {

KDNA_COLD void append(std::string& out, std::string_view text) { out += text; }
KDNA_COLD void append(std::string& out, char c) { out += c; }
KDNA_COLD void append_integer(std::string& out, long long value) { out += std::to_string(value); }
KDNA_COLD void append_integer(std::string& out, unsigned long long value) { out += std::to_string(value); }
KDNA_COLD void append_real(std::string& out, double value) { out += std::to_string(value); }
// clang-format off
template <std::integral I>
    requires(!std::same_as<I, char>)
void append(std::string& out, I value) {
    append_integer(out, static_cast<std::conditional_t<std::is_signed_v<I>, long long, unsigned long long>>(value));
}
// clang-format on
template <std::floating_point F>
void append(std::string& out, F value) {
    append_real(out, static_cast<double>(value));
}

}  // namespace detail

/// Concatenates strings and numbers; the message builder of the library (std::format is not in every C++20 library yet).
template <class... Parts>
[[nodiscard]] KDNA_COLD std::string concat(const Parts&... parts) {
    std::string out;
    (detail::append(out, parts), ...);
    return out;
}

/// Ends the program because a caller broke the contract of a noexcept function: going on would be undefined behaviour.
[[noreturn]] inline void contract_failure(const error& e) noexcept {
    std::fprintf(stderr, "kdna: contract broken: %s\n", e.what());
    std::abort();
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
