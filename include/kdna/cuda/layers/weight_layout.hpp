// How the weights of a kernel, or of the cells that tile one, lie on a device.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/device/numbers.hpp>
#include <kdna/cuda/layers/recipe.hpp>
#include <kdna/cuda/programs/assembly.hpp>
#include <kdna/cuda/programs/product.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Elements that the widest load, 16 bytes, has in a precision.
[[nodiscard]] constexpr index_t lane_of(precision p) noexcept { return 16 / bytes_of(p); }

/// Where the weights of a kernel or of a cell lie, in elements: the weight of filter o, channel c of its group and tap
/// t lies at o * filter_stride + t * tap_stride + c.
struct weight_layout {
    index_t filters = 1, channels = 1, taps = 1;
    index_t filter_stride = 1, tap_stride = 1, size = 1;

    /// As convolution_program or depthwise_program reads a kernel, for an input stored with `channels` a group, the
    /// kernel's own number or more. Throws kdna::error.
    [[nodiscard]] static weight_layout of(const kernel_shape& k, index_t channels, precision p,
                                          std::string_view where) {
        const index_t stage = row_bytes / bytes_of(p);
        weight_layout l{k.o, k.channels_per_group(), k.taps()};
        l.tap_stride = k.depthwise() ? k.o : channels;
        l.filter_stride = k.depthwise() ? 1 : ceil_div(l.taps * channels, stage) * stage;
        // Whole packs, so that kernels are assembled pack by pack.
        const index_t size = checked_mul(k.o, k.depthwise() ? l.taps : l.filter_stride, where);
        l.size = ceil_div(size, lane_of(p)) * lane_of(p);
        return l;
    }
    /// A cell, in an order in which neighbours are neighbours in a kernel as well. Cells of one channel may tile
    /// depthwise kernels, whose filters are contiguous. Throws kdna::error.
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

/// Where what a recipe stores lies in the kernel of a sample, whose layout is `l`.
[[nodiscard]] inline cell_places places_of(const kernel_recipe& k, const weight_layout& l) {
    using detail::known_int;
    cell_places p;
    if (!k.cell) {
        p.inner = known_int(l.size);
        return p;
    }
    const cell_shape& cell = *k.cell;
    p.outer_stride = p.inner_stride = known_int(l.filter_stride);
    if (cell.c == 1) {
        p.inner = known_int(cell.o);
        p.outer_stride = known_int(l.tap_stride);
    } else {
        p.inner = known_int(cell.c);
        p.inner_stride = 1;
        p.middle = known_int(cell.taps());
        p.middle_stride = known_int(l.tap_stride);
    }
    p.filters = known_int(l.filters / cell.o);
    p.channels = known_int(l.channels / cell.c);
    p.piece_stride = known_int(cell.taps() * l.tap_stride);
    p.filter_stride = known_int(cell.o * l.filter_stride);
    p.channel_stride = p.channels > 1 ? known_int(cell.c) : 0;
    return p;
}

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
