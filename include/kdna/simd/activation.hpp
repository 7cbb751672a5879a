// Activation functions of floats in memory, a vector at a time.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/activation.hpp>

namespace kdna::inline KDNA_ABI::simd {

/// In place, y[i * stride] = f(y[i * stride]) for i in [0, count), with the function of that kind, for y = rows[r] + offset of
/// every row r in [0, row_count).
///
/// `a`: its parameter, one for all, or of_channel[i] for the i-th unless that is null; then it must be readable for whole
/// vectors. `sums`: null, or where the results are added to, result i of every row to sums[i]. Results do not depend on the
/// stride or on where the floats lie. Accuracy: docs/numerics.md.
KDNA_FUNC void activate(activation_kind kind, float a, const float* of_channel, float* const* rows, index_t row_count,
                        index_t offset, index_t stride, index_t count, float* sums = nullptr) noexcept;

/// The same for one row.
inline void activate(activation_kind kind, float a, const float* of_channel, float* y, index_t stride, index_t count,
                     float* sums = nullptr) noexcept {
    activate(kind, a, of_channel, &y, 1, 0, stride, count, sums);
}

/// In place, v[i] = f(v[i]) for `count` contiguous floats.
inline void activate(activation_kind kind, float* v, index_t count) noexcept {
    activate(kind, 0.0F, nullptr, v, 1, count);
}

}  // namespace kdna::inline KDNA_ABI::simd

#ifndef KDNA_COMPILED
#include <kdna/simd/activation.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
