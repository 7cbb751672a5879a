// Several values behind one another, and a part of one.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <optional>
#include <string_view>

#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

/// Inputs that are equal but for one axis, behind one another along it.
class concatenate {
public:
    static constexpr bool keeps_order = true;

    /// `axis` may be negative.
    explicit concatenate(index_t axis) noexcept : axis_(axis) {}

    /// Throws kdna::error, naming `where`, for no inputs, ranks or other extents that differ, and an axis that they lack.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;

private:
    index_t axis_;
};

/// Elements start, start + step, ... of one axis, before `stop`. Negative numbers count from the end; what lies outside of the axis
/// is cut off, as Python does. Steps are positive, as PyTorch's are, or negative, as Python's: from start down to after stop,
/// where no stop means that the first element is the last one.
class slice {
public:
    static constexpr bool keeps_order = true;

    /// Throws kdna::error, naming `where`, for a step of 0.
    KDNA_FUNC slice(index_t axis, index_t start, std::optional<index_t> stop, index_t step,
                    std::string_view where = "slice");

    /// Throws kdna::error, naming `where`, if nothing is left, or the input lacks the axis.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    /// The part as a view of x, without a copy. x has a shape that output_shape takes.
    [[nodiscard]] KDNA_FUNC nd_view<const float> view(const nd_view<const float>& x) const noexcept;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;

private:
    struct range {
        index_t first, count;
    };
    /// Which elements of an axis of that extent.
    [[nodiscard]] KDNA_FUNC range elements(index_t extent) const noexcept;

    index_t axis_, start_;
    std::optional<index_t> stop_;
    index_t step_;
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/concat.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
