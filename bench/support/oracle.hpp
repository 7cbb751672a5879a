// The double-precision reference at some of a layer's output pixels, which is fast enough to check every layer.
#pragma once

#include <algorithm>
#include <cmath>
#include <kdna/kdna.hpp>
#include <limits>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

namespace kdna_bench {

using kdna::index_t;

struct pixel {
    index_t h, w;
};

/// The output pixels that are checked, with all their filters: every pixel if the reference then has a few million
/// terms to add, else the four corners, where the padding is, and random others; never fewer than eight.
[[nodiscard]] inline std::vector<pixel> checked_pixels(const kdna::shape4& out, const kdna::kernel_shape& k) {
    constexpr index_t terms = 4'000'000;
    const index_t count = std::max<index_t>(terms / kdna::weight_count(k), 8);
    std::vector<pixel> pixels;
    if (count >= out.h * out.w) {
        for (index_t h = 0; h < out.h; ++h)
            for (index_t w = 0; w < out.w; ++w) pixels.push_back({h, w});
        return pixels;
    }
    pixels = {{0, 0}, {0, out.w - 1}, {out.h - 1, 0}, {out.h - 1, out.w - 1}};
    std::mt19937 generator(7);
    std::uniform_int_distribution<index_t> row(0, out.h - 1), column(0, out.w - 1);
    while (static_cast<index_t>(pixels.size()) < count) pixels.push_back({row(generator), column(generator)});
    return pixels;
}

/// backend::reference at `checked_pixels`; the rest of the output is left as it is.
struct sampled_reference {
    using plan = kdna::backend::reference::plan;

    [[nodiscard]] static plan make_plan(const kdna::conv::problem& q, const kdna::shape4& in,
                                        kdna::conv::input_order order, index_t threads, std::string_view where) {
        return kdna::backend::reference::make_plan(q, in, order, threads, where);
    }

    static void run(const plan& p, const kdna::conv::call& c, std::byte* workspace,
                    const kdna::executor_ref& executor) noexcept {
        for (const pixel& at : checked_pixels(p.out, c.source.layout().shape())) {
            // Pixel (h, w) is pixel (0, 0) of the same convolution with its padding moved there.
            kdna::conv::call one = c;
            one.params.pad.top -= at.h * c.params.stride.h;
            one.params.pad.left -= at.w * c.params.stride.w;
            one.y = c.y.crop(at.h, at.w, 1, 1);
            if (c.residual.data != nullptr) one.residual = c.residual.crop(at.h, at.w, 1, 1);
            kdna::backend::reference::run({p.in, one.y.shape, 0}, one, workspace, executor);
        }
    }

    [[nodiscard]] static std::string explain(const kdna::conv::problem& q, const plan& p) {
        return kdna::backend::reference::explain(q, p);
    }
};
static_assert(kdna::conv_backend<sampled_reference>);

/// The filters that are checked of a kernel that takes long to put together: 64 at most, spread over all panels.
[[nodiscard]] inline std::vector<index_t> checked_filters(const kdna::kernel_shape& k) {
    const index_t count = std::min<index_t>(k.o, 64), step = k.o / count;
    std::vector<index_t> filters;
    for (index_t i = 0; i < count; ++i) filters.push_back(i * step + i % step);
    return filters;
}

/// backend::reference at `checked_pixels` and `checked_filters`, each weight computed once a sample; the rest of the
/// output is left as it is. For kernels that differ from sample to sample. One group, no dilation, zero padding, ReLU.
struct assembled_reference {
    using plan = kdna::backend::reference::plan;

    [[nodiscard]] static plan make_plan(const kdna::conv::problem& q, const kdna::shape4& in,
                                        kdna::conv::input_order order, index_t threads, std::string_view where) {
        return kdna::backend::reference::make_plan(q, in, order, threads, where);
    }

    static void run(const plan& p, const kdna::conv::call& c, std::byte*, const kdna::executor_ref&) noexcept {
        const kdna::kernel_shape& k = c.source.layout().shape();
        const std::vector<pixel> pixels = checked_pixels(p.out, k);
        const std::vector<index_t> filters = checked_filters(k);
        std::vector<double> kernel(static_cast<std::size_t>(k.i * k.taps()));
        for (index_t n = 0; n < p.out.n; ++n) {
            for (const index_t o : filters) {
                for (index_t ch = 0; ch < k.i; ++ch)
                    for (index_t t = 0; t < k.taps(); ++t)
                        kernel[static_cast<std::size_t>(ch * k.taps() + t)] = weight(c, n, o, ch, t);
                for (const pixel& at : pixels) c.y(n, o, at.h, at.w) = static_cast<float>(element(c, n, o, at, kernel));
            }
        }
    }

    [[nodiscard]] static std::string explain(const kdna::conv::problem& q, const plan& p) {
        return kdna::backend::reference::explain(q, p);
    }

private:
    [[nodiscard]] static double weight(const kdna::conv::call& c, index_t n, index_t o, index_t ch,
                                       index_t t) noexcept {
        double w = c.source.weight(o, ch, t, c.factors.mixture.of(n));
        if (c.factors.channel) w *= static_cast<double>(c.factors.channel.of(n)[ch]);
        if (c.factors.spatial) w *= static_cast<double>(c.factors.spatial.of(n)[t]);
        return w;
    }
    [[nodiscard]] static double element(const kdna::conv::call& c, index_t n, index_t o, const pixel& at,
                                        const std::vector<double>& kernel) noexcept {
        const kdna::kernel_shape& k = c.source.layout().shape();
        double sum = 0.0;
        for (index_t i = 0; i < k.kh; ++i)
            for (index_t j = 0; j < k.kw; ++j) {
                const index_t h = at.h * c.params.stride.h - c.params.pad.top + i,
                              w = at.w * c.params.stride.w - c.params.pad.left + j;
                if (h < 0 || h >= c.x.shape.h || w < 0 || w >= c.x.shape.w) continue;
                for (index_t ch = 0; ch < k.i; ++ch)
                    sum += kernel[static_cast<std::size_t>(ch * k.taps() + i * k.kw + j)] *
                           static_cast<double>(c.x(n, ch, h, w));
            }
        const double y =
            static_cast<double>(c.factors.scale.of(n)[o]) * sum + static_cast<double>(c.factors.shift.of(n)[o]);
        return std::max(y, 0.0);
    }
};
static_assert(kdna::conv_backend<assembled_reference>);

/// Largest difference of the checked pixels, relative to their largest value; infinite if one is not a number, or if
/// all should be zero. `filters`: only these; empty: all.
[[nodiscard]] inline double relative_error(const kdna::tensor_view<const float>& found,
                                           const kdna::tensor_view<const float>& expected,
                                           const std::vector<pixel>& pixels, std::vector<index_t> filters = {}) {
    double worst = 0.0, largest = 0.0;
    if (filters.empty()) {
        filters.resize(static_cast<std::size_t>(found.shape.c));
        std::iota(filters.begin(), filters.end(), index_t{0});
    }
    for (index_t n = 0; n < found.shape.n; ++n)
        for (const pixel& p : pixels)
            for (const index_t c : filters) {
                const double right = expected(n, c, p.h, p.w), difference = std::abs(found(n, c, p.h, p.w) - right);
                if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
                worst = std::max(worst, difference);
                largest = std::max(largest, std::abs(right));
            }
    return largest > 0.0 ? worst / largest : std::numeric_limits<double>::infinity();
}

}  // namespace kdna_bench
