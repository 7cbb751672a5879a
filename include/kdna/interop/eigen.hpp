// Eigen's rank-4 tensors as views, without a copy.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>

#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

template <class T>
struct is_eigen_tensor4 : std::false_type {};
template <class T, int Options, class Index>
struct is_eigen_tensor4<Eigen::Tensor<T, 4, Options, Index>> : std::true_type {};

/// Whether T is Eigen::Tensor<.., 4, ..>, const or not: what view_of takes, itself or inside a TensorMap.
template <class T>
concept eigen_tensor4 = is_eigen_tensor4<std::remove_const_t<T>>::value;

/// T is an Eigen::Tensor or a TensorMap; both say how they lie in memory in the same words.
template <class T>
[[nodiscard]] auto view_of_eigen(T& t, layout axes) {
    index_t extent[4], stride[4];
    for (std::size_t i = 0; i < 4; ++i) extent[i] = static_cast<index_t>(t.dimensions()[i]);
    index_t step = 1;
    constexpr bool last_index_first = static_cast<int>(T::Layout) == static_cast<int>(Eigen::RowMajor);
    for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t axis = last_index_first ? 3 - i : i;
        stride[axis] = step;
        step *= extent[axis];  // cannot overflow: the tensor is in memory
    }
    using view = tensor_view<std::remove_pointer_t<decltype(t.data())>>;
    const bool nchw = axes == layout::nchw;
    const std::size_t c = nchw ? 1 : 3, h = nchw ? 2 : 1, w = nchw ? 3 : 2;
    const view v{t.data(), {extent[0], extent[c], extent[h], extent[w]}, {stride[0], stride[c], stride[h], stride[w]}};
    static_cast<void>(element_count(v.shape, "Eigen tensor"));
    return v;
}

}  // namespace detail

/// A view of an Eigen tensor's memory: a tensor_view<T>, or tensor_view<const T> of a const tensor. Throws kdna::error
/// if an extent is zero.
///
/// `axes` says what the four indices mean, in this order: t(n, c, h, w) for layout::nchw (the default), t(n, h, w, c)
/// for layout::nhwc. How they lie in memory is the tensor type's own matter, and the view's strides follow it: in a
/// RowMajor tensor the last index has stride 1, in a ColMajor tensor (Eigen's default) the first. Element (n, c, h, w)
/// of the view is that element of the tensor either way. Only a RowMajor tensor with indices (n, h, w, c) keeps what
/// conv::input_order::nhwc promises to a plan.
///
/// The view is good as long as the tensor lives and keeps its size.
template <detail::eigen_tensor4 Tensor>
[[nodiscard]] auto view_of(Tensor& t, layout axes = layout::nchw) {
    return detail::view_of_eigen(t, axes);
}
/// The same of memory that Eigen maps: TensorMap<Tensor<float, 4>> or, read only, TensorMap<const Tensor<float, 4>>.
template <detail::eigen_tensor4 Tensor, int MapOptions, template <class> class MakePointer>
[[nodiscard]] auto view_of(const Eigen::TensorMap<Tensor, MapOptions, MakePointer>& t, layout axes = layout::nchw) {
    return detail::view_of_eigen(t, axes);
}
/// A view of a tensor that is about to be destroyed is a mistake.
// clang-format off
template <detail::eigen_tensor4 Tensor>
    requires(!std::is_lvalue_reference_v<Tensor>)
void view_of(Tensor&& t, layout axes = layout::nchw) = delete;
// clang-format on

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
