// The memory of a network on a device for one set of input shapes.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/layers/layer_plan.hpp>
#include <kdna/cuda/layers/step_forms.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How a network is planned.
struct device_plan_options {
    /// Replays the launches as one CUDA graph. Without it every run launches them one by one.
    bool graph = true;
};

namespace detail {

template <device_api Device>
class network_body;

/// What a device with a vendor's library keeps for a layer that runs there (cudnn.hpp): its plan_plain() gives one or
/// null.
template <class Device>
struct library_part {
    using type = std::nullptr_t;
};
template <class Device>
requires requires { typename Device::library_convolution; }
struct library_part<Device> {
    using type = std::shared_ptr<const typename Device::library_convolution>;
};
template <class Device>
inline constexpr bool has_library = !std::is_null_pointer_v<typename library_part<Device>::type>;

/// A copy of a step that moves values: operand 1 of the nest is `x`, operand 0 is `y`.
struct planned_copy {
    ops::detail::nest nest{};
    device_operand x{}, y{};
};

/// What was planned for a step.
template <device_api Device>
struct step_plan {
    std::vector<device_operand> inputs{};
    device_operand output{};
    device_conv_plan conv{};         ///< of a convolution
    device_sums x_sums{}, y_sums{};  ///< sums of channels that it reads, and that it takes of its output
    bool takes_sums = false;         ///< whether the step that makes its input takes x_sums
    std::shared_ptr<const planned_operation<Device>> operation{};
    std::vector<planned_copy> copies{};
    typename library_part<Device>::type library{};  ///< null: kdna's own programs
    std::string text{};
};

/// A plan's own. It lies on the heap, where recordings find it when the plan is moved.
template <device_api Device>
struct network_state {
    std::vector<device_operand> values{};  ///< inputs first
    std::vector<index_t> outputs{};        ///< the values that are outputs
    std::vector<shape4> input_shapes{}, output_shapes{};
    std::vector<step_plan<Device>> steps{};
    device_memory<Device> arena{}, sums{}, scratch{};
    std::optional<typename Device::recording> graph{};
};

}  // namespace detail

/// The memory of one network for one set of input shapes, all on the device and allocated when the plan is made. A plan serves
/// one run at a time; make one per stream. It keeps what it needs of its network.
template <device_api Device>
class basic_network_plan {
public:
    /// Of pixels [N, C], the shape is [N, C, 1, 1].
    [[nodiscard]] const shape4& input_shape(index_t i = 0) const noexcept {
        return state_->input_shapes[static_cast<std::size_t>(i)];
    }
    [[nodiscard]] const shape4& output_shape(index_t i = 0) const noexcept {
        return state_->output_shapes[static_cast<std::size_t>(i)];
    }
    /// Bytes of activations at their peak; of routes, sums of channels and everything else that steps work in.
    [[nodiscard]] index_t arena_bytes() const noexcept { return state_->arena.bytes(); }
    [[nodiscard]] index_t workspace_bytes() const noexcept { return state_->sums.bytes() + state_->scratch.bytes(); }
    /// One line per step, and the totals.
    [[nodiscard]] std::string explain() const {
        std::string text;
        for (const detail::step_plan<Device>& s : state_->steps) text += s.text + "\n";
        return text + concat("activations ", ceil_div(arena_bytes(), 1024), " KiB at their peak, workspace ",
                             ceil_div(workspace_bytes(), 1024), " KiB\n");
    }

private:
    friend class detail::network_body<Device>;
    std::shared_ptr<const detail::network_body<Device>> owner_{};
    std::unique_ptr<detail::network_state<Device>> state_{};
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
