// The double-precision reference at some of a layer's output pixels, which is fast enough to check every layer.
#pragma once

#include <algorithm>
#include <cmath>
#include <kdna/kdna.hpp>
#include <limits>
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

/// Largest difference of the checked pixels, relative to their largest value; infinite if one is not a number, or if
/// all should be zero.
[[nodiscard]] inline double relative_error(const kdna::tensor_view<const float>& found,
                                           const kdna::tensor_view<const float>& expected,
                                           const std::vector<pixel>& pixels) {
    double worst = 0.0, largest = 0.0;
    for (index_t n = 0; n < found.shape.n; ++n)
        for (const pixel& p : pixels)
            for (index_t c = 0; c < found.shape.c; ++c) {
                const double right = expected(n, c, p.h, p.w), difference = std::abs(found(n, c, p.h, p.w) - right);
                if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
                worst = std::max(worst, difference);
                largest = std::max(largest, std::abs(right));
            }
    return largest > 0.0 ? worst / largest : std::numeric_limits<double>::infinity();
}

}  // namespace kdna_bench
