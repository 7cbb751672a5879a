// An executor that makes mistakes about threads visible: real threads, and tasks in random order.
#pragma once

#include <atomic>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "support/random.hpp"

namespace kdna_test {

class shuffling_executor {
public:
    explicit shuffling_executor(index_t threads, std::uint64_t seed = 1) : threads_(threads), random_(seed) {}

    [[nodiscard]] index_t concurrency() const { return threads_; }
    template <class F>
    void parallel_for(index_t n, const F& f) {
        ++calls;
        std::vector<index_t> order(static_cast<std::size_t>(n));
        std::iota(order.begin(), order.end(), index_t{0});
        for (std::size_t i = order.size(); i > 1; --i)
            std::swap(order[i - 1], order[static_cast<std::size_t>(random_.between(0, static_cast<index_t>(i) - 1))]);
        std::atomic<std::size_t> next{0};
        const auto work = [&] {
            for (std::size_t i = next++; i < order.size(); i = next++) f(order[i]);
        };
        std::vector<std::thread> others;
        for (index_t t = 1; t < threads_; ++t) others.emplace_back(work);
        work();
        for (std::thread& t : others) t.join();
    }

    int calls = 0;

private:
    index_t threads_;
    rng random_;
};

}  // namespace kdna_test
