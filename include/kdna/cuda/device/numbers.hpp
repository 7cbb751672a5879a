// The numbers of the device: half, bfloat16, TF32, and packs of them that move with one instruction.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include <kdna/core/config.hpp>
#include <kdna/core/number_format.hpp>
#include <kdna/cuda/device/qualifiers.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// What a device layer stores and multiplies. Sums are float32 in all of them.
///     f32   float32, exact products, on the ordinary cores
///     tf32  float32 in memory, rounded to 10 bits of fraction for the tensor cores
///     f16   IEEE half in memory
///     bf16  bfloat16 in memory
enum class precision { f32, tf32, f16, bf16 };
inline constexpr std::array<std::string_view, 4> precision_names{"f32", "tf32", "f16", "bf16"};
[[nodiscard]] inline std::string_view to_string(precision p) { return precision_names[static_cast<std::size_t>(p)]; }

using half = kdna::float16;
using kdna::bfloat16;

namespace detail {

// memcpy, because std::bit_cast is not usable on devices; it compiles to nothing.
template <class To, class From>
KDNA_HOST_DEVICE To bits_as(const From& from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}

}  // namespace detail

KDNA_HOST_DEVICE float to_float(float v) { return v; }
KDNA_HOST_DEVICE float to_float(bfloat16 v) {
    return detail::bits_as<float>(static_cast<std::uint32_t>(v.bits) << 16U);
}
KDNA_HOST_DEVICE float to_float(half v) {
#if defined(__CUDA_ARCH__)
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(v.bits));
    return out;
#else
    return widen(v);
#endif
}

/// To the nearest T, ties to even.
template <class T>
KDNA_HOST_DEVICE T from_float(float v) {
    if constexpr (std::is_same_v<T, float>) {
        return v;
    } else if constexpr (std::is_same_v<T, half>) {
#if defined(__CUDA_ARCH__)
        half out;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(v));
        return out;
#else
        return narrow<half>(v);
#endif
    } else {
        static_assert(std::is_same_v<T, bfloat16>, "kdna: devices compute in float, half or bfloat16");
#if defined(__CUDA_ARCH__)
        bfloat16 out;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(v));
        return out;
#else
        return narrow<bfloat16>(v);
#endif
    }
}

/// The bits of a float rounded to TF32, ties away from zero, as tensor cores want their operands.
KDNA_HOST_DEVICE std::uint32_t to_tf32(float v) {
#if defined(__CUDA_ARCH__)
    std::uint32_t out;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(out) : "f"(v));
    return out;
#else
    const auto u = detail::bits_as<std::uint32_t>(v);
    return (u & 0x7f800000U) == 0x7f800000U ? u : (u + 0x1000U) & ~0x1fffU;
#endif
}

/// N contiguous elements that are loaded and stored at once, aligned to their size.
template <class T, int N>
struct alignas(sizeof(T) * N) pack {
    T v[N];
};

/// How many T there are in the widest load, 16 bytes.
template <class T>
inline constexpr int wide = static_cast<int>(16 / sizeof(T));

/// A precision as a type: what is stored, and which instruction multiplies it (product.hpp).
template <precision P>
struct number {
    static constexpr precision value = P;
    using element =
        std::conditional_t<P == precision::f16, half, std::conditional_t<P == precision::bf16, bfloat16, float>>;
};

/// Calls f(number<P>{}) for the precision of that value.
template <class F>
decltype(auto) with_number(precision p, F&& f) {
    switch (p) {
        case precision::f16: return f(number<precision::f16>{});
        case precision::bf16: return f(number<precision::bf16>{});
        case precision::tf32: return f(number<precision::tf32>{});
        default: return f(number<precision::f32>{});
    }
}
[[nodiscard]] constexpr index_t bytes_of(precision p) noexcept {
    return p == precision::f16 || p == precision::bf16 ? 2 : 4;
}

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
