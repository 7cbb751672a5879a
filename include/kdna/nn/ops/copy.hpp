// Copies between views of any strides, and the operations that are nothing but a copy.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <optional>
#include <string_view>

#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

/// y = x, for views of the same shape.
KDNA_FUNC void copy(const nd_view<const float>& x, const nd_view<float>& y, const executor_ref& executor) noexcept;

/// y = x for views with equally many elements: element i of y, in the order in which the last axis runs fastest, is element i of
/// x. This is a reshape that cannot be a view.
KDNA_FUNC void copy_elements(const nd_view<const float>& x, const nd_view<float>& y,
                             const executor_ref& executor) noexcept;

/// The nest of that copy, with y as operand 0 and x as operand 1; none where a boundary between axes of one lies inside an axis of
/// the other in a way that no common axes have.
[[nodiscard]] KDNA_FUNC std::optional<detail::nest> element_nest(const nd_shape& x, const axis_numbers& s,
                                                                 const nd_shape& y, const axis_numbers& t) noexcept;

/// Sets all elements of y.
KDNA_FUNC void fill(const nd_view<float>& y, float value, const executor_ref& executor) noexcept;

/// [N, C * r * r, H, W] to [N, C, H * r, W * r]: r x r channels become a square of pixels.
class pixel_shuffle {
public:
    static constexpr bool keeps_order = true;

    /// Throws kdna::error, naming `where`, for a factor below 1.
    KDNA_FUNC explicit pixel_shuffle(index_t factor, std::string_view where = "pixel_shuffle");

    /// Throws kdna::error, naming `where`, unless the input is an image whose channels are a multiple of r * r.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    /// The copy that it is: operand 0 of the nest is y, operand 1 is x.
    [[nodiscard]] KDNA_FUNC detail::nest moves(const nd_shape& x, const axis_numbers& s, const nd_shape& y,
                                               const axis_numbers& t) const noexcept;

private:
    index_t factor_;
};

/// [N, C, H * r, W * r] to [N, C * r * r, H, W]: a square of r x r pixels becomes channels.
class pixel_unshuffle {
public:
    static constexpr bool keeps_order = true;

    /// Throws kdna::error, naming `where`, for a factor below 1.
    KDNA_FUNC explicit pixel_unshuffle(index_t factor, std::string_view where = "pixel_unshuffle");

    /// Throws kdna::error, naming `where`, unless the input is an image whose rows and columns are multiples of r.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    /// The copy that it is: operand 0 of the nest is y, operand 1 is x.
    [[nodiscard]] KDNA_FUNC detail::nest moves(const nd_shape& x, const axis_numbers& s, const nd_shape& y,
                                               const axis_numbers& t) const noexcept;

private:
    index_t factor_;
};

/// Channel c * groups + g of the output is channel g * (C / groups) + c of the input. Channels are axis 1, of any rank from 2 on.
class channel_shuffle {
public:
    static constexpr bool keeps_order = true;

    /// Throws kdna::error, naming `where`, for less than one group.
    KDNA_FUNC explicit channel_shuffle(index_t groups, std::string_view where = "channel_shuffle");

    /// The input's shape. Throws kdna::error, naming `where`, unless its channels are a multiple of the groups.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    /// The copy that it is: operand 0 of the nest is y, operand 1 is x.
    [[nodiscard]] KDNA_FUNC detail::nest moves(const nd_shape& x, const axis_numbers& s, const nd_shape& y,
                                               const axis_numbers& t) const noexcept;

private:
    index_t groups_;
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/copy.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
