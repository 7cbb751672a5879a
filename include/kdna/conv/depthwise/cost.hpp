// What a depthwise convolution with channels in the vectors is expected to cost.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/conv/cost.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv::depthwise::cost {

using namespace conv::cost;

/// Per tap and vector of outputs, of 3x3 kernels: multiply-adds' time where rows slide, which do little else; cycles
/// elsewhere, where each tap loads its input.
inline constexpr double sliding_tap = by_instructions(0.95, 1.35, 1.86),
                        jumping_tap = by_instructions(1.06, 0.76, 1.24);
inline constexpr double part_tap = 5;  ///< of a last vector that is not whole: 3 channels, 11x11 taps, 256x256
/// To begin a row of a vector of channels: weights into registers, first and last column.
inline constexpr double sliding_row = by_instructions(33, 35, 27), jumping_row = by_instructions(100, 103, 90);
/// What a float of the input, and of the output, costs more where columns are contiguous and channels are not (16
/// channels, 3x3, 56x56, strides 1 and 2).
inline constexpr double gather = 0.6, scatter = 3.3;

/// One sample.
[[nodiscard]] KDNA_COLD double sample(const plan_request& r) noexcept {
    const kernel_shape& k = r.shape();
    const bool part = k.o % simd::lanes != 0,
               slides = !part && k.kw == 3 && k.kh <= 3 && r.params.stride.w == 1 && r.params.dilation.w == 1;
    const double rows = real(r.out.h) * real(ceil_div(k.o, simd::lanes)), taps = real(r.out.w) * real(k.taps()),
                 last = part ? real(r.out.h) * taps * (part_tap - jumping_tap) : 0.0;
    return rows * (taps * (slides ? sliding_tap * multiply_add_cycles(r.target()) : jumping_tap) +
                   (slides ? sliding_row : jumping_row)) +
           last + activations(r.in, r.out, r.target());
}

/// The same for the choice, which takes channels last for half of the inputs and channels first for the others, so that
/// the bits do not depend on what is promised of the order.
[[nodiscard]] KDNA_COLD double sample_of_either_order(const plan_request& r) noexcept {
    const double inputs = real(r.in.c) * pixels(r.in), outputs = real(r.out.c) * pixels(r.out);
    return sample(r) + 0.5 * (gather * inputs + scatter * outputs);
}

}  // namespace kdna::inline KDNA_ABI::conv::depthwise::cost

#include <kdna/core/macros_pop.hpp>
