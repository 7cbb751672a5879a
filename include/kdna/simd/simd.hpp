// The only include of xsimd: one float vector, and the few operations the kernels are written in.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/core/config.hpp>
#include <kdna/core/number_format.hpp>
#include <kdna/simd/lanes.hpp>

// GCC 12 reports uninitialised temporaries inside xsimd's own headers when they are inlined at -O2.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <xsimd/xsimd.hpp>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

// A target that core/guard.hpp lets pass, since later versions of xsimd know it.
#ifdef XSIMD_NO_SUPPORTED_ARCHITECTURE
#error "kdna needs a target with SIMD that the installed version of xsimd supports"
#include <compilation_stopped_because_of_the_error_above>
#endif

namespace kdna::inline KDNA_ABI::simd {

/// The widest float vector that the compiler's flags allow.
using vec = xsimd::batch<float>;

static_assert(lanes == static_cast<index_t>(vec::size),
              "kdna: simd/lanes.hpp and xsimd differ in the length of a vector");

[[nodiscard]] KDNA_INLINE vec zero() noexcept { return vec(0.0F); }
[[nodiscard]] KDNA_INLINE vec broadcast(float value) noexcept { return vec(value); }
[[nodiscard]] KDNA_INLINE vec load(const float* from) noexcept { return vec::load_unaligned(from); }
/// A load whose value stays in a register. g++ 12 folds the load of a value that is used three times into three
/// multiply-adds and reads memory three times; in the depthwise kernel that costs up to 1.7 times the run time.
[[nodiscard]] KDNA_INLINE vec load_once(const float* from) noexcept {
    vec v = load(from);
#if defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__)
    typename vec::register_type in_register = v;
    asm("" : "+v"(in_register));
    v = in_register;
#endif
    return v;
}
/// Numbers of 16 bits, widened: bfloat16 by a shift; float16 by the instruction for it, or where there is none by the bits.
[[nodiscard]] KDNA_INLINE vec load(const bfloat16* from) noexcept {
#if defined(__AVX512F__)
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#elif defined(__AVX2__)
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
#elif defined(__SSE2__) && !defined(__AVX__)
    const __m128i bits = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), bits));
#elif defined(__aarch64__)
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&from->bits), 16));
#else
    alignas(64) float lane[lanes];
    for (index_t i = 0; i < lanes; ++i) lane[i] = widen(from[i]);
    return load(lane);
#endif
}
[[nodiscard]] KDNA_INLINE vec load(const float16* from) noexcept {
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__AVX__) && defined(__F16C__)
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__SSE2__) && !defined(__AVX__)
    const __m128i zero = _mm_setzero_si128(),
                  bits = _mm_unpacklo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)), zero),
                  rest = _mm_slli_epi32(_mm_and_si128(bits, _mm_set1_epi32(0x7fff)), 13),
                  sign = _mm_slli_epi32(_mm_and_si128(bits, _mm_set1_epi32(0x8000)), 16),
                  special = _mm_cmpgt_epi32(rest, _mm_set1_epi32(0x0f7fffff));
    // The exponent's bias is 112 less; infinities and NaN get all bits of the exponent.
    const __m128 value = _mm_mul_ps(_mm_castsi128_ps(rest), _mm_set1_ps(0x1p112F));
    const __m128i all = _mm_or_si128(sign, _mm_and_si128(special, _mm_set1_epi32(0x7f800000)));
    return _mm_or_ps(value, _mm_castsi128_ps(all));
#elif defined(__aarch64__)
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&from->bits)));
#else
    alignas(64) float lane[lanes];
    for (index_t i = 0; i < lanes; ++i) lane[i] = widen(from[i]);
    return load(lane);
