// What a device layer has of its own: factors, biases, and the dense layers of its router, in one block of device
// memory.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <vector>

#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/layers/layer_description.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Vectors of float32. Those that the layer does not have are without data.
template <device_api Device>
class layer_factors {
public:
    layer_factors(Device& device, const layer_description& layer, typename Device::stream s) {
        std::vector<float> values;
        const auto add = [&](place& p, const std::vector<float>& v) {
            // Whole sectors of 32 bytes: a warp's 32 floats lie in four.
            values.resize(static_cast<std::size_t>(ceil_div(static_cast<index_t>(values.size()), 8) * 8));
            p = {static_cast<index_t>(values.size()), static_cast<index_t>(v.size())};
            values.insert(values.end(), v.begin(), v.end());
        };
        const conv_recipe& r = layer.recipe();
        add(spatial_, r.spatial);
        add(scale_, r.scale);
        add(shift_, r.shift);
        add(mixed_bias_scale_, r.mixed_bias_scale);
        add(biases_, r.kernel.biases);
        add(kernel_bias_, r.kernel.kernel_bias);
        add(q_, layer.centre_factor());
        const auto of_channel = r.act.value().of_channel;
        add(of_channel_, {of_channel.begin(), of_channel.end()});
        const auto add_dense = [&](dense_place& p, const dense_recipe& d) {
            add(p.w, d.w);
            add(p.bias, d.bias);
        };
        add_dense(hidden_, r.router.hidden);
        add_dense(gate_, r.router.gate);
        const auto heads = r.router.heads();
        for (std::size_t i = 0; i < heads.size(); ++i) add_dense(heads_[i], *heads[i]);
        memory_ = uploaded<float>(device, values, s);
    }

    [[nodiscard]] device_span<const float> spatial() const { return at(spatial_); }                    ///< s [KH * KW]
    [[nodiscard]] device_span<const float> scale() const { return at(scale_); }                        ///< m [O]
    [[nodiscard]] device_span<const float> shift() const { return at(shift_); }                        ///< b [O]
    [[nodiscard]] device_span<const float> mixed_bias_scale() const { return at(mixed_bias_scale_); }  ///< [O]
    [[nodiscard]] device_span<const float> biases() const { return at(biases_); }                      ///< [k][O]
    [[nodiscard]] device_span<const float> kernel_bias() const { return at(kernel_bias_); }            ///< [O]
    [[nodiscard]] device_span<const float> q() const { return at(q_); }  ///< layer_description::centre_factor()

    /// The activation, with its parameters of channels in device memory.
    [[nodiscard]] device_activation activation_of(const layer_description& layer) const {
        return {layer.recipe().act.value(), at(of_channel_)};
    }

    /// Gives the router's layers (layer_description::router_shape) their weights.
    void add_weights(router_arguments& a) const {
        const auto add = [&](device_dense& d, const dense_place& p) {
            d.w = at(p.w);
            d.bias = at(p.bias);
        };
        add(a.hidden, hidden_);
        add(a.gate, gate_);
        for (std::size_t i = 0; i < heads_.size(); ++i) add(a.heads[i].dense, heads_[i]);
    }

    [[nodiscard]] const device_memory<Device>& memory() const noexcept { return memory_; }

private:
    struct place {
        index_t at = 0, count = 0;  // in floats
    };
    struct dense_place {
        place w{}, bias{};
    };
    [[nodiscard]] device_span<const float> at(const place& p) const {
        return p.count == 0 ? device_span<const float>{}
                            : memory_.template span<const float>(p.at * static_cast<index_t>(sizeof(float)), p.count);
    }

    device_memory<Device> memory_{};
    place spatial_{}, scale_{}, shift_{}, mixed_bias_scale_{}, biases_{}, kernel_bias_{}, q_{}, of_channel_{};
    dense_place hidden_{}, gate_{};
    std::array<dense_place, route_kinds> heads_{};
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
