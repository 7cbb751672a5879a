// Weights on a device: how they lie there, and who shares them.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <tuple>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/layers/recipe.hpp>
#include <kdna/cuda/programs/product.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Where the weights of a kernel or of a cell lie on a device, in elements: that of filter o, channel c of its group and tap t at
/// o * filter_stride + t * tap_stride + c.
struct weight_layout {
    index_t filters = 1, channels = 1, taps = 1;
    index_t filter_stride = 1, tap_stride = 1, size = 1;

    /// As convolution_program or depthwise_program read it, for an input stored with `channels` a group, the kernel's own or more: the taps
    /// lie that far apart. Throws kdna::error.
    [[nodiscard]] static weight_layout of(const kernel_shape& k, index_t channels, precision p,
                                          std::string_view where) {
        const index_t stage = row_bytes / bytes_of(p), lane = 16 / bytes_of(p);
        weight_layout l{k.o, k.channels_per_group(), k.taps()};
        l.tap_stride = k.depthwise() ? k.o : channels;
        l.filter_stride = k.depthwise() ? 1 : (l.taps * channels + stage - 1) / stage * stage;
        // Whole packs, so that kernels are put together pack by pack.
        const index_t size = checked_mul(k.o, k.depthwise() ? l.taps : l.filter_stride, where);
        l.size = (size + lane - 1) / lane * lane;
        return l;
    }
    /// The order in which neighbours are neighbours in a kernel as well, depthwise ones having no second channel.
    [[nodiscard]] static weight_layout of(const cell_shape& cell, std::string_view where) {
        weight_layout l{cell.o, cell.c, cell.taps()};
        l.tap_stride = cell.c == 1 ? cell.o : cell.c;
        l.filter_stride = cell.c == 1 ? 1 : cell.taps() * cell.c;
        l.size = checked_mul(checked_mul(cell.o, cell.c, where), cell.taps(), where);
        return l;
    }
    [[nodiscard]] std::size_t at(index_t o, index_t c, index_t t) const noexcept {
        return static_cast<std::size_t>(o * filter_stride + t * tap_stride + c);
    }
};

/// What layers store on a device, each once: a child finds its parent's kernel here, and a layer its stage's warehouse. It lives
/// as long as a layer that uses it. Safe to use from several threads.
template <device_api Device>
class kernel_store {
public:
    struct kernel {
        device_memory<Device> memory{};
        int size = 0;  ///< of one of the recipe's stored tensors, in elements
        /// What the key stands for, so that its address is not given to anything else while the kernel is here.
        kernel_recipe recipe{};
    };

    /// What a recipe stores, for an input of `channels` a group, the kernel's own or more; made on first use. Throws kdna::error.
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
        k->size = static_cast<int>(l.size);
        with_number(p, [&]<class Number>(Number) {
            using T = typename Number::element;
            std::vector<T> w(static_cast<std::size_t>(all));
            for (index_t i = 0; i < r.count; ++i)
                for (index_t o = 0; o < l.filters; ++o)
                    for (index_t c = 0; c < l.channels; ++c)
                        for (index_t t = 0; t < l.taps; ++t)
                            w[static_cast<std::size_t>(i * l.size) + l.at(o, c, t)] =
                                from_float<T>(r.weight(i, o, c, t));
            k->memory = uploaded<T>(device, w, s);
        });
        return k;
    }
    std::mutex mutex_{};
    std::map<std::tuple<const void*, precision, index_t>, std::weak_ptr<const kernel>> kernels_{};
};

}  // namespace kdna::inline KDNA_ABI::cuda
