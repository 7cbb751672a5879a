#include <atomic>
#include <future>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <kdna/interop/eigen_thread_pool.hpp>

#include "support/catch.hpp"
#include "support/pool_calls.hpp"

namespace {

using kdna::eigen_thread_pool;
using kdna::index_t;
using kdna_test::calls;
using kdna_test::once_each;

// Keeps all threads of a pool busy until released.
class blockade {
public:
    explicit blockade(Eigen::ThreadPool& pool) {
        for (int i = 0; i < pool.NumThreads(); ++i)
            pool.Schedule([this] {
                ++waiting_;
                open_.wait(false);
                --waiting_;
            });
        while (waiting_ != pool.NumThreads()) std::this_thread::yield();
    }
    void release() {
        open_ = true;
        open_.notify_all();
        while (waiting_ != 0) std::this_thread::yield();
    }

private:
    std::atomic<bool> open_{false};
    std::atomic<int> waiting_{0};
};

}  // namespace

TEST_CASE("eigen_thread_pool: every index once, whatever the counts", "[interop]") {
    for (const index_t threads : {1, 2, 3, 8}) {
        eigen_thread_pool pool(threads);
        CHECK(pool.concurrency() == threads);
        for (const index_t n : {0, 1, 2, 3, 7, 8, 9, 1000}) CHECK(calls(pool, n) == once_each(n));
    }
}

TEST_CASE("eigen_thread_pool: what the tasks wrote is seen after the call", "[interop]") {
    eigen_thread_pool pool(4);
    std::vector<index_t> out(64);
    for (index_t round = 0; round < 2000; ++round) {
        pool.parallel_for(64, [&](index_t i) { out[static_cast<std::size_t>(i)] = round + i; });
        REQUIRE(std::accumulate(out.begin(), out.end(), index_t{0}) == 64 * round + 63 * 32);
    }
}

TEST_CASE("eigen_thread_pool: tasks run side by side", "[interop]") {
    eigen_thread_pool pool(3);
    std::atomic<int> arrived{0};
    pool.parallel_for(3, [&](index_t) {  // ends only if three threads are in it at once
        ++arrived;
        while (arrived < 3) std::this_thread::yield();
    });
    CHECK(arrived == 3);
}

TEST_CASE("eigen_thread_pool: several threads share one pool", "[interop]") {
    eigen_thread_pool pool(3);
    std::vector<std::future<bool>> callers;
    for (int t = 0; t < 4; ++t)
        callers.push_back(std::async(std::launch::async, [&] {
            bool right = true;
            for (index_t n = 0; n < 300; ++n) right = right && calls(pool, n % 40) == once_each(n % 40);
            return right;
        }));
    for (auto& c : callers) CHECK(c.get());
}

TEST_CASE("eigen_thread_pool: calls nest", "[interop]") {
    eigen_thread_pool pool(3);
    std::atomic<int> inner{0};
    pool.parallel_for(10, [&](index_t) { pool.parallel_for(10, [&](index_t) { ++inner; }); });
    CHECK(inner == 100);
}

TEST_CASE("eigen_thread_pool: on a pool that the program has", "[interop]") {
    Eigen::ThreadPool theirs(3);
    eigen_thread_pool pool(theirs);
    CHECK(pool.concurrency() == 4);
    CHECK(calls(pool, 100) == once_each(100));
}

TEST_CASE("eigen_thread_pool: the caller goes on alone while the pool is busy", "[interop]") {
    Eigen::ThreadPool theirs(2);
    eigen_thread_pool pool(theirs);
    blockade busy(theirs);
    // More calls than there are jobs to keep: their helpers all wait behind the blockade.
    for (int i = 0; i < 200; ++i) CHECK(calls(pool, 5) == once_each(5));
    busy.release();
    CHECK(calls(pool, 5) == once_each(5));
}

TEST_CASE("eigen_thread_pool: takes what kdna hands to an executor", "[interop]") {
    eigen_thread_pool pool(2);
    const kdna::executor_ref executor(pool);
    std::atomic<index_t> sum{0};
    const auto add = [&](index_t i) { sum += i; };
    executor.parallel_for(101, add);
    CHECK(sum == 5050);
    CHECK(executor.concurrency() == 2);
}

TEST_CASE("eigen_thread_pool: a pool has at least the caller's thread", "[interop]") {
    for (const index_t threads : {0, -1, 1 << 20}) CHECK_THROWS_AS(eigen_thread_pool(threads), kdna::error);
    CHECK_THROWS_WITH(eigen_thread_pool(0), "eigen_thread_pool: expected 1 to 1024 threads, found 0");
}
