// A network: a list of steps over values, built once, run from many threads, each with a plan.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <kdna/nn/bands.hpp>
#include <kdna/nn/operation.hpp>
#include <kdna/tensor/tensor.hpp>

namespace kdna::inline KDNA_ABI {

class network;

/// The memory of one network for one input shape: every layer's plan, an arena in which activations share space as soon as
/// nobody needs them, and one scratch for all layers. A plan serves one run at a time; make one per thread.
///
/// A batch goes through the network in stages. In the first ones, where maps are large, few samples pass all the stage's
/// steps before the next few follow, so that activations stay in cache; later ones take more at a time, so that weights are
/// read less often.
class network_plan {
public:
    [[nodiscard]] const shape4& input_shape() const noexcept { return shapes_.front(); }
    [[nodiscard]] const shape4& output_shape() const noexcept { return shapes_.back(); }
    /// Bytes of activations (at their peak) and of scratch; allocated when the plan is made.
    [[nodiscard]] index_t arena_bytes() const noexcept { return arena_.bytes(); }
    [[nodiscard]] index_t workspace_bytes() const noexcept { return workspace_.bytes(); }
    /// Bytes of kernels transformed for Winograd that this plan uses; they belong to the network.
    [[nodiscard]] index_t transformed_bytes() const noexcept { return transformed_bytes_; }
    /// One line per layer: shapes, algorithm, tile, where each factor is applied, workspace; then the totals.
    [[nodiscard]] KDNA_FUNC std::string explain() const;
    /// The names of the gated layers, in the order in which they run, with the gate of sample n in the last run.
    struct layer_gate {
        std::string name;
        std::span<const float> gate;
    };
    [[nodiscard]] KDNA_FUNC std::vector<layer_gate> gates(index_t n) const;

private:
    friend class network;
    /// Steps [first, last) that `samples` samples pass together.
    struct stage {
        std::size_t first, last;
        index_t samples;
    };
    /// A layer's own record is of the samples it ran last; those of a stage before the last run are copied.
    [[nodiscard]] KDNA_FUNC std::span<const float> gate(std::size_t step, index_t n) const noexcept;

    /// Steps [first, last) of a stage that pass over their maps together; each thread makes a part of the last one's rows.
    struct banded_group {
        std::size_t first, last;
        std::vector<band_schedule> parts;
        /// Of every part but the first, which uses the plan's own: the steps' states, and their workspace.
        std::vector<std::vector<std::unique_ptr<operation_state>>> states{};
        std::vector<buffer<std::byte>> workspaces{};
    };
    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    std::shared_ptr<const char> owner_{};  // which network made it
    std::vector<stage> stages_;
    std::vector<banded_group> groups_;
    std::vector<std::size_t> group_of_;  // of steps; none: by themselves
    std::vector<std::unique_ptr<operation_state>> states_;
    std::vector<std::string> names_;
    std::vector<buffer<float>> gates_;    // of steps, [N][C] where a stage has fewer samples than the batch
    std::vector<shape4> shapes_;          // of values, for the whole batch: input first, output last
    std::vector<index_t> samples_;        // of values: how many the arena holds, those of a stage or all
    std::vector<index_t> rows_;           // of values: how many the arena holds, those of a band or all
    std::vector<index_t> parts_;          // of values: threads that keep rows of their own, 0 for a whole value
    std::vector<index_t> offsets_;        // of values in the arena
    std::vector<index_t> means_offsets_;  // of values in means_, -1: nobody wants their channel means
    executor_ref executor_{};
    buffer<std::byte> arena_, workspace_;
    buffer<float> means_;
    index_t transformed_bytes_ = 0;
};

/// Immutable once built. Activations between steps are channels-last; input and output have the caller's strides.
class network {
public:
    /// A value of the network: the input is 0, step i makes value i + 1.
    struct value {
        index_t id = 0;
        index_t channels = 0;
    };

