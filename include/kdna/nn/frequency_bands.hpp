// Bands of an image's frequencies, each times a map: FDConv's frequency band modulation.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <string>
#include <vector>

#include <kdna/nn/operation.hpp>

namespace kdna::inline KDNA_ABI {

/// y = sum over i of m_i (low_{i-1} - low_i) + m_n low_n, with low_0 = x, and low_i what is left of x below the frequency
/// 1 / (2 bands[i - 1]). Inputs are x [N, C, H, W] and the maps m [N, n, H, W], or [N, n + 1, H, W]; without the last one m_n is 1.
///
/// As the public code has it (Linwei-Chen/FDConv), the mask of a band is one of 64 x 33 frequencies that is resized to H x (W / 2 + 1)
/// by nearest neighbours in float32. It is a product of a mask of rows and one of columns, so low_i is a product of x with small
/// matrices of sines and cosines from either side, and only those of the frequencies that are kept: with n' of them on either axis
/// n' W (H + n') multiply-adds for a channel's transform instead of H W (H + W). Where a mask keeps a row's frequency and not its
/// negative, as resized ones do, the coefficients of sines and cosines are mixed accordingly.
class frequency_bands final : public operation {
public:
    /// Throws kdna::error, naming `name`, unless there is a band and all are from 1 to 1024.
    KDNA_FUNC_COLD explicit frequency_bands(std::vector<index_t> bands, std::string name = "frequency_bands");

    [[nodiscard]] std::string_view name() const noexcept override { return name_; }
    [[nodiscard]] index_t inputs() const noexcept override { return 2; }
    [[nodiscard]] KDNA_FUNC_COLD nd_shape output_shape(std::span<const nd_shape> in) const override;
    [[nodiscard]] KDNA_FUNC_COLD std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                                       const plan_options& options) const override;
    KDNA_FUNC void run(operation_state& s, const operation_call& c) const noexcept override;
    [[nodiscard]] any_ref computes() const noexcept override { return any_ref::to(*this); }

private:
    std::vector<index_t> bands_;
    std::string name_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/frequency_bands.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
