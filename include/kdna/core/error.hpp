// kdna::error, and integer arithmetic that throws it instead of overflowing.
#pragma once

#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <limits>
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

/// a * b for extents and counts, both >= 0. Throws kdna::error when the product does not fit.
[[nodiscard]] inline index_t checked_mul(index_t a, index_t b, std::string_view where) {
    if (a < 0 || b < 0) throw error(std::string(where), "extents >= 0", concat(a, " and ", b));
    if (b != 0 && a > std::numeric_limits<index_t>::max() / b)
        throw error(std::string(where), "a product that fits in 64 bits", concat(a, " * ", b));
    return a * b;
}

/// a + b for extents and counts, both >= 0. Throws kdna::error when the sum does not fit.
[[nodiscard]] inline index_t checked_add(index_t a, index_t b, std::string_view where) {
    if (a < 0 || b < 0) throw error(std::string(where), "extents >= 0", concat(a, " and ", b));
    if (a > std::numeric_limits<index_t>::max() - b)
        throw error(std::string(where), "a sum that fits in 64 bits", concat(a, " + ", b));
    return a + b;
}

}  // namespace kdna::inline KDNA_ABI
