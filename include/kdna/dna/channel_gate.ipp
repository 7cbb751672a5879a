// Definitions of dna/channel_gate.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string>

#include <kdna/dna/channel_gate.hpp>
#include <kdna/simd/activation.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC channel_gate::channel_gate(const channel_gate_weights& w, index_t channels, std::string_view where)
    : hidden_(w.hidden), gate_(w.gate) {
    for (const activation& act : {w.hidden, w.gate})
        if (takes_channels(act.kind))
            throw error(std::string(where), "activations without parameters of channels", to_string(act));
    fc1_ = fully_connected(w.fc1.weight, w.fc1.bias, channels, concat(where, ".fc1"));
    if (w.bn) {
        const scale_shift affine = fold(*w.bn, fc1_.outputs(), concat(where, ".bn"));
        fc1_.then_affine(affine.scale, affine.shift);
    }
    fc2_ = fully_connected(w.fc2.weight, w.fc2.bias, fc1_.outputs(), concat(where, ".fc2"));
    if (fc2_.outputs() != channels)
        throw error(concat(where, ".fc2"), concat(channels, " outputs, one for each channel"), concat(fc2_.outputs()));
}

KDNA_FUNC void channel_gate::operator()(const float* pooled, const route& out, float* scratch) const noexcept {
    fc1_(pooled, scratch);
    simd::activate(hidden_.kind, hidden_.number, nullptr, scratch, 1, fc1_.outputs());
    fc2_(scratch, out.channel);
    simd::activate(gate_.kind, gate_.number, nullptr, out.channel, 1, fc2_.outputs());
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
