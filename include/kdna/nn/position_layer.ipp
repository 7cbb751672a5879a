// Definitions of position_layer.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/nn/position_layer.hpp>
#include <kdna/simd/lanes.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC_COLD position_layer::position_layer(const given_position_weights& shape, const conv_params& params,
                                              const conv_options& options)
    : layer_base(options.name, options.residual),
      shape_(shape),
      params_(params),
      act_(options.act, shape.channels, simd::lanes, options.name) {
    const index_t channels = shape.channels, groups = shape.groups;
    const extent2& window = shape.window;
    if (channels < 1 || groups < 1 || channels % groups != 0)
        throw error(name_, "groups that divide the channels", concat(channels, " channels, ", groups, " groups"));
    if (window.h < 1 || window.w < 1 || window.h % 2 == 0 || window.w % 2 == 0)
        throw error(name_, "an odd window", concat(window.h, "x", window.w));
    if (params.mode != padding_mode::zeros) throw error(name_, "padding with zeros", "circular padding");
    const scale_shift folded = fold(options.bn, {}, options.bias, channels, name_);
    scale_ = padded_floats(folded.scale, simd::lanes);
    shift_ = padded_floats(folded.shift, simd::lanes);
}

KDNA_FUNC_COLD shape4 position_layer::output_shape(const shape4& in) const {
    static_cast<void>(element_count(in, name_));
    if (in.c != shape_.channels)
        throw error(name_, concat("an input of ", shape_.channels, " channels"), to_string(in));
    return KDNA_ABI::output_shape(in, kernel(), params_, name_);
}

KDNA_FUNC_COLD position_layer::plan_type position_layer::plan_without_workspace(const shape4& in,
                                                                                const plan_options& options) const {
    plan_type p;
    own(p, in, output_shape(in), options);
    p.takes_means_ = false;
    p.decisions_ = conv::position::make_plan(in, p.out_, shape_, options.order, p.executor_.concurrency(), name_);
    p.bytes_ = p.decisions_.workspace_bytes;
    p.text_ = concat(name_, ": ", conv::position::explain(p.decisions_));
    return p;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
