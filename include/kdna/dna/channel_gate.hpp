// Squeeze-excite gates as networks at large have them: any two activations, biases, with or without BatchNorm.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <optional>
#include <span>
#include <string_view>

#include <kdna/core/activation.hpp>
#include <kdna/dna/attention.hpp>
#include <kdna/dna/router.hpp>

namespace kdna::inline KDNA_ABI {

/// The tensors of a gate over C channels with r hidden units.
struct channel_gate_weights {
    linear_weights fc1{};            ///< [r, C], bias [r] or empty
    std::optional<batch_norm> bn{};  ///< [r]
    activation hidden = activation::relu;
    linear_weights fc2{};  ///< [C, r], bias [C] or empty
    activation gate = activation::sigmoid;
};

/// g = gate( fc2( hidden( BN( fc1( mean over H, W of x ) ) ) ) ), one factor per sample and input channel (squeeze-excite, arXiv
/// 1709.01507; MobileNetV3, EfficientNet). KernelDNA's own, with ReLU and sigmoid, is squeeze_excite.
class channel_gate {
public:
    using optional_members = members<member::floats, member::routes_mixture>;
    static constexpr bool routes_mixture = false;

    /// Throws kdna::error naming the tensor that does not fit, and for an activation with parameters of channels.
    KDNA_FUNC channel_gate(const channel_gate_weights& w, index_t channels, std::string_view where = "channel_gate");

    [[nodiscard]] index_t input_channels() const noexcept { return fc1_.inputs(); }
    [[nodiscard]] index_t hidden() const noexcept { return fc1_.outputs(); }
    [[nodiscard]] index_t floats() const noexcept { return fc1_.floats() + fc2_.floats(); }
    [[nodiscard]] route_widths widths() const noexcept { return {.channel = fc2_.outputs()}; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return hidden(); }
    /// fc1 with BN folded in, and fc2; and what follows them.
    [[nodiscard]] const fully_connected& squeezing() const noexcept { return fc1_; }
    [[nodiscard]] const fully_connected& exciting() const noexcept { return fc2_; }
    [[nodiscard]] const activation& hidden_activation() const noexcept { return hidden_; }
    [[nodiscard]] const activation& gate_activation() const noexcept { return gate_; }

    KDNA_FUNC void operator()(const float* pooled, const route& out, float* scratch) const noexcept;

private:
    fully_connected fc1_, fc2_;
    activation hidden_, gate_;
};
static_assert(router<channel_gate>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/channel_gate.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
