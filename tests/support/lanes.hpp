// Floats of a vector: what most edges are counted in.
#pragma once

#include <kdna/simd/simd.hpp>

namespace kdna_test {

inline constexpr kdna::index_t lanes = kdna::simd::lanes;

}  // namespace kdna_test
