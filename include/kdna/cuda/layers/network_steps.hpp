// The steps of a network on a device, and how they are made from those of a host network.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <kdna/cuda/layers/context.hpp>
#include <kdna/cuda/layers/element_forms.hpp>
#include <kdna/cuda/layers/image_forms.hpp>
#include <kdna/cuda/layers/take_apart.hpp>
#include <kdna/nn/layer_operations.hpp>
#include <kdna/nn/network.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

/// The operations, besides convolutions and what only moves values, that have a device form.
using device_operations =
    operation_list<ops::binary, ops::unary, ops::activate, ops::batch_norm, ops::pad, ops::pixel_shuffle,
                   ops::pixel_unshuffle, ops::channel_shuffle, max_pool2d, ops::max_pool2d, ops::avg_pool2d,
                   ops::adaptive_max_pool2d, ops::adaptive_avg_pool2d, ops::resize>;

template <device_api Device>
struct conv_step {
    device_conv<Device> layer;
};
struct average_step {};
/// A view or a concatenation, whose elements are copied where they do not lie in their place already.
struct move_step {};
/// A constant, in the network's numbers, channels last.
template <device_api Device>
struct constant_step {
    device_memory<Device> memory;
};
template <device_api Device>
using operation_step = std::shared_ptr<const device_operation<Device>>;

template <device_api Device>
struct device_step {
    std::variant<conv_step<Device>, average_step, move_step, constant_step<Device>, operation_step<Device>> what;
    std::string name;

    /// Null unless the step is one.
    [[nodiscard]] const conv_step<Device>* conv() const noexcept { return std::get_if<conv_step<Device>>(&what); }
    [[nodiscard]] const constant_step<Device>* constant() const noexcept {
        return std::get_if<constant_step<Device>>(&what);
    }
    [[nodiscard]] const operation_step<Device>* operation() const noexcept {
        return std::get_if<operation_step<Device>>(&what);
    }
    [[nodiscard]] bool is_average() const noexcept { return std::holds_alternative<average_step>(what); }
};

/// Lowers the graphs of host networks. `Layers` are types of convolutions that are known beside the library's own.
template <device_api Device, class... Layers>
class network_lowering {
public:
    /// Channels of a pixel of each input as it is stored: whole fours, so that 3 channels are read by asynchronous copies too (of
    /// 16 bytes in 32-bit numbers, of 8 in 16-bit ones), if all steps that read it are convolutions to which that makes no
    /// difference. 0: as many as come.
    [[nodiscard]] static std::vector<index_t> channels_to_store(const network_graph& host) {
        std::vector<index_t> out;
        for (index_t input = 0; input < host.input_count(); ++input) {
            const auto extents = host.input_extents(input);
            const index_t channels = extents.size() > 1 ? extents[1] : 0;
            out.push_back(extents.size() == 4 && only_convolutions_read(host, input) ? ceil_div(channels, 4) * 4
                                                                                     : channels);
        }
        return out;
    }
    /// All steps, for inputs stored with so many channels. Throws kdna::error naming the input that a device does not take, or
    /// the step that has no device form.
    [[nodiscard]] static std::vector<device_step<Device>> steps(const network_graph& host,
                                                                const basic_context<Device>& where,
                                                                const std::vector<index_t>& stored_channels,
                                                                typename Device::stream s) {
        for (index_t i = 0; i < host.input_count(); ++i)
            if (const std::size_t rank = host.input_extents(i).size(); rank != 2 && rank != 4)
                throw error(concat("network input ", host.input_name(i)), "an image, or pixels [N, C], on a device",
                            concat("rank ", rank));
        if (host.step_count() == 0) throw error("network", "a step on a device", "none");
        std::vector<device_step<Device>> out;
        for (index_t i = 0; i < host.step_count(); ++i) {
            const network_graph::step_view v = host.step_at(i);
            const bool reads_input = !v.inputs.empty() && v.inputs.front() < host.input_count();
            out.push_back(
                {lower(v, where, reads_input ? stored_channels[static_cast<std::size_t>(v.inputs.front())] : 0, s),
                 std::string(v.op.name())});
        }
        return out;
    }

private:
    [[nodiscard]] static bool only_convolutions_read(const network_graph& host, index_t input) {
        bool read = false;
        for (index_t i = 0; i < host.output_count(); ++i)
            if (host.output_value(i) == input) return false;
        for (index_t i = 0; i < host.step_count(); ++i) {
            const network_graph::step_view v = host.step_at(i);
            const auto found = std::find(v.inputs.begin(), v.inputs.end(), input);
            if (found == v.inputs.end()) continue;
            if (std::find(v.inputs.begin() + 1, v.inputs.end(), input) != v.inputs.end()) return false;
            const std::optional<conv_recipe> recipe = recipe_of(v.op);
            if (!recipe || !takes_more_channels(*recipe)) return false;
            read = true;
        }
        return read;
    }
    [[nodiscard]] static std::optional<conv_recipe> recipe_of(const operation& op) {
        const any_ref layer = op.computes();
        std::optional<conv_recipe> recipe = take_apart_known<backend::cpu>(layer);
        if (!recipe) recipe = take_apart_known<backend::reference>(layer);
        if (!recipe) recipe = take_apart_any<Layers...>(layer);
        return recipe;
    }
    [[nodiscard]] static auto lower(const network_graph::step_view& v, const basic_context<Device>& where,
                                    index_t in_channels, typename Device::stream s)
        -> decltype(device_step<Device>::what) {
        const operation& op = v.op;
        const std::string name(op.name());
        if (v.inputs.empty()) return constant_step<Device>{constant(op, where, s)};
        if (op.is_view() || op.concatenates() >= 0) return move_step{};
        if (op.computes().as<global_average_operation>() != nullptr) return average_step{};
        if (auto form = device_operations::find<Device>(op.computes(), where.device(), name, s)) return form;
        std::optional<conv_recipe> recipe = recipe_of(op);
        if (!recipe)
            throw error(
                name,
                "a step with a device form: a convolution by one of the library's methods, another operation that "
                "docs/cuda.md lists, or a layer named to basic_network",
                "another");
        // A fully connected layer is a convolution of one pixel: rows of the product are samples either way.
        return conv_step<Device>{
            device_conv<Device>(where.device(), std::move(*recipe), where.options(), where.kernels(), s, in_channels)};
    }
    [[nodiscard]] static device_memory<Device> constant(const operation& op, const basic_context<Device>& where,
                                                        typename Device::stream s) {
        const nd_view<const float> values = op.constant();
        const auto count = static_cast<std::size_t>(checked_int(element_count(values.shape), op.name()));
        std::vector<float> ordered(count);
        ops::copy(values, {ordered.data(), values.shape, strides_in(values.shape, channels_last(values.rank()))}, {});
        return with_number(where.options().numbers, [&]<class Number>(Number) {
            using T = typename Number::element;
            std::vector<T> stored(count);
            std::transform(ordered.begin(), ordered.end(), stored.begin(), [](float f) { return from_float<T>(f); });
            return uploaded<T>(where.device(), stored, s);
        });
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
