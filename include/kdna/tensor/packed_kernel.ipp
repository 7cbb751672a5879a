// Definitions of packed_kernel.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/tensor/packed_kernel.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC panel_layout::panel_layout(const kernel_shape& k) : shape_(k) {
    static_cast<void>(weight_count(k, "panel_layout"));
    const bool dw = k.depthwise();
    groups_ = dw ? 1 : k.groups;
    filters_ = dw ? k.o : k.filters_per_group();
    depth_ = dw ? k.taps() : checked_mul(k.taps(), k.channels_per_group(), "panel_layout");
    const index_t padded = checked_add(filters_, simd::lanes - 1, "panel_layout") / simd::lanes * simd::lanes;
    panels_ = (filters_ - 1) / width + 1;
    group_floats_ = checked_mul(padded, depth_, "panel_layout");
    floats_ = checked_mul(groups_, group_floats_, "panel_layout");
}

KDNA_FUNC index_t panel_layout::padded_filters() const noexcept {
    return (filters_ + simd::lanes - 1) / simd::lanes * simd::lanes;
}

KDNA_FUNC index_t panel_layout::width_of(index_t panel) const noexcept {
    return filters_of(panel) <= simd::lanes ? simd::lanes : width;
}

KDNA_FUNC index_t panel_layout::offset(index_t group, index_t panel) const noexcept {
    return group * group_floats_ + panel * width * depth_;
}

KDNA_FUNC panel_layout::position panel_layout::position_of(index_t o, index_t c, index_t t) const noexcept {
    const index_t group = shape_.depthwise() ? 0 : o / filters_, f = shape_.depthwise() ? o : o % filters_;
    const index_t panel = f / width, depth = shape_.depthwise() ? t : t * shape_.channels_per_group() + c;
    return {group, panel, depth * width_of(panel) + f % width};
}

KDNA_FUNC index_t panel_layout::offset_of(index_t o, index_t c, index_t t) const noexcept {
    const position at = position_of(o, c, t);
    return offset(at.group, at.panel) + at.offset;
}

KDNA_FUNC packed_kernel::packed_kernel(const kernel_shape& k, std::span<const float> weights, std::string_view where,
                                       number_format format)
    : layout_(checked(k, weights, where)), weights_(weights, layout_.floats(), format, where) {}

KDNA_FUNC void packed_kernel::prepare() const { static_cast<void>(data()); }

KDNA_FUNC stored_numbers packed_kernel::panel(index_t group, index_t panel) const noexcept {
    return data() + layout_.offset(group, panel);
}

KDNA_FUNC float packed_kernel::weight(index_t o, index_t c, index_t t) const noexcept {
    return data()[layout_.offset_of(o, c, t)];
}

KDNA_FUNC void packed_kernel::copy_weights(std::span<float> to) const { weights_.copy(to, layout_); }

KDNA_FUNC stored_numbers packed_kernel::data() const { return weights_.packed(layout_); }

KDNA_FUNC panel_layout packed_kernel::checked(const kernel_shape& k, std::span<const float> weights,
                                              std::string_view where) {
    const index_t expected = weight_count(k, where);
    if (static_cast<index_t>(weights.size()) != expected)
        throw error(std::string(where), concat(expected, " weights for ", to_string(k)), concat(weights.size()));
    return panel_layout(k);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
