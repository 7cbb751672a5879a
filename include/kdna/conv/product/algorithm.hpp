// Convolution as a matrix product of pixels and filters. It runs every kernel but a depthwise one.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <numeric>

#include <kdna/conv/product/nest.hpp>
#include <kdna/conv/product/planner.hpp>

namespace kdna::inline KDNA_ABI::conv::product {

/// Bands begin where a row of the map and a tallest tile begin together, and not within the lower tiles at the map's end.
inline index_t row_multiple(const conv::plan& p) noexcept {
    const index_t tallest = own_of<plan>(p).tallest, together = tallest / std::gcd(tallest, p.out.w),
                  last = p.out.h - ceil_div(lower_tile_rows(p.out.h * p.out.w, tallest), p.out.w);
    index_t multiple = together;
    while ((p.out.h - 1) / multiple * multiple > last) multiple += together;
    return multiple;
}

inline void begin(const conv::plan& p, const call&, std::byte* workspace, const executor_ref&) noexcept {
    const plan& own = own_of<plan>(p);
    std::fill_n(at_offset<float>(workspace, own.zeros_at), own.zeros_floats, 0.0F);
}

KDNA_COLD explanation explain(const problem& q, const conv::plan& p) {
    const plan& own = own_of<plan>(p);
    const index_t pixels = p.out.h * p.out.w;
    return {.tiles = concat(p.name, ", tile ", tile_height_for(pixels, own.tallest), "x", q.kernel().width_of(0),
                            ", blocks of ", std::min(own.block_pixels, pixels), " pixels"),
            .copied = own.rows == input_rows::kernel_rows ? " with its padding" : "",
            .gate = own.gate_in_panel ? "a panel copy" : "the copy",
            .spatial = own.rows == input_rows::in_place && !own.gate_in_panel ? "between taps" : "in a panel copy",
            .several = own.task_samples > 1 && own.one_kernel,
            .kernels = own.mixes_input() ? concat("input mixed for all ", own.mixes, " kernels") : ""};
}

inline constexpr algorithm functions{.offers = offers,
                                     .make_plan = make_plan,
                                     .tasks = count_tasks,
                                     .row_multiple = row_multiple,
                                     .begin = begin,
                                     .run = run_tasks,
                                     .explain = explain};

}  // namespace kdna::inline KDNA_ABI::conv::product

#include <kdna/core/macros_pop.hpp>
