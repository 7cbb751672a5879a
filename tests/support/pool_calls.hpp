// How often a thread pool calls each index.
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

#include <kdna/core/executor.hpp>

namespace kdna_test {

template <kdna::executor Pool>
std::vector<int> calls(Pool& pool, kdna::index_t n) {
    std::vector<std::atomic<int>> count(static_cast<std::size_t>(n));
    pool.parallel_for(n, [&](kdna::index_t i) { ++count[static_cast<std::size_t>(i)]; });
    return {count.begin(), count.end()};
}
inline std::vector<int> once_each(kdna::index_t n) { return std::vector<int>(static_cast<std::size_t>(n), 1); }

}  // namespace kdna_test
