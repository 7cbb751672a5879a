// What an algorithm is expected to cost, and the choice that follows from it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include <kdna/conv/plan.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Whether F(m x m) would transform panels as they are used: the kernel differs from sample to sample, or is not to be kept.
[[nodiscard]] inline bool transforms_panels(const problem& q, int m) noexcept {
    return q.routed_kernel || winograd_kernel::bytes_for(*q.kernel, m) > q.transform_budget;
}

/// Cycles that one thread is expected to take, where a cycle is what one vector multiply-add takes when nothing else is in
/// its way. The constants were fitted to warm runs of the 88 convolutions of the published networks on one machine (Zen 4,
/// AVX-512: 16 floats a vector, one multiply-add a clock), but for copy_cycles and pack_cycles, which are estimates: those
/// layers copy too little. docs/cost-model.md has the formula in words, predictions and measurements.
///
/// Costs are of one sample, and what decides between algorithms depends on nothing but the shapes of the layer and its map: a
/// batch gives the bits that its samples give one by one, on any number of threads.
struct cost_model {
    /// Share of the peak of long products from L1 and L2: mostly 0.92 to 0.99 from a depth of 192 on.
    static constexpr double gemm_efficiency = 0.95;
    /// A call of a micro-kernel: prologue, and epilogue of 14 x 32 outputs. Beyond its products a call took 203 cycles at a
    /// depth of 16 and 176 at 32 (16-96 at 56x56, 32-192 at 28x28); 169 by least squares over all layers.
    static constexpr double tile_cycles = 170;
    static constexpr double row_cycles = 4;      ///< to point a tile's row at one run of the input
    static constexpr double strided_cycles = 8;  ///< more for a vector that is not stored whole (24 filters of 32)
    static constexpr double copy_cycles = 3;     ///< to load a vector, multiply a factor in, and store it
    static constexpr double pack_cycles = 1;     ///< to copy a float of a window (im2col)
    /// 3x3 depthwise, per tap and vector of outputs. Sliding rows do little but multiply; elsewhere each tap loads its input.
    static constexpr double sliding_tap = 1.06, jumping_tap = 1.8;
    static constexpr double part_tap = 5;  ///< of a last vector that is not whole: 3 channels, 11x11 taps, 256x256
    /// To begin a row of a vector of channels: weights into registers, first and last column.
    static constexpr double sliding_row = 35, jumping_row = 65;
    /// Depthwise in planes, per tap and vector of outputs, to begin and store such a vector, to copy a float, and to begin a
    /// plane.
    static constexpr double plane_tap = 1.0, plane_vector = 20, plane_copy = 0.6, plane_begin = 800;
    /// What a float of the input, and of the output, costs more where channels lie side by side; and what it costs the
    /// depthwise nest where columns do (16 channels, 3x3, 56x56, strides 1 and 2).
    static constexpr double plane_gather = 1.4, plane_scatter = 2.0, channel_gather = 0.6, channel_scatter = 3.3;
    /// F(2x2), F(4x4), F(6x6), per tile and vector of channels, or of filters; with the calls of the products, which store
    /// sums and finish nothing. The larger two do not fit 16 registers.
    static constexpr bool roomy = simd::registers >= 32;
    static constexpr double input_transform[] = {125, roomy ? 330.0 : 400.0, roomy ? 640.0 : 820.0};
    static constexpr double output_transform[] = {125, roomy ? 330.0 : 400.0, roomy ? 640.0 : 820.0};
    /// F(6x6) has to be expected to take less than this share of the time of the others: its transformed kernel is the
    /// largest and its errors are. Nor is it for fewer tiles (12x12, 128 channels, 4 tiles: 5 % slower than F(4x4)).
    static constexpr double share_of_6 = 0.97;
    static constexpr index_t fewest_tiles_of_6 = 8;
    /// To transform a vector of weights (nine taps) from a panel, which waits for its stores to L2 (Zen 4 105 to 150 for F(4x4);
    /// Zen 5, with two multiply-adds a clock, 185), and to put one together, per multiply-add.
    static constexpr double kernel_transform[] = {65, 160, roomy ? 280.0 : 320.0};
    /// (a few terms are bound by the streams they come from, many by the arithmetic).
    static constexpr double stream_cycles = 2.5, assembly_cycles = 1.2;
    static constexpr double l2_bytes = 1024.0 * 1024;       ///< activations up to this size cost nothing
    static constexpr double l3_bytes = 24.0 * 1024 * 1024;  ///< weights up to this size come from L3
    static constexpr double l3_bytes_per_cycle = 20.0, memory_bytes_per_cycle = 5.0;

