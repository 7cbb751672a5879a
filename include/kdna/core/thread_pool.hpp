// A thread pool for layers that take microseconds, on machines that may be busy.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(_MSC_VER)
#include <intrin.h>
#elif defined(__linux__)
#include <sched.h>
#endif

#include <kdna/core/executor.hpp>
#include <kdna/core/memory.hpp>

namespace kdna::inline KDNA_ABI {

/// An executor on threads of its own. It must outlive the plans that use it. The calling thread takes part in the work, and does
/// all of it that no worker has begun, so a call makes progress however busy the machine is. `parallel_for` allocates nothing
/// and may be called from several threads at once and from inside a task: one call has the workers, the others run on their
/// calling threads alone.
///
/// Workers wait awake for 50 us, as long as the gaps between the layers of a network are, and for a quarter of the time that
/// their last tasks took if that is longer (up to 500 us), as others may have longer ones; then they sleep. Where other
/// processes want the processors, threads are interrupted for milliseconds, and a call that waits for one may take longer than
/// the calling thread alone would. The pool notices both: a worker that was interrupted while it waited goes to sleep at once
/// for a while, one that finds itself on the caller's processor moves to another that it may run on (on Linux), and when waiting
/// has cost more than the workers' help was worth, calls run on the calling thread alone, for 5 ms at first and up to 640 ms if
/// that repeats. So nothing may rely on two tasks running at the same time.
///
///     kdna::thread_pool pool(4);
///     auto plan = network.plan(shape, {.executor = pool});
class thread_pool {
public:
    /// A pool for work on `threads` threads: the caller's and `threads` - 1 new ones. Throws kdna::error unless there
    /// are 1 to 1024, and if the system has no more threads.
    explicit thread_pool(index_t threads) {
        if (threads < 1 || threads > max_threads)
            throw error("thread_pool", concat("1 to ", max_threads, " threads"), concat(threads));
        try {
            for (index_t i = 1; i < threads; ++i) workers_.emplace_back([this] { serve(); });
        } catch (const std::system_error& e) {
            stop();
            throw error("thread_pool", concat(threads, " threads"), e.what());
        }
    }
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;
    /// No call may be running.
    ~thread_pool() { stop(); }

    /// How many calls may run at once: the workers and the caller's thread.
    [[nodiscard]] index_t concurrency() const noexcept { return static_cast<index_t>(workers_.size()) + 1; }

    /// Calls f(0) ... f(n - 1), in any order and on any threads, and returns when all have returned. f must not throw.
    template <std::invocable<index_t> F>
    void parallel_for(index_t n, const F& f) noexcept {
        if (n < 2 || workers_.empty() || in_use_.exchange(true, std::memory_order_acquire))
            return serial_executor::parallel_for(n, f);
        const clock::time_point begin = clock::now();
        if (begin < alone_until())
            serial_executor::parallel_for(n, f);
        else
            share(n, task_ref(f), begin);
        in_use_.store(false, std::memory_order_release);
    }

    /// Whether calls run on the calling thread alone at the moment, because the machine is busy.
    [[nodiscard]] bool works_alone() const noexcept { return clock::now() < alone_until(); }

private:
    using clock = std::chrono::steady_clock;
    using microseconds = std::chrono::microseconds;
    using milliseconds = std::chrono::milliseconds;

    static constexpr index_t max_threads = 1024;
    static constexpr clock::duration worker_spin = microseconds(50),  ///< that a worker waits awake for work, at least
        caller_spin = microseconds(30),    ///< that a caller waits awake for workers to finish, at least
        most_spin = microseconds(500),     ///< that either does after long tasks
        brief_spin = microseconds(2),      ///< instead of worker_spin after an interruption
        interruption = microseconds(100),  ///< between two looks at the clock: another process ran
        interrupted_for = milliseconds(100),
                                     most_loss = milliseconds(2),  ///< before the workers are left out
        least_pause = milliseconds(5), most_pause = milliseconds(640),
                                     proof = milliseconds(20);  ///< saved by workers who then count as good again

