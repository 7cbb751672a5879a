// Weights that are packed when somebody first reads them packed.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <atomic>
#include <cstring>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/config.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/core/stored_numbers.hpp>

namespace kdna::inline KDNA_ABI {

/// Writes weights in a format, each rounded to the nearest number of it, from `to` on. Throws kdna::error if one is finite and its
/// nearest number is not.
KDNA_FUNC_COLD void round_weights(std::span<const float> weights, number_format format, std::byte* to,
                                  std::string_view where);

/// Weights, kept in PyTorch's order until they are first needed in the order of a kernel's panels, and from then on in
/// that order only. So a backend with a layout of its own builds from the weights as they came, and panels are never
/// made for it. They are rounded once, when they come. Safe to use from several threads.
class packed_once {
public:
    /// `count`: how many numbers the packed weights take; those that no weight is stored in are zeros. Throws kdna::error if a
    /// weight is out of the format's range.
    packed_once(std::span<const float> weights, index_t count, number_format format, std::string_view where)
        : count_(count), format_(format), weights_(static_cast<index_t>(weights.size()) * size_of(format)) {
        round_weights(weights, format, weights_.data(), where);
    }
    packed_once(const packed_once&) = delete;
    packed_once& operator=(const packed_once&) = delete;
    ~packed_once() = default;

    [[nodiscard]] number_format format() const noexcept { return format_; }
    /// The packed weights. `order.for_each_weight(f)` calls f(place among the packed numbers, place in PyTorch's order)
    /// for every weight. The first call packs; later calls cost an atomic read.
    template <class Order>
    [[nodiscard]] stored_numbers packed(const Order& order) const {
        const std::byte* data = data_.load(std::memory_order_acquire);
        return {data != nullptr ? data : first_packed(order), format_};
    }
    /// Writes the weights in PyTorch's order, widened.
    template <class Order>
    void copy(std::span<float> to, const Order& order) const {
        const std::lock_guard lock(mutex_);
        if (const std::byte* data = data_.load(std::memory_order_relaxed)) {
            const stored_numbers numbers(data, format_);
            order.for_each_weight([&](index_t at, std::size_t i) { to[i] = numbers[at]; });
        } else {
            const stored_numbers numbers(weights_.data(), format_);
            for (std::size_t i = 0; i < to.size(); ++i) to[i] = numbers[static_cast<index_t>(i)];
        }
    }
    /// Bytes that it holds, in either order.
    [[nodiscard]] index_t bytes() const {
        const std::lock_guard lock(mutex_);
        return panels_.bytes() + weights_.bytes();
    }

private:
    template <class Order>
    KDNA_NOINLINE const std::byte* first_packed(const Order& order) const {
        const std::lock_guard lock(mutex_);
        if (data_.load(std::memory_order_relaxed) == nullptr) {
            const auto size = static_cast<std::size_t>(size_of(format_));
            buffer<std::byte> panels(checked_mul(count_, size_of(format_), "packed weights"));
            order.for_each_weight([&](index_t at, std::size_t i) {
                const std::byte* from = weights_.data() + i * size;
                std::byte* to = panels.data() + static_cast<std::size_t>(at) * size;
                if (size == sizeof(float))
                    std::memcpy(to, from, sizeof(float));
                else
                    std::memcpy(to, from, sizeof(float16));
            });
            panels_ = std::move(panels);
            weights_ = buffer<std::byte>();
            data_.store(panels_.data(), std::memory_order_release);
        }
        return panels_.data();
    }

    index_t count_;
    number_format format_;
    mutable std::mutex mutex_{};
    mutable buffer<std::byte> weights_;
    mutable buffer<std::byte> panels_{};
    mutable std::atomic<const std::byte*> data_{nullptr};  ///< of panels_, once they are there
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/tensor/packed_once.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
