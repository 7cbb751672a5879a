// Shapes of values that are not images: one to five extents, in PyTorch's order.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>
#include <kdna/core/shape.hpp>

namespace kdna::inline KDNA_ABI {

/// Most axes of a value. Five are what channel shuffles and split attention reshape through.
inline constexpr index_t most_axes = 5;

/// Numbers of each axis: of a shape, of strides, or the axes themselves.
using axis_numbers = std::array<index_t, static_cast<std::size_t>(most_axes)>;

/// Extents of a value of rank 1 ... 5, with PyTorch's meaning: an image is [N, C, H, W], whatever its order in memory.
class nd_shape {
public:
    nd_shape() = default;
    /// Throws kdna::error, naming `where`, for no extents or more than five.
    explicit nd_shape(std::span<const index_t> extents, std::string_view where = "shape") {
        if (extents.empty() || static_cast<index_t>(extents.size()) > most_axes)
            throw error(std::string(where), "a rank of 1 to 5", concat(extents.size()));
        for (const index_t e : extents) extents_[static_cast<std::size_t>(rank_++)] = e;
    }
    nd_shape(std::initializer_list<index_t> extents) : nd_shape(std::span(extents.begin(), extents.size())) {}
    /// [N, C, H, W].
    explicit nd_shape(const shape4& s) : nd_shape({s.n, s.c, s.h, s.w}) {}

    [[nodiscard]] index_t rank() const noexcept { return rank_; }
    [[nodiscard]] index_t operator[](index_t axis) const noexcept { return extents_[static_cast<std::size_t>(axis)]; }
    [[nodiscard]] index_t& operator[](index_t axis) noexcept { return extents_[static_cast<std::size_t>(axis)]; }
    [[nodiscard]] std::span<const index_t> extents() const noexcept {
        return std::span(extents_).first(static_cast<std::size_t>(rank_));
    }
    friend bool operator==(const nd_shape&, const nd_shape&) = default;

private:
    axis_numbers extents_{};  // zeros past the rank
    index_t rank_ = 0;
};

/// "[1, 64, 14, 14]".
[[nodiscard]] inline std::string to_string(const nd_shape& s) {
    std::string text = "[";
    for (index_t axis = 0; axis < s.rank(); ++axis) text += concat(axis == 0 ? "" : ", ", s[axis]);
    return text + "]";
}

/// Number of elements. Throws kdna::error, naming `where`, if an extent is not positive or the product does not fit.
[[nodiscard]] inline index_t element_count(const nd_shape& s, std::string_view where = "shape") {
    index_t count = 1;
    for (const index_t e : s.extents()) {
        if (e < 1) throw error(std::string(where), "extents >= 1", to_string(s));
        count = checked_mul(count, e, where);
    }
    return count;
}

/// The axis that PyTorch's -rank ... rank - 1 means. Throws kdna::error, naming `where`, for another.
[[nodiscard]] inline index_t axis_of(index_t axis, index_t rank, std::string_view where) {
    if (axis < -rank || axis >= rank)
        throw error(std::string(where), concat("an axis from ", -rank, " to ", rank - 1), concat(axis));
    return axis < 0 ? axis + rank : axis;
}

/// The shape of a and b together, by PyTorch's rule: axes are aligned at the last, and an extent of 1 is repeated. Throws
/// kdna::error, naming `where`, if they do not fit.
[[nodiscard]] inline nd_shape broadcast(const nd_shape& a, const nd_shape& b, std::string_view where) {
    const nd_shape& longer = a.rank() >= b.rank() ? a : b;
    const nd_shape& shorter = a.rank() >= b.rank() ? b : a;
    nd_shape out = longer;
    for (index_t i = 0; i < shorter.rank(); ++i) {
        index_t& extent = out[longer.rank() - 1 - i];
        const index_t other = shorter[shorter.rank() - 1 - i];
        if (extent != other && extent != 1 && other != 1)
            throw error(std::string(where), "shapes that can be broadcast",
                        concat(to_string(a), " and ", to_string(b)));
        if (extent == 1) extent = other;
    }
    return out;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