    /// Input and output, as far as they do not stay in L2 from one layer to the next.
    [[nodiscard]] static double activations(const plan& p) noexcept {
        const double floats = real(p.in.c) * real(p.in.h) * real(p.in.w) + real(p.out.c) * pixels(p);
        return std::max(floats * sizeof(float) - l2_bytes, 0.0) / l3_bytes_per_cycle;
    }
    /// Products whose weights are read once meanwhile: they are fetched ahead, so the longer of both counts, and more where
    /// they are about as long (256 filters, F(4x4) on 7x7: products alone 620,000 cycles, weights 470,000, both 890,000).
    [[nodiscard]] static double with_weights(double products, double bytes) noexcept {
        return std::hypot(products, bytes / (bytes <= l3_bytes ? l3_bytes_per_cycle : memory_bytes_per_cycle));
    }
    /// Rows of taps that lie on the map, over all rows of outputs.
    [[nodiscard]] KDNA_COLD static double tap_rows_on_map(const problem& q, const plan& p) noexcept {
        const index_t stride = q.params.stride.h, taps = q.kernel->shape().kh;
        index_t on_map = taps * p.out.h;
        for (index_t i = 0; i < taps; ++i) {
            const index_t before = q.params.pad.top - i * q.params.dilation.h;  // padding above this tap's first row
            on_map -= std::clamp<index_t>(ceil_div(before, stride), 0, p.out.h) +
                      std::clamp<index_t>(p.out.h - ceil_div(p.in.h + before, stride), 0, p.out.h);
        }
        return real(on_map);
    }

