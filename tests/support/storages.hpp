// The memory blocks that a layer or a kernel keeps.
#pragma once

#include <set>

#include <kdna/core/config.hpp>

#include "support/catch.hpp"

namespace kdna_test {

template <class Owner>
std::set<const void*> storages(const Owner& owner) {
    std::set<const void*> out;
    owner.for_each_storage([&](const void* address, kdna::index_t bytes) {
        CHECK(bytes > 0);
        out.insert(address);
    });
    return out;
}

}  // namespace kdna_test
