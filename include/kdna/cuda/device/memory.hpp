// Device memory that is owned, tensors in it, and views of them, to which no host pointer converts.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/device/device.hpp>
#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/device/span.hpp>
#include <kdna/tensor/tensor.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// A view of a dense tensor in device memory. No host pointer or view converts to it: a pointer is named as one of the
/// device's.
template <class T>
class device_view {
public:
    device_view() = default;
    /// `data` points to device memory of shape `s` in the given order; throws kdna::error if the shape is not one.
    [[nodiscard]] static device_view from_device_pointer(T* data, const shape4& s, layout order) {
        static_cast<void>(element_count(s, "device view"));
        device_view v;
        v.data_ = data;
        v.shape_ = s;
        v.order_ = order;
        return v;
    }
    [[nodiscard]] T* device_pointer() const noexcept { return data_; }
    [[nodiscard]] const shape4& shape() const noexcept { return shape_; }
    [[nodiscard]] layout order() const noexcept { return order_; }
    operator device_view<const T>() const noexcept  // NOLINT(google-explicit-constructor)
        requires(!std::is_const_v<T>) {
        return data_ == nullptr ? device_view<const T>()
                                : device_view<const T>::from_device_pointer(data_, shape_, order_);
    }

private:
    T* data_ = nullptr;
    shape4 shape_{0, 0, 0, 0};
    layout order_ = layout::nhwc;
};

/// Owns bytes of a device, which must outlive it. Move only.
template <device_api Device>
class device_memory {
public:
    device_memory() = default;
    device_memory(Device& device, index_t bytes) : device_(&device), bytes_(bytes) {
        if (bytes > 0) data_ = device.allocate(bytes);
    }
    device_memory(device_memory&& other) noexcept { swap(other); }
    device_memory& operator=(device_memory&& other) noexcept {
        device_memory(std::move(other)).swap(*this);
        return *this;
    }
    device_memory(const device_memory&) = delete;
    device_memory& operator=(const device_memory&) = delete;
    ~device_memory() {
        if (data_ != nullptr) device_->release(data_);
    }
    void swap(device_memory& other) noexcept {
        std::swap(device_, other.device_);
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
    }
    [[nodiscard]] index_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] void* data() const noexcept { return data_; }
    /// `count` elements from byte `at` on.
    template <class T>
    [[nodiscard]] device_span<T> span(index_t at, index_t count) const {
        return {reinterpret_cast<T*>(static_cast<std::byte*>(data_) + at), detail::checked_int(count, "device memory")};
    }

private:
    Device* device_ = nullptr;
    void* data_ = nullptr;
    index_t bytes_ = 0;
};

/// Copies host values to the device. Allocates nothing if there are none.
template <class T, device_api Device>
[[nodiscard]] device_memory<Device> uploaded(Device& device, std::span<const T> values, typename Device::stream s) {
    device_memory<Device> m(device, static_cast<index_t>(values.size_bytes()));
    if (!values.empty()) device.upload(m.data(), values.data(), m.bytes(), s);
    return m;
}

/// Owns a dense T[N, C, H, W] on a device. Move only.
template <class T, device_api Device>
class basic_device_tensor {
public:
    basic_device_tensor(Device& device, const shape4& s, layout order = layout::nhwc)
        : device_(&device),
          shape_(s),
          order_(order),
          memory_(device,
                  checked_mul(element_count(s, "device tensor"), static_cast<index_t>(sizeof(T)), "device tensor")) {}

    [[nodiscard]] const shape4& shape() const noexcept { return shape_; }
    [[nodiscard]] device_view<T> view() {
        return device_view<T>::from_device_pointer(static_cast<T*>(memory_.data()), shape_, order_);
    }
    [[nodiscard]] device_view<const T> view() const {
        return device_view<const T>::from_device_pointer(static_cast<const T*>(memory_.data()), shape_, order_);
    }
    /// From a host view of the same shape and any strides. Throws kdna::error.
    void upload(const tensor_view<const T>& from, typename Device::stream s) {
        tensor<T> dense(shape_, order_);
        copy(from, dense.view());
        device_->upload(memory_.data(), dense.data(), memory_.bytes(), s);
    }
    [[nodiscard]] tensor<T> download(typename Device::stream s) const {
        tensor<T> dense(shape_, order_);
        device_->download(dense.data(), memory_.data(), memory_.bytes(), s);
        return dense;
    }

private:
    Device* device_;
    shape4 shape_;
    layout order_;
    device_memory<Device> memory_;
};

/// The layout of one block of device memory, piece by piece, each 256-byte aligned. add() throws kdna::error on
/// overflow.
class device_layout {
public:
    index_t add(index_t count, index_t element_bytes) {
        const index_t at = bytes_, size = checked_mul(count, element_bytes, "device memory");
        bytes_ = checked_add(bytes_, checked_mul(checked_add(size, 255, "device memory") / 256, 256, "device memory"),
                             "device memory");
        return at;
    }
    [[nodiscard]] index_t bytes() const noexcept { return bytes_; }

private:
    index_t bytes_ = 0;
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
