// Definitions of train/models.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/models/load_on.hpp>
#include <kdna/nn/conv_layer.ipp>
#include <kdna/train/models.hpp>

namespace kdna::inline KDNA_ABI::train {

namespace detail {

KDNA_FUNC state_dict as_float32(state_dict weights) {
    state_dict out;
    for (const std::string& name : weights.names()) {
        tensor_data tensor = weights.extract(name);
        if (KDNA_ABI::detail::converts_to_float32(tensor.type())) {
            const auto converted = KDNA_ABI::detail::to_float32(tensor.type(), tensor.bytes(), name);
            tensor = tensor_data::copy_of<float>(tensor.shape(), converted.values.span(), name);
        }
        out.add(name, std::move(tensor));
    }
    return out;
}

}  // namespace detail

KDNA_FUNC network load(models::arch a, models::form f, state_dict weights, const selection& trained) {
    const auto layers = models::detail::layers_of(a, f);
    std::string prefix = weights.strip_prefixes(models::network_prefixes);
    const index_t channels = models::detail::input_channels(state_dict_reader(weights), a, f);
    return detail::build_stripped(std::move(weights), std::move(prefix), channels, layers, trained);
}

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
