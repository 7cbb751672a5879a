// Threads come from the caller: any type with concurrency() and parallel_for(n, f).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <concepts>
#include <memory>
#include <type_traits>

#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI {

/// A callable `void(index_t)` by reference: two pointers, no allocation. Valid while the callable lives.
class task_ref {
public:
    // clang-format off
    template <class F>
        requires(std::invocable<F&, index_t> && !std::same_as<std::remove_cvref_t<F>, task_ref>)
    task_ref(F&& f) noexcept  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
        : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
          call_([](void* object, index_t i) { (*static_cast<std::remove_reference_t<F>*>(object))(i); }) {}
    // clang-format on
    void operator()(index_t i) const { call_(object_, i); }

private:
    void* object_;
    void (*call_)(void*, index_t);
};

/// What kdna asks of a thread pool. `concurrency()` is how many calls may run at once, the caller's own included;
/// `parallel_for(n, f)` calls f(0) ... f(n-1), in any order and on any threads, and returns when all have returned.
/// It must not throw: `run` is noexcept.
// clang-format off
template <class E>
concept executor = requires(E& e, index_t n, const task_ref& f) {
    { e.concurrency() } -> std::convertible_to<index_t>;
    e.parallel_for(n, f);
};
// clang-format on

/// Runs everything on the calling thread; the default.
struct serial_executor {
    [[nodiscard]] static constexpr index_t concurrency() noexcept { return 1; }
    template <class F>
    static void parallel_for(index_t n, const F& f) {
        for (index_t i = 0; i < n; ++i) f(i);
    }
};

/// Any executor by reference, as plans keep it. The executor must outlive the plan.
class executor_ref {
public:
    executor_ref() noexcept = default;
    // clang-format off
    template <executor E>
        requires(!std::same_as<std::remove_cvref_t<E>, executor_ref>)
    executor_ref(E& e) noexcept  // NOLINT(google-explicit-constructor)
        : object_(static_cast<void*>(std::addressof(e))),
          concurrency_([](void* object) { return static_cast<index_t>(static_cast<E*>(object)->concurrency()); }),
          parallel_for_([](void* object, index_t n, const task_ref& f) { static_cast<E*>(object)->parallel_for(n, f); }) {}
    // clang-format on

    [[nodiscard]] index_t concurrency() const { return object_ == nullptr ? 1 : concurrency_(object_); }
    void parallel_for(index_t n, const task_ref& f) const {
        if (object_ == nullptr || n == 1)
            serial_executor::parallel_for(n, f);
        else
            parallel_for_(object_, n, f);
    }

private:
    void* object_ = nullptr;
    index_t (*concurrency_)(void*) = nullptr;
    void (*parallel_for_)(void*, index_t, const task_ref&) = nullptr;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
