// The base of programs that compute every item by itself.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/program.hpp>
#include <kdna/cuda/device/qualifiers.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// What programs have in common that compute every item by itself: one thread per item, no shared memory. Grid: items /
/// threads.
struct elementwise_program {
    static constexpr int threads = 256;
    struct registers {};
    [[nodiscard]] static grid_size grid(int items) { return {(items - 1) / threads + 1, 1, 1}; }

    template <class Arguments>
    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const Arguments&) {
        return 0;
    }

protected:
    template <class Block, class F>
    KDNA_DEVICE static void for_each(Block& block, int items, F&& f) {
        block.parallel([&](int thread, auto&) {
            // The last block reaches beyond the items: near the end of 32 bits an index must not overflow.
            const int rest = items - block.x * threads;
            if (thread < rest) f(block.x * threads + thread);
        });
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
