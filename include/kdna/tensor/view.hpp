// Non-owning views of a caller's memory: four extents, four strides, nothing else.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>
#include <type_traits>

#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>
#include <kdna/core/shape.hpp>

namespace kdna::inline KDNA_ABI {

/// Order of an activation in memory, outermost axis first.
enum class layout { nchw, nhwc };

/// Distance in elements between neighbours along each axis. Any values are allowed, zero and negative ones too.
struct strides4 {
    index_t n = 0, c = 0, h = 0, w = 0;
    friend constexpr bool operator==(const strides4&, const strides4&) = default;
};

/// Strides of a dense tensor of shape `s`; throws kdna::error if its element count does not fit.
[[nodiscard]] inline strides4 dense_strides(const shape4& s, layout order) {
    static_cast<void>(element_count(s, "view"));
    if (order == layout::nchw) return {.n = s.c * s.h * s.w, .c = s.h * s.w, .h = s.w, .w = 1};
    return {.n = s.h * s.w * s.c, .c = 1, .h = s.w * s.c, .w = s.c};
}

/// A view of T[N, C, H, W] with any strides: element (n, c, h, w) is data[n*stride.n + c*stride.c + h*stride.h + w*stride.w].
/// Copying a view copies the pointer. kdna never touches memory outside the elements a view names and asks for no alignment.
template <class T>
struct tensor_view {
    T* data = nullptr;
    shape4 shape{};
    strides4 stride{};

    [[nodiscard]] constexpr T* at(index_t n, index_t c, index_t h, index_t w) const noexcept {
        return data + (n * stride.n + c * stride.c + h * stride.h + w * stride.w);
    }
    constexpr T& operator()(index_t n, index_t c, index_t h, index_t w) const noexcept { return *at(n, c, h, w); }

    /// A view that may write is also one that only reads.
    // clang-format off
    constexpr operator tensor_view<const T>() const noexcept  // NOLINT(google-explicit-constructor)
        requires(!std::is_const_v<T>)
    {
        return {data, shape, stride};
    }
    // clang-format on

    /// Samples [first, first + count); throws kdna::error if they are not in the view.
    [[nodiscard]] tensor_view samples(index_t first, index_t count) const {
        require_range("samples", first, count, shape.n);
        return {at(first, 0, 0, 0), {count, shape.c, shape.h, shape.w}, stride};
    }
    /// Channels [first, first + count); throws kdna::error if they are not in the view.
    [[nodiscard]] tensor_view channels(index_t first, index_t count) const {
        require_range("channels", first, count, shape.c);
        return {at(0, first, 0, 0), {shape.n, count, shape.h, shape.w}, stride};
    }
    /// The window of `rows` x `columns` whose first pixel is (top, left); throws kdna::error if it leaves the view.
    [[nodiscard]] tensor_view crop(index_t top, index_t left, index_t rows, index_t columns) const {
        require_range("crop rows", top, rows, shape.h);
        require_range("crop columns", left, columns, shape.w);
        return {at(0, 0, top, left), {shape.n, shape.c, rows, columns}, stride};
    }

private:
    static void require_range(std::string_view what, index_t first, index_t count, index_t extent) {
        if (first < 0 || count < 1 || first > extent || count > extent - first)
            throw error(std::string(what), concat("a range inside [0, ", extent, ")"),
                        concat("[", first, ", ", first, " + ", count, ")"));
    }
};

/// View of dense memory of shape `s` in the given order; throws kdna::error if the shape is not one.
template <class T>
[[nodiscard]] tensor_view<T> make_view(T* data, const shape4& s, layout order) {
    return {data, s, dense_strides(s, order)};
}
/// View of dense T[n][c][h][w].
template <class T>
[[nodiscard]] tensor_view<T> nchw_view(T* data, index_t n, index_t c, index_t h, index_t w) {
    return make_view(data, {n, c, h, w}, layout::nchw);
}
/// View of dense T[n][h][w][c].
template <class T>
[[nodiscard]] tensor_view<T> nhwc_view(T* data, index_t n, index_t c, index_t h, index_t w) {
    return make_view(data, {n, c, h, w}, layout::nhwc);
}

/// Copies `from` into `to` element by element; the shapes must be equal (throws kdna::error), the strides need not be.
// clang-format off
template <class From, class To>
    requires(std::is_same_v<std::remove_const_t<From>, To>)
void copy(const tensor_view<From>& from, const tensor_view<To>& to) {
    // clang-format on
    if (from.shape != to.shape) throw error("copy", to_string(to.shape), to_string(from.shape));
    const shape4& s = to.shape;
    for (index_t n = 0; n < s.n; ++n)
        for (index_t h = 0; h < s.h; ++h)
            for (index_t w = 0; w < s.w; ++w)
                for (index_t c = 0; c < s.c; ++c) to(n, c, h, w) = from(n, c, h, w);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