    [[nodiscard]] index_t input_channels() const noexcept { return channels_; }
    [[nodiscard]] index_t output_channels() const noexcept { return output_channels_; }
    /// Step i reads the values `inputs`, in this order, and makes value i + 1. Valid while the network lives.
    struct step_view {
        const operation& op;
        std::span<const index_t> inputs;
    };
    [[nodiscard]] index_t step_count() const noexcept { return static_cast<index_t>(steps_.size()); }
    [[nodiscard]] step_view step_at(index_t i) const noexcept {
        const step& s = steps_[position(i)];
        return {*s.op, s.inputs};
    }

    /// Plans every layer for inputs of shape `in` and allocates all memory a run needs. Throws kdna::error naming the layer
    /// that cannot run on its input.
    [[nodiscard]] KDNA_FUNC network_plan plan(const shape4& in, const plan_options& options = {}) const;
    /// Throws kdna::error unless `run` may be called with these arguments.
    KDNA_FUNC void check(const network_plan& p, const tensor_view<const float>& x, const tensor_view<float>& y) const;
    /// x [plan.input_shape()] to y [plan.output_shape()], any strides, not overlapping. Allocates nothing. Arguments that do
    /// not fit the plan end the program with a message (KDNA_CHECK=0: are undefined).
    KDNA_FUNC void run(network_plan& p, const tensor_view<const float>& x, const tensor_view<float>& y) const noexcept;
    /// Plans and runs in one go; the output is NCHW. Throws kdna::error. For tests and for code that runs once.
    [[nodiscard]] KDNA_FUNC tensor<float> operator()(const tensor_view<const float>& x,
                                                     const plan_options& options = {}) const;
    /// Bytes of weights that the network keeps in memory now; what layers share counts once. The first plan packs them, with zeros
    /// that fill vectors.
    [[nodiscard]] KDNA_FUNC index_t weight_bytes() const;

private:
    friend class network_builder;
    struct step {
        std::unique_ptr<operation> op;
        std::vector<index_t> inputs;  // values
    };

    [[nodiscard]] static std::size_t position(index_t id) noexcept { return static_cast<std::size_t>(id); }
    [[nodiscard]] KDNA_FUNC static tensor_view<float> inner(network_plan& p, index_t id, index_t n, index_t count,
                                                            index_t part = 0) noexcept;
    [[nodiscard]] KDNA_FUNC static float* means(network_plan& p, index_t id, index_t n) noexcept;
    [[nodiscard]] KDNA_FUNC std::vector<shape4> input_shapes(const network_plan& p, const step& s) const;
    [[nodiscard]] KDNA_FUNC std::unique_ptr<operation_state> plan_step(const network_plan& p, std::size_t i,
                                                                       index_t samples,
                                                                       const plan_options& options) const;
    KDNA_FUNC void plan_parts(network_plan& p, network_plan::banded_group& g, const plan_options& options) const;
    KDNA_FUNC void run_group(network_plan& p, const network_plan::banded_group& group,
                             const tensor_view<const float>& x, const tensor_view<float>& y, index_t n) const noexcept;
    KDNA_FUNC void run_step(network_plan& p, std::size_t i, const tensor_view<const float>& x,
                            const tensor_view<float>& y, index_t n, index_t count) const noexcept;
    KDNA_FUNC void run_step(network_plan& p, operation_state& state, std::size_t i, const tensor_view<const float>& x,
                            const tensor_view<float>& y, index_t n, index_t count, const conv::row_band& rows,
                            index_t part) const noexcept;
    [[nodiscard]] KDNA_FUNC std::vector<network_plan::stage> stages(const network_plan& p) const;
    KDNA_FUNC void group_steps(network_plan& p) const;
    [[nodiscard]] KDNA_FUNC index_t place_means(network_plan& p) const;
    [[nodiscard]] KDNA_FUNC index_t place_values(network_plan& p) const;

    index_t channels_ = 0, output_channels_ = 0;
    std::vector<step> steps_;
    layer_identity identity_{};  // moves along with the steps
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/network.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
