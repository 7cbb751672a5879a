// Definitions of sparse_kernel.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstring>

#include <kdna/dna/sparse_kernel.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC codebook_kernel codebook_kernel::pack(const kernel_shape& k, std::span<const float> codebook,
                                                std::span<const std::uint8_t> index, std::string_view where) {
    return codebook_kernel(std::make_shared<const storage>(k, codebook, index, where));
}

KDNA_FUNC adapted<codebook_kernel> codebook_kernel::scaled(std::span<const float> alpha, std::string_view where) const {
    if (static_cast<index_t>(alpha.size()) != layout().shape().o)
        throw error(concat(where, " alpha"), concat(layout().shape().o, " values"), concat(alpha.size()));
    return {*this, {}, {alpha.begin(), alpha.end()}};
}

KDNA_FUNC const float* codebook_kernel::panel(index_t group, index_t p, const float*, float* scratch) const noexcept {
    const storage& s = *storage_;
    const index_t channels = s.channels(), taps = layout().shape().taps(), width = layout().width_of(p),
                  filters = layout().filters_of(p);
    for (index_t c = 0; c < channels; ++c) {
        std::uint32_t negative[panel_layout::width];
        for (index_t f = 0; f < filters; ++f) negative[f] = s.negative[s.code(group, p, c, f)];
        for (index_t t = 0; t < taps; ++t) {
            // The sign goes straight into the float's highest bit.
            std::uint32_t bits[panel_layout::width] = {};
            for (index_t f = 0; f < filters; ++f) bits[f] = one | (negative[f] >> t << 31U);
            std::memcpy(scratch + (t * channels + c) * width, bits, static_cast<std::size_t>(width) * sizeof(float));
        }
    }
    return scratch;
}

KDNA_FUNC double codebook_kernel::weight(index_t o, index_t c, index_t t, const float*) const noexcept {
    const index_t filters = layout().filters(), in_group = o % filters;
    const std::uint32_t signs =
        storage_
            ->negative[storage_->code(o / filters, in_group / panel_layout::width, c, in_group % panel_layout::width)];
    return (signs >> t & 1U) != 0 ? -1.0 : 1.0;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
