// A network: a list of steps over values, built once, run from many threads, each with a plan.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/nn/network_plan.hpp>
#include <kdna/tensor/tensor.hpp>

namespace kdna::inline KDNA_ABI {

/// Immutable once built. Values have one to five axes. Images lie channels-last between steps; inputs and outputs have the
/// caller's strides.
class network {
public:
    /// A value of the network, with the extent of its axis 1. With n inputs, these are values 0 ... n - 1, and step i makes
    /// value n + i.
    struct value {
        index_t id = 0;
        index_t channels = 0;
    };

    [[nodiscard]] index_t input_count() const noexcept { return static_cast<index_t>(inputs_.size()); }
    [[nodiscard]] index_t output_count() const noexcept { return static_cast<index_t>(outputs_.size()); }
    [[nodiscard]] const std::string& input_name(index_t i) const noexcept { return inputs_[position(i)].name; }
    [[nodiscard]] const std::string& output_name(index_t i) const noexcept { return outputs_[position(i)].name; }
    /// The input or output of that name. Throws kdna::error, with the names there are, for another.
    [[nodiscard]] KDNA_FUNC index_t input_named(std::string_view name) const;
    [[nodiscard]] KDNA_FUNC index_t output_named(std::string_view name) const;
    /// What an input must be: its extents, 0 where any will do.
    [[nodiscard]] std::span<const index_t> input_extents(index_t i) const noexcept {
        return inputs_[position(i)].extents;
    }
    /// Channels of the first input and of the first output.
    [[nodiscard]] index_t input_channels() const noexcept {
        return input_extents(0).size() > 1 ? input_extents(0)[1] : 0;
    }
    [[nodiscard]] index_t output_channels() const noexcept { return outputs_.front().channels; }
    /// Step i reads the values `inputs`, in this order, and makes value input_count() + i. Valid while the network lives.
    struct step_view {
        const operation& op;
        std::span<const index_t> inputs;
        std::span<const index_t> shapes{};  ///< values of which the step needs the shape alone
    };
    [[nodiscard]] index_t step_count() const noexcept { return static_cast<index_t>(steps_.size()); }
    [[nodiscard]] step_view step_at(index_t i) const noexcept {
        const step& s = steps_[position(i)];
        return {*s.op, s.inputs, s.shapes};
    }
    /// The value that is output i.
    [[nodiscard]] index_t output_value(index_t i) const noexcept { return outputs_[position(i)].id; }

    /// The shapes of all values for inputs of these shapes. Throws kdna::error naming the step that cannot run.
    [[nodiscard]] KDNA_FUNC std::vector<nd_shape> shapes(std::span<const nd_shape> in) const;
    /// Plans every step for inputs of these shapes and allocates all memory a run needs. Throws kdna::error naming the input
    /// or the step that does not fit.
    [[nodiscard]] KDNA_FUNC network_plan plan(std::span<const nd_shape> in, const plan_options& options = {}) const;
    /// The same for a network of one input, an image.
    [[nodiscard]] KDNA_FUNC network_plan plan(const shape4& in, const plan_options& options = {}) const;

    /// Throws kdna::error unless `run` may be called with these arguments.
    KDNA_FUNC void check(const network_plan& p, std::span<const nd_view<const float>> x,
                         std::span<const nd_view<float>> y) const;
    KDNA_FUNC void check(const network_plan& p, const tensor_view<const float>& x, const tensor_view<float>& y) const;
    /// x, a view for each input of the shape that was planned, to y, one for each output; any strides, not overlapping.
    /// Allocates nothing. Arguments that do not fit the plan end the program with a message (KDNA_CHECK=0: are undefined).
    KDNA_FUNC void run(network_plan& p, std::span<const nd_view<const float>> x,
                       std::span<const nd_view<float>> y) const noexcept;
    /// The same for a network of one input and one output, images or pixels: [plan.input_shape()] to [plan.output_shape()].
    KDNA_FUNC void run(network_plan& p, const tensor_view<const float>& x, const tensor_view<float>& y) const noexcept;
    /// Plans and runs in one go; the output is NCHW. Throws kdna::error. For tests and for code that runs once.
    [[nodiscard]] KDNA_FUNC tensor<float> operator()(const tensor_view<const float>& x,
                                                     const plan_options& options = {}) const;
    /// Bytes of weights that the network keeps in memory now: kernels, routers, scales and shifts, parameters of norms and activations,
    /// constants. What layers share counts once. The first plan packs kernels, with zeros that fill vectors.
    [[nodiscard]] KDNA_FUNC index_t weight_bytes() const;

private:
    friend class network_builder;
    friend class network_storage;
    struct input_port {
        std::string name;
        std::vector<index_t> extents;  // 0: any
    };
    struct output_port {
        std::string name;
        index_t id, channels;
    };
    struct step {
        std::unique_ptr<operation> op;
        std::vector<index_t> inputs;    // values
        std::vector<index_t> shapes{};  // values of which it needs the shape alone
    };
    /// What a run works on.
    struct arguments {
        std::span<const nd_view<const float>> x;
        std::span<const nd_view<float>> y;
    };

    [[nodiscard]] static std::size_t position(index_t id) noexcept { return static_cast<std::size_t>(id); }
    [[nodiscard]] index_t value_of(std::size_t i) const noexcept { return input_count() + static_cast<index_t>(i); }
    [[nodiscard]] std::size_t step_of(index_t id) const noexcept { return position(id - input_count()); }
    [[nodiscard]] KDNA_FUNC static std::vector<nd_shape> shapes_of(const std::vector<nd_shape>& values, const step& s);
    KDNA_FUNC void check_inputs(std::span<const nd_shape> in) const;
    [[nodiscard]] KDNA_FUNC nd_view<float> inner(network_plan& p, index_t id, index_t n, index_t count,
                                                 index_t part = 0) const noexcept;
    [[nodiscard]] KDNA_FUNC nd_view<const float> read(network_plan& p, const arguments& a, index_t id, index_t n,
                                                      index_t count, index_t part) const noexcept;
    [[nodiscard]] KDNA_FUNC static float* means(network_plan& p, index_t id, index_t n) noexcept;
    [[nodiscard]] KDNA_FUNC std::unique_ptr<operation_state> plan_step(const network_plan& p, std::size_t i,
                                                                       index_t samples,
                                                                       const plan_options& options) const;
    KDNA_FUNC void plan_parts(network_plan& p, network_plan::banded_group& g, const plan_options& options) const;
    KDNA_FUNC void run_group(network_plan& p, const network_plan::banded_group& group, const arguments& a,
                             index_t n) const noexcept;
    KDNA_FUNC void run_step(network_plan& p, std::size_t i, const arguments& a, index_t n,
                            index_t count) const noexcept;
    KDNA_FUNC void run_step(network_plan& p, operation_state& state, std::size_t i, const arguments& a, index_t n,
                            index_t count, const conv::row_band& rows, index_t part,
                            std::span<nd_view<const float>> in) const noexcept;
    KDNA_FUNC void find_batch(network_plan& p) const;
    KDNA_FUNC void find_stages(network_plan& p) const;
    KDNA_FUNC void group_steps(network_plan& p) const;
    [[nodiscard]] KDNA_FUNC index_t place_means(network_plan& p) const;
    [[nodiscard]] KDNA_FUNC index_t place_in(network_plan& p) const;
    KDNA_FUNC void copy_outputs(network_plan& p, const arguments& a) const noexcept;

    std::vector<input_port> inputs_;
    std::vector<output_port> outputs_;
    std::vector<step> steps_;
    layer_identity identity_{};  // moves along with the steps
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/network.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
