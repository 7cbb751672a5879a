// What a depthwise convolution on planes is expected to cost.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/conv/cost.hpp>
#include <kdna/conv/planes/plan.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv::planes::cost {

using namespace conv::cost;

/// Per tap and vector of outputs, to begin and store such a vector, and to copy a float.
inline constexpr double tap_cycles = 1.0, vector_cycles = 20, float_cycles = 0.6;
/// What a float of the input, and of the output, costs more where channels are contiguous and columns are not.
inline constexpr double gather = 1.4, scatter = 2.0;

/// One sample.
[[nodiscard]] KDNA_COLD double sample(const plan_request& r) noexcept {
    const kernel_shape& k = r.shape();
    const padding& pad = r.layer.params.pad;
    const double vectors = real(ceil_div(r.out.h, tile_rows) * tile_rows) * real(ceil_div(r.out.w, simd::lanes)),
                 copied = real(r.in.h + pad.top + pad.bottom) * real(r.in.w + pad.left + pad.right);
    return real(k.o) * (vectors * (real(k.taps()) * tap_cycles * multiply_add_cycles(r.target()) + vector_cycles) +
                        copied * float_cycles) +
           activations(r.in, r.out, r.target());
}

/// The same for the choice, which takes channels last for half of the inputs and channels first for the others, so that
/// the bits do not depend on what is promised of the order. One channel lies in the same order either way.
[[nodiscard]] KDNA_COLD double sample_of_either_order(const plan_request& r) noexcept {
    if (r.in.c == 1) return sample(r);
    const double inputs = real(r.in.c) * pixels(r.in), outputs = real(r.out.c) * pixels(r.out);
    return sample(r) + 0.5 * (gather * inputs + scatter * outputs);
}

}  // namespace kdna::inline KDNA_ABI::conv::planes::cost

#include <kdna/core/macros_pop.hpp>
