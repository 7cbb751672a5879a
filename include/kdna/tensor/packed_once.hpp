// Weights that are packed when somebody first reads them packed.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <kdna/core/config.hpp>
#include <kdna/core/memory.hpp>

namespace kdna::inline KDNA_ABI {

/// Weights, kept in PyTorch's order until they are first needed in the order of a kernel's panels, and from then on in
/// that order only. So a backend with a layout of its own builds from the weights as they came, and panels are never
/// made for it. Safe to use from several threads.
class packed_once {
public:
    /// `floats`: how many the packed weights take; those that no weight is stored in are zeros.
    packed_once(std::span<const float> weights, index_t floats)
        : floats_(floats), weights_(weights.begin(), weights.end()) {}
    packed_once(const packed_once&) = delete;
    packed_once& operator=(const packed_once&) = delete;
    ~packed_once() = default;

    /// The packed weights. `order.for_each_weight(f)` calls f(place among the packed floats, place in PyTorch's order)
    /// for every weight. The first call packs; later calls cost an atomic read.
    template <class Order>
    [[nodiscard]] const float* packed(const Order& order) const {
        const float* data = data_.load(std::memory_order_acquire);
        return data != nullptr ? data : first_packed(order);
    }
    /// Writes the weights in PyTorch's order.
    template <class Order>
    void copy(std::span<float> to, const Order& order) const {
        const std::lock_guard lock(mutex_);
        if (const float* data = data_.load(std::memory_order_relaxed))
            order.for_each_weight([&](index_t at, std::size_t i) { to[i] = data[at]; });
        else
            std::copy(weights_.begin(), weights_.end(), to.begin());
    }
    /// Bytes that it holds, in either order.
    [[nodiscard]] index_t bytes() const {
        const std::lock_guard lock(mutex_);
        return panels_.bytes() + static_cast<index_t>(weights_.size() * sizeof(float));
    }

private:
    template <class Order>
    KDNA_NOINLINE const float* first_packed(const Order& order) const {
        const std::lock_guard lock(mutex_);
        if (data_.load(std::memory_order_relaxed) == nullptr) {
            buffer<float> panels(floats_);
            order.for_each_weight([&](index_t at, std::size_t i) { panels[at] = weights_[i]; });
            panels_ = std::move(panels);
            std::vector<float>().swap(weights_);
            data_.store(panels_.data(), std::memory_order_release);
        }
        return panels_.data();
    }

    index_t floats_;
    mutable std::mutex mutex_{};
    mutable std::vector<float> weights_;
    mutable buffer<float> panels_{};
    mutable std::atomic<const float*> data_{nullptr};  ///< of panels_, once they are there
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
