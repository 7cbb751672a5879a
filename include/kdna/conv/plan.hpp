// The plan of one convolution: what all algorithms have in common, and the plan of the one that was chosen.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <string_view>

#include <kdna/conv/prepared_kernels.hpp>
#include <kdna/conv/problem.hpp>
#include <kdna/conv/stage.hpp>
#include <kdna/core/shape.hpp>

namespace kdna::inline KDNA_ABI::conv {

struct algorithm;  // algorithm.hpp

/// The decisions of one convolution for one input shape. Made once, read by any thread; copies share what does not
/// change.
///
/// The workspace is one piece of memory. Regions that all threads share come first, and then `threads` times
/// `thread_bytes` for what each thread writes while it works; offsets are in bytes.
struct plan {
    // Out of line, which keeps what copies and moves plans small.
    plan() noexcept;
    plan(const plan&);
    plan(plan&&) noexcept;
    plan& operator=(const plan&);
    plan& operator=(plan&&) noexcept;
    ~plan();

    std::string_view name{};  ///< of the algorithm's variant: "direct", "winograd F(4x4)"
    shape4 in{}, out{};
    input_order order = input_order::any;
    index_t threads = 1;
    index_t tasks = 1;              ///< of a call that computes all rows
    double predicted_cycles = 0.0;  ///< of a run of all samples on one thread (cost.hpp)

    staging stage = staging::never;
    stage_layout staged{};      ///< the copy of the input, where one is made
    bool gate_in_copy = false;  ///< that copy takes the gate; where none is made, the nest applies it
    index_t staged_at = 0;

    /// Where channel means are wanted: sums over the pixels of each part of a sample (a tile, or a row of the output),
    /// part_sums[n][part][part_floats], so that the order in which a mean is added up does not depend on the threads.
    index_t part_sums_at = 0, parts = 0, part_floats = 0;

    index_t thread_bytes = 0, workspace_bytes = 0;

    const algorithm* by = nullptr;                      ///< the algorithm that made it
    std::shared_ptr<const void> own{};                  ///< that algorithm's own decisions
    std::shared_ptr<const prepared_kernel> prepared{};  ///< the kernel it has prepared, null for most
};

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
