// Stored numbers as floats.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/stored_numbers.hpp>

namespace kdna::inline KDNA_ABI {

/// The first `count` numbers, a multiple of a vector's length, as floats.
KDNA_FUNC void widen(const stored_numbers& from, index_t count, float* to) noexcept;

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/simd/widen.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
