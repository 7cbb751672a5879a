// Kernels that an algorithm makes once from a layer's kernel, in a form of its own, and keeps beside it.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <string_view>
#include <type_traits>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// A kernel in the form that one algorithm reads; the algorithm derives a class from this. A std::shared_ptr that is
/// made from a pointer to that class destroys it as what it is, so nothing here need be virtual.
struct prepared_kernel {
    index_t bytes = 0;  ///< of memory that it takes
};

/// The prepared kernels of one layer: made when a plan first wants them, and kept for all plans and copies of the
/// layer. All members may be called from several threads at once.
class prepared_kernels {
public:
    prepared_kernels();
    prepared_kernels(const prepared_kernels&) = delete;
    prepared_kernels& operator=(const prepared_kernels&) = delete;

    /// What makes a kernel that is not there yet: a function, and what it is called with.
    struct maker {
        std::shared_ptr<const prepared_kernel> (*make)(const void* context);
        const void* context;
    };
    /// The kernel for an algorithm's variant, whose name must outlive the store ("winograd F(4x4)", a literal).
    [[nodiscard]] std::shared_ptr<const prepared_kernel> get(std::string_view variant, const maker& m);
    /// Calls f(address, bytes) for every kernel that is kept.
    template <class F>
    void for_each_storage(F&& f) {
        visit([](void* context, const void* address,
                 index_t bytes) { (*static_cast<std::remove_reference_t<F>*>(context))(address, bytes); },
              const_cast<void*>(static_cast<const void*>(std::addressof(f))));
    }
    /// Forgets the kernels that no plan holds. New holders come by `get` only, which waits for this.
    void drop_unused() noexcept;

private:
    void visit(void (*f)(void*, const void*, index_t), void* context);
    struct store;
    std::shared_ptr<store> store_;
};

}  // namespace kdna::inline KDNA_ABI::conv

#ifndef KDNA_COMPILED
#include <kdna/conv/prepared_kernels.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
