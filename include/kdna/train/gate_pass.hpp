// A squeeze-excite gate forwards and backwards.
//
//     g = sigmoid( fc2( ReLU( BN( fc1 p ) ) ) + b ),   p the means of x over H and W
#pragma once

#include <kdna/core/macros_push.hpp>

#include <vector>

#include <kdna/train/norm_statistics.hpp>

namespace kdna::inline KDNA_ABI::train {

/// What a batch's gates are and how they came about. All sums are in double: they are C * r terms, which costs nothing beside the
/// convolution.
class gate_pass {
public:
    /// For `samples` samples; `padding`: floats that may be read behind the gates of a sample.
    KDNA_FUNC gate_pass(const gate& g, parameters& p, index_t samples, index_t padding);

    /// Where the means of sample n go, [C], before `forward`.
    [[nodiscard]] float* pooled(index_t n) noexcept { return pooled_.data() + n * stride_; }
    /// g [C] of sample n, `stride()` floats from those of the next.
    [[nodiscard]] const float* of(index_t n) const noexcept { return gates_.data() + n * stride_; }
    [[nodiscard]] index_t stride() const noexcept { return stride_; }
    /// Bytes that a batch takes.
    [[nodiscard]] KDNA_FUNC index_t bytes() const noexcept;

    /// Computes the gates. With `statistics` the BatchNorm takes the batch's own mean and variance, which are added there.
    KDNA_FUNC void forward(norm_statistics* statistics);
    /// From the gradient of g, [C], to that of the means, in place; adds to the gradients of the gate's parameters.
    KDNA_FUNC void backward(index_t n, std::vector<double>& gradient);

private:
    [[nodiscard]] KDNA_FUNC norm_view normalisation(norm_statistics* statistics) const;
    KDNA_FUNC void excite(index_t n);

    gate gate_;
    parameters* parameters_;
    index_t samples_, hidden_, stride_;
    buffer<float> pooled_, gates_;
    std::vector<double> squeezed_{};                // fc1 p, [N][r]
    std::vector<norm_view> norm_{};                 // of the last forward pass
    std::vector<double> normalised_{}, excited_{};  // of one sample, [r]: before and behind the ReLU
};

}  // namespace kdna::inline KDNA_ABI::train

#ifndef KDNA_COMPILED
#include <kdna/train/gate_pass.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
