// Transposed convolution: stride.h x stride.w plain convolutions, each of which makes every stride-th row and column.
//
// Output row r reads the taps k with r + pad - k * dilation = stride * i, from input row i. Rows with the same remainder by the
// stride read the same taps, at distances that do not depend on the row: a convolution of stride 1 with these taps, written to
// every stride-th row. No element is multiplied by a zero that was put between two others.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <kdna/nn/conv2d.hpp>
#include <kdna/nn/operation.hpp>

namespace kdna::inline KDNA_ABI {

/// How a transposed convolution moves.
struct conv_transpose_params {
    extent2 stride = 1;
    extent2 pad = 0;         ///< rows and columns cut off at both sides
    extent2 output_pad = 0;  ///< rows and columns more at the end
    extent2 dilation = 1;
    index_t groups = 1;
};

/// y = act( BN( conv_transpose(x) + bias ) + residual ), PyTorch's ConvTranspose2d, as a step of a network.
class conv_transpose2d_operation final : public operation {
public:
    /// `weights` [C, O / groups, KH, KW]. Throws kdna::error, naming options.name, if a part does not fit.
    KDNA_FUNC conv_transpose2d_operation(std::span<const index_t> weight_shape, std::span<const float> weights,
                                         const conv_transpose_params& params, const conv_options& options);

    [[nodiscard]] std::string_view name() const noexcept override { return name_; }
    [[nodiscard]] index_t inputs() const noexcept override { return residual_ ? 2 : 1; }
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(std::span<const nd_shape> in) const override;
    [[nodiscard]] KDNA_FUNC std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                                  const plan_options& options) const override;
    KDNA_FUNC void run(operation_state& s, const operation_call& c) const noexcept override;
    KDNA_FUNC void for_each_storage(const storage_visitor& f) const override;

private:
    /// Each phase is a convolution with a plan of its own, so that their number is bounded.
    static constexpr index_t most_phases = 4096;
    /// One axis of the rows, or columns, with one remainder.
    struct phase {
        index_t first_tap = 0, taps = 0;  ///< the taps first_tap, first_tap + step, ...
        index_t step = 1, dilation = 1;   ///< between them; of the convolution
        index_t offset = 0;               ///< the lowest input row that output row 0 of the phase reads
    };
    [[nodiscard]] KDNA_FUNC static phase phase_of(index_t remainder, index_t kernel, index_t stride, index_t pad,
                                                  index_t dilation);
    [[nodiscard]] KDNA_FUNC static std::vector<phase> phases_of(index_t kernel, index_t stride, index_t pad,
                                                                index_t dilation);
    [[nodiscard]] KDNA_FUNC dense_kernel kernel_of(const phase& rows, const phase& columns,
                                                   std::span<const float> weights) const;
    struct piece;
    struct state;

    std::string name_;
    bool residual_ = false;
    kernel_shape kernel_{};
    conv_transpose_params params_;
    std::vector<std::optional<dense_kernel>> kernels_{};  // of phases, row by row; none: no tap reaches it
    std::vector<float> scale_{}, shift_{};                // BatchNorm and bias, [O]
    activation_kind act_ = activation_kind::none;
    float act_number_ = 0.0F;
    std::vector<float> act_channels_{};
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/conv_transpose2d.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
