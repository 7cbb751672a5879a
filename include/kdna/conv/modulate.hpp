// Factors multiplied into a copy of one panel of weights.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv::detail {

/// Multiplies s[t] and g[c], or one of them (null: ones), into a copy of a panel [taps][channels][width]. Returns the
/// copy.
KDNA_NOINLINE const float* modulate_panel(const float* panel, const float* spatial, const float* gate, index_t taps,
                                          index_t channels, index_t width, float* copy) noexcept {
    float* to = copy;
    for (index_t t = 0; t < taps; ++t)
        for (index_t c = 0; c < channels; ++c, panel += width, to += width) {
            const simd::vec factor((spatial != nullptr ? spatial[t] : 1.0F) * (gate != nullptr ? gate[c] : 1.0F));
            for (index_t i = 0; i < width; i += simd::lanes) simd::store(to + i, simd::load(panel + i) * factor);
        }
    return copy;
}

}  // namespace kdna::inline KDNA_ABI::conv::detail

#include <kdna/core/macros_pop.hpp>
