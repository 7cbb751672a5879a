// Stops the compilation, with one readable error, where the compiler's flags or the target cannot build the library. Every
// header includes this one first.
#pragma once

// Without the include of a file that does not exist, a compiler would go on after #error and report hundreds more.
#if defined(_MSVC_LANG)
#define KDNA_LANGUAGE _MSVC_LANG
#else
#define KDNA_LANGUAGE __cplusplus
#endif

#if KDNA_LANGUAGE < 202002L
#error "kdna needs C++20: compile this file with -std=c++20 (MSVC: /std:c++20), g++ 11, clang 14 or later"
#include <compilation_stopped_because_of_the_error_above>
#endif

#if !defined(__cpp_exceptions) && !defined(__EXCEPTIONS) && !defined(_CPPUNWIND)
#error "kdna reports errors by exceptions: compile this file without -fno-exceptions (MSVC: with /EHsc)"
#include <compilation_stopped_because_of_the_error_above>
#endif

// Device code has none of its own, and the host's pass has been checked.
#if !defined(__SSE2__) && !defined(_M_X64) && !defined(__ARM_NEON) && !defined(_M_ARM64) &&                       \
    !defined(__ARM_FEATURE_SVE) && !defined(__wasm_simd128__) && !defined(__riscv_vector) && !defined(__VSX__) && \
    !(defined(_M_IX86_FP) && _M_IX86_FP >= 2) && !defined(__CUDA_ARCH__)
#error "kdna needs a target with SIMD: x86 with SSE2 (-msse2 or a later -march), ARM with NEON (-mfpu=neon on 32 bits)"
#include <compilation_stopped_because_of_the_error_above>
#endif
