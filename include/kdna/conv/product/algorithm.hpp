// Convolution as a matrix product of pixels and filters. It runs every kernel but a depthwise one.
#pragma once

#include <algorithm>
#include <numeric>

#include <kdna/conv/product/nest.hpp>
#include <kdna/conv/product/planner.hpp>

namespace kdna::inline KDNA_ABI::conv::product {

inline index_t plan::tasks(const conv::plan& p, const call& c) const noexcept { return count_tasks(p, *this, c); }

inline void plan::begin(const conv::plan&, const call&, std::byte* workspace, const executor_ref&) const noexcept {
    std::fill_n(at_offset<float>(workspace, zeros_at), zeros_floats, 0.0F);
}

inline void plan::run(const conv::plan& p, const call& c, const workspace_view& space, index_t first,
                      index_t last) const noexcept {
    run_tasks(p, *this, c, space, first, last);
}

/// Bands begin where a row of the map and a tallest tile begin together.
inline index_t plan::row_multiple(const conv::plan& p) const noexcept { return tallest / std::gcd(tallest, p.out.w); }

KDNA_COLD explanation plan::explain(const problem& q, const conv::plan& p) const {
    const index_t pixels = p.out.h * p.out.w;
    return {.tiles = concat(p.name, ", tile ", tile_height_for(pixels, tallest), "x", q.kernel().width_of(0),
                            ", blocks of ", std::min(block_pixels, pixels), " pixels"),
            .copied = rows == input_rows::kernel_rows ? " with its padding" : "",
            .gate = gate_in_panel ? "a panel copy" : "the copy",
            .spatial = rows == input_rows::in_place && !gate_in_panel ? "between taps" : "in a panel copy",
            .several = task_samples > 1 && one_kernel,
            .kernels = mixes_input() ? concat("input mixed for all ", mixes, " kernels") : ""};
}

}  // namespace kdna::inline KDNA_ABI::conv::product
