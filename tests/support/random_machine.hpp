// Descriptions of machines that nobody has built, so that small layers meet blocks of every kind.
#pragma once

#include <kdna/core/machine.hpp>

#include "support/random.hpp"

namespace kdna_test {

inline kdna::machine random_machine(rng& r) {
    const auto size = [&](int least, int most) {  // powers of two, and what lies between
        const index_t whole = index_t{1} << r.between(least, most);
        return r.chance(0.5) ? whole : r.between(whole, 2 * whole);
    };
    kdna::machine m{.name = "random"};
    m.l1_bytes = size(11, 16);
    m.l1_ways = r.pick<index_t>({1, 2, 4, 8, 12, 16});
    m.l2_bytes = size(12, 22);
    m.l3_bytes = r.chance(0.3) ? 0 : size(16, 25);
    m.vectors_per_cycle = r.pick({1.0, 2.0, 4.0});
    m.floats_per_cycle = r.pick({4.0, 16.0, 32.0});
    m.l3_bytes_per_cycle = r.real(4.0, 30.0);
    m.memory_bytes_per_cycle = r.real(1.0, 10.0);
    return m;
}

}  // namespace kdna_test
