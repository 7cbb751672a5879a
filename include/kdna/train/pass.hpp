// A network forwards and backwards on batches of one shape, and the memory that takes.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <vector>

#include <kdna/core/executor.hpp>
#include <kdna/tensor/view.hpp>
#include <kdna/train/convolution_pass.hpp>

namespace kdna::inline KDNA_ABI::train {

/// What a pass is made with.
struct pass_options {
    executor_ref executor{};      ///< threads; must outlive the pass. Default: the calling thread
    bool input_gradient = false;  ///< whether the gradient of the network's input is wanted, too
};

/// The plans and the memory of one batch. Move only; the network must stay where it is.
///
/// BatchNorms take their running statistics, in both directions, as in the network that is deployed: a sample's gradient does not depend
/// on its batch, which may be of one. `estimate_statistics` measures the statistics of other images first.
class pass {
public:
    /// `in` [N, C, H, W]. Throws kdna::error naming the layer where shapes do not fit.
    KDNA_FUNC pass(network& net, const shape4& in, const pass_options& options = {});

    [[nodiscard]] const shape4& input_shape() const noexcept { return values_.front().shape; }
    [[nodiscard]] const shape4& output_shape() const noexcept { return values_.back().shape; }
    /// Bytes of memory: the values that are kept for the way back, gradients of values, and scratch.
    [[nodiscard]] KDNA_FUNC index_t bytes() const noexcept;

    /// Runs the network. `x`: any strides. Throws kdna::error for another shape.
    KDNA_FUNC void forward(const tensor_view<const float>& x);
    /// What came out [N, K, H, W]; valid until the next pass.
    [[nodiscard]] KDNA_FUNC tensor_view<const float> output() const;
    /// To be filled with the gradient of the output, all of it, between `forward` and `backward`.
    [[nodiscard]] KDNA_FUNC tensor_view<float> output_gradient();
    /// Adds the gradients of what is trained. Throws kdna::error unless the last call was `forward`.
    KDNA_FUNC void backward();
    /// Of the network's input, after `backward`. Throws kdna::error unless pass_options::input_gradient was set.
    [[nodiscard]] KDNA_FUNC tensor_view<const float> input_gradient() const;

    /// Runs the network with each BatchNorm on the batch's own mean and variance, and adds these to averages over batches. Needs no
    /// labels. Throws kdna::error for another shape, and where a norm sees one value for each channel only.
    KDNA_FUNC void estimate_statistics(const tensor_view<const float>& x);
    /// Makes the averages the network's running statistics, and starts anew.
    KDNA_FUNC void adopt_statistics();

private:
    struct value {
        shape4 shape{};
        index_t place = 0;           // in the arena, in bytes
        index_t gradient_place = 0;  // likewise; of values that have one
        bool gradient = false;
        bool written = false;  // whether the gradient holds something
    };
    struct step_state {
        std::vector<convolution_pass> convolution{};  // of a convolution, one
        index_t z_place = 0;
    };
    enum class phase { made, forwards, other };

    KDNA_FUNC void make_steps(const pass_options& options);
    KDNA_FUNC void place_values();
    [[nodiscard]] KDNA_FUNC float* memory(index_t place) const noexcept;
    [[nodiscard]] KDNA_FUNC tensor_view<float> view(index_t id) const;
    [[nodiscard]] KDNA_FUNC float* accumulated(index_t id);
    KDNA_FUNC void run(const tensor_view<const float>& x, bool with_batch);
    KDNA_FUNC void back(std::size_t i);

    network* net_;
    executor_ref executor_;
    bool input_gradient_;
    std::vector<value> values_{};
    std::vector<step_state> steps_{};
    mutable buffer<std::byte> arena_{}, workspace_{};
    phase last_ = phase::made;
};

}  // namespace kdna::inline KDNA_ABI::train

#ifndef KDNA_COMPILED
#include <kdna/train/pass.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
