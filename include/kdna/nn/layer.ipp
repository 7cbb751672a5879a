// Definitions of nn/layer.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/nn/layer.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC void layer_base::check_call(const layer_plan& p, const tensor_view<const float>& x,
                                      const tensor_view<float>& y, const tensor_view<const float>& residual,
                                      const channel_means& means, bool strided_input) const {
    const auto fit = [&](std::string_view what, const shape4& expected, const shape4& found, const void* data) {
        if (data == nullptr) throw error(concat(name_, " ", what), "a view of memory", "a null pointer");
        if (found != expected) throw error(concat(name_, " ", what), to_string(expected), to_string(found));
    };
    if (p.owner_ != identity_.token()) throw error(name_, "a plan of this layer", "another layer's");
    fit("input", p.in_, x.shape, x.data);
    fit("output", p.out_, y.shape, y.data);
    if (residual_)
        fit("residual", p.out_, residual.shape, residual.data);
    else if (residual.data != nullptr)
        throw error(concat(name_, " residual"), "none (the layer was made without)", to_string(residual.shape));
    if (p.takes_means_ != (means.output != nullptr))
        throw error(concat(name_, " channel means"), p.takes_means_ ? "memory for them" : "a plan that takes them",
                    p.takes_means_ ? "a null pointer" : "one that does not");
    if (p.workspace_ == nullptr && p.bytes_ > 0) throw error(name_, "a plan with a workspace", "one without");
    if (!strided_input && x.stride.c != 1 && x.shape.c > 1)
        throw error(concat(name_, " input"), "contiguous channels, as the plan was promised",
                    concat("channel stride ", x.stride.c));
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
