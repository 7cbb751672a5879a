// The extents of the vector unit that the compiler's flags name, for code that lays out memory and needs no vector.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI::simd {

/// Floats of the widest vector that the compiler's flags allow. It is what xsimd chooses (simd.hpp checks that), stated here
/// so that headers which only compute sizes need not include xsimd.
#if defined(__AVX512F__)
inline constexpr index_t lanes = 16;
#elif defined(__AVX__)
inline constexpr index_t lanes = 8;
#else
inline constexpr index_t lanes = 4;
#endif

/// Vector registers of the instruction set; the register tile of the micro-kernel is chosen from it.
#if defined(__AVX512F__) || defined(__ARM_NEON)
inline constexpr index_t registers = 32;
#else
inline constexpr index_t registers = 16;
#endif

/// 64-bit ARM's vectors: multiply-adds take one factor from a lane, so a broadcast costs no more than a scalar load.
#if defined(__aarch64__)
inline constexpr bool neon64 = true;
#else
inline constexpr bool neon64 = false;
#endif

/// Whether a multiply-add is one instruction.
#if defined(__FMA__) || defined(__AVX512F__) || defined(__ARM_NEON)
inline constexpr bool fused = true;
#else
inline constexpr bool fused = false;
#endif

/// Floats of a cache line.
inline constexpr index_t line_floats = 16;

}  // namespace kdna::inline KDNA_ABI::simd

#include <kdna/core/macros_pop.hpp>
