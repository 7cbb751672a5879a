// Means, sums and extremes over axes.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string_view>

#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

enum class reduce_kind : int { mean, sum, max, min };

/// One number for all elements along some axes. max and min are NaN where one of them is.
class reduce {
public:
    static constexpr bool keeps_order = true;

    /// Over `axes`, which may be negative. The reduced axes keep an extent of 1 with `keep`, and vanish without. Throws
    /// kdna::error, naming `where`, for no axes or more than five.
    KDNA_FUNC reduce(reduce_kind kind, std::span<const index_t> axes, bool keep, std::string_view where = "reduce");

    /// Throws kdna::error, naming `where`, for an axis that the input lacks or that is named twice, and if no axis is left.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;

private:
    /// Whether an axis of an input of that rank is reduced.
    [[nodiscard]] KDNA_FUNC bool reduces(index_t axis, index_t rank) const noexcept;
    reduce_kind kind_;
    axis_numbers axes_{};
    index_t count_;
    bool keep_;
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/reduce.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
