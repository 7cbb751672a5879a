// A network: a list of steps over values, built once, run from many threads, each with a plan.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <span>
#include <vector>

#include <kdna/nn/network_graph.hpp>
#include <kdna/nn/network_plan.hpp>
#include <kdna/tensor/tensor.hpp>

namespace kdna::inline KDNA_ABI {

/// Immutable once built. Images lie channels-last between steps; inputs and outputs have the caller's strides.
class network : public network_graph {
public:
    network() = default;
    network(network&&) noexcept = default;
    network& operator=(network&&) noexcept = default;
    network(const network&) = delete;
    network& operator=(const network&) = delete;
    ~network() = default;

    /// What a backend with plans of its own plans from.
    [[nodiscard]] const network_graph& graph() const noexcept { return *this; }

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
    /// What a run works on.
    struct arguments {
        std::span<const nd_view<const float>> x;
        std::span<const nd_view<float>> y;
    };

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
    KDNA_FUNC void find_stages(network_plan& p, const machine& target) const;
    KDNA_FUNC void group_steps(network_plan& p, const machine& target) const;
    [[nodiscard]] KDNA_FUNC index_t place_means(network_plan& p) const;
    [[nodiscard]] KDNA_FUNC index_t place_in(network_plan& p) const;
    KDNA_FUNC void copy_outputs(network_plan& p, const arguments& a) const noexcept;

    layer_identity identity_{};  // moves along with the steps
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/network.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
