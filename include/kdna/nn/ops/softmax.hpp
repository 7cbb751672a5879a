// Softmax along an axis.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>

#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

/// exp(x - m) divided by its sum along an axis, with the largest element m, or the logarithm of that. An axis with a NaN or with
/// nothing but -infinity becomes NaN.
class softmax {
public:
    static constexpr bool keeps_order = true;

    /// `axis` may be negative. `logarithm`: log_softmax.
    explicit softmax(index_t axis, bool logarithm = false) noexcept : axis_(axis), logarithm_(logarithm) {}

    /// The input's shape. Throws kdna::error, naming `where`, if it lacks the axis.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;

private:
    index_t axis_;
    bool logarithm_;
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/softmax.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
