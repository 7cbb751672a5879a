// Definitions of widen.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/simd/simd.hpp>
#include <kdna/simd/widen.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC void widen(const stored_numbers& from, index_t count, float* to) noexcept {
    from.visit([&](const auto* numbers) {
        for (index_t i = 0; i < count; i += simd::lanes) simd::store(to + i, simd::load(numbers + i));
    });
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
