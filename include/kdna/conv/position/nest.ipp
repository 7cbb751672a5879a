// Definitions of nest.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/position/nest.hpp>

namespace kdna::inline KDNA_ABI::conv::position::detail {

/// `Vectors` vectors of channels from `first` on, all of one group, `count` channels of them (whole vectors unless
/// Vectors is 1).
template <int Vectors>
void weigh_vectors(const call& p, const neighbourhood& at, const float* weights, index_t taps, index_t h, index_t w,
                   index_t first, index_t count) noexcept {
    simd::vec acc[Vectors];
    KDNA_UNROLL
    for (int v = 0; v < Vectors; ++v) acc[v] = simd::zero();
    for (index_t i = 0; i < taps; ++i) {
        const simd::vec weight(weights[i]);
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            const float* from = at.around[i] + first + v * simd::lanes;
            acc[v] = simd::multiply_add(weight, Vectors == 1 ? simd::load_strided(from, 1, count) : simd::load(from),
                                        acc[v]);
        }
    }
    for (int v = 0; v < Vectors; ++v) {
        const index_t c = first + v * simd::lanes;
        const finisher finish(p.scale + c, p.shift + c, range_of(p.act));
        finish(acc[v], p.residual.data != nullptr ? p.residual.at(at.n, c, h, w) : nullptr, p.residual.stride.c,
               p.y.at(at.n, c, h, w), p.y.stride.c, Vectors == 1 ? count : simd::lanes);
    }
}

KDNA_FUNC void weigh_neighbours(const call& c, const neighbourhood& at, const float* weights, index_t taps,
                                index_t groups, index_t h, index_t w) noexcept {
    const index_t group = c.x.shape.c / groups;
    for (index_t g = 0; g < groups; ++g, weights += taps) {
        index_t first = g * group;
        const index_t end = first + group;
        for (; first + 4 * simd::lanes <= end; first += 4 * simd::lanes)
            weigh_vectors<4>(c, at, weights, taps, h, w, first, 0);
        for (; first < end; first += simd::lanes)
            weigh_vectors<1>(c, at, weights, taps, h, w, first, std::min(end - first, simd::lanes));
    }
    if (!is_clamp(c.act)) activate(c.act, c.y.at(at.n, 0, h, w), 1, 0, c.y.stride.c, 0, c.x.shape.c, nullptr);
}

}  // namespace kdna::inline KDNA_ABI::conv::position::detail

#include <kdna/core/macros_pop.hpp>