    /// To put all panels together once.
    [[nodiscard]] static double assembly(const problem& q) noexcept {
        if (q.source_scratch == 0) return 0.0;
        const index_t streams = std::min<index_t>(q.assembly_terms, 8);
        return real(q.kernel->floats()) / simd::lanes *
               (copy_cycles + stream_cycles * real(streams) + assembly_cycles * real(q.assembly_terms - streams));
    }
    /// A matrix product. What is copied is known once the plan is made; before, in the choice, copies do not count.
    [[nodiscard]] KDNA_COLD static double direct(const problem& q, const plan& p) noexcept {
        const kernel_shape& k = q.kernel->shape();
        const bool packs = p.algo == algorithm::im2col,
                   between = q.spatial_factor && !packs && !p.kernel_rows && !p.gate_in_panel;
        const index_t vectors = ceil_div(k.filters_per_group(), simd::lanes),
                      strided = k.filters_per_group() % simd::lanes == 0 ? 0 : (vectors - 1) % 2 + 1;
        const double groups = real(k.groups), outputs = groups * pixels(p) * real(vectors),
                     runs = packs ? 1.0 : real(p.kernel_rows ? k.kh : k.taps()), kernel = real(q.kernel->floats()),
                     tiles = std::ceil(pixels(p) / real(p.tallest));
        // A tile within one row of the map leaves out the rows of taps that lie in the padding.
        const bool leaves_out = !packs && !p.kernel_rows && p.out.w >= p.tallest;
        const double tap_rows = leaves_out ? tap_rows_on_map(q, p) / real(p.out.h) : real(k.kh);
        const double products = outputs * real(k.channels_per_group() * k.kw) * tap_rows / gemm_efficiency;
        const double calls = tile_cycles * groups * tiles * real(q.kernel->panels());
        const double rows = groups * pixels(p) * (row_cycles * runs + strided_cycles * real(strided));
        const double packing = packs ? pack_cycles * groups * pixels(p) * real(q.kernel->depth()) : 0.0;
        double copied = p.gate_in_panel || (q.spatial_factor && !between) ? kernel * real(p.pixel_blocks) : 0.0;
        if (p.stage == staging::always) copied += real(p.staged.rows()) * real(p.staged.row_floats());
        return with_weights(products, kernel * sizeof(float)) + calls + rows + packing +
               (between ? outputs * runs : 0.0) + copy_cycles * copied / simd::lanes +
               (p.mixes_input ? (real(q.mixes) - 1.0) * (products + packing) : assembly(q) * real(p.pixel_blocks)) +
               activations(p);
    }
    [[nodiscard]] KDNA_COLD static double depthwise(const problem& q, const plan& p) noexcept {
        const kernel_shape& k = q.kernel->shape();
        const bool part = k.o % simd::lanes != 0,
                   slides = !part && k.kw == 3 && k.kh <= 3 && q.params.stride.w == 1 && q.params.dilation.w == 1;
        const double rows = real(p.out.h) * real(ceil_div(k.o, simd::lanes)), taps = real(p.out.w) * real(k.taps()),
                     last = part ? real(p.out.h) * taps * (part_tap - jumping_tap) : 0.0;
        return rows * (taps * (slides ? sliding_tap : jumping_tap) + (slides ? sliding_row : jumping_row)) + last +
               activations(p);
    }
    [[nodiscard]] KDNA_COLD static double planes(const problem& q, const plan& p) noexcept {
        const kernel_shape& k = q.kernel->shape();
        const double vectors = real(ceil_div(p.out.h, plane_tile_rows) * plane_tile_rows) *
                               real(ceil_div(p.out.w, simd::lanes)),
                     copied = (real(p.in.h + q.params.pad.top + q.params.pad.bottom)) *
                              real(p.in.w + q.params.pad.left + q.params.pad.right);
        return real(k.o) * (vectors * (real(k.taps()) * plane_tap + plane_vector) + copied * plane_copy) +
               activations(p);
    }
    [[nodiscard]] KDNA_COLD static double winograd(const problem& q, const plan& p, int m) noexcept {
        const kernel_shape& k = q.kernel->shape();
        const std::size_t which = winograd_index(m);
        const double tiles = real(ceil_div(p.out.h, m)) * real(ceil_div(p.out.w, m)), positions = (m + 2) * (m + 2),
                     inputs = tiles * real(ceil_div(k.i, simd::lanes)),
                     outputs = tiles * real(ceil_div(k.o, simd::lanes)),
                     bytes = real(winograd_kernel::bytes_for(*q.kernel, m));
        // Tiles of few rows take as long as those of five: they wait for their adds.
        index_t rows = 0;
        for (auto left = static_cast<index_t>(tiles); left > 0; left -= tile_height_for(left))
            rows += std::max<index_t>(tile_height_for(left), 5);
        const double products = positions * outputs * real(k.i) * real(rows) / tiles / gemm_efficiency,
                     transforms = inputs * input_transform[which] + outputs * output_transform[which] + activations(p);
        if (!transforms_panels(q, m)) return with_weights(products, bytes) + transforms;
        const double vectors = real(q.kernel->floats()) / 9.0 / simd::lanes;
        return products + transforms + vectors * kernel_transform[which] + assembly(q);
    }
    /// All samples of a plan that is made.
    [[nodiscard]] KDNA_COLD static double predict(const problem& q, const plan& p) noexcept {
        const double sample = p.algo == algorithm::winograd    ? winograd(q, p, p.winograd_m)
                              : p.algo == algorithm::depthwise ? depthwise(q, p)
                              : p.algo == algorithm::planes    ? planes(q, p)
                                                               : direct(q, p);
        return real(p.in.n) * sample;
    }

private:
    [[nodiscard]] static double real(index_t i) noexcept { return static_cast<double>(i); }
    [[nodiscard]] static double pixels(const plan& p) noexcept { return real(p.out.h) * real(p.out.w); }
};

