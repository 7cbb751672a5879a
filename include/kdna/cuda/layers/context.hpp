// Where layers and networks live: a device, the numbers they compute in, and the kernels that they share there.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <utility>

#include <kdna/backend/backend.hpp>
#include <kdna/cuda/layers/layer.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// The backend of a type of devices: cuda::on<cuda::gpu> is backend::cuda.
template <device_api Device>
using on = backend::on<Device>;

/// A handle; copies are the same context. Layers that are made in one context and share a kernel on the host, like a
/// parent and its children, share one copy of it on the device, for as long as any of them is alive. Safe to use from
/// several threads.
template <device_api Device>
class basic_context {
public:
    /// The first device.
    explicit basic_context(const device_options& options = {}) : basic_context(std::make_shared<Device>(), options) {}
    basic_context(std::shared_ptr<Device> device, const device_options& options)
        : options_(options), device_(std::move(device)), kernels_(std::make_shared<kernel_store<Device>>()) {
        if (device_ == nullptr) throw error("context", "a device", "a null pointer");
    }
    /// A device of the caller's, which must outlive everything in this context.
    explicit basic_context(Device& device, const device_options& options = {})
        : basic_context(std::shared_ptr<Device>(std::shared_ptr<Device>(), &device), options) {}

    /// The context of layers and networks that are made without one: the first device, float32. It is made on first
    /// use.
    [[nodiscard]] static const basic_context& standard() {
        static const basic_context context;
        return context;
    }

    [[nodiscard]] Device& device() const noexcept { return *device_; }
    [[nodiscard]] const device_options& options() const noexcept { return options_; }
    [[nodiscard]] kernel_store<Device>& kernels() const noexcept { return *kernels_; }

private:
    device_options options_;
    std::shared_ptr<Device> device_;
    std::shared_ptr<kernel_store<Device>> kernels_;
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