    static void relax() noexcept {
        for (int i = 0; i < 8; ++i) {
#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
            _mm_pause();
#elif defined(_MSC_VER)
            __yield();
#elif defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            __asm__ __volatile__("yield");
#endif
        }
    }

    /// The processor that the calling thread runs on, or -1 where that cannot be told.
    [[nodiscard]] static int processor() noexcept {
#if defined(__linux__)
        return sched_getcpu();
#else
        return -1;
#endif
    }
    /// Whether a worker runs where the caller of the current call, or of the last one, did: in its place, then.
    [[nodiscard]] bool displaces_caller() const noexcept {
        const int here = processor();
        return here >= 0 && here == caller_processor_.load(std::memory_order_relaxed);
    }

    /// Moves the calling thread to another processor that it may run on; false if it is not known how, or there is none. The
    /// system wakes a thread where it was woken from, and moves it to an idle processor only after it has been ready there
    /// for milliseconds, which a worker that sleeps between layers never is.
    [[nodiscard]] static bool move_away() noexcept {
#if defined(__linux__)
        cpu_set_t all, others;
        if (sched_getaffinity(0, sizeof(all), &all) != 0) return false;
        const int here = processor();
        if (here < 0 || here >= CPU_SETSIZE) return false;
        others = all;
        CPU_CLR(static_cast<std::size_t>(here), &others);
        if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0) return false;
        return sched_setaffinity(0, sizeof(all), &all) == 0;
#else
        return false;
#endif
    }

    [[nodiscard]] clock::time_point alone_until() const noexcept {
        return clock::time_point(clock::duration(alone_until_.load(std::memory_order_relaxed)));
    }

    void stop() noexcept {
        {
            const std::lock_guard lock(mutex_);
            stopped_ = true;
        }
        work_came_.notify_all();
        for (std::thread& worker : workers_) worker.join();
    }

    /// Runs tasks of the current call until none is left; returns how many. A thread that claims one may read what the caller
    /// wrote about the call: it stays as it is until the task is counted in `unfinished_`.
    [[nodiscard]] index_t work() noexcept {
        index_t mine = 0;
        for (index_t left = unclaimed_.load(std::memory_order_relaxed); left > 0;) {
            if (!unclaimed_.compare_exchange_weak(left, left - 1, std::memory_order_acquire, std::memory_order_relaxed))
                continue;
            (*task_)(count_ - left);
            ++mine;
            left = unclaimed_.load(std::memory_order_relaxed);
        }
        return mine;
    }

    /// One call of parallel_for with the workers.
    void share(index_t n, const task_ref& task, clock::time_point begin) noexcept {
        task_ = &task;
        count_ = n;
        caller_processor_.store(processor(), std::memory_order_relaxed);
        unfinished_.store(n, std::memory_order_relaxed);
        unclaimed_.store(n);  // sequentially consistent, as sleepers_: a worker sees the work or is seen asleep
        if (const index_t sleepers = sleepers_.load(); sleepers > 0) wake(std::min(sleepers, n - 1));
        const index_t mine = work();
        const clock::time_point worked = clock::now();
        if (unfinished_.fetch_sub(mine, std::memory_order_acq_rel) == mine) return account(n, mine, worked - begin, {});
        // While the machine may be busy, a processor that waits is one that the worker could have.
        const clock::duration awake = pause_ > clock::duration{} ? caller_spin : patience(worked - begin, caller_spin);
        account(n, mine, worked - begin, wait_for_workers(worked, awake) - worked);
    }

    /// How long to wait awake after tasks that took `worked`. The others' tasks may be longer by a part of that, and who sleeps
    /// meanwhile wakes up 30 to 50 us late.
    [[nodiscard]] static clock::duration patience(clock::duration worked, clock::duration least) noexcept {
        return std::clamp(worked / 4, least, most_spin);
    }

    void wake(index_t workers) noexcept {
        {
            const std::lock_guard lock(mutex_);
            ++wakes_;
        }
        if (workers == static_cast<index_t>(workers_.size())) return work_came_.notify_all();
        for (index_t i = 0; i < workers; ++i) work_came_.notify_one();
    }