#endif
}
/// Prefetches the cache line of an address, which may be any address, into L2: to be read, or to be written.
KDNA_INLINE void prefetch_line(const void* from) noexcept {
#if defined(__GNUC__)
    __builtin_prefetch(from, 0, 2);
#else
    static_cast<void>(from);
#endif
}
/// As prefetch_line, into L1.
KDNA_INLINE void prefetch_near(const void* from) noexcept {
#if defined(__GNUC__)
    __builtin_prefetch(from, 0, 3);
#else
    static_cast<void>(from);
#endif
}
KDNA_INLINE void prefetch_to_write(const float* to) noexcept {
#if defined(__GNUC__)
    __builtin_prefetch(to, 1, 2);
#else
    static_cast<void>(to);
#endif
}
KDNA_INLINE void store(float* to, const vec& v) noexcept { v.store_unaligned(to); }
/// a * b + c, fused where the machine can.
[[nodiscard]] KDNA_INLINE vec multiply_add(const vec& a, const vec& b, const vec& c) noexcept {
#ifdef __AVX512F__
    // Debian's xsimd 8.1 has no fma for AVX-512 and multiplies and adds apart; g++ contracts that, clang 14 does not.
    return _mm512_fmadd_ps(a, b, c);
#else
    return xsimd::fma(a, b, c);
#endif
}
/// Keeps g++ for 64-bit ARM from moving later loads to before `v`: g++ 12 hoists loads until accumulators are spilled (clang 14
/// spills more with it). It is no instruction, and the processor sees no dependence.
KDNA_INLINE void load_after([[maybe_unused]] const vec& v) noexcept {
#if defined(__aarch64__) && defined(__GNUC__) && !defined(__clang__)
    const float32x4_t computed = v;
    asm volatile("" : : "w"(computed) : "memory");
#endif
}
/// v between low and high; NaN stays NaN, as in PyTorch's ReLU. (x86's max and min return their second operand when one is
/// NaN, NEON's return the NaN: with v second both keep it, in two instructions. A test holds every instruction set to it.)
[[nodiscard]] KDNA_INLINE vec clamp(const vec& v, const vec& low, const vec& high) noexcept {
    return xsimd::min(high, xsimd::max(low, v));
}
/// max(a, b) that is NaN if either is. (xsimd's != does not see NaN on AVX, where it is an ordered comparison; == does.)
[[nodiscard]] KDNA_INLINE vec max_keep_nan(const vec& a, const vec& b) noexcept {
    return xsimd::select(a == a, xsimd::select(b <= a, a, b), a);
}

/// The square root of each lane. (On 64-bit ARM xsimd 8.1 refines an estimate, which makes NaN of infinity.)
[[nodiscard]] KDNA_INLINE vec sqrt(const vec& v) noexcept {
#ifdef __aarch64__
    return vsqrtq_f32(v);
#else
    return xsimd::sqrt(v);
#endif
}
/// a / b, rounded correctly. (On 64-bit ARM xsimd 8.1 refines an estimate.)
[[nodiscard]] KDNA_INLINE vec divide(const vec& a, const vec& b) noexcept {
#ifdef __aarch64__
    return vdivq_f32(a, b);
#else
    return a / b;
#endif
}
/// The logarithm of each lane. (g++ cannot compile that of Debian's xsimd 8.1 for AVX-512 without optimisation.)
[[nodiscard]] inline vec log(const vec& v) noexcept {
    alignas(64) float lane[lanes];
    store(lane, v);
    for (float& x : lane) x = std::log(x);
    return load(lane);
}

#if defined(__AVX512F__)
using lane_mask = __mmask16;
[[nodiscard]] KDNA_INLINE lane_mask first_lanes(index_t count) noexcept {
    return static_cast<lane_mask>((1U << count) - 1U);
}
[[nodiscard]] KDNA_INLINE vec load_masked(const float* from, lane_mask m) noexcept {
    return _mm512_maskz_loadu_ps(m, from);
}
KDNA_INLINE void store_masked(float* to, const vec& v, lane_mask m) noexcept { _mm512_mask_storeu_ps(to, m, v); }
#elif defined(__AVX__)
using lane_mask = __m256i;
[[nodiscard]] inline lane_mask first_lanes(index_t count) noexcept {
    alignas(32) static constexpr int table[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table + 8 - count));
}
[[nodiscard]] KDNA_INLINE vec load_masked(const float* from, lane_mask m) noexcept {
    return _mm256_maskload_ps(from, m);
}
KDNA_INLINE void store_masked(float* to, const vec& v, lane_mask m) noexcept { _mm256_maskstore_ps(to, m, v); }
#else
using lane_mask = index_t;
[[nodiscard]] KDNA_INLINE lane_mask first_lanes(index_t count) noexcept { return count; }
[[nodiscard]] inline vec load_masked(const float* from, lane_mask count) noexcept {
    alignas(64) float lane[lanes] = {};
    for (index_t i = 0; i < count; ++i) lane[i] = from[i];
    return load(lane);
}
inline void store_masked(float* to, const vec& v, lane_mask count) noexcept {
    alignas(64) float lane[lanes];
    store(lane, v);
    for (index_t i = 0; i < count; ++i) to[i] = lane[i];
}
#endif

