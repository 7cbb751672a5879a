// KernelDNA's dynamic part: the channel gate of a child, a squeeze-excite router.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string_view>

#include <kdna/dna/attention.hpp>
#include <kdna/dna/router.hpp>

namespace kdna::inline KDNA_ABI {

/// The tensors of a gate over C channels with r hidden units, as they are named in the state_dict under `...se.`.
struct squeeze_excite_weights {
    std::span<const float> fc1{};       ///< [r, C, 1, 1], no bias
    batch_norm bn{};                    ///< [r]
    std::span<const float> fc2{};       ///< [C, r, 1, 1]
    std::span<const float> fc2_bias{};  ///< [C]
};

/// g = sigmoid( fc2( ReLU( BN( fc1( mean over H, W of x ) ) ) ) ), one gate per sample and input channel (KernelDNA,
/// arXiv 2503.23379; reference keys se.fc1, se.bn, se.fc2). It scales the input of the child's convolution.
class squeeze_excite {
public:
    using optional_members = members<member::floats, member::routes_mixture>;
    static constexpr bool routes_mixture = false;

    /// r and C follow from the lengths. Throws kdna::error naming the tensor that does not fit.
    explicit squeeze_excite(const squeeze_excite_weights& w, std::string_view where = "squeeze_excite")
        : squeeze_(w.fc1, w.bn, channels_of(w, where), concat(where, ".fc1"), concat(where, ".bn")),
          excite_(w.fc2, w.fc2_bias, squeeze_.hidden(), concat(where, ".fc2")) {}

    [[nodiscard]] index_t input_channels() const noexcept { return squeeze_.channels(); }
    [[nodiscard]] index_t hidden() const noexcept { return squeeze_.hidden(); }
    [[nodiscard]] index_t floats() const noexcept { return squeeze_.floats() + excite_.floats(); }
    [[nodiscard]] route_widths widths() const noexcept { return {.channel = excite_.outputs()}; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return hidden(); }
    /// fc1 with BN folded in, and fc2.
    [[nodiscard]] const fully_connected& squeezing() const noexcept { return squeeze_.layer(); }
    [[nodiscard]] const fully_connected& exciting() const noexcept { return excite_; }

    KDNA_FUNC void operator()(const float* pooled, const route& out, float* scratch) const noexcept;

private:
    [[nodiscard]] KDNA_FUNC static index_t channels_of(const squeeze_excite_weights& w, std::string_view where);
    squeeze squeeze_;
    fully_connected excite_;
};
static_assert(router<squeeze_excite>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/squeeze_excite.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
