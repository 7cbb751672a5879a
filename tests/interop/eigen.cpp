#include <array>
#include <vector>

#include <kdna/interop/eigen.hpp>

#include "support/catch.hpp"

namespace {

using kdna::index_t;
using kdna::layout;
using kdna::shape4;
using kdna::strides4;
using kdna::tensor_view;

template <int Order>
using tensor4 = Eigen::Tensor<float, 4, Order>;

// Each element knows its indices.
template <int Order>
tensor4<Order> numbered(index_t a, index_t b, index_t c, index_t d) {
    tensor4<Order> t(a, b, c, d);
    for (index_t i = 0; i < a; ++i)
        for (index_t j = 0; j < b; ++j)
            for (index_t k = 0; k < c; ++k)
                for (index_t l = 0; l < d; ++l) t(i, j, k, l) = static_cast<float>(((i * 10 + j) * 10 + k) * 10 + l);
    return t;
}

template <class T>
constexpr bool is_read_only = std::is_same_v<T, tensor_view<const float>>;

template <class View>
void check_nchw(const View& v) {
    REQUIRE(v.shape == shape4{2, 3, 4, 5});
    for (index_t n = 0; n < 2; ++n)
        for (index_t c = 0; c < 3; ++c)
            for (index_t h = 0; h < 4; ++h)
                for (index_t w = 0; w < 5; ++w)
                    CHECK(v(n, c, h, w) == static_cast<float>(((n * 10 + c) * 10 + h) * 10 + w));
}

}  // namespace

TEST_CASE("eigen: element (n, c, h, w) of the view is that of the tensor, in both storage orders", "[interop]") {
    auto rows = numbered<Eigen::RowMajor>(2, 3, 4, 5);
    auto columns = numbered<Eigen::ColMajor>(2, 3, 4, 5);
    check_nchw(kdna::view_of(rows));
    check_nchw(kdna::view_of(columns));
    CHECK(kdna::view_of(rows).stride == strides4{60, 20, 5, 1});
    CHECK(kdna::view_of(columns).stride == strides4{1, 2, 6, 24});
    CHECK(kdna::view_of(rows).data == rows.data());
}

TEST_CASE("eigen: channels-last indices", "[interop]") {
    auto rows = numbered<Eigen::RowMajor>(2, 4, 5, 3);
    auto columns = numbered<Eigen::ColMajor>(2, 4, 5, 3);
    CHECK(kdna::view_of(rows, layout::nhwc).stride == strides4{60, 1, 15, 3});
    CHECK(kdna::view_of(columns, layout::nhwc).stride == strides4{1, 40, 2, 8});
    for (const auto& v : {kdna::view_of(rows, layout::nhwc), kdna::view_of(columns, layout::nhwc)}) {
        REQUIRE(v.shape == shape4{2, 3, 4, 5});
        CHECK(v(1, 2, 3, 4) == 1342.0F);
        CHECK(v(0, 1, 2, 0) == 201.0F);
    }
}

TEST_CASE("eigen: a view of a const tensor only reads, one of a plain tensor writes through", "[interop]") {
    auto t = numbered<Eigen::RowMajor>(2, 3, 4, 5);
    const auto& constant = t;
    STATIC_REQUIRE(is_read_only<decltype(kdna::view_of(constant))>);
    STATIC_REQUIRE(std::is_same_v<decltype(kdna::view_of(t)), tensor_view<float>>);
    check_nchw(kdna::view_of(constant));
    kdna::view_of(t)(1, 2, 3, 4) = -1.0F;
    CHECK(t(1, 2, 3, 4) == -1.0F);
}

TEST_CASE("eigen: maps of foreign memory", "[interop]") {
    std::vector<float> memory(120);
    for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i);
    const Eigen::TensorMap<tensor4<Eigen::RowMajor>> map(memory.data(), 2, 3, 4, 5);
    const Eigen::TensorMap<const tensor4<Eigen::ColMajor>> read_only(memory.data(), 2, 3, 4, 5);
    STATIC_REQUIRE(std::is_same_v<decltype(kdna::view_of(map)), tensor_view<float>>);
    STATIC_REQUIRE(is_read_only<decltype(kdna::view_of(read_only))>);
    CHECK(kdna::view_of(map)(1, 1, 1, 1) == 86.0F);
    CHECK(kdna::view_of(read_only)(1, 1, 1, 1) == 33.0F);
    CHECK(kdna::view_of(Eigen::TensorMap<tensor4<Eigen::RowMajor>>(memory.data(), 1, 2, 3, 20)).shape ==
          shape4{1, 2, 3, 20});
    Eigen::TensorMap<tensor4<Eigen::RowMajor>, Eigen::Aligned16> aligned(memory.data(), 2, 3, 4, 5);
    CHECK(kdna::view_of(aligned, layout::nhwc).shape == shape4{2, 5, 3, 4});
}

TEST_CASE("eigen: other element and index types", "[interop]") {
    Eigen::Tensor<double, 4, Eigen::RowMajor, int> t(1, 2, 3, 4);
    t.setConstant(2.5);
    CHECK(kdna::view_of(t)(0, 1, 2, 3) == 2.5);
}

TEST_CASE("eigen: an empty tensor has no view", "[interop]") {
    tensor4<Eigen::RowMajor> empty(1, 0, 4, 5);
    CHECK_THROWS_AS(kdna::view_of(empty), kdna::error);
}

template <class T>
concept viewable = requires {
    kdna::view_of(std::declval<T>());
};

TEST_CASE("eigen: no view of a temporary, or of another rank", "[interop]") {
    STATIC_REQUIRE(viewable<tensor4<0>&>);
    STATIC_REQUIRE(viewable<const tensor4<0>&>);
    STATIC_REQUIRE(viewable<Eigen::TensorMap<tensor4<0>>>);
    STATIC_REQUIRE_FALSE(viewable<tensor4<0>>);
    STATIC_REQUIRE_FALSE(viewable<const tensor4<0>>);
    STATIC_REQUIRE_FALSE(viewable<Eigen::Tensor<float, 3>&>);
}
