// Definitions of odconv.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/odconv.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC route_widths odconv_router::widths() const noexcept {
    return {.mixture = kernel_.outputs(),
            .channel = channel_.outputs(),
            .filter = filter_.outputs(),
            .spatial = spatial_.outputs()};
}

KDNA_FUNC index_t odconv_router::floats() const noexcept {
    return squeeze_.floats() + channel_.floats() + filter_.floats() + spatial_.floats() + kernel_.floats();
}

KDNA_FUNC void odconv_router::operator()(const float* pooled, const route& out, float* z) const noexcept {
    squeeze_(pooled, z);
    channel_(z, out.channel);
    simd::activate(activation_kind::sigmoid, out.channel, channel_.outputs());
    filter_(z, out.filter);
    simd::activate(activation_kind::sigmoid, out.filter, filter_.outputs());
    spatial_(z, out.spatial);
    simd::activate(activation_kind::sigmoid, out.spatial, spatial_.outputs());
    kernel_(z, out.mixture);
    if (kernel_.outputs() > 0) softmax(out.mixture, kernel_.outputs());
}

KDNA_FUNC index_t odconv_router::channels_of(const odconv_weights& w, std::string_view where) {
    if (w.channel.bias.empty()) throw error(concat(where, ".channel_fc.bias"), "one value per channel", "0");
    return static_cast<index_t>(w.channel.bias.size());
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
