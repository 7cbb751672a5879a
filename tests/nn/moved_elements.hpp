// What the tests of everything that only moves elements share.
#pragma once

#include <vector>

#include "support/nd_frames.hpp"

namespace kdna_test {

/// Numbers all of their own, so that every element is known by its value.
inline void number_elements(const nd_frame& x) {
    float next = 1.0F;
    for_each_index(x.view().shape, [&](const kdna::axis_numbers& i) { element(x.view(), i) = next++; });
}

inline nd_placement source_placement(rng& r) { return r.chance(0.1) ? nd_placement::repeated : any_nd_placement(r); }

/// A shape with as many elements: prime factors handed out anew.
inline kdna::nd_shape shape_of_as_many(rng& r, const kdna::nd_shape& s) {
    std::vector<index_t> extents(static_cast<std::size_t>(r.between(1, 5)), 1);
    for (index_t rest = kdna::element_count(s), p = 2; rest > 1;) {
        if (rest % p != 0) {
            ++p;
            continue;
        }
        extents[static_cast<std::size_t>(r.between(0, static_cast<index_t>(extents.size()) - 1))] *= p;
        rest /= p;
    }
    return kdna::nd_shape(extents);
}

}  // namespace kdna_test
