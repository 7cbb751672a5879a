// Elements around a value.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string_view>

#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

/// What lies in the padding: a number, the elements mirrored at the first and last one, the nearest element, or the axis again.
enum class pad_mode : int { constant, reflect, replicate, circular };

/// Adds elements before and after those of each axis.
class pad {
public:
    static constexpr bool keeps_order = true;

    /// before[i] and after[i] for axis i. With pad_mode::constant they may be negative: elements are cut off. Throws kdna::error,
    /// naming `where`, for lengths that differ, none or more than five, and negative numbers in other modes.
    KDNA_FUNC pad(std::span<const index_t> before, std::span<const index_t> after, pad_mode mode = pad_mode::constant,
                  float value = 0.0F, std::string_view where = "pad");

    /// Throws kdna::error, naming `where`, for another rank, for no elements that are left, and for reflect with as much padding as
    /// elements or circular with more.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    [[nodiscard]] const axis_numbers& before() const noexcept { return before_; }
    [[nodiscard]] pad_mode mode() const noexcept { return mode_; }
    [[nodiscard]] float value() const noexcept { return value_; }

private:
    axis_numbers before_{}, after_{};
    index_t rank_;
    pad_mode mode_;
    float value_;
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/pad.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
