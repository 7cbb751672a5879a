// One call of a planned convolution: what it reads and writes, and which rows it computes.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/activation.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/dna/factors.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Some rows of the output map, and where the views of a call begin. A view may hold only the rows that are needed for
/// these: its row 0 is row `x_first` or `y_first` of the map (nn/bands.hpp). The residual is always whole.
struct row_band {
    index_t first = 0, count = 0;  ///< rows to compute; a count of 0 means all
    index_t x_first = 0, y_first = 0;
};

/// One call of a planned convolution. Views and factors fit the plan (the layer has checked them).
struct call {
    source_ref source;
    conv_params params;
    tensor_view<const float> x;
    tensor_view<float> y;
    tensor_view<const float> residual;  ///< data is null where there is none
    factor_set factors;
    activation act;                  ///< of_channel, where it has any, readable for whole panels past the last filter
    float* channel_means = nullptr;  ///< [N][O], for a plan that takes them: the means of y over H and W
    row_band rows{};                 ///< for a plan whose row_multiple is not 0
};

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
