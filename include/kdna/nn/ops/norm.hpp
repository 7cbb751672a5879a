// Normalisations: by given statistics of channels, over the last axes, and over groups of channels.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string_view>
#include <vector>

#include <kdna/nn/ops/elementwise.hpp>
#include <kdna/nn/ops/nest.hpp>

namespace kdna::inline KDNA_ABI::ops {

/// y = act((x - mean[c]) / sqrt(var[c] + eps) * weight[c] + bias[c]), channels on axis 1 of rank 2 to 5: one multiplication, one
/// addition and the activation, in one pass. y may be x if it has the same strides.
class batch_norm {
public:
    static constexpr bool keeps_order = true;

    /// `weight` and `bias` may be empty: 1 and 0. Throws kdna::error, naming `where`, for lengths that differ and for an eps with
    /// which a divisor is not positive.
    KDNA_FUNC batch_norm(std::span<const float> weight, std::span<const float> bias, std::span<const float> mean,
                         std::span<const float> var, float eps, std::string_view where = "batch_norm",
                         const activation& act = activation::none);

    /// The input's shape. Throws kdna::error, naming `where`, for another number of channels than the norm or the activation has.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    template <class F>
    void for_each_parameter(const F& f) const {
        f(std::span(scale_));
        f(std::span(shift_));
        act_.for_each_parameter(f);
    }
    /// y = act(scale[c] * x + shift[c]).
    [[nodiscard]] std::span<const float> scale() const noexcept { return scale_; }
    [[nodiscard]] std::span<const float> shift() const noexcept { return shift_; }
    [[nodiscard]] activation act() const noexcept { return act_.act(); }

private:
    std::vector<float> scale_, shift_;
    activate act_;
};

/// Over the last axes together: y = (x - mean) / sqrt(var + eps) * weight + bias, with the mean and the (biased) variance of
/// those axes. y may be x if it has the same strides.
class layer_norm {
public:
    static constexpr bool keeps_order = true;

    /// Over axes of the extents `shape`, the last of the input. `weight` and `bias` have that shape, row-major, or are empty.
    /// Throws kdna::error, naming `where`, for other lengths and an eps that is negative or no number.
    KDNA_FUNC layer_norm(const nd_shape& shape, std::span<const float> weight, std::span<const float> bias, float eps,
                         std::string_view where = "layer_norm");

    /// The input's shape. Throws kdna::error, naming `where`, if its last extents differ.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    template <class F>
    void for_each_parameter(const F& f) const {
        if (!affine_) return;
        f(std::span(weight_));
        f(std::span(bias_));
    }

private:
    nd_shape shape_;
    std::vector<float> weight_, bias_;  // one element where there are none
    bool affine_;
    float eps_;
};

/// Over each group of neighbouring channels (axis 1) and all axes behind it: y = (x - mean) / sqrt(var + eps) * weight[c] +
/// bias[c]. y may be x if it has the same strides.
class group_norm {
public:
    static constexpr bool keeps_order = true;

    /// `weight` and `bias` have one number for each channel, or are empty. Throws kdna::error, naming `where`, for lengths that
    /// differ, less than one group and an eps that is negative or no number.
    KDNA_FUNC group_norm(index_t groups, std::span<const float> weight, std::span<const float> bias, float eps,
                         std::string_view where = "group_norm");

    /// The input's shape. Throws kdna::error, naming `where`, unless it has a rank from 2 on and its channels are a multiple of the
    /// groups, and as many as there are weights.
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(input_shapes in, std::string_view where) const;
    KDNA_FUNC void run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept;
    template <class F>
    void for_each_parameter(const F& f) const {
        if (!affine_) return;
        f(std::span(weight_));
        f(std::span(bias_));
    }

private:
    /// Images whose channels are contiguous, in groups of at most 64: whole groups together, up to 64 channels.
    KDNA_FUNC void run_narrow_groups(const nd_view<const float>& x, const nd_view<float>& y,
                                     const executor_ref& executor) const noexcept;
    index_t groups_;
    std::vector<float> weight_, bias_;  // one element where there are none
    bool affine_;
    float eps_;
};

}  // namespace kdna::inline KDNA_ABI::ops

#ifndef KDNA_COMPILED
#include <kdna/nn/ops/norm.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
