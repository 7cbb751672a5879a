// Expected errors.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <kdna/core/error.hpp>

#include "support/catch.hpp"

namespace kdna_test {

/// The kdna::error that f() throws; any other outcome fails the test.
template <class F>
kdna::error error_of(F&& f) {
    try {
        static_cast<void>(f());
    } catch (const kdna::error& e) {
        return e;
    }
    throw std::logic_error("no kdna::error was thrown");
}

/// f() must throw a kdna::error whose parts contain these texts, and whose message contains the parts.
template <class F>
void check_error(F&& f, std::string_view where, std::string_view expected, std::string_view found) {
    const kdna::error e = error_of(std::forward<F>(f));
    INFO(e.what());
    INFO("where: " << where << "; expected: " << expected << "; found: " << found);
    const auto contains = [](std::string_view text, std::string_view part) {
        return text.find(part) != std::string_view::npos;
    };
    CHECK(contains(e.where(), where));
    CHECK(contains(e.expected(), expected));
    CHECK(contains(e.found(), found));
    CHECK(contains(e.what(), e.where()));
    CHECK(contains(e.what(), "expected " + e.expected()));
    CHECK(contains(e.what(), "found " + e.found()));
}

}  // namespace kdna_test
