// The oracle: the kernel algebra written out with double accumulation and no packing, tiling or folding.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/backend/backend.hpp>
#include <kdna/core/activation_functions.hpp>

namespace kdna::inline KDNA_ABI::backend {

/// Slow and obvious. Every optimised path is tested against it.
struct reference {
    struct plan {
        shape4 in{}, out{};
        index_t workspace_bytes = 0;
    };

    [[nodiscard]] static plan make_plan(const conv::problem& q, const shape4& in, conv::input_order, index_t,
                                        std::string_view where) {
        const kernel_shape& k = q.shape();
        const index_t filter_bytes = k.channels_per_group() * k.taps() * static_cast<index_t>(sizeof(double));
        return {in, output_shape(in, k, q.params, where), filter_bytes};
    }

    static void run(const plan& p, const conv::call& c, std::byte* workspace, const executor_ref&) noexcept {
        const index_t end = c.rows.count > 0 ? c.rows.first + c.rows.count : p.out.h;
        auto* filter = reinterpret_cast<double*>(workspace);
        for (index_t o = 0; o < p.out.c; ++o)
            for (index_t n = 0; n < p.out.n; ++n) {
                if (n == 0 || c.factors.mixture) write_out(c, n, o, filter);
                for (index_t h = c.rows.first; h < end; ++h)
                    for (index_t w = 0; w < p.out.w; ++w)
                        c.y(n, o, h - c.rows.y_first, w) = static_cast<float>(element(c, filter, n, o, h, w));
            }
        if (c.channel_means != nullptr) take_means(p, c);
    }

    [[nodiscard]] static std::string explain(const conv::problem&, const plan&) {
        return "reference, double accumulation";
    }

private:
    static void take_means(const plan& p, const conv::call& c) noexcept {
        for (index_t n = 0; n < p.out.n; ++n)
            for (index_t o = 0; o < p.out.c; ++o) {
                double sum = 0.0;
                for (index_t h = 0; h < p.out.h; ++h)
                    for (index_t w = 0; w < p.out.w; ++w) sum += c.y(n, o, h, w);
                c.channel_means[n * p.out.c + o] = static_cast<float>(sum / static_cast<double>(p.out.h * p.out.w));
            }
    }
    /// The weights [KH * KW][I / groups] of one filter, which a source may have to assemble: once for all pixels.
    static void write_out(const conv::call& c, index_t n, index_t o, double* filter) noexcept {
        const kernel_shape& k = c.source.layout().shape();
        for (index_t t = 0; t < k.taps(); ++t)
            for (index_t ch = 0; ch < k.channels_per_group(); ++ch)
                *filter++ = c.source.weight(o, ch, t, c.factors.mixture.of(n));
    }
    [[nodiscard]] static double element(const conv::call& c, const double* filter, index_t n, index_t o, index_t h,
                                        index_t w) noexcept {
        const kernel_shape& k = c.source.layout().shape();
        const index_t channels = k.channels_per_group(), first = o / k.filters_per_group() * channels;
        const float* gate = c.factors.channel.of(n);
        const float* spatial = c.factors.spatial.of(n);
        double sum = 0.0;
        for (index_t i = 0; i < k.kh; ++i)
            for (index_t j = 0; j < k.kw; ++j) {
                index_t ih = h * c.params.stride.h - c.params.pad.top + i * c.params.dilation.h;
                index_t iw = w * c.params.stride.w - c.params.pad.left + j * c.params.dilation.w;
                if (c.params.mode == padding_mode::circular) {
                    ih = (ih + c.x.shape.h) % c.x.shape.h;
                    iw = (iw + c.x.shape.w) % c.x.shape.w;
                }
                if (ih < 0 || ih >= c.x.shape.h || iw < 0 || iw >= c.x.shape.w) continue;
                const index_t t = i * k.kw + j;
                const float* x = &c.x(n, first, ih - c.rows.x_first, iw);
                const double* weights = filter + t * channels;
                for (index_t ch = 0; ch < channels; ++ch) {
                    double term = weights[ch] * x[ch * c.x.stride.c];
                    if (gate != nullptr) term *= gate[first + ch];
                    if (spatial != nullptr) term *= spatial[t];
                    sum += term;
                }
            }
        double y = c.factors.scale.of(n)[o] * sum + c.factors.shift.of(n)[o];
        if (c.residual.data != nullptr) y += c.residual(n, o, h, w);
        return activated(c.act.kind, y, static_cast<double>(c.act.a(o)));
    }
};
static_assert(conv_backend<reference>);

}  // namespace kdna::inline KDNA_ABI::backend

#include <kdna/core/macros_pop.hpp>
