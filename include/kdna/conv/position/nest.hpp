// Convolution with a kernel of its own at every position, channels in the vectors.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cstddef>

#include <kdna/conv/position/plan.hpp>
#include <kdna/core/activation.hpp>
#include <kdna/core/executor.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/dna/position_kernel.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv::position {

/// One call: y = act( m * (sum over taps of w(x0, i) * xi) + b + residual ), zeros around the map.
struct call {
    tensor_view<const float> x;
    tensor_view<float> y;
    tensor_view<const float> residual;  ///< data is null where there is none
    const float* scale;                 ///< m [C], readable for whole vectors past the last channel
    const float* shift;                 ///< b [C], likewise
    activation act;                     ///< of_channel, where it has any, likewise
    conv_params params{};
};

/// Kernels per position that are there when a layer runs: element [n][g][t][h][w] for sample n, group g, tap t and output (h, w),
/// by their strides.
struct weights_view {
    const float* data = nullptr;
    index_t n = 0, g = 0, t = 0, h = 0, w = 0;
};

/// The weights of a view as a position kernel. It writes them as the plan says (`plan::weights_floats`).
class viewed_weights {
public:
    viewed_weights(const plan& p, const weights_view& from) noexcept : plan_(&p), from_(from) {}
    [[nodiscard]] index_t channels() const noexcept { return plan_->in.c; }
    [[nodiscard]] index_t groups() const noexcept { return plan_->groups; }
    [[nodiscard]] extent2 window() const noexcept { return plan_->window; }
    KDNA_FUNC void operator()(const neighbourhood& at, float* weights) const noexcept;

private:
    const plan* plan_;
    weights_view from_;
};

namespace detail {

/// An output pixel of sample at.n: all channels, from the weights of its position.
KDNA_FUNC void weigh_neighbours(const plan& p, const call& c, const neighbourhood& at, const float* weights) noexcept;

/// Computes rows [first, last) of the output, counted over all samples. Scratch: `around` [KH*KW], `weights`, as
/// plan::weights_floats says.
template <position_kernel Kernel>
void run_rows(const Kernel& kernel, const plan& p, const call& c, const float* zeros, const float** around,
              float* weights, index_t first, index_t last) noexcept {
    const extent2 window = p.window;
    const index_t taps = window.h * window.w;
    const auto& [stride, pad, dilation, mode] = c.params;
    for (index_t row = first; row < last; ++row) {
        const index_t n = row / p.out.h, y_h = row % p.out.h;
        for (index_t y_w = 0; y_w < p.out.w; ++y_w) {
            const index_t top = y_h * stride.h - pad.top, left = y_w * stride.w - pad.left;
            for (index_t i = 0; i < window.h; ++i)
                for (index_t j = 0; j < window.w; ++j) {
                    const index_t h = top + i * dilation.h, w = left + j * dilation.w;
                    const bool outside = h < 0 || h >= p.in.h || w < 0 || w >= p.in.w;
                    around[i * window.w + j] = outside ? zeros : c.x.at(n, 0, h, w);
                }
            const neighbourhood at{around[taps / 2],
                                   around,
                                   n,
                                   top + window.h / 2 * dilation.h,
                                   left + window.w / 2 * dilation.w,
                                   y_h,
                                   y_w};
            kernel(at, weights);
            weigh_neighbours(p, c, at, weights);
        }
    }
}

}  // namespace detail

/// Runs a plan of this kernel on one call; an input whose channels are not contiguous needs a plan that stages. Returns
/// the input channels last: x itself, or the copy in the workspace. Allocates nothing.
template <position_kernel Kernel>
tensor_view<const float> run(const Kernel& kernel, const plan& p, call c, std::byte* workspace,
                             const executor_ref& executor) noexcept {
    auto* zeros = at_offset<float>(workspace, p.zeros_at);
    std::fill_n(zeros, p.in.c, 0.0F);
    const auto in_chunks = [&](index_t rows, const auto& work) {
        executor.parallel_for(p.threads, [&](index_t i) {
            work(workspace + p.threads_at + i * p.thread_bytes, rows * i / p.threads, rows * (i + 1) / p.threads);
        });
    };
    if (c.x.stride.c != 1 && c.x.shape.c > 1) {
        auto* staged = at_offset<float>(workspace, p.staged_at);
        in_chunks(p.in.n * p.in.h, [&](std::byte*, index_t first, index_t last) {
            stage_rows(p.staged, c.x, 0, {}, staged, first, last);
        });
        c.x = p.staged.view(staged);
    }
    in_chunks(p.out.n * p.out.h, [&](std::byte* space, index_t first, index_t last) {
        detail::run_rows(kernel, p, c, zeros, at_offset<const float*>(space, p.neighbours_at),
                         at_offset<float>(space, p.weights_at), first, last);
    });
    return c.x;
}

}  // namespace kdna::inline KDNA_ABI::conv::position

#ifndef KDNA_COMPILED
#include <kdna/conv/position/nest.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
