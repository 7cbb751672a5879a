// Eigen's thread pool as an executor.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <concepts>
#include <memory>
#include <thread>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <kdna/core/executor.hpp>

namespace kdna::inline KDNA_ABI {

/// An executor on an Eigen thread pool, one of its own or one that the program has already; it must outlive the plans
/// that use it. The calling thread takes part in the work, so a call makes progress however busy the pool is.
/// `parallel_for` allocates nothing and may be called from several threads at once and from inside the pool.
///
///     kdna::eigen_thread_pool pool(4);
///     auto plan = network.plan(shape, {.executor = pool});
class eigen_thread_pool {
public:
    /// A pool for work on `threads` threads: the caller's and `threads` - 1 new ones. Throws kdna::error unless there
    /// are 1 to 1024.
    explicit eigen_thread_pool(index_t threads) {
        if (threads < 1 || threads > max_threads)
            throw error("eigen_thread_pool", concat("1 to ", max_threads, " threads"), concat(threads));
        workers_ = threads - 1;
        if (workers_ == 0) return;
        own_ = std::make_unique<Eigen::ThreadPool>(static_cast<int>(workers_));
        pool_ = own_.get();
    }
    /// The caller's thread and all threads of a pool that outlives this object (ThreadPoolDevice::getPool() is one).
    explicit eigen_thread_pool(Eigen::ThreadPoolInterface& pool) noexcept : pool_(&pool), workers_(pool.NumThreads()) {}

    eigen_thread_pool(const eigen_thread_pool&) = delete;
    eigen_thread_pool& operator=(const eigen_thread_pool&) = delete;
    /// Waits until the pool has dropped the last reference to this object; must not be called from inside the pool.
    ~eigen_thread_pool() {
        for (job& j : jobs_)
            while (j.users.load(std::memory_order_acquire) != 0) std::this_thread::yield();
    }

    /// How many calls may run at once: the pool's threads and the caller's.
    [[nodiscard]] index_t concurrency() const noexcept { return workers_ + 1; }

    /// Calls f(0) ... f(n - 1), in any order and on any threads, and returns when all have returned. f must not throw.
    template <std::invocable<index_t> F>
    void parallel_for(index_t n, const F& f) noexcept {
        const index_t helpers = std::min(workers_, n - 1);
        job* const j = helpers > 0 ? free_job(helpers + 1) : nullptr;
        if (j == nullptr) return serial_executor::parallel_for(n, f);
        const task_ref task(f);
        j->task = &task;
        j->count = n;
        j->next.store(0, std::memory_order_relaxed);
        j->finished.store(0, std::memory_order_relaxed);
        // A capture of one pointer fits into std::function itself: no allocation.
        for (index_t i = 0; i < helpers; ++i)
            pool_->Schedule([j] {
                j->work();
                j->leave();
            });
        j->work();
        for (index_t done = j->finished.load(std::memory_order_acquire); done != n;
             done = j->finished.load(std::memory_order_acquire))
            j->finished.wait(done, std::memory_order_acquire);
        j->leave();
    }

private:
    static constexpr index_t max_threads = 1024;

    /// One call of parallel_for. A helper that the pool starts late finds nothing left to do, so nobody waits for it;
    /// the job is used again when all its helpers have been there.
    struct job {
        std::atomic<index_t> users{0};  // the caller and its helpers; 0: free
        std::atomic<index_t> next{0}, finished{0};
        index_t count = 0;
        const task_ref* task = nullptr;

        void work() noexcept {
            index_t mine = 0;
            for (index_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count; ++mine) (*task)(i);
            if (mine > 0 && finished.fetch_add(mine, std::memory_order_acq_rel) + mine == count) finished.notify_one();
        }
        void leave() noexcept { users.fetch_sub(1, std::memory_order_release); }
    };

    /// A job nobody uses. There is none when the pool has not come to the helpers of many calls; more of them would be
    /// no help, and the caller does the work alone.
    [[nodiscard]] job* free_job(index_t users) noexcept {
        for (job& j : jobs_)
            if (index_t none = 0; j.users.compare_exchange_strong(none, users, std::memory_order_acquire)) return &j;
        return nullptr;
    }

    std::array<job, 64> jobs_;
    std::unique_ptr<Eigen::ThreadPool> own_{};
    Eigen::ThreadPoolInterface* pool_ = nullptr;
    index_t workers_ = 0;
};
static_assert(executor<eigen_thread_pool>);

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
