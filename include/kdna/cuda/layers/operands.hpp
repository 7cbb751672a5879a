// The values of a network as the programs of its steps take them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/programs/image.hpp>
#include <kdna/cuda/programs/nest.hpp>
#include <kdna/nn/network_storage.hpp>
#include <kdna/nn/operation.hpp>
#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// A value in device memory, in the network's numbers. Strides in elements.
struct device_operand {
    void* data = nullptr;
    nd_shape shape{};
    axis_numbers stride{};

    /// Elements from the first to the last one.
    [[nodiscard]] index_t reach() const noexcept {
        index_t last = 0;
        for (index_t i = 0; i < shape.rank(); ++i) last += (shape[i] - 1) * stride[static_cast<std::size_t>(i)];
        return last + 1;
    }
    template <class T>
    [[nodiscard]] device_span<T> span() const noexcept {
        return {static_cast<T*>(data), detail::known_int(reach())};
    }
    /// Of an image, or of pixels [N, C]: how far its pixels lie apart. Storage gives those no other form (storage_rules).
    [[nodiscard]] int pixel() const { return detail::known_int(row_distance(shape, stride).value_or(shape[1])); }
    [[nodiscard]] shape4 image() const { return image_shape(shape, "device value"); }
    template <class T>
    [[nodiscard]] device_image<T> as_image() const {
        const shape4 s = image();
        return {span<T>(), detail::known_int(s.h), detail::known_int(s.w), pixel()};
    }
    /// Whether the channels of every pixel are whole packs of 16 bytes, which begin at multiples of 16 bytes.
    template <class T>
    [[nodiscard]] bool has_whole_pixels() const {
        return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && pixel() % wide<T> == 0 && shape[1] % wide<T> == 0;
    }
};

namespace detail {

/// A nest for a program, by elements or by packs of 16 bytes.
struct planned_nest {
    device_nest nest{};
    bool wide = false;
};

/// Throws kdna::error, naming `where`, for a nest of more axes than programs take.
inline void check_nest(ops::detail::nest n, std::string_view where) {
    n.arrange();
    if (n.rank() > device_nest::most)
        throw error(std::string(where), concat("a copy along at most ", device_nest::most, " axes on a device"),
                    concat(n.rank()));
}

/// A nest that was checked, for operands of T at `data` (null: none). Operands with contiguous columns move by packs, where all
/// of them can; others repeat one element.
template <class T>
[[nodiscard]] planned_nest nest_for(ops::detail::nest n, const std::array<const void*, 3>& data) {
    n.arrange();
    const ops::detail::nest_axis columns = n.columns();
    planned_nest out;
    out.wide = n.rank() > 0 && columns.extent % wide<T> == 0 && columns.stride[0] == 1;
    for (std::size_t k = 0; k < data.size(); ++k) {
        if (columns.stride[k] == 0) continue;
        out.wide = out.wide && columns.stride[k] == 1;
        if (data[k] == nullptr) continue;
        out.wide = out.wide && reinterpret_cast<std::uintptr_t>(data[k]) % 16 == 0;
        for (index_t i = 0; i + 1 < n.rank(); ++i) out.wide = out.wide && n.axis(i).stride[k] % wide<T> == 0;
    }
    out.nest.rank = known_int(n.rank());
    for (index_t i = 0; i < n.rank(); ++i) {
        const ops::detail::nest_axis& from = n.axis(n.rank() - 1 - i);
        device_axis& to = out.nest.axes[i];
        const int width = i == 0 && out.wide ? wide<T> : 1;
        to.extent = known_int(from.extent) / width;
        for (std::size_t k = 0; k < data.size(); ++k) to.stride[k] = known_int(from.stride[k]) * width;
        out.nest.items *= to.extent;
    }
    return out;
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
