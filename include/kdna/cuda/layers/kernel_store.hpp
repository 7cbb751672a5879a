// Weights on a device, and the layers that share them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <tuple>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/layers/recipe.hpp>
#include <kdna/cuda/layers/weight_layout.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// What layers store on a device, each once: a child finds its parent's kernel here, and a layer its stage's warehouse.
/// A kernel lives as long as a layer that uses it. Safe to use from several threads.
template <device_api Device>
class kernel_store {
public:
    struct kernel {
        device_memory<Device> memory{};
        int size = 0;  ///< of one of the recipe's stored tensors, in elements
        /// The host's storage, kept alive: its address is the key, which nothing else may get while the kernel is here.
        kernel_recipe recipe{};

        /// All stored tensors.
        template <class T>
        [[nodiscard]] device_span<const T> values() const {
            return memory.template span<const T>(0, index_t{size} * recipe.count);
        }
    };

    /// What a recipe stores, for an input of `channels` a group, the kernel's own number or more; made on first use.
    /// Throws kdna::error.
    [[nodiscard]] std::shared_ptr<const kernel> get(Device& device, const kernel_recipe& r, index_t channels,
                                                    precision p, typename Device::stream s, std::string_view where) {
        if (r.storage == nullptr) return make(device, r, channels, p, s, where);
        const std::lock_guard lock(mutex_);
        std::erase_if(kernels_, [](const auto& entry) { return entry.second.expired(); });
        // Cells lie the same way for every layer.
        auto& slot = kernels_[{r.storage, bytes_of(p) == 4 ? precision::f32 : p, r.cell ? 0 : channels}];
        auto found = slot.lock();
        if (found == nullptr) slot = found = make(device, r, channels, p, s, where);
        return found;
    }

private:
    [[nodiscard]] static std::shared_ptr<const kernel> make(Device& device, const kernel_recipe& r, index_t channels,
                                                            precision p, typename Device::stream s,
                                                            std::string_view where) {
        auto k = std::make_shared<kernel>();
        k->recipe = r;
        const weight_layout l =
            r.cell ? weight_layout::of(*r.cell, where) : weight_layout::of(r.shape, channels, p, where);
        const int all = detail::checked_int(checked_mul(l.size, r.count, where), where);
        k->size = detail::known_int(l.size);
        std::vector<float> stored(static_cast<std::size_t>(r.count * l.filters * l.channels * l.taps));
        r.copy_weights(stored);
        with_number(p, [&]<class Number>(Number) {
            using T = typename Number::element;
            std::vector<T> w(static_cast<std::size_t>(all));
            auto next = stored.cbegin();
            for (index_t i = 0; i < r.count; ++i)
                for (index_t o = 0; o < l.filters; ++o)
                    for (index_t c = 0; c < l.channels; ++c)
                        for (index_t t = 0; t < l.taps; ++t)
                            w[static_cast<std::size_t>(i * l.size) + l.at(o, c, t)] = from_float<T>(*next++);
            k->memory = uploaded<T>(device, w, s);
        });
        return k;
    }
    std::mutex mutex_{};
    std::map<std::tuple<const void*, precision, index_t>, std::weak_ptr<const kernel>> kernels_{};
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
