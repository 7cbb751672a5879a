// DyReLU-B (Chen et al., arXiv 2003.10027): an activation of M lines whose slopes and intercepts follow from the sample.
//
//     y[n,c,p] = max over m < M of  a[n,c,m] * x[n,c,p] + b[n,c,m]
//     a[n,c,m] = (m = 0 ? 1 : 0) + t[n,c,m],   b[n,c,m] = t[n,c,M+m] / 2,   t = 2 sigmoid(theta) - 1
//
// One pass over x: written as products, sums and maxima it would be five for two lines.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>

#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

/// Inputs x [N, C, H, W] and theta [N, C * 2M] or [N, C * 2M, 1, 1], a channel's 2M values in a row, M from 1 to most_lines. NaN
/// stays NaN. y may be x if it has the same strides.
class dynamic_relu {
public:
    static constexpr bool keeps_order = true;
    static constexpr index_t most_lines = 8;

    /// The shape of x. Throws kdna::error, naming `where`, for inputs that do not fit.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/dynamic_relu.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
