// The steps of a network on a device, and how they are made from those of a host network.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <kdna/cuda/layers/context.hpp>
#include <kdna/cuda/layers/take_apart.hpp>
#include <kdna/nn/layer_operations.hpp>
#include <kdna/nn/network.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

template <device_api Device>
struct conv_step {
    device_conv<Device> layer;
    bool linear;  ///< a fully connected layer
};
struct average_step {};

/// Step i reads value `input`, and value `residual` unless that is -1, and makes value i + 1.
template <device_api Device>
struct device_step {
    std::variant<conv_step<Device>, max_pool2d, average_step> what;
    index_t input, residual;
    std::string name;

    /// Null unless the step is a convolution.
    [[nodiscard]] const conv_step<Device>* conv() const noexcept { return std::get_if<conv_step<Device>>(&what); }
    [[nodiscard]] const max_pool2d* pool() const noexcept { return std::get_if<max_pool2d>(&what); }
    [[nodiscard]] bool is_average() const noexcept { return std::holds_alternative<average_step>(what); }
};

/// Lowers host networks. `Layers` are types of convolutions that are known beside the library's own.
template <device_api Device, class... Layers>
class network_lowering {
public:
    /// Channels of a pixel of the input as it is stored: whole fours, so that 3 channels are read by asynchronous
    /// copies too (of 16 bytes in 32-bit numbers, of 8 in 16-bit ones), if all steps that read it are convolutions to
    /// which that makes no difference.
    [[nodiscard]] static index_t channels_to_store(const network& host) {
        const index_t channels = host.input_channels();
        bool read = false;
        for (index_t i = 0; i < host.step_count(); ++i) {
            const network::step_view v = host.step_at(i);
            if (v.inputs.empty() || std::find(v.inputs.begin() + 1, v.inputs.end(), 0) != v.inputs.end())
                return channels;
            if (v.inputs.front() != 0) continue;
            const std::optional<conv_recipe> recipe = recipe_of(v.op);
            if (!recipe || !takes_more_channels(*recipe)) return channels;
            read = true;
        }
        return read ? ceil_div(channels, 4) * 4 : channels;
    }
    /// All steps, for an input stored with `stored_channels` channels. Throws kdna::error naming the step that has no
    /// device form.
    [[nodiscard]] static std::vector<device_step<Device>> steps(const network& host, const basic_context<Device>& where,
                                                                index_t stored_channels, typename Device::stream s) {
        if (host.input_count() != 1 || host.output_count() != 1 || host.input_extents(0).size() != 4)
            throw error("network", "one image and one output on a device",
                        concat(host.input_count(), " inputs and ", host.output_count(), " outputs"));
        if (host.step_count() == 0) throw error("network", "a step on a device", "none");
        std::vector<device_step<Device>> out;
        for (index_t i = 0; i < host.step_count(); ++i) {
            const network::step_view v = host.step_at(i);
            if (v.inputs.empty())
                throw error(std::string(v.op.name()), "a step with an input on a device", "a constant");
            const index_t input = v.inputs.front(), residual = v.inputs.size() > 1 ? v.inputs[1] : -1;
            device_step<Device> step{lower(v.op, where, input == 0 ? stored_channels : 0, s), input, residual,
                                     std::string(v.op.name())};
            const bool adds = step.conv() != nullptr && step.conv()->layer.takes_residual();
            if (v.inputs.size() != (adds ? 2U : 1U))
                throw error(step.name, adds ? "an input and a residual on a device" : "one input on a device",
                            concat(v.inputs.size(), " inputs"));
            out.push_back(std::move(step));
        }
        return out;
    }

private:
    [[nodiscard]] static std::optional<conv_recipe> recipe_of(const operation& op) {
        std::optional<conv_recipe> recipe = take_apart_known<backend::cpu>(op);
        if (!recipe) recipe = take_apart_known<backend::reference>(op);
        if (!recipe) recipe = take_apart_any<Layers...>(op);
        return recipe;
    }
    [[nodiscard]] static auto lower(const operation& op, const basic_context<Device>& where, index_t in_channels,
                                    typename Device::stream s) -> decltype(device_step<Device>::what) {
        if (const auto* pool = dynamic_cast<const max_pool_operation*>(&op)) return pool->pool();
        if (dynamic_cast<const global_average_operation*>(&op) != nullptr) return average_step{};
        std::optional<conv_recipe> recipe = recipe_of(op);
        if (!recipe)
            throw error(std::string(op.name()),
                        "a step with a device form: a convolution by one of the library's methods, pooling, or a layer "
                        "named to basic_network",
                        "another");
        // A fully connected layer is a convolution of one pixel: rows of the product are samples either way.
        const bool linear = is_linear<Layers...>(op);
        return conv_step<Device>{
            device_conv<Device>(where.device(), std::move(*recipe), where.options(), where.kernels(), s, in_channels),
            linear};
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
