// Tensors for networks that tests write by hand.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <kdna/io/state_dict.hpp>

#include "support/random.hpp"

namespace kdna_test {

inline void add_random_tensor(kdna::state_dict& d, rng& r, const std::string& name,
                              const std::vector<kdna::index_t>& shape) {
    kdna::index_t count = 1;
    for (const kdna::index_t e : shape) count *= e;
    d.add(name, kdna::tensor_data::copy_of<float>(shape, std::span<const float>(r.floats(count))));
}

}  // namespace kdna_test
