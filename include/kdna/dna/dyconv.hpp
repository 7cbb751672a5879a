// DyConv (Chen et al., arXiv 1912.03458): a mixture of K kernels, routed by softmax( FC2 ReLU( FC1 pooled ) ).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>

#include <kdna/dna/attention.hpp>
#include <kdna/dna/mixture.hpp>
#include <kdna/dna/router.hpp>

namespace kdna::inline KDNA_ABI {

/// a = softmax( fc2 ReLU( fc1 mean(x) ) ), K weights per sample that add up to one (reference keys attention.fc1.weight
/// [h, C, 1, 1], attention.fc2.{weight [K, h, 1, 1], bias [K]}). The temperature of training is 1 at inference; it is not
/// in the state_dict. Used with a mixture_kernel, whose biases are mixed with the same weights, it is DyConv.
class dyconv_router {
public:
    using optional_members = members<member::floats, member::routes_mixture>;
    static constexpr bool routes_mixture = true;

    /// Throws kdna::error naming the tensor that does not fit.
    dyconv_router(std::span<const float> fc1, const linear_weights& fc2, index_t channels,
                  std::string_view where = "dyconv")
        : fc1_(fc1, {}, channels, concat(where, ".fc1")),
          fc2_(fc2.weight, fc2.bias, fc1_.outputs(), concat(where, ".fc2")) {}

    [[nodiscard]] index_t input_channels() const noexcept { return fc1_.inputs(); }
    [[nodiscard]] route_widths widths() const noexcept { return {.mixture = fc2_.outputs()}; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return fc1_.outputs(); }
    [[nodiscard]] index_t floats() const noexcept { return fc1_.floats() + fc2_.floats(); }
    [[nodiscard]] const fully_connected& fc1() const noexcept { return fc1_; }
    [[nodiscard]] const fully_connected& fc2() const noexcept { return fc2_; }

    KDNA_FUNC void operator()(const float* pooled, const route& out, float* scratch) const noexcept;

private:
    fully_connected fc1_, fc2_;
};
static_assert(router<dyconv_router>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/dyconv.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
