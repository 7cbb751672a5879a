// Sparse kernel selection for binary networks (Sparks; Wang et al., CVPR 2023): every k x k slice of a kernel is one of a few
// codewords of +1 and -1.
//
//     W[o, c, :, :]  =  alpha[o] . U[ index[o, c], :, : ]
//
// alpha is a filter factor, adapter or BatchNorm fold it in; a slice costs log2(n) bits in memory and is expanded into a
// panel when it is needed.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/factors.hpp>
#include <kdna/dna/source.hpp>

namespace kdna::inline KDNA_ABI {

/// A binary kernel as codebook and packed indices, which all copies of this handle share.
class codebook_kernel {
public:
    using optional_members = members<member::needs_mixture>;
    static constexpr bool needs_mixture = false;

    /// `codebook` [n, KH, KW] of +1 and -1, n a power of two up to 2^16, KH * KW up to 32. `index`: tau = log2(n) bits for
    /// each slice (o, c), slice s = o * I/groups + c in bits [s * tau, (s + 1) * tau), counted from the lowest bit of byte 0.
    /// Throws kdna::error if something does not fit, or if an entry is not +-1.
    [[nodiscard]] KDNA_FUNC static codebook_kernel pack(const kernel_shape& k, std::span<const float> codebook,
                                                        std::span<const std::uint8_t> index,
                                                        std::string_view where = "codebook_kernel");
    /// The kernel with alpha [O] on its filters. Throws kdna::error if the length is not O.
    [[nodiscard]] KDNA_FUNC adapted<codebook_kernel> scaled(std::span<const float> alpha,
                                                            std::string_view where = "codebook_kernel") const;

    [[nodiscard]] const panel_layout& layout() const noexcept { return storage_->layout; }
    [[nodiscard]] static index_t mixture_size() noexcept { return 0; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }
    [[nodiscard]] KDNA_FUNC const float* panel(index_t group, index_t p, const float*, float* scratch) const noexcept;
    [[nodiscard]] KDNA_FUNC double weight(index_t o, index_t c, index_t t, const float*) const noexcept;
    template <class F>
    void for_each_storage(F&& f) const {
        f(static_cast<const void*>(storage_.get()),
          static_cast<index_t>(storage_->codes.size() + storage_->negative.size() * sizeof(std::uint32_t)));
    }

private:
    static constexpr std::uint32_t one = std::bit_cast<std::uint32_t>(1.0F);

    struct storage {
        storage(const kernel_shape& k, std::span<const float> codebook, std::span<const std::uint8_t> index,
                std::string_view where)
            : layout(checked(k, where)) {
            const index_t taps = k.taps(), size = static_cast<index_t>(codebook.size());
            if (taps > 32) throw error(std::string(where), "a kernel of at most 32 taps", to_string(k));
            if (size < taps || size % taps != 0 || !std::has_single_bit(static_cast<std::size_t>(size / taps)) ||
                size / taps > 65536)
                throw error(concat(where, " codebook"), concat("a power of two, up to 65536, of codewords of ", taps),
                            concat(size, " values"));
            const index_t n = size / taps;
            bits = std::countr_zero(static_cast<std::size_t>(n));
            for (index_t i = 0; i < n; ++i) {
                std::uint32_t signs = 0;
                for (index_t t = 0; t < taps; ++t) {
                    const float v = codebook[static_cast<std::size_t>(i * taps + t)];
                    if (v != 1.0F && v != -1.0F)
                        throw error(concat(where, " codebook"), "entries of +1 and -1", concat(v, " in codeword ", i));
                    if (v < 0.0F) signs |= 1U << t;
                }
                negative.push_back(signs);
            }
            const index_t slices = checked_mul(k.o, k.channels_per_group(), where),
                          bytes = (checked_mul(slices, std::max(bits, 0), where) + 7) / 8;
            if (static_cast<index_t>(index.size()) != bytes)
                throw error(concat(where, " index"), concat(bytes, " bytes for ", slices, " slices of ", bits, " bits"),
                            concat(index.size()));
            // In the order in which panels are expanded: [group][panel][channel][filter].
            codes.assign(static_cast<std::size_t>(
                             (layout.groups() * layout.panels() * channels() * panel_layout::width * bits + 7) / 8 + 4),
                         0);
            const index_t per_filter = k.channels_per_group();
            for (index_t o = 0; o < k.o; ++o)
                for (index_t c = 0; c < per_filter; ++c) {
                    const index_t in_group = o % layout.filters();
                    const index_t to = position(o / layout.filters(), in_group / panel_layout::width, c,
                                                in_group % panel_layout::width);
                    for (int b = 0; b < bits; ++b) {
                        const index_t from = (o * per_filter + c) * bits + b;
                        if ((index[static_cast<std::size_t>(from / 8)] >> (from % 8) & 1) != 0)
                            codes[static_cast<std::size_t>((to + b) / 8)] |=
                                static_cast<std::uint8_t>(1U << static_cast<unsigned>((to + b) % 8));
                    }
                }
        }
        static const kernel_shape& checked(const kernel_shape& k, std::string_view where) {
            static_cast<void>(weight_count(k, where));
            return k;
        }
        [[nodiscard]] index_t channels() const noexcept { return layout.shape().channels_per_group(); }
        [[nodiscard]] index_t position(index_t group, index_t p, index_t c, index_t f) const noexcept {
            return (((group * layout.panels() + p) * channels() + c) * panel_layout::width + f) * bits;
        }
        [[nodiscard]] std::size_t code(index_t group, index_t p, index_t c, index_t f) const noexcept {
            const index_t at = position(group, p, c, f);
            std::uint32_t word = 0;
            std::memcpy(&word, codes.data() + at / 8, sizeof(word));
            if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap32(word);
            return static_cast<std::size_t>(word >> (at % 8) & ((1U << bits) - 1U));
        }
        panel_layout layout;
        int bits = 0;
        std::vector<std::uint32_t> negative;  ///< of each codeword: bit t is set where U is -1
        std::vector<std::uint8_t> codes;
    };
    explicit codebook_kernel(std::shared_ptr<const storage> s) : storage_(std::move(s)) {}
    std::shared_ptr<const storage> storage_;
};
static_assert(kernel_source<codebook_kernel>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/sparse_kernel.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
