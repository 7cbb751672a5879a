// An owning activation tensor.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory_resource>

#include <kdna/core/memory.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI {

/// Owns a dense T[N, C, H, W] in NCHW or NHWC order, zero-initialised, 64-byte aligned. Move only; everything else is done
/// through views.
template <class T>
class tensor {
public:
    tensor() = default;
    /// Throws kdna::error if an extent is not positive or the element count does not fit.
    explicit tensor(const shape4& s, layout order = layout::nchw,
                    std::pmr::memory_resource* resource = std::pmr::get_default_resource())
        : shape_(s), order_(order), data_(element_count(s, "tensor"), resource) {}

    [[nodiscard]] const shape4& shape() const noexcept { return shape_; }
    [[nodiscard]] layout order() const noexcept { return order_; }
    [[nodiscard]] index_t size() const noexcept { return data_.size(); }
    [[nodiscard]] T* data() noexcept { return data_.data(); }
    [[nodiscard]] const T* data() const noexcept { return data_.data(); }
    [[nodiscard]] std::span<T> span() noexcept { return data_.span(); }
    [[nodiscard]] std::span<const T> span() const noexcept { return data_.span(); }
    [[nodiscard]] tensor_view<T> view() & { return make_view(data_.data(), shape_, order_); }
    [[nodiscard]] tensor_view<const T> view() const& { return make_view(data_.data(), shape_, order_); }
    void view() const&& = delete;  // the view of a temporary would outlive it: give the tensor a name
    T& operator()(index_t n, index_t c, index_t h, index_t w) noexcept { return data_[offset(n, c, h, w)]; }
    const T& operator()(index_t n, index_t c, index_t h, index_t w) const noexcept { return data_[offset(n, c, h, w)]; }

private:
    [[nodiscard]] index_t offset(index_t n, index_t c, index_t h, index_t w) const noexcept {
        return order_ == layout::nchw ? ((n * shape_.c + c) * shape_.h + h) * shape_.w + w
                                      : ((n * shape_.h + h) * shape_.w + w) * shape_.c + c;
    }
    shape4 shape_{0, 0, 0, 0};
    layout order_ = layout::nchw;
    buffer<T> data_;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
