// Products of matrices that are both values of the network.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>

#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

/// a [..., M, K] times b [..., K, N] is y [..., M, N]; the axes in front are broadcast, as PyTorch does. A sum runs over K in its
/// order, in float32.
class matmul {
public:
    static constexpr bool keeps_order = false, row_major = true;

    /// Throws kdna::error, naming `where`, unless both have a rank from 2 to 5 and their extents fit. Vectors, which PyTorch takes
    /// too, are refused: they are matrices of one row or column.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    /// Whether axis 0 of inputs of these ranks counts matrices: of rank 2 it counts rows, and where one side has fewer axes than the
    /// other, but more than a matrix, its axis 0 stands for another axis.
    [[nodiscard]] static constexpr bool samplewise(index_t a, index_t b) noexcept {
        return a > 2 && (b == a || b == 2);
    }
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/matmul.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
