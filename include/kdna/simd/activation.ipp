// The formulas of the activations on vectors. Each is compiled once: one function a kind, which the loop nests call for a
// finished tile, so that a clamp costs nothing more and no tile shape has copies of the formulas.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/core/activation_functions.hpp>
#include <kdna/simd/activation.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI {

template <>
struct activation_operations<simd::vec> {
    KDNA_INLINE static simd::vec of(double v) noexcept { return simd::broadcast(static_cast<float>(v)); }
    KDNA_INLINE static simd::vec exp(const simd::vec& x) noexcept { return xsimd::exp(x); }
    KDNA_INLINE static simd::vec expm1(const simd::vec& x) noexcept { return xsimd::expm1(x); }
    KDNA_INLINE static simd::vec tanh(const simd::vec& x) noexcept { return xsimd::tanh(x); }
    KDNA_INLINE static simd::vec erfc(const simd::vec& x) noexcept { return xsimd::erfc(x); }
    KDNA_INLINE static simd::vec clamp(const simd::vec& x, const simd::vec& low, const simd::vec& high) noexcept {
        return simd::clamp(x, low, high);
    }
    KDNA_INLINE static simd::vec where_positive(const simd::vec& x, const simd::vec& yes,
                                                const simd::vec& no) noexcept {
        return xsimd::select(x > simd::zero(), yes, no);
    }
};

namespace simd {
namespace detail {

/// v[i] = f(v[i]) for `vectors` whole vectors at v = rows[r] + offset of every row; a of the i-th vector at a + i * a_step.
template <activation_kind Kind>
KDNA_NOINLINE void activate_vectors(float* const* rows, index_t row_count, index_t offset, index_t vectors,
                                    const float* a, index_t a_step) noexcept {
    for (index_t r = 0; r < row_count; ++r) {
        float* const v = rows[r] + offset;
        for (index_t i = 0; i < vectors; ++i)
            store(v + i * lanes, activation_formulas<vec>::apply<Kind>(load(v + i * lanes), load(a + i * a_step)));
    }
}

using activation_function = void (*)(float* const*, index_t, index_t, index_t, const float*, index_t) noexcept;
[[nodiscard]] inline activation_function activation_function_for(activation_kind kind) noexcept {
#define KDNA_CLAMP(name, low, high) &activate_vectors<activation_kind::name>,
#define KDNA_PLAIN(name, formula) &activate_vectors<activation_kind::name>,
#define KDNA_NUMBER(name, a, formula) &activate_vectors<activation_kind::name>,
#define KDNA_CHANNELS(name, formula) &activate_vectors<activation_kind::name>,
    static constexpr activation_function table[] = {
        KDNA_ACTIVATIONS(KDNA_CLAMP, KDNA_PLAIN, KDNA_NUMBER, KDNA_CHANNELS)};
#undef KDNA_CLAMP
#undef KDNA_PLAIN
#undef KDNA_NUMBER
#undef KDNA_CHANNELS
    return table[static_cast<std::size_t>(kind)];
}

}  // namespace detail

KDNA_FUNC void activate(activation_kind kind, float a, const float* of_channel, float* const* rows, index_t row_count,
                        index_t offset, index_t stride, index_t count, float* sums) noexcept {
    const detail::activation_function function = detail::activation_function_for(kind);
    alignas(64) float same[lanes];
    std::fill_n(same, lanes, a);
    const index_t a_step = of_channel != nullptr ? lanes : 0;
    const auto a_of = [&](index_t i) { return of_channel != nullptr ? of_channel + i : same; };
    const auto add = [&](index_t i, const float* from, index_t some) {
        for (index_t j = 0; j < some; ++j) sums[i + j] += from[j];
    };
    const index_t vectors = stride == 1 ? count / lanes : 0, whole = vectors * lanes;
    if (whole > 0) {
        function(rows, row_count, offset, vectors, a_of(0), a_step);
        for (index_t r = 0; r < row_count && sums != nullptr; ++r) add(0, rows[r] + offset, whole);
    }
    if (whole == count) return;
    // Floats that are strided, or fewer than a vector: by way of a buffer.
    constexpr index_t most = 4 * lanes;
    alignas(64) float buffer[most];
    float* const in_buffer = buffer;
    for (index_t r = 0; r < row_count; ++r) {
        float* const y = rows[r] + offset;
        for (index_t i = whole, some = 0; i < count; i += some) {
            some = std::min(count - i, most);
            const index_t parts = (some + lanes - 1) / lanes;
            for (index_t j = 0; j < some; ++j) buffer[j] = y[(i + j) * stride];
            std::fill(buffer + some, buffer + parts * lanes, 0.0F);
            function(&in_buffer, 1, 0, parts, a_of(i), a_step);
            for (index_t j = 0; j < some; ++j) y[(i + j) * stride] = buffer[j];
            if (sums != nullptr) add(i, buffer, some);
        }
    }
}

}  // namespace simd
}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