/// `count` (1 ... lanes) elements `stride` apart; nothing else is read, the other lanes are zero.
[[nodiscard]] inline vec load_strided(const float* from, index_t stride, index_t count) noexcept {
    if (stride == 1) return count == lanes ? load(from) : load_masked(from, first_lanes(count));
    alignas(64) float lane[lanes] = {};
    for (index_t i = 0; i < count; ++i) lane[i] = from[i * stride];
    return load(lane);
}
/// The first `count` (1 ... lanes) lanes to elements `stride` apart; nothing else is written.
inline void store_strided(float* to, const vec& v, index_t stride, index_t count) noexcept {
    if (stride == 1) return count == lanes ? store(to, v) : store_masked(to, v, first_lanes(count));
    alignas(64) float lane[lanes];
    store(lane, v);
    for (index_t i = 0; i < count; ++i) to[i * stride] = lane[i];
}

/// Whether any lane is NaN. (By ==, as above.)
[[nodiscard]] KDNA_INLINE bool has_nan(const vec& v) noexcept { return !xsimd::all(v == v); }
/// What two lanes become when a vector is folded.
enum class lane_fold { sum, max, min };
/// All lanes as one, by halves, so that a sum has the same bits everywhere. Which lane is the largest or smallest where there are
/// NaN is left open.
template <lane_fold Fold>
[[nodiscard]] KDNA_INLINE float fold_lanes(const vec& v) noexcept {
#if defined(__AVX512F__)
    if constexpr (Fold == lane_fold::sum) return _mm512_reduce_add_ps(v);
    return Fold == lane_fold::max ? _mm512_reduce_max_ps(v) : _mm512_reduce_min_ps(v);
#elif defined(__SSE3__)
    const auto fold = [](__m128 a, __m128 b) {
        if constexpr (Fold == lane_fold::sum) return _mm_add_ps(a, b);
        return Fold == lane_fold::max ? _mm_max_ps(a, b) : _mm_min_ps(a, b);
    };
#if defined(__AVX__)
    __m128 half = fold(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
#else
    __m128 half = v;
#endif
    half = fold(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(fold(half, _mm_movehdup_ps(half)));
#else
    alignas(64) float lane[lanes];
    store(lane, v);
    for (index_t half = lanes / 2; half > 0; half /= 2)
        for (index_t i = 0; i < half; ++i) {
            const float a = lane[i], b = lane[i + half];
            if constexpr (Fold == lane_fold::sum)
                lane[i] = a + b;
            else
                lane[i] = (Fold == lane_fold::max) == (a > b) ? a : b;
        }
    return lane[0];
#endif
}
/// The sum of all lanes.
[[nodiscard]] KDNA_INLINE float sum(const vec& v) noexcept { return fold_lanes<lane_fold::sum>(v); }

/// Of two vectors that lie behind one another, the elements with an even and with an odd index.
struct vec_pair {
    vec even, odd;
};
[[nodiscard]] KDNA_INLINE vec_pair unzip(const vec& a, const vec& b) noexcept {
#if defined(__AVX512F__)
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    return {_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b)};
#elif defined(__AVX__)
    const __m256 low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
    return {_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xdd)};
#elif defined(__SSE2__)
    return {_mm_shuffle_ps(a, b, 0x88), _mm_shuffle_ps(a, b, 0xdd)};
#else
    alignas(64) float both[2 * lanes], even[lanes], odd[lanes];
    store(both, a);
    store(both + lanes, b);
    for (index_t i = 0; i < lanes; ++i) {
        even[i] = both[2 * i];
        odd[i] = both[2 * i + 1];
    }
    return {load(even), load(odd)};
#endif
}

/// Every third of `count` floats to `a`, `b` and `c`, from the first, second and third on. May read and write on to the end of
/// three vectors, and of one each.
KDNA_NOINLINE void unzip_3(const float* from, index_t count, float* a, float* b, float* c) noexcept {
#if defined(__AVX512F__)
    const __m512i third = _mm512_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45);
    for (index_t i = 0; 3 * i < count; i += lanes) {
        const __m512 x = _mm512_loadu_ps(from + 3 * i), y = _mm512_loadu_ps(from + 3 * i + lanes),
                     z = _mm512_loadu_ps(from + 3 * i + 2 * lanes);
        const auto pick = [&](int phase) {
            const __m512i index = _mm512_add_epi32(third, _mm512_set1_epi32(phase));
            const __mmask16 last = _mm512_cmpge_epi32_mask(index, _mm512_set1_epi32(32));
            return _mm512_mask_permutexvar_ps(_mm512_permutex2var_ps(x, index, y), last, index, z);
        };
        _mm512_storeu_ps(a + i, pick(0));
        _mm512_storeu_ps(b + i, pick(1));
        _mm512_storeu_ps(c + i, pick(2));
    }
#else
    for (const float* end = from + count; from < end; from += 3) {
        *a++ = from[0];
        *b++ = from[1];
        *c++ = from[2];
    }
#endif
}

}  // namespace kdna::inline KDNA_ABI::simd

#include <kdna/core/macros_pop.hpp>
