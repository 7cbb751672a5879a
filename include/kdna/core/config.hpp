// Version, and the inline namespace that keeps differently compiled copies of kdna apart.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/guard.hpp>

#include <cstddef>

#define KDNA_VERSION_MAJOR 0
#define KDNA_VERSION_MINOR 1
#define KDNA_VERSION_PATCH 0

/// 1 (default): `run` verifies shapes and pointers against its plan and stops the program with a message on a mismatch.
/// 0: those checks are compiled out. Define it before the first include, the same in every file of one binary or not:
/// it is part of the inline namespace, so both versions can live side by side.
#ifndef KDNA_CHECK
#define KDNA_CHECK 1
#endif
#if KDNA_CHECK != 0 && KDNA_CHECK != 1
#error "KDNA_CHECK must be 0 or 1"
#endif

// Every compiler flag that changes what an inline function of ours compiles to is part of its name. Otherwise two files
// built with different -march would each emit a weak copy of the same symbol, the linker would keep one by order, and the
// file meant for older machines might end up running the newer machine's instructions. One letter a flag, so that compiler
// messages stay readable: kdna::v0_1_0_c1_x3s12afA is version 0.1.0, check level 1, x86 up to AVX2 with FMA.
#ifdef __SSE3__
#define KDNA_ISA_SSE3 3
#else
#define KDNA_ISA_SSE3
#endif
#ifdef __SSSE3__
#define KDNA_ISA_SSSE3 s
#else
#define KDNA_ISA_SSSE3
#endif
#ifdef __SSE4_1__
#define KDNA_ISA_SSE41 1
#else
#define KDNA_ISA_SSE41
#endif
#ifdef __SSE4_2__
#define KDNA_ISA_SSE42 2
#else
#define KDNA_ISA_SSE42
#endif
#ifdef __AVX__
#define KDNA_ISA_AVX a
#else
#define KDNA_ISA_AVX
#endif
#ifdef __F16C__
#define KDNA_ISA_F16C h
#else
#define KDNA_ISA_F16C
#endif
#ifdef __FMA__
#define KDNA_ISA_FMA f
#else
#define KDNA_ISA_FMA
#endif
#ifdef __AVX2__
#define KDNA_ISA_AVX2 A
#else
#define KDNA_ISA_AVX2
#endif
#ifdef __BMI2__
#define KDNA_ISA_BMI2 b
#else
#define KDNA_ISA_BMI2
#endif
#ifdef __AVX512F__
#define KDNA_ISA_AVX512F F
#else
#define KDNA_ISA_AVX512F
#endif
#ifdef __AVX512VL__
#define KDNA_ISA_AVX512VL V
#else
#define KDNA_ISA_AVX512VL
#endif
#ifdef __AVX512BW__
#define KDNA_ISA_AVX512BW B
#else
#define KDNA_ISA_AVX512BW
#endif
#ifdef __AVX512DQ__
#define KDNA_ISA_AVX512DQ D
#else
#define KDNA_ISA_AVX512DQ
#endif
#ifdef __AVX512VNNI__
#define KDNA_ISA_AVX512VNNI N
#else
#define KDNA_ISA_AVX512VNNI
#endif
#ifdef __AVX512BF16__
#define KDNA_ISA_AVX512BF16 H
#else
#define KDNA_ISA_AVX512BF16
#endif
#ifdef __ARM_NEON
#define KDNA_ISA_NEON n
#else
#define KDNA_ISA_NEON
#endif
#ifdef __ARM_FEATURE_SVE
#define KDNA_ISA_SVE v
#else
#define KDNA_ISA_SVE
#endif

#ifdef __FAST_MATH__
#define KDNA_ISA_FAST q
#else
#define KDNA_ISA_FAST
#endif

#define KDNA_PASTE_20(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t) \
    a##b##c##d##e##f##g##h##i##j##k##l##m##n##o##p##q##r##s##t
#define KDNA_EXPAND_20(...) KDNA_PASTE_20(__VA_ARGS__)
#define KDNA_PASTE_5(a, b, c, d, e) v##a##_##b##_##c##_c##d##e
#define KDNA_EXPAND_5(...) KDNA_PASTE_5(__VA_ARGS__)
#define KDNA_ISA_TAG                                                                                                   \
    KDNA_EXPAND_20(_x, KDNA_ISA_SSE3, KDNA_ISA_SSSE3, KDNA_ISA_SSE41, KDNA_ISA_SSE42, KDNA_ISA_AVX, KDNA_ISA_F16C,     \
                   KDNA_ISA_FMA, KDNA_ISA_AVX2, KDNA_ISA_BMI2, KDNA_ISA_AVX512F, KDNA_ISA_AVX512VL, KDNA_ISA_AVX512BW, \
                   KDNA_ISA_AVX512DQ, KDNA_ISA_AVX512VNNI, KDNA_ISA_AVX512BF16, KDNA_ISA_NEON, KDNA_ISA_SVE,           \
                   KDNA_ISA_FAST, )

/// The inline namespace: version, check level and instruction set. User code never spells it.
#define KDNA_ABI KDNA_EXPAND_5(KDNA_VERSION_MAJOR, KDNA_VERSION_MINOR, KDNA_VERSION_PATCH, KDNA_CHECK, KDNA_ISA_TAG)

// Micro-kernels keep their accumulators in registers only when these loops are fully unrolled, at any -O level above 0.
#if defined(__clang__)
#define KDNA_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define KDNA_UNROLL _Pragma("GCC unroll 32")
#else
#define KDNA_UNROLL
#endif

// KDNA_COLD keeps code that only builds messages out of the functions that need it: they compile faster and stay small.
#if defined(__GNUC__)
#define KDNA_INLINE inline __attribute__((always_inline))
#define KDNA_COLD inline __attribute__((noinline, cold))
#define KDNA_NOINLINE inline __attribute__((noinline))
#elif defined(_MSC_VER)
#define KDNA_INLINE __forceinline
#define KDNA_COLD inline __declspec(noinline)
#define KDNA_NOINLINE inline __declspec(noinline)
#else
#define KDNA_INLINE inline
#define KDNA_COLD inline
#define KDNA_NOINLINE inline
#endif

/// Marks functions that run on devices as well as on the host.
#if defined(__CUDACC__)
#define KDNA_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define KDNA_HOST_DEVICE inline
#endif

// One definition, two ways to get it. A header x.hpp declares functions that depend on no type of a user's with KDNA_FUNC, and
// x.ipp beside it defines them, with KDNA_FUNC again. Header-only (the default), x.hpp includes x.ipp at its end and the
// functions are inline. With KDNA_COMPILED, which the CMake target kdna::compiled defines, they are compiled once into a
// library, and files that link it see declarations only.
//
// KDNA_FUNC_COLD is the same for functions that run once a plan, or less often: they are compiled for size.
#ifdef KDNA_COMPILED
#define KDNA_FUNC
#else
#define KDNA_FUNC inline
#endif
#if defined(__GNUC__)
#define KDNA_FUNC_COLD KDNA_FUNC __attribute__((cold))
#else
#define KDNA_FUNC_COLD KDNA_FUNC
#endif

namespace kdna::inline KDNA_ABI {

/// Signed extent, index or element count. Signed, so that "one before the start" of a padded map is a plain number.
using index_t = std::ptrdiff_t;

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
