// OpenMP as an executor.
#pragma once

#include <kdna/core/macros_push.hpp>

#ifndef _OPENMP
#error "kdna/interop/openmp.hpp needs OpenMP: compile and link with -fopenmp (CMake: OpenMP::OpenMP_CXX)"
#endif

#include <omp.h>

#include <kdna/core/executor.hpp>

namespace kdna::inline KDNA_ABI {

/// An executor on OpenMP's threads. They wait for the next layer awake for a while, which is what short layers need: a thread
/// that sleeps takes 50 us and more to come back, as long as a layer of MobileNetV2 runs. Has no state but its number; inside
/// a parallel region of the program's own everything runs on the calling thread unless nesting is on.
///
///     kdna::openmp_executor threads;  // as many as omp_get_max_threads()
///     auto plan = network.plan(shape, {.executor = threads});
class openmp_executor {
public:
    openmp_executor() noexcept : threads_(omp_get_max_threads()) {}
    /// Throws kdna::error unless there is at least one thread.
    explicit openmp_executor(int threads) : threads_(threads) {
        if (threads < 1) throw error("openmp_executor", "at least one thread", concat(threads));
    }

    [[nodiscard]] index_t concurrency() const noexcept { return threads_; }

    /// Calls f(0) ... f(n - 1), in any order and on any threads, and returns when all have returned. f must not throw.
    template <std::invocable<index_t> F>
    void parallel_for(index_t n, const F& f) const noexcept {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
        for (index_t i = 0; i < n; ++i) f(i);
    }

private:
    int threads_;
};
static_assert(executor<openmp_executor>);

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
