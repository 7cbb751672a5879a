// Definitions of nest.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <array>

#include <kdna/conv/epilogue.hpp>
#include <kdna/conv/position/nest.hpp>
#include <kdna/simd/transpose.hpp>

namespace kdna::inline KDNA_ABI::conv::position {
namespace detail {

/// `Vectors` vectors of channels from `first` on, `count` channels of them (whole vectors unless Vectors is 1). The weights of tap i
/// for them are weight_of(i, vector).
template <int Vectors, class Weight>
KDNA_INLINE void weigh_vectors(const call& p, const neighbourhood& at, index_t taps, index_t first, index_t count,
                               const Weight& weight_of) noexcept {
    simd::vec acc[Vectors];
    KDNA_UNROLL
    for (int v = 0; v < Vectors; ++v) acc[v] = simd::zero();
    for (index_t i = 0; i < taps; ++i) {
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            const float* from = at.around[i] + first + v * simd::lanes;
            acc[v] = simd::multiply_add(weight_of(i, v),
                                        Vectors == 1 ? simd::load_strided(from, 1, count) : simd::load(from), acc[v]);
        }
    }
    for (int v = 0; v < Vectors; ++v) {
        const index_t c = first + v * simd::lanes;
        const finisher finish(p.scale + c, p.shift + c, range_of(p.act));
        finish(acc[v], p.residual.data != nullptr ? p.residual.at(at.n, c, at.y_h, at.y_w) : nullptr,
               p.residual.stride.c, p.y.at(at.n, c, at.y_h, at.y_w), p.y.stride.c, Vectors == 1 ? count : simd::lanes);
    }
}

/// Channels [first, end), up to four vectors at a time; weights_at(vectors)(tap, vector) are the weights of the next ones.
template <class Weights>
void weigh_channels(const call& c, const neighbourhood& at, index_t taps, index_t first, index_t end,
                    const Weights& weights_at) noexcept {
    for (; first + 4 * simd::lanes <= end; first += 4 * simd::lanes)
        weigh_vectors<4>(c, at, taps, first, 0, weights_at(4));
    for (; first < end; first += simd::lanes)
        weigh_vectors<1>(c, at, taps, first, std::min(end - first, simd::lanes), weights_at(1));
}

KDNA_FUNC void weigh_neighbours(const plan& p, const call& c, const neighbourhood& at, const float* weights) noexcept {
    const index_t taps = p.window.h * p.window.w, channels = c.x.shape.c;
    if (p.sharing == weight_sharing::interleaved) {
        const index_t step = simd::lanes % p.groups;
        index_t g = 0;  // of the next vector's first channel
        weigh_channels(c, at, taps, 0, channels, [&](int vectors) {
            std::array<const float*, 4> of{};
            for (int v = 0; v < vectors; ++v) {
                of[static_cast<std::size_t>(v)] = weights + g;
                g += step;
                if (g >= p.groups) g -= p.groups;
            }
            return [of, pitch = p.weights_pitch](index_t i, int v) {
                return simd::load(of[static_cast<std::size_t>(v)] + i * pitch);
            };
        });
    } else {
        const index_t group = channels / p.groups;
        for (index_t g = 0; g < p.groups; ++g, weights += taps)
            weigh_channels(c, at, taps, g * group, (g + 1) * group,
                           [&](int) { return [weights](index_t i, int) { return simd::vec(weights[i]); }; });
    }
    if (!is_clamp(c.act)) activate(c.act, c.y.at(at.n, 0, at.y_h, at.y_w), 1, 0, c.y.stride.c, 0, channels, nullptr);
}

}  // namespace detail

KDNA_FUNC void viewed_weights::operator()(const neighbourhood& at, float* weights) const noexcept {
    const float* from = from_.data + at.n * from_.n + at.y_h * from_.h + at.y_w * from_.w;
    const index_t taps = plan_->window.h * plan_->window.w, groups = plan_->groups;
    if (plan_->sharing == weight_sharing::neighbours) {
        for (index_t g = 0; g < groups; ++g)
            for (index_t i = 0; i < taps; ++i) weights[g * taps + i] = from[g * from_.g + i * from_.t];
        return;
    }
    const index_t pitch = plan_->weights_pitch;
    if (from_.t == 1) {
        simd::transpose(taps, groups, from, from_.g, weights, pitch);
    } else {
        for (index_t i = 0; i < taps; ++i)
            for (index_t g = 0; g < groups; ++g) weights[i * pitch + g] = from[g * from_.g + i * from_.t];
    }
    // The groups again, for a vector that begins at the last of them. The pitch has room for the whole vectors that are stored.
    for (float* row = weights; row != weights + taps * pitch; row += pitch)
        for (index_t g = groups; g < groups + simd::lanes; g += groups) simd::store(row + g, simd::load(row));
}

}  // namespace kdna::inline KDNA_ABI::conv::position

#include <kdna/core/macros_pop.hpp>
