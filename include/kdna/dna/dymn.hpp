// DyMN's dynamic convolution (Schmid, Koutini, Widmer, arXiv 2310.15648): a mixture of K kernels, routed by the context of the
// block that the layer stands in, which is made once for all layers of the block.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>

#include <kdna/dna/attention.hpp>
#include <kdna/dna/mixture.hpp>
#include <kdna/dna/router.hpp>

namespace kdna::inline KDNA_ABI {

/// a = softmax( (W g + b) / T ), K weights per sample that add up to one, from a context g of D values that comes with the call
/// (reference keys residuals.0.{weight [K, D], bias [K]}). The temperature T that a network was left at is not in its
/// state_dict; training ends at 1. Used with a mixture_kernel it is DyMN's DynamicConv.
class dymn_router {
public:
    using optional_members = members<member::floats, member::routes_mixture, member::reads_context>;
    static constexpr bool routes_mixture = true, reads_context = true;

    /// Throws kdna::error if the lengths do not fit, and for a temperature that is not positive.
    KDNA_FUNC dymn_router(const linear_weights& residuals, index_t context, double temperature = 1.0,
                          std::string_view where = "dymn");

    /// D.
    [[nodiscard]] index_t input_channels() const noexcept { return residuals_.inputs(); }
    [[nodiscard]] route_widths widths() const noexcept { return {.mixture = residuals_.outputs()}; }
    [[nodiscard]] static index_t scratch_floats() noexcept { return 0; }
    [[nodiscard]] index_t floats() const noexcept { return residuals_.floats(); }

    KDNA_FUNC void operator()(const float* context, const route& out, float*) const noexcept;

private:
    fully_connected residuals_;  // divided by the temperature
};
static_assert(router<dymn_router> && routes_given<dymn_router>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/dymn.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