    /// Returns when that was. A caller who sleeps leaves its processor to a worker that is waiting for one.
    [[nodiscard]] clock::time_point wait_for_workers(clock::time_point since, clock::duration awake) noexcept {
        clock::time_point now = since;
        while (unfinished_.load(std::memory_order_acquire) != 0) {
            relax();
            now = clock::now();
            if (now - since < awake) continue;
            std::unique_lock lock(mutex_);
            caller_sleeps_.store(true);
            work_done_.wait(lock, [&] { return unfinished_.load() == 0; });
            caller_sleeps_.store(false, std::memory_order_relaxed);
            return clock::now();
        }
        return now;
    }

    /// Weighs what the workers saved in a call, judged by the time that the caller's own tasks took, against the time that the
    /// caller waited for them.
    void account(index_t n, index_t mine, clock::duration worked, clock::duration waited) noexcept {
        if (mine == 0) return;
        const clock::duration saved = worked * (n - mine) / mine - waited;
        balance_ = std::min(balance_ + saved, most_loss);
        if (balance_ < -most_loss) {
            pause_ = std::clamp(pause_ * 2, least_pause, most_pause);
            alone_until_.store((clock::now() + pause_).time_since_epoch().count(), std::memory_order_relaxed);
            balance_ = proven_ = {};
        } else if (pause_ > clock::duration{} && (proven_ += saved) > proof) {
            pause_ = {};
        }
    }

    /// What a worker does.
    void serve() noexcept {
        clock::time_point idle_since = clock::now(), spins_again = idle_since;
        clock::duration awake = worker_spin;
        while (true) {
            const clock::time_point begin = clock::now();
            if (unclaimed_.load(std::memory_order_relaxed) > 0 && displaces_caller()) static_cast<void>(move_away());
            if (const index_t mine = work(); mine > 0) {
                if (unfinished_.fetch_sub(mine) == mine && caller_sleeps_.load()) {
                    { const std::lock_guard lock(mutex_); }
                    work_done_.notify_one();
                }
                idle_since = clock::now();
                awake = patience(idle_since - begin, worker_spin);
            }
            const clock::duration spin = idle_since < spins_again ? brief_spin : awake;
            clock::time_point now = idle_since;
            while (unclaimed_.load(std::memory_order_relaxed) == 0 && now - idle_since < spin && !displaces_caller()) {
                relax();
                const clock::time_point before = std::exchange(now, clock::now());
                if (now - before > interruption) spins_again = now + interrupted_for;
            }
            if (unclaimed_.load(std::memory_order_relaxed) > 0) continue;
            std::unique_lock lock(mutex_);
            sleepers_.fetch_add(1);
            // Who wakes when a short layer is over already waits awake for the next one.
            work_came_.wait(lock, [&, seen = wakes_] { return unclaimed_.load() > 0 || wakes_ != seen || stopped_; });
            sleepers_.fetch_sub(1);
            if (stopped_) return;
            lock.unlock();
            if (displaces_caller()) static_cast<void>(move_away());
            idle_since = clock::now();
        }
    }

    // The current call: written by its caller, claimed by all. Tasks are taken from the first to the last.
    alignas(alignment) std::atomic<index_t> unclaimed_{0};
    const task_ref* task_ = nullptr;
    index_t count_ = 0;
    alignas(alignment) std::atomic<index_t> unfinished_{0};
    std::atomic<bool> caller_sleeps_{false};

    // Those who sleep.
    alignas(alignment) std::atomic<index_t> sleepers_{0};
    std::mutex mutex_{};
    std::condition_variable work_came_{}, work_done_{};
    bool stopped_ = false;  ///< guarded by the mutex, as is how often a call has woken workers
    index_t wakes_ = 0;

    // Of the caller that has the workers.
    std::atomic<int> caller_processor_{-1};
    alignas(alignment) std::atomic<bool> in_use_{false};
    std::atomic<clock::rep> alone_until_{clock::time_point::min().time_since_epoch().count()};
    clock::duration pause_{}, balance_{}, proven_{};

    std::vector<std::thread> workers_{};
};
static_assert(executor<thread_pool>);

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
