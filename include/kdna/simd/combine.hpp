// Linear combinations of rows of numbers: how kernels are assembled.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <type_traits>
#include <utility>

#include <kdna/core/stored_numbers.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// Distance in bytes at which what is combined is prefetched, where the terms of a row are contiguous (one stream), and in each of
/// several streams. The processor's own prefetching stops at every page and is slow with several streams (Zen 5, from L3: four
/// streams 78 GB/s, with this 96; KernelWarehouse's cells at 512@7 28 % faster).
inline constexpr index_t combined_ahead = 6144, run_ahead = 2304;

/// Prefetches what lies `bytes` behind vector j of a run of vectors, whose lines are asked for once.
template <class T>
KDNA_INLINE void prefetch_ahead(const T* from, int j, index_t bytes) noexcept {
    constexpr auto size = static_cast<index_t>(sizeof(T));
    if (j * simd::lanes * size % (simd::line_floats * index_t{sizeof(float)}) == 0)
        simd::prefetch_near(from + bytes / size);
}

/// `Vectors` vectors of each of `Rows` combinations, kept in registers while the terms pass by. Only `count` floats of each
/// are stored, unless that is more than there are.
template <int Rows, int Vectors, class T>
void combine_tile(const float* const* factors, const T* from, index_t from_stride, index_t terms, float* const* to,
                  index_t offset, index_t count) noexcept {
    simd::vec acc[Rows][Vectors];
    const float* a[Rows];
    KDNA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        a[r] = factors[r];
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) acc[r][j] = simd::zero();
    }
    from += offset;
    for (index_t k = 0; k < terms; ++k, from += from_stride) {
        simd::vec v[Vectors];
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) {
            prefetch_ahead(from + j * simd::lanes, j, combined_ahead);
            v[j] = simd::load(from + j * simd::lanes);
        }
        KDNA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            const simd::vec factor = simd::broadcast(a[r][k]);
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j) acc[r][j] = simd::multiply_add(factor, v[j], acc[r][j]);
        }
    }
    KDNA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) {
            const index_t left = count - j * simd::lanes;
            if (left >= simd::lanes)
                simd::store(to[r] + offset + j * simd::lanes, acc[r][j]);
            else if (left > 0)
                simd::store_strided(to[r] + offset + j * simd::lanes, acc[r][j], 1, left);
        }
    }
}

/// Rows that are combined at the same time: nine are the taps of a 3x3 kernel.
inline constexpr index_t most_combined = simd::registers >= 32 ? 9 : 5;

}  // namespace detail

/// to[r][0 ... count) = sum over k < terms of factors[r][k] * from[k * from_stride + (0 ... count)], for r < rows.
///
/// `T` is float, float16 or bfloat16. Whole vectors of `from` are read, so up to lanes - 1 numbers past `count` have to be readable;
/// nothing is written there.
template <class T>
void combine(const float* const* factors, index_t rows, const T* from, index_t from_stride, index_t terms,
             index_t count, float* const* to) noexcept {
    const auto part = [&]<int Rows>(std::integral_constant<int, Rows>, index_t r) {
        for (index_t i = 0; i < count; i += 2 * simd::lanes)
            (count - i > simd::lanes
                 ? detail::combine_tile<Rows, 2, T>
                 : detail::combine_tile<Rows, 1, T>)(factors + r, from, from_stride, terms, to + r, i, count - i);
    };
    constexpr auto most = static_cast<int>(detail::most_combined);
    index_t r = 0;
    for (; rows - r >= most; r += most) part(std::integral_constant<int, most>(), r);
    // What is left of floats, as one tile. Of 16 bits there are tiles of one row besides, which compile faster and are seldom needed: the
    // combinations of a warehouse mostly come as the nine taps of a kernel.
    if constexpr (std::is_same_v<T, float>) {
        [&]<int... R>(std::integer_sequence<int, R...>) {
            static_cast<void>(((rows - r == R + 1 && (part(std::integral_constant<int, R + 1>(), r), true)) || ...));
        }
        (std::make_integer_sequence<int, most - 1>());
    } else {
        for (; r < rows; ++r) part(std::integral_constant<int, 1>(), r);
    }
}

/// The same from numbers of any format.
inline void combine(const float* const* factors, index_t rows, const stored_numbers& from, index_t from_stride,
                    index_t terms, index_t count, float* const* to) noexcept {
    from.visit([&](const auto* numbers) { combine(factors, rows, numbers, from_stride, terms, count, to); });
}

/// The same for rows that lie at equal distances: to[r * to_stride + ...] from factors[r * factor_stride + k].
inline void combine(const float* factors, index_t factor_stride, index_t rows, const float* from, index_t from_stride,
                    index_t terms, index_t count, float* to, index_t to_stride) noexcept {
    for (index_t r = 0; r < rows;) {
        const float* a[detail::most_combined];
        float* out[detail::most_combined];
        index_t height = 0;
        for (; height < detail::most_combined && r < rows; ++height, ++r) {
            a[height] = factors + r * factor_stride;
            out[height] = to + r * to_stride;
        }
        combine(a, height, from, from_stride, terms, count, out);
    }
}

/// Rows of one or two vectors, one after another in each of `terms` streams, `stride` floats apart:
///
///     to[r * to_stride + (0 ... width)] = sum over k < terms of factors[k] * from[k * stride + r * width + (0 ... width)]
///
/// Several streams come from memory twice as fast as one in which the terms of a row are contiguous (Zen 4: 28 against
/// 13 GB/s).
template <int Vectors, class T>
void combine_runs(const float* factors, const T* from, index_t stride, index_t terms, index_t rows, float* to,
                  index_t to_stride) noexcept {
    constexpr index_t width = Vectors * simd::lanes;
    const auto tile = [&]<int Rows>(std::integral_constant<int, Rows>) {
        simd::vec acc[Rows][Vectors];
        KDNA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j) acc[r][j] = simd::zero();
        }
        const T* v = from;
        for (index_t k = 0; k < terms; ++k, v += stride) {
            const simd::vec factor = simd::broadcast(factors[k]);
            KDNA_UNROLL
            for (int r = 0; r < Rows; ++r) {
                KDNA_UNROLL
                for (int j = 0; j < Vectors; ++j) {
                    const T* at = v + r * width + j * simd::lanes;
                    detail::prefetch_ahead(at, r * Vectors + j, detail::run_ahead);
                    acc[r][j] = simd::multiply_add(factor, simd::load(at), acc[r][j]);
                }
            }
        }
        KDNA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            KDNA_UNROLL
            for (int j = 0; j < Vectors; ++j) simd::store(to + r * to_stride + j * simd::lanes, acc[r][j]);
        }
        from += Rows * width;
        to += Rows * to_stride;
    };
    index_t r = 0;
    for (; r + 3 <= rows; r += 3) tile(std::integral_constant<int, 3>());
    for (; r < rows; ++r) tile(std::integral_constant<int, 1>());
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
