// The terms of the cost model that all algorithms share; each algorithm's own are in its folder.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>

#include <kdna/conv/algorithm.hpp>
#include <kdna/simd/lanes.hpp>

/// Clock cycles that one thread is expected to take. What a machine is known by, multiply-adds a cycle, bytes a cycle and
/// caches, is its description's (core/machine.hpp). What a micro-kernel or a transform takes beside its products is a
/// constant of the code that the compiler makes for an instruction set: fitted to warm runs on one machine (Zen 4) of the
/// 88 convolutions of the published networks, for each of three instruction sets, but for copy_cycles and the packing of
/// windows, which are estimates: those layers copy too little. docs/cost-model.md has the formula in words, predictions
/// and measurements.
namespace kdna::inline KDNA_ABI::conv::cost {

/// A constant of each instruction set: AVX-512; others with fused multiply-adds, as measured with AVX2; and those
/// without, as measured with SSE2.
[[nodiscard]] constexpr double by_instructions(double avx512, double avx2, double sse2) noexcept {
    return simd::lanes == 16 ? avx512 : simd::fused ? avx2 : sse2;
}

inline constexpr double copy_cycles = 3;  ///< to load a vector, multiply a factor in, and store it
/// To assemble a vector of weights, per multiply-add: a few terms are bound by the streams they come from (narrower
/// vectors, not measured, by their share), many by the arithmetic, in multiply-adds' time.
inline constexpr double stream_cycles = by_instructions(2.5, 1.25, 0.7), assembly_share = 1.2;
/// Clock cycles of a vector multiply-add, where there are many.
[[nodiscard]] inline double multiply_add_cycles(const machine& m) noexcept {
    return 1.0 / m.multiply_adds_per_cycle(simd::lanes);
}
/// Share of the peak that long products from L1 and L2 reach: mostly 0.94 to 0.99 from a depth of 192 on. Without fused
/// multiply-adds each of them is two instructions, and copies of registers come on top.
inline constexpr double product_efficiency = by_instructions(0.97, 0.97, 0.65);

/// Weights up to this size stay in L3 from one run to the next: three quarters of it, as a cache does not drop exactly
/// what was used longest ago.
[[nodiscard]] inline double kept_weight_bytes(const machine& m) noexcept {
    return 0.75 * static_cast<double>(m.l3_bytes);
}

[[nodiscard]] inline double real(index_t i) noexcept { return static_cast<double>(i); }
[[nodiscard]] inline double pixels(const shape4& s) noexcept { return real(s.h) * real(s.w); }

/// Input and output, as far as they do not stay in L2 from one layer to the next. They come from L3, or from memory
/// where there is none.
[[nodiscard]] KDNA_COLD double activations(const shape4& in, const shape4& out, const machine& m) noexcept {
    const double floats = real(in.c) * real(in.h) * real(in.w) + real(out.c) * pixels(out);
    return std::max(floats * sizeof(float) - real(m.l2_bytes), 0.0) /
           (m.l3_bytes > 0 ? m.l3_bytes_per_cycle : m.memory_bytes_per_cycle);
}

/// Products whose weights are read once meanwhile. They are prefetched, so the longer of both counts, and more where
/// they are about as long (256 filters, F(4x4) on 7x7: products alone 620,000 cycles, weights 470,000, both 890,000).
[[nodiscard]] KDNA_COLD double with_weights(double products, double bytes, const machine& m) noexcept {
    const bool from_l3 = bytes <= kept_weight_bytes(m);
    return std::hypot(products, bytes / (from_l3 ? m.l3_bytes_per_cycle : m.memory_bytes_per_cycle));
}

/// To assemble all panels once.
[[nodiscard]] KDNA_COLD double assembly(const problem& q) noexcept {
    if (!q.assembles()) return 0.0;
    const index_t streams = std::min<index_t>(q.assembly_terms(), 8);
    return real(q.kernel().floats()) / simd::lanes *
           (copy_cycles + stream_cycles * real(streams) +
            assembly_share * multiply_add_cycles(*q.target) * real(q.assembly_terms() - streams));
}

}  // namespace kdna::inline KDNA_ABI::conv::cost

#include <kdna/core/macros_pop.hpp>
