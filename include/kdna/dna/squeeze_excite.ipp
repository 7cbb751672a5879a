// Definitions of squeeze_excite.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/squeeze_excite.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC void squeeze_excite::operator()(const float* pooled, const route& out, float* scratch) const noexcept {
    squeeze_(pooled, scratch);
    excite_(scratch, out.channel);
    simd::activate(activation_kind::sigmoid, out.channel, excite_.outputs());
}

KDNA_FUNC index_t squeeze_excite::channels_of(const squeeze_excite_weights& w, std::string_view where) {
    if (w.fc2_bias.empty()) throw error(concat(where, ".fc2.bias"), "one value per channel", "0");
    return static_cast<index_t>(w.fc2_bias.size());
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
