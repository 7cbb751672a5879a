// Values in an arena: none overlaps another that is alive at the same time, and the arena is no larger than it has to be.
#include <limits>
#include <vector>

#include <kdna/nn/arena.hpp>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;

TEST_CASE("Values that are alive at the same time lie apart, for random lifetimes") {
    for (std::uint64_t i = 0; i < 200; ++i) {
        rng r(970, i);
        const index_t steps = r.between(1, 20);
        std::vector<arena_value> values(static_cast<std::size_t>(r.between(1, 30)));
        for (arena_value& v : values) {
            v.first = r.between(0, steps - 1);
            v.last = r.between(v.first, steps - 1);
            v.bytes = 64 * r.between(0, 9);
        }
        const arena_layout a = place_in_arena(values, "arena");
        REQUIRE(a.offsets.size() == values.size());
        index_t end = 0, peak = 0, sum = 0;
        for (std::size_t k = 0; k < values.size(); ++k) {
            const arena_value& v = values[k];
            CHECK(a.offsets[k] % 64 == 0);
            end = std::max(end, a.offsets[k] + v.bytes);
            sum += v.bytes;
            for (std::size_t j = 0; j < k; ++j) {
                const arena_value& o = values[j];
                const bool together = v.first <= o.last && o.first <= v.last;
                const bool apart = a.offsets[k] >= a.offsets[j] + o.bytes || a.offsets[j] >= a.offsets[k] + v.bytes;
                CHECK((!together || apart));
            }
        }
        for (index_t step = 0; step < steps; ++step) {
            index_t alive = 0;
            for (const arena_value& v : values) alive += v.first <= step && step <= v.last ? v.bytes : 0;
            peak = std::max(peak, alive);
        }
        CHECK(a.bytes == end);
        CHECK(a.bytes >= peak);
        CHECK(a.bytes <= sum);
    }
}

TEST_CASE("A chain of values needs room for two neighbours, and the largest value lies at the front") {
    const std::vector<arena_value> chain{{0, 1, 64}, {1, 2, 256}, {2, 3, 128}, {3, 4, 128}, {4, 5, 64}};
    const arena_layout a = place_in_arena(chain, "arena");
    CHECK(a.offsets == std::vector<index_t>{256, 0, 256, 0, 128});
    CHECK(a.bytes == 384);
    CHECK(place_in_arena({}, "arena").bytes == 0);
}

TEST_CASE("An arena whose size overflows is refused by its name") {
    const index_t half = std::numeric_limits<index_t>::max() / 2 + 1;
    const std::vector<arena_value> values{{0, 1, half}, {0, 1, half}};
    check_error([&] { return place_in_arena(values, "huge arena"); }, "huge arena", "64 bits", "");
}
