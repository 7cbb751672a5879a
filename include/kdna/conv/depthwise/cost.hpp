// What a depthwise convolution with channels in the vectors is expected to cost.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/conv/cost.hpp>
#include <kdna/conv/depthwise/plan.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv::depthwise::cost {

using namespace conv::cost;

/// Where rows slide, per vector of outputs: multiply-adds' time for each tap; cycles more at stride 2; and to begin a row.
inline constexpr double sliding_tap = by_instructions(0.92, 1.23, 1.74), sliding_by_2 = by_instructions(1.4, 3, 3),
                        sliding_row = by_instructions(38, 29, 30);
/// Elsewhere: cycles per tap and vector of outputs, each of which loads its input.
inline constexpr double jumping_tap = by_instructions(2.1, 2.4, 2.1);
inline constexpr double part_tap = 5;  ///< of a last vector that is not whole: 3 channels, 11x11 taps, 256x256
/// What a float of the input, and of the output, costs more where columns are contiguous and channels are not (16
/// channels, 3x3, 56x56, strides 1 and 2).
inline constexpr double gather = 0.6, scatter = 3.3;

/// One sample.
[[nodiscard]] KDNA_COLD double sample(const plan_request& r) noexcept {
    const kernel_shape& k = r.shape();
    const bool part = k.o % simd::lanes != 0;
    const index_t vectors = ceil_div(k.o, simd::lanes);
    index_t jumping = vectors;
    // A panel whose last vector is not whole does not slide.
    if (slides_over(k, r.params)) jumping = part ? ceil_div(k.o % panel_layout::width, simd::lanes) : 0;
    const double taps = real(k.taps()), by_2 = r.params.stride.w == 2 ? sliding_by_2 : 0.0,
                 slide = pixels(r.out) * (taps * sliding_tap * multiply_add_cycles(r.target()) + by_2) +
                         real(r.out.h) * sliding_row,
                 jump = pixels(r.out) * taps * jumping_tap,
                 last = part ? pixels(r.out) * taps * (part_tap - jumping_tap) : 0.0;
    return real(vectors - jumping) * slide + real(jumping) * jump + last + activations(r.in, r.out, r.target());
}

/// The same for the choice, which takes channels last for half of the inputs and channels first for the others, so that
/// the bits do not depend on what is promised of the order.
[[nodiscard]] KDNA_COLD double sample_of_either_order(const plan_request& r) noexcept {
    const double inputs = real(r.in.c) * pixels(r.in), outputs = real(r.out.c) * pixels(r.out);
    return sample(r) + 0.5 * (gather * inputs + scatter * outputs);
}

}  // namespace kdna::inline KDNA_ABI::conv::depthwise::cost

#include <kdna/core/macros_pop.hpp>
