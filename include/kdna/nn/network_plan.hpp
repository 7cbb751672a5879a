// The memory and the decisions of a network for the shapes of its inputs.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <kdna/nn/bands.hpp>
#include <kdna/nn/network_storage.hpp>
#include <kdna/nn/operation.hpp>

namespace kdna::inline KDNA_ABI {

/// The memory of one network for one set of input shapes: every step's plan, an arena in which values share space as soon as
/// nobody needs them, and one scratch for all steps. A plan serves one run at a time; make one per thread.
///
/// A batch goes through the network in stages. In the first ones, where maps are large, few samples pass all the stage's
/// steps before the next few follow, so that activations stay in cache; later ones take more at a time, so that weights are
/// read less often.
class network_plan {
public:
    [[nodiscard]] const nd_shape& input_shape(index_t i) const noexcept { return value_shapes_[at(i)]; }
    [[nodiscard]] const nd_shape& output_shape(index_t i) const noexcept { return value_shapes_[at(outputs_[at(i)])]; }
    /// The shapes of the first input and of the first output, images [N, C, H, W]; of rank 2, [N, C, 1, 1]. Throws kdna::error
    /// for a value of another rank.
    [[nodiscard]] shape4 input_shape() const { return image_shape(input_shape(0), "network input"); }
    [[nodiscard]] shape4 output_shape() const { return image_shape(output_shape(0), "network output"); }
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
    [[nodiscard]] static std::size_t at(index_t id) noexcept { return static_cast<std::size_t>(id); }
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

    using placement = value_placement;

    std::shared_ptr<const char> owner_{};  // which network made it
    std::vector<stage> stages_;
    std::vector<banded_group> groups_;
    std::vector<std::size_t> group_of_;  // of steps; none: by themselves
    std::vector<std::unique_ptr<operation_state>> states_;
    std::vector<std::string> names_;
    std::vector<buffer<float>> gates_;    // of steps, [N][C] where a stage has fewer samples than the batch
    std::vector<nd_shape> value_shapes_;  // for the whole batch: inputs first
    std::vector<placement> places_;       // of values
    std::vector<index_t> outputs_;        // the values that are outputs
    std::vector<bool> batched_;           // of values: axis 0 counts the samples of the batch
    std::vector<index_t> samples_;        // of roots: how many the arena holds, those of a stage or all
    std::vector<index_t> rows_;           // of values: rows of an image that the arena holds, those of a band; 0: all
    std::vector<index_t> parts_;          // of values: threads that keep rows of their own, 0 for a whole value
    std::vector<index_t> offsets_;        // of roots in the arena, in bytes
    std::vector<index_t> means_offsets_;  // of values in means_, -1: nobody wants their channel means
    std::vector<nd_view<const float>> step_inputs_;  // of the step that runs
    index_t batch_ = 1;                              // samples that stages divide
    executor_ref executor_{};
    std::string target_{};  // the machine, in words
    buffer<std::byte> arena_, workspace_;
    buffer<float> means_;
    index_t transformed_bytes_ = 0;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
