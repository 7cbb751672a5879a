// Rounding to 16 bits, against what the nearest number is.
#include <kdna/core/number_format.hpp>

#include <cmath>
#include <limits>

#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// Every number of a format comes back, and what lies between two neighbours goes to the nearer one, the middle to the even one.
template <class T>
void check_rounding(std::uint16_t infinity) {
    const auto number = [](std::uint32_t bits) { return widen(T{static_cast<std::uint16_t>(bits)}); };
    std::size_t wrong = 0;
    const auto expect = [&](float v, std::uint32_t bits) {
        wrong += narrow<T>(v).bits == bits ? 0 : 1;
        wrong += narrow<T>(-v).bits == (bits | 0x8000U) ? 0 : 1;
    };
    for (std::uint32_t bits = 0; bits < infinity; ++bits) {
        const float v = number(bits);
        expect(v, bits);
        // Beyond the largest number lies what would be the next one, were there one.
        const double next = bits + 1U < infinity
                                ? static_cast<double>(number(bits + 1U))
                                : 2.0 * static_cast<double>(v) - static_cast<double>(number(bits - 1U));
        const double middle = (static_cast<double>(v) + next) / 2.0;
        const auto at = static_cast<float>(middle);
        if (static_cast<double>(at) != middle) continue;  // numbers as small as float32's
        expect(at, bits + (bits & 1U));
        expect(std::nextafter(at, 0.0F), bits);
        expect(std::nextafter(at, INFINITY), bits + 1U);
    }
    expect(INFINITY, infinity);
    expect(std::numeric_limits<float>::max(), infinity);
    CHECK(wrong == 0);
    CHECK(std::isnan(widen(narrow<T>(NAN))));
    CHECK(std::isnan(widen(narrow<T>(-NAN))));
}

}  // namespace

TEST_CASE("Rounding to float16 and bfloat16 takes the nearest number, ties to even") {
    check_rounding<float16>(0x7c00);
    check_rounding<bfloat16>(0x7f80);
}

TEST_CASE("Formats have sizes and names") {
    CHECK(size_of(number_format::float32) == 4);
    CHECK(size_of(number_format::float16) == 2);
    CHECK(size_of(number_format::bfloat16) == 2);
    CHECK(to_string(number_format::bfloat16) == "bfloat16");
}