/// Whether a convolution of each channel with a filter of its own is expected to be faster on planes. The planar copy and its
/// outputs want neighbouring columns side by side, the depthwise nest neighbouring channels; the choice takes either for one
/// half the time each, so that the bits do not depend on what is promised of the order.
[[nodiscard]] KDNA_COLD bool choose_planes(const problem& q, const plan& p) {
    const kernel_shape& k = q.kernel->shape();
    if (k.groups != k.i || k.o != k.i || k.taps() == 1) return false;
    plan other = p;
    other.algo = algorithm::direct;
    if (!k.depthwise()) return cost_model::planes(q, p) < cost_model::direct(q, other);
    const auto inputs = static_cast<double>(p.in.c * p.in.h * p.in.w),
               outputs = static_cast<double>(p.out.c * p.out.h * p.out.w);
    return cost_model::planes(q, p) + 0.5 * (cost_model::plane_gather * inputs + cost_model::plane_scatter * outputs) <
           cost_model::depthwise(q, p) +
               0.5 * (cost_model::channel_gather * inputs + cost_model::channel_scatter * outputs);
}

/// Whether the input is mixed rather than the kernels, where the source can do either: n convolutions in one deep product, of
/// packed windows, instead of putting every panel together for each sample. That is for maps of a few pixels.
[[nodiscard]] KDNA_COLD bool mixes_input(const problem& q, const plan& p) {
    if (q.mixes == 0 || p.equal_kernels || q.channel_means || q.kernel->shape().depthwise()) return false;
    const auto real = [](index_t i) { return static_cast<double>(i); };
    const double pixels = real(p.out.h * p.out.w) / cost_model::gemm_efficiency, kernels = real(q.mixes),
                 vectors = real(q.kernel->floats()) / simd::lanes,
                 packing = cost_model::pack_cycles * real(p.out.h * p.out.w * q.kernel->groups() * q.kernel->depth());
    return kernels * (pixels * vectors + packing) < pixels * vectors + cost_model::assembly(q);
}

/// Whether Winograd is possible and allowed; kernels whose transform is not affordable are transformed as they are used.
[[nodiscard]] KDNA_COLD bool may_use_winograd(const problem& q) {
    const kernel_shape& k = q.kernel->shape();
    return q.transform_budget > 0 && winograd_fits(k) && q.params.stride == extent2(1) &&
           q.params.dilation == extent2(1) && std::min(k.i, k.o) >= simd::lanes;
}

/// The choices there are: 0 stands for a convolution without Winograd, m for F(m x m).
inline constexpr std::array<int, 4> variants{0, 2, 4, 6};

/// The m of Winograd's F(m x m) that is allowed, affordable and expected to be fastest, or asked for, else 0.
[[nodiscard]] KDNA_COLD int choose_winograd(const problem& q, const plan& p) {
    if (q.winograd) return may_use_winograd(q) ? *q.winograd : 0;
    if (!may_use_winograd(q)) return 0;
    plan direct = p;
    direct.algo = algorithm::direct;
    int best = 0;
    // Without the factors: a child with all of them at one is its parent, to the last bit.
    problem plain = q;
    plain.spatial_factor = plain.channel_factor = false;
    double least = cost_model::direct(plain, direct);
    for (const int m : variants) {
        if (m == 0) continue;
        if (m == 6 && ceil_div(p.out.h, 6) * ceil_div(p.out.w, 6) < cost_model::fewest_tiles_of_6) continue;
        const double cost = cost_model::winograd(q, p, m);
        if (cost < least * (m == 6 ? cost_model::share_of_6 : 1.0)) {
            least = cost;
            best = m;
        }
    }
    return best;
}

}  // namespace kdna::inline KDNA_ABI::conv
