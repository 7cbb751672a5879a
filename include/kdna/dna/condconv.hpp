// CondConv (Yang et al., arXiv 1904.04971): a mixture of n kernels, routed by sigmoid( W pooled + b ).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string_view>

#include <kdna/dna/attention.hpp>
#include <kdna/dna/mixture.hpp>
#include <kdna/dna/router.hpp>

namespace kdna::inline KDNA_ABI {

/// a = sigmoid( W mean(x) + b ), n independent weights per sample: no softmax, no temperature (keys routing.weight [n, C],
/// routing.bias [n]). Used with a mixture_kernel it is CondConv.
class condconv_router {
public:
    using optional_members = members<member::floats, member::routes_mixture>;
    static constexpr bool routes_mixture = true;

    /// `weight` [n, C], `bias` [n]. Throws kdna::error if the lengths do not fit.
    condconv_router(std::span<const float> weight, std::span<const float> bias, index_t channels,
                    std::string_view where = "condconv")
        : routing_(weight, bias, channels, concat(where, ".routing")) {}

    [[nodiscard]] index_t input_channels() const noexcept { return routing_.inputs(); }
    [[nodiscard]] route_widths widths() const noexcept { return {.mixture = routing_.outputs()}; }
    [[nodiscard]] static index_t scratch_floats() noexcept { return 0; }
    [[nodiscard]] index_t floats() const noexcept { return routing_.floats(); }
    [[nodiscard]] const fully_connected& routing() const noexcept { return routing_; }

    KDNA_FUNC void operator()(const float* pooled, const route& out, float*) const noexcept;

private:
    fully_connected routing_;
};
static_assert(router<condconv_router>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/condconv.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
