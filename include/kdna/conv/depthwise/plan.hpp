// The plan of a depthwise convolution with channels in the vectors.
#pragma once

#include <kdna/conv/algorithm.hpp>

namespace kdna::inline KDNA_ABI::conv::depthwise {

/// A task is a block of output rows of one sample, all channels.
struct plan final : algorithm_plan {
    index_t block_rows = 1;
    // Of each thread.
    index_t assembled_panel_at = 0, modulated_panel_at = 0;

    [[nodiscard]] index_t tasks(const conv::plan& p, const call& c) const noexcept override;
    void run(const conv::plan& p, const call& c, const workspace_view& space, index_t first,
             index_t last) const noexcept override;
    [[nodiscard]] index_t row_multiple(const conv::plan&) const noexcept override { return 1; }
    [[nodiscard]] explanation explain(const problem& q, const conv::plan& p) const override;
};

}  // namespace kdna::inline KDNA_ABI::conv::depthwise
