// Marks of functions that run on a device. To a host compiler they are plain functions: so tests run programs without a
// GPU.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/config.hpp>  // KDNA_HOST_DEVICE

#if defined(__CUDACC__)
#define KDNA_DEVICE __device__ __forceinline__
#define KDNA_DEVICE_UNROLL _Pragma("unroll")
#define KDNA_DEVICE_NO_UNROLL _Pragma("unroll 1")
#else
#define KDNA_DEVICE inline
#define KDNA_DEVICE_UNROLL
#define KDNA_DEVICE_NO_UNROLL
#endif

#include <kdna/core/macros_pop.hpp>
