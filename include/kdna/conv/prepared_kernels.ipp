// Definitions of prepared_kernels.hpp.
#pragma once

#include <mutex>
#include <vector>

#include <kdna/conv/prepared_kernels.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// A layer has a handful of them at most, so a list is searched.
struct prepared_kernels::store {
    struct entry {
        std::string_view variant;
        std::shared_ptr<const prepared_kernel> kernel;
    };
    std::mutex mutex;
    std::vector<entry> entries;
};

KDNA_FUNC prepared_kernels::prepared_kernels() : store_(std::make_shared<store>()) {}

KDNA_FUNC std::shared_ptr<const prepared_kernel> prepared_kernels::get(std::string_view variant, const maker& m) {
    const std::lock_guard lock(store_->mutex);
    for (const store::entry& e : store_->entries)
        if (e.variant == variant) return e.kernel;
    store_->entries.push_back({variant, m.make(m.context)});
    return store_->entries.back().kernel;
}

KDNA_FUNC void prepared_kernels::drop_unused() noexcept {
    const std::lock_guard lock(store_->mutex);
    std::erase_if(store_->entries, [](const store::entry& e) { return e.kernel.use_count() == 1; });
}

KDNA_FUNC void prepared_kernels::visit(void (*f)(void*, const void*, index_t), void* context) {
    const std::lock_guard lock(store_->mutex);
    for (const store::entry& e : store_->entries) f(context, e.kernel.get(), e.kernel->bytes());
}

}  // namespace kdna::inline KDNA_ABI::conv
