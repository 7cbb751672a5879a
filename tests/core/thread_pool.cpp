#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <thread>
#include <vector>

#include <kdna/core/thread_pool.hpp>

#include "support/catch.hpp"
#include "support/pool_calls.hpp"

namespace {

using kdna::index_t;
using kdna::thread_pool;
using kdna_test::calls;
using kdna_test::once_each;

void busy_for(std::chrono::microseconds time) {
    for (const auto end = std::chrono::steady_clock::now() + time; std::chrono::steady_clock::now() < end;) {
    }
}

}  // namespace

TEST_CASE("thread_pool: every index once, whatever the counts", "[threads]") {
    for (const index_t threads : {1, 2, 3, 8}) {
        thread_pool pool(threads);
        CHECK(pool.concurrency() == threads);
        for (const index_t n : {0, 1, 2, 3, 7, 8, 9, 1000}) CHECK(calls(pool, n) == once_each(n));
    }
}

TEST_CASE("thread_pool: one thread takes the indices in their order", "[threads]") {
    thread_pool pool(1);
    std::vector<index_t> order;
    pool.parallel_for(5, [&](index_t i) { order.push_back(i); });
    CHECK(order == std::vector<index_t>{0, 1, 2, 3, 4});
}

TEST_CASE("thread_pool: what the tasks wrote is seen after the call", "[threads]") {
    thread_pool pool(4);
    std::vector<index_t> out(64);
    bool right = true;
    for (index_t round = 0; round < 500; ++round) {
        pool.parallel_for(64, [&](index_t i) { out[static_cast<std::size_t>(i)] = round + i; });
        for (index_t i = 0; i < 64; ++i) right = right && out[static_cast<std::size_t>(i)] == round + i;
    }
    CHECK(right);
}

TEST_CASE("thread_pool: many short calls, with and without pauses in which the workers fall asleep", "[threads]") {
    thread_pool pool(3);
    std::atomic<index_t> sum{0};
    for (int round = 0; round < 5000; ++round) {
        pool.parallel_for(4, [&](index_t i) { sum.fetch_add(i, std::memory_order_relaxed); });
        if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    CHECK(sum == 5000 * 6);
}

TEST_CASE("thread_pool: the calls of one loop run at once", "[threads]") {
    thread_pool pool(3);
    std::atomic<int> arrived{0};
    pool.parallel_for(3, [&](index_t) {  // ends only if three threads are in it at once
        ++arrived;
        while (arrived < 3) std::this_thread::yield();
    });
    CHECK(arrived == 3);
}

TEST_CASE("thread_pool: workers that are asleep are woken", "[threads]") {
    for (int round = 0; round < 3; ++round) {
        thread_pool pool(2);  // that has not yet had a reason to leave its worker out
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        std::atomic<int> arrived{0};
        pool.parallel_for(2, [&](index_t) {
            ++arrived;
            while (arrived < 2) std::this_thread::yield();
        });
        CHECK(arrived == 2);
    }
}

TEST_CASE("thread_pool: several threads share one pool", "[threads]") {
    thread_pool pool(3);
    std::vector<std::future<bool>> callers;
    for (int t = 0; t < 4; ++t)
        callers.push_back(std::async(std::launch::async, [&] {
            bool right = true;
            for (index_t n = 0; n < 300; ++n) right = right && calls(pool, n % 40) == once_each(n % 40);
            return right;
        }));
    for (auto& c : callers) CHECK(c.get());
}

TEST_CASE("thread_pool: calls nest", "[threads]") {
    thread_pool pool(3);
    std::atomic<int> inner{0};
    pool.parallel_for(10, [&](index_t) { pool.parallel_for(10, [&](index_t) { ++inner; }); });
    CHECK(inner == 100);
}

TEST_CASE("thread_pool: a caller goes on alone while the workers are in another caller's tasks", "[threads]") {
    thread_pool pool(2);
    std::atomic<int> inside{0};
    std::atomic<bool> open{false};
    auto blocked = std::async(std::launch::async, [&] {
        pool.parallel_for(2, [&](index_t) {
            ++inside;
            while (!open) std::this_thread::yield();
        });
    });
    while (inside < 2) std::this_thread::yield();
    for (int i = 0; i < 100; ++i) CHECK(calls(pool, 5) == once_each(5));
    open = true;
    blocked.get();
    CHECK(calls(pool, 5) == once_each(5));
}

TEST_CASE("thread_pool: the caller waits for a task that takes long", "[threads]") {
    const auto caller = std::this_thread::get_id();
    for (int round = 0; round < 5; ++round) {
        thread_pool pool(2);
        std::atomic<bool> worker_came{false};
        int made = 0;
        pool.parallel_for(2, [&](index_t) {
            if (std::this_thread::get_id() == caller) {
                while (!worker_came) std::this_thread::yield();
            } else {
                worker_came = true;
                std::this_thread::sleep_for(std::chrono::milliseconds(5));
                made = 1;
            }
        });
        CHECK(made == 1);
    }
}

TEST_CASE("thread_pool: keeps away from workers that cost more than they help, and tries them again", "[threads]") {
    thread_pool pool(2);
    const auto caller = std::this_thread::get_id();
    std::atomic<bool> slow{true};
    std::atomic<int> helped{0};
    // A worker that is always interrupted.
    const auto task = [&](index_t) {
        if (std::this_thread::get_id() != caller) {
            ++helped;
            if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        } else {
            busy_for(std::chrono::microseconds(50));
        }
    };
    const auto until = [&](bool alone) {
        for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
             pool.works_alone() != alone && std::chrono::steady_clock::now() < end;)
            pool.parallel_for(4, task);
        return pool.works_alone() == alone;
    };
    REQUIRE(until(true));
    const int before = helped;
    pool.parallel_for(4, task);
    CHECK(helped == before);
    slow = false;
    REQUIRE(until(false));
    for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
         helped == before && std::chrono::steady_clock::now() < end;)
        pool.parallel_for(4, task);
    CHECK(helped > before);
}

TEST_CASE("thread_pool: finishes beside busy threads on every processor", "[threads]") {
    std::atomic<bool> stop{false};
    std::vector<std::thread> others;
    for (unsigned i = 0; i < std::max(std::thread::hardware_concurrency(), 1U); ++i)
        others.emplace_back([&] {
            while (!stop) {
            }
        });
    {
        thread_pool pool(4);
        for (int round = 0; round < 200; ++round) {
            const bool right = calls(pool, 8) == once_each(8);
            if (!right) CHECK(right);
        }
    }
    stop = true;
    for (std::thread& t : others) t.join();
}

TEST_CASE("thread_pool: ends whether its workers sleep, wait or have not started", "[threads]") {
    for (int i = 0; i < 20; ++i) thread_pool(4);
    for (int i = 0; i < 20; ++i) {
        thread_pool pool(4);
        CHECK(calls(pool, 4) == once_each(4));
        if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

TEST_CASE("thread_pool: takes what kdna hands to an executor", "[threads]") {
    thread_pool pool(2);
    const kdna::executor_ref executor(pool);
    std::atomic<index_t> sum{0};
    const auto add = [&](index_t i) { sum += i; };
    executor.parallel_for(101, add);
    CHECK(sum == 5050);
    CHECK(executor.concurrency() == 2);
}

TEST_CASE("thread_pool: has 1 to 1024 threads", "[threads]") {
    for (const index_t threads : {0, -1, 1 << 20}) CHECK_THROWS_AS(thread_pool(threads), kdna::error);
    CHECK_THROWS_WITH(thread_pool(0), "thread_pool: expected 1 to 1024 threads, found 0");
}
