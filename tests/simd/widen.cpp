// Vectors of stored numbers, against the numbers one by one.
#include <kdna/simd/widen.hpp>

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "support/lanes.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

template <class T>
void check_all(number_format format) {
    std::vector<T> all(65536);
    for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
    std::vector<float> found(all.size());
    widen(stored_numbers(all.data(), format), static_cast<index_t>(all.size()), found.data());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const float expected = widen(all[i]);
        const bool right = std::isnan(expected)
                               ? std::isnan(found[i])
                               : std::bit_cast<std::uint32_t>(found[i]) == std::bit_cast<std::uint32_t>(expected);
        wrong += right ? 0 : 1;
    }
    CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("Vectors of float16 and bfloat16 are widened exactly, all 65536 numbers of each") {
    check_all<float16>(number_format::float16);
    check_all<bfloat16>(number_format::bfloat16);
}

TEST_CASE("Stored numbers are read from any element on, and nothing behind the last one") {
    rng r(510, 0);
    for (const number_format format : {number_format::float32, number_format::float16, number_format::bfloat16}) {
        const index_t count = 3 * lanes;
        const auto bytes = static_cast<std::size_t>((count + 1) * size_of(format));
        const std::unique_ptr<std::byte[]> memory(new std::byte[bytes]);
        std::vector<float> values = r.floats(count + 1);
        for (index_t i = 0; i <= count; ++i) {
            const float v = values[static_cast<std::size_t>(i)];
            const auto half = narrow<float16>(v);
            const auto bfloat = narrow<bfloat16>(v);
            const void* from = format == number_format::float32   ? static_cast<const void*>(&v)
                               : format == number_format::float16 ? static_cast<const void*>(&half)
                                                                  : static_cast<const void*>(&bfloat);
            std::memcpy(memory.get() + i * size_of(format), from, static_cast<std::size_t>(size_of(format)));
        }
        const stored_numbers numbers(memory.get(), format);
        std::vector<float> found(static_cast<std::size_t>(count));
        widen(numbers + 1, count, found.data());
        for (index_t i = 0; i < count; ++i) {
            CHECK(found[static_cast<std::size_t>(i)] == numbers[i + 1]);
            CHECK(std::abs(numbers[i] - values[static_cast<std::size_t>(i)]) <=
                  0x1p-8F * std::abs(values[static_cast<std::size_t>(i)]));
        }
        CHECK(static_cast<index_t>(numbers.bytes(count).size()) == count * size_of(format));
    }
}
