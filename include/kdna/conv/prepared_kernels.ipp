// Definitions of prepared_kernels.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <mutex>
#include <utility>

#include <kdna/conv/prepared_kernels.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// A list, one entry for each variant that was ever wanted; a layer has a handful of them at most.
struct prepared_kernels::store {
    struct entry {
        std::string_view variant;
        std::shared_ptr<const prepared_kernel> kernel;
        entry* next;
    };
    std::mutex mutex;
    entry* first = nullptr;
    store() = default;
    store(const store&) = delete;
    store& operator=(const store&) = delete;
    ~store() {
        while (first != nullptr) delete std::exchange(first, first->next);
    }
};

KDNA_FUNC_COLD prepared_kernels::prepared_kernels() : store_(new store) {}

KDNA_FUNC_COLD std::shared_ptr<const prepared_kernel> prepared_kernels::get(std::string_view variant, const maker& m) {
    const std::lock_guard lock(store_->mutex);
    store::entry* e = store_->first;
    while (e != nullptr && e->variant != variant) e = e->next;
    if (e == nullptr) store_->first = e = new store::entry{variant, nullptr, store_->first};
    if (e->kernel == nullptr) e->kernel = m.make(m.context);
    return e->kernel;
}

KDNA_FUNC_COLD void prepared_kernels::drop_unused() noexcept {
    const std::lock_guard lock(store_->mutex);
    for (store::entry* e = store_->first; e != nullptr; e = e->next)
        if (e->kernel.use_count() == 1) e->kernel.reset();
}

KDNA_FUNC_COLD void prepared_kernels::visit(void (*f)(void*, const void*, index_t), void* context) {
    const std::lock_guard lock(store_->mutex);
    for (const store::entry* e = store_->first; e != nullptr; e = e->next)
        if (e->kernel != nullptr) f(context, e->kernel.get(), e->kernel->bytes);
}

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
