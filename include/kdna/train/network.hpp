// A network that can be trained: convolutions whose parameters are known by name, pooling, and the values between them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <kdna/core/activation.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/dna/algebra.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/dna/squeeze_excite.hpp>
#include <kdna/nn/network_graph.hpp>
#include <kdna/nn/pool.hpp>
#include <kdna/train/parameters.hpp>

namespace kdna::inline KDNA_ABI::train {

/// A kernel W that convolutions share. One that is not trained lies in packed panels, and so does its transpose.
class shared_kernel {
public:
    shared_kernel(dense_kernel packed, part weight)
        : shape_(packed.shape()), packed_(std::move(packed)), weight_(weight) {}

    [[nodiscard]] const kernel_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] const dense_kernel& packed() const noexcept { return packed_; }
    /// The parameter that it is.
    [[nodiscard]] const part& weight() const noexcept { return weight_; }
    /// The shape of the transpose: from the filters to all pairs of a tap and a channel, as a 1x1 kernel
    /// [groups * KH*KW * I/groups, O / groups, 1, 1].
    [[nodiscard]] KDNA_FUNC static kernel_shape transposed_shape(const kernel_shape& k) noexcept;
    /// Weights [O, I/groups, KH, KW] in the order of the transpose.
    KDNA_FUNC static void transpose(const kernel_shape& k, const float* weights, float* to) noexcept;
    /// The transpose, made when it is first asked for. Throws std::bad_alloc only.
    [[nodiscard]] KDNA_FUNC const dense_kernel& transposed();
    /// Weights [O, 1, KH, KW] of a depthwise kernel in the order [tap][channel].
    KDNA_FUNC static void order_by_tap(const kernel_shape& k, const float* weights, float* to) noexcept;
    /// The weights of a depthwise kernel in that order, made when they are first asked for.
    [[nodiscard]] KDNA_FUNC std::span<const float> by_tap();

private:
    kernel_shape shape_;
    dense_kernel packed_;
    part weight_;
    std::optional<dense_kernel> transposed_{};
    std::vector<float> by_tap_{};
};

/// A BatchNorm by its parameters.
struct norm {
    part weight, bias, mean, var;
    index_t channels = 0;
    double eps = 1e-5;

    [[nodiscard]] bool trained(const parameters& p) const noexcept { return p.trains(weight) || p.trains(bias); }
};

/// A squeeze-excite gate by its parameters (dna/squeeze_excite.hpp).
struct gate {
    part fc1, fc2, fc2_bias;
    norm bn;
    index_t channels = 0;

    [[nodiscard]] bool trained(const parameters& p) const noexcept {
        return p.trains(fc1) || p.trains(fc2) || p.trains(fc2_bias) || bn.trained(p);
    }
};

/// y = act( BN( (1 + a_f) * conv(g(x) . x, W . (1 + a_sp)) + bias ) + residual ). What is absent is a factor of one, or nothing added.
struct convolution {
    std::string name;
    std::shared_ptr<shared_kernel> kernel;
    conv_params params;
    part spatial{}, filter{}, bias{};
    std::optional<norm> bn{};
    std::optional<gate> se{};
    activation act = activation::none;

    /// Whether any of its parameters is trained.
    [[nodiscard]] bool trained(const parameters& p) const noexcept {
        return p.trains(kernel->weight()) || p.trains(spatial) || p.trains(filter) || p.trains(bias) ||
               (bn && bn->trained(p)) || (se && se->trained(p));
    }
};

/// Mean over H and W.
struct global_average {};

/// One step, which makes value number (step + 1) from value `input`; value 0 is the network's input.
struct step {
    std::variant<convolution, max_pool2d, global_average> op;
    index_t input = 0;
    index_t residual = -1;  ///< the value that a convolution adds; -1: none
};

/// Steps and parameters. Passes (train/pass.hpp) run it. Move only; must outlive its passes, which hold its address.
class network {
public:
    [[nodiscard]] std::span<const step> steps() const noexcept { return steps_; }
    [[nodiscard]] index_t input_channels() const noexcept { return input_channels_; }
    [[nodiscard]] train::parameters& parameters() noexcept { return parameters_; }
    [[nodiscard]] const train::parameters& parameters() const noexcept { return parameters_; }

private:
    friend class network_builder;
    std::vector<step> steps_{};
    index_t input_channels_ = 0;
    train::parameters parameters_{};
};

/// What a convolution is made of, as spans of the tensors that the builder knows.
struct convolution_tensors {
    std::span<const float> spatial{}, filter{}, bias{};
    std::optional<batch_norm> bn{};
    std::optional<squeeze_excite_weights> se{};
};

/// Builds a network from tensors that it recognises by their place in memory, so that a builder of layers (models/) need not hand
/// names down.
class network_builder {
public:
    using value = network_graph::value;

    /// All float tensors must be float32. `weights` must outlive the builder.
    KDNA_FUNC network_builder(const state_dict& weights, index_t input_channels, selection trained);

    [[nodiscard]] value input() const noexcept { return {0, net_.input_channels_}; }
    /// A kernel from the tensor of that name.
    [[nodiscard]] KDNA_FUNC dense_kernel kernel(const std::string& name, const kernel_shape& k, role is = role::kernel);
    /// A convolution with a kernel that `kernel` has made, or a copy of it. Throws kdna::error, naming the layer, for what conv2d
    /// refuses, values of another network, and activations other than none, ReLU and ReLU6.
    KDNA_FUNC value add(std::string name, const dense_kernel& kernel, const conv_params& params,
                        const convolution_tensors& tensors, const value& x, const activation& act = activation::none,
                        const std::optional<value>& residual = std::nullopt, role bias = role::bias);
    KDNA_FUNC value add(const max_pool2d& pool, const value& x);
    KDNA_FUNC value add_global_average(const value& x);
    /// The other layers of models/ cannot be trained: throws kdna::error.
    template <class Layer>
    value add(const Layer& layer, const value&, const std::optional<value>& = std::nullopt) {
        unknown(layer.name());
    }
    [[noreturn]] KDNA_FUNC static void unknown(std::string_view layer);

    /// The finished network, whose output is `last`. `prefix`: what was taken off the names of all tensors.
    [[nodiscard]] KDNA_FUNC network build(const value& last, std::string prefix = {}) &&;

private:
    KDNA_FUNC void check_value(std::string_view where, const value& x) const;
    [[nodiscard]] KDNA_FUNC part locate(std::span<const float> values, role is);
    [[nodiscard]] KDNA_FUNC norm norm_of(const batch_norm& bn, role is);
    [[nodiscard]] KDNA_FUNC value push(step s, index_t channels);

    const state_dict* weights_;
    selection trained_;
    network net_{};
    std::map<const void*, std::shared_ptr<shared_kernel>> kernels_{};  // by the place of their panels
    std::vector<index_t> channels_{};                                  // of values
};

}  // namespace kdna::inline KDNA_ABI::train

#ifndef KDNA_COMPILED
#include <kdna/train/network.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
