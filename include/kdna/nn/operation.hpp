// One step of a network behind one interface, whatever it computes.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <kdna/core/any_ref.hpp>
#include <kdna/nn/bands.hpp>
#include <kdna/nn/layer.hpp>
#include <kdna/tensor/nd_view.hpp>

namespace kdna::inline KDNA_ABI {

/// What one step keeps between planning and running.
class operation_state {
public:
    virtual ~operation_state() = default;
    [[nodiscard]] virtual index_t workspace_bytes() const noexcept { return 0; }
    virtual void use_workspace(std::byte*) noexcept {}
    /// Bytes of transformed kernels the step uses; they belong to the layer.
    [[nodiscard]] virtual index_t transformed_bytes() const noexcept { return 0; }
    [[nodiscard]] virtual std::string explain() const { return {}; }
    /// Gate of sample n in the last run; empty where there is none.
    [[nodiscard]] virtual std::span<const float> gate(index_t) const noexcept { return {}; }
};

/// Most inputs of one step.
inline constexpr index_t most_inputs = 1024;

/// What a step works on.
struct operation_call {
    std::span<const nd_view<const float>> inputs;  ///< in the order of the step's inputs
    nd_view<float> output;
    channel_means means{};  ///< of the first input and of the output, as far as the step reads and gives them
    conv::row_band rows{};  ///< for a step that supports bands: which rows of the output

    /// An input, or the output, as an image; of rank 2 as one of single pixels.
    [[nodiscard]] tensor_view<const float> image(std::size_t i) const noexcept { return image_view(inputs[i]); }
    [[nodiscard]] tensor_view<const float> x() const noexcept { return image(0); }
    [[nodiscard]] tensor_view<float> y() const noexcept { return image_view(output); }
    /// The second input; no data where there is none.
    [[nodiscard]] tensor_view<const float> residual() const noexcept {
        return inputs.size() > 1 ? image(1) : tensor_view<const float>{};
    }
};

/// One step: inputs, and an output. Immutable; what changes is in its state.
///
/// Where a function takes the shapes `in`, they are those of the inputs, and after them those of the values of which the step
/// needs nothing but the shape.
class operation {
public:
    virtual ~operation() = default;
    [[nodiscard]] virtual std::string_view name() const noexcept = 0;
    /// Number of inputs, at most most_inputs. A step without inputs has a constant.
    [[nodiscard]] virtual index_t inputs() const noexcept { return 1; }
    /// The output's shape. Throws kdna::error if the step cannot run on inputs of these shapes.
    [[nodiscard]] virtual nd_shape output_shape(std::span<const nd_shape> in) const = 0;
    [[nodiscard]] virtual std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                                const plan_options& options) const = 0;
    virtual void run(operation_state& state, const operation_call& call) const noexcept = 0;
    /// Whether the step has a use for the means of its first input's channels.
    [[nodiscard]] virtual bool reads_channel_means() const noexcept { return false; }
    /// Whether it can take those of its output, when it was planned with plan_options::channel_means.
    [[nodiscard]] virtual bool gives_channel_means() const noexcept { return false; }
    /// Whether a step planned so can compute its output a few rows at a time. Only the first input may then hold some rows only.
    [[nodiscard]] virtual band_support bands(const operation_state&) const noexcept { return {}; }
    virtual void for_each_storage(const storage_visitor&) const {}

    /// Whether sample i of the output, along axis 0, follows from sample i of the inputs, so that a batch may be cut.
    [[nodiscard]] virtual bool samplewise(std::span<const nd_shape>) const { return true; }
    /// Whether the axes of the output lie in memory as those of the first input do; otherwise channels are last.
    [[nodiscard]] virtual bool keeps_order() const noexcept { return false; }
    /// Whether the output is row-major instead.
    [[nodiscard]] virtual bool makes_row_major() const noexcept { return false; }
    /// Whether the output may take the place of the first input, which has its shape.
    [[nodiscard]] virtual bool runs_in_place() const noexcept { return false; }
    /// A part of a value: its first element, counted from the value's, and its strides.
    struct part {
        index_t offset = 0;
        axis_numbers stride{};
    };
    /// Whether the output may be a view of the first input, and if it is one for given strides, where it lies. Nothing is run
    /// then.
    [[nodiscard]] virtual bool is_view() const noexcept { return false; }
    [[nodiscard]] virtual std::optional<part> view_of(std::span<const nd_shape>, const axis_numbers&) const {
        return std::nullopt;
    }
    /// The axis along which the output is its inputs in a row, -1 if it is not. They may be made where they will lie.
    [[nodiscard]] virtual index_t concatenates() const noexcept { return -1; }
    /// What the step computes: an operation of nn/ops, a layer, a pool. Backends with programs of their own find their form of it by
    /// its type.
    [[nodiscard]] virtual any_ref computes() const noexcept { return {}; }
    /// The elements of a step without inputs, for as long as the step lives.
    [[nodiscard]] virtual nd_view<const float> constant() const noexcept { return {}; }
};

/// The shape of an image [N, C, H, W], or of pixels [N, C]. Throws kdna::error, naming `where`, for another rank.
[[nodiscard]] inline shape4 image_shape(const nd_shape& s, std::string_view where) {
    if (s.rank() == 2) return {s[0], s[1], 1, 1};
    if (s.rank() != 4) throw error(std::string(where), "an image [N, C, H, W]", to_string(s));
    return {s[0], s[1], s[2], s[3]};
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
