// Depthwise convolution: one filter per channel, channels in the vectors.
#pragma once

#include <kdna/conv/gemm_nest.hpp>

namespace kdna::inline KDNA_ABI::conv {
namespace detail {

/// `channels` of one sample, side by side for every pixel: slab[h][w][panel_layout::width]. For inputs whose channels are
/// not neighbours in memory.
inline void gather_channels(const tensor_view<const float>& x, index_t n, index_t first, index_t channels, float* slab) noexcept {
    for (index_t h = 0; h < x.shape.h; ++h)
        for (index_t c = 0; c < channels; ++c) {
            const float* from = x.at(n, first + c, h, 0);
            float* to = slab + h * x.shape.w * panel_layout::width + c;
            for (index_t w = 0; w < x.shape.w; ++w) to[w * panel_layout::width] = from[w * x.stride.w];
        }
}

/// One pixel of one panel: acc = sum over its taps inside the map of w[tap] * x, channel by channel. `partial` lanes are read
/// one by one, so nothing past the last channel is touched.
template <int Vectors>
KDNA_INLINE void depthwise_pixel(const float* const* rows, const index_t* taps, index_t count, const float* panel, index_t readable,
                                 const tile_output& out) noexcept {
    simd::vec acc[Vectors];
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) acc[j] = simd::zero();
    if (readable >= Vectors * simd::lanes) {
        for (index_t i = 0; i < count; ++i) {
            const float* w = panel + taps[i] * (Vectors * simd::lanes);
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j)
                acc[j] = simd::multiply_add(simd::load(rows[i] + j * simd::lanes), simd::load(w + j * simd::lanes), acc[j]);
        }
    } else {
        for (index_t i = 0; i < count; ++i) {
            const float* w = panel + taps[i] * (Vectors * simd::lanes);
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j)
                if (readable > j * simd::lanes)
                    acc[j] = simd::multiply_add(simd::load_strided(rows[i] + j * simd::lanes, 1, std::min(readable - j * simd::lanes, simd::lanes)),
                                                simd::load(w + j * simd::lanes), acc[j]);
        }
    }
    alignas(alignment) float tile[Vectors * simd::lanes];
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) simd::store(tile + j * simd::lanes, acc[j]);
    finish_tile(tile, 1, Vectors, out);
}

/// One task: sample n, one panel of channels, one block of output rows.
inline void depthwise_task(const plan& p, const call& c, const thread_space& space, index_t n, index_t panel, index_t block) noexcept {
    const panel_layout& kernel = c.source.layout();
    const kernel_shape& k = kernel.shape();
    const index_t filter = panel * panel_layout::width, channels = kernel.filters_of(panel), width = kernel.width_of(panel);

    window_source window{c.x, k, c.params, p.out.w};
    window.x.data = c.x.at(n, filter, 0, 0);
    index_t readable = channels;
    if (c.x.stride.c != 1) {
        auto* slab = space.at<float>(p.packed_at);
        gather_channels(c.x, n, filter, channels, slab);
        window.x = {slab, {1, channels, p.in.h, p.in.w}, {0, 1, p.in.w * panel_layout::width, panel_layout::width}};
        readable = width;
    }

    auto* scratch = space.at<float>(p.assembled_at);
    const float* weights = c.source.panel(0, panel, c.factors.mixture.of(n), scratch);
    if (const float* spatial = c.factors.spatial.of(n); spatial != nullptr) {
        float* modulated = scratch + kernel.panel_floats();
        for (index_t t = 0; t < k.taps(); ++t)
            for (index_t f = 0; f < width; ++f) modulated[t * width + f] = weights[t * width + f] * spatial[t];
        weights = modulated;
    }

    const auto** rows = space.at<const float*>(p.rows_at);
    auto* taps = space.at<index_t>(p.depth_at);
    const index_t pixels = p.out.h * p.out.w, end = std::min((block + 1) * p.pixel_block, pixels);
    // A gate on a depthwise layer's input is one on its output, before the shift.
    alignas(alignment) float scale[panel_layout::width] = {};
    const float* gate = c.factors.channel.of(n);
    for (index_t f = 0; f < channels; ++f)
        scale[f] = c.factors.scale.of(n)[filter + f] * (gate != nullptr ? gate[filter + f] : 1.0F);

    for (index_t pixel = block * p.pixel_block; pixel < end; ++pixel) {
        const window_origin origin = origin_of(pixel, p.out.w, c.params);
        index_t count = 0;
        for (index_t i = 0; i < k.kh; ++i)
            for (index_t j = 0; j < k.kw; ++j)
                if (const float* from = window.under(origin, i, j); from != nullptr) {
                    rows[count] = from;
                    taps[count++] = i * k.kw + j;
                }
        float* y_at[1];
        const float* residual_at[1];
        point_pixels(c.y, n, filter, pixel, 1, p.out.w, y_at);
        if (c.residual.data != nullptr) point_pixels(c.residual, n, filter, pixel, 1, p.out.w, residual_at);
        const tile_output out{.y = y_at,
                              .residual = c.residual.data != nullptr ? residual_at : nullptr,
                              .y_stride = c.y.stride.c,
                              .residual_stride = c.residual.stride.c,
                              .scale = scale,
                              .shift = c.factors.shift.of(n) + filter,
                              .filters = channels,
                              .act = c.act};
        if (width == simd::lanes)
            depthwise_pixel<1>(rows, taps, count, weights, readable, out);
        else
            depthwise_pixel<2>(rows, taps, count, weights, readable, out);
    }
}

}  // namespace detail

/// Runs tasks [first, last) with one thread's workspace; results do not depend on the number of threads.
inline void depthwise_nest(const plan& p, const call& c, std::byte* thread_space, index_t first, index_t last) noexcept {
    for (index_t task = first; task < last; ++task) {
        const index_t block = task % p.pixel_blocks, rest = task / p.pixel_blocks;
        detail::depthwise_task(p, c, {thread_space}, rest / p.panel_chunks, rest % p.panel_chunks, block);
    }
}

}  // namespace kdna::inline KDNA_ABI::conv
