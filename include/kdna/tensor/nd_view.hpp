// Views of memory with one to five axes and any strides.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <type_traits>

#include <kdna/core/nd_shape.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI {

/// A view of T with the axes of `shape`: element (i, j, ...) is data[i * stride[0] + j * stride[1] + ...]. A stride of 0
/// repeats an element along its axis. Copying a view copies the pointer.
template <class T>
struct nd_view {
    T* data = nullptr;
    nd_shape shape{};
    axis_numbers stride{};

    nd_view() = default;
    nd_view(T* memory, const nd_shape& s, const axis_numbers& strides) : data(memory), shape(s), stride(strides) {}
    /// An image as a view with the axes [N, C, H, W].
    nd_view(const tensor_view<T>& v)  // NOLINT(google-explicit-constructor)
        : data(v.data), shape(v.shape), stride{v.stride.n, v.stride.c, v.stride.h, v.stride.w} {}

    [[nodiscard]] index_t rank() const noexcept { return shape.rank(); }
    /// A view that may write is also one that only reads.
    // clang-format off
    operator nd_view<const T>() const noexcept  // NOLINT(google-explicit-constructor)
        requires(!std::is_const_v<T>)
    {
        return {data, shape, stride};
    }
    // clang-format on
};

/// The order of a value's axes in memory, the outermost first.
using axis_order = axis_numbers;

/// Axes in their own order: row-major, the last axis contiguous.
inline constexpr axis_order row_major{0, 1, 2, 3, 4};

/// What a value of that rank has in memory unless an operation says otherwise: rank 4 [N, C, H, W] and rank 5 [N, G, C, H, W]
/// have their channels last, others are row-major.
[[nodiscard]] constexpr axis_order channels_last(index_t rank) noexcept {
    if (rank == 4) return {0, 2, 3, 1, 4};
    if (rank == 5) return {0, 3, 4, 1, 2};
    return row_major;
}

/// Strides of a dense value whose axes lie in memory in that order. The element count must fit (element_count).
[[nodiscard]] inline axis_numbers strides_in(const nd_shape& s, const axis_order& order) noexcept {
    axis_numbers strides{};
    index_t next = 1;
    for (index_t i = s.rank(); i-- > 0;) {
        const auto axis = static_cast<std::size_t>(order[static_cast<std::size_t>(i)]);
        strides[axis] = next;
        next *= s[static_cast<index_t>(axis)];
    }
    return strides;
}

/// A dense row-major view.
template <class T>
[[nodiscard]] nd_view<T> row_major_view(T* data, const nd_shape& s) noexcept {
    return {data, s, strides_in(s, row_major)};
}

/// A view of rank 4 as an image, [N, C, H, W]; of rank 2, [N, C], as one of single pixels. Others have no such view.
template <class T>
[[nodiscard]] tensor_view<T> image_view(const nd_view<T>& v) noexcept {
    const nd_shape& s = v.shape;
    const axis_numbers& t = v.stride;
    if (v.rank() == 2) return {v.data, {s[0], s[1], 1, 1}, {t[0], t[1], 0, 0}};
    return {v.data, {s[0], s[1], s[2], s[3]}, {t[0], t[1], t[2], t[3]}};
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
