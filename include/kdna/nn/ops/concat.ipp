// Definitions of concat.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <limits>

#include <kdna/nn/ops/concat.hpp>
#include <kdna/nn/ops/copy.hpp>

namespace kdna::inline KDNA_ABI::ops {

KDNA_FUNC nd_shape concatenate::output_shape(input_shapes in, std::string_view where) const {
    if (in.empty()) throw error(std::string(where), "1 input or more", "0");
    nd_shape out = in.front();
    const index_t axis = axis_of(axis_, out.rank(), where);
    static_cast<void>(element_count(out, where));
    for (const nd_shape& x : in.subspan(1)) {
        nd_shape same = x;
        static_cast<void>(element_count(x, where));
        if (x.rank() == out.rank()) same[axis] = out[axis];
        if (same != out)
            throw error(std::string(where), concat("inputs that are ", to_string(in.front()), " but for axis ", axis),
                        to_string(x));
        out[axis] = checked_add(out[axis], x[axis], where);
    }
    static_cast<void>(element_count(out, where));
    return out;
}

KDNA_FUNC void concatenate::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    const index_t axis = axis_ < 0 ? axis_ + y.rank() : axis_;
    float* to = y.data;
    for (const nd_view<const float>& x : in) {
        copy(x, {to, x.shape, y.stride}, executor);
        to += x.shape[axis] * y.stride[static_cast<std::size_t>(axis)];
    }
}

KDNA_FUNC slice::slice(index_t axis, index_t start, std::optional<index_t> stop, index_t step, std::string_view where)
    : axis_(axis), start_(start), stop_(stop), step_(step) {
    // The most negative number has no opposite.
    if (step == 0 || step == std::numeric_limits<index_t>::min())
        throw error(std::string(where), "a step other than 0", concat(step));
}

KDNA_FUNC slice::range slice::elements(index_t extent) const noexcept {
    // Positions between elements for a positive step, elements or -1 for a negative one.
    const index_t low = step_ > 0 ? 0 : -1, high = step_ > 0 ? extent : extent - 1;
    const auto place = [&](index_t i) { return std::clamp(i < 0 ? i + extent : i, low, high); };
    const index_t first = place(start_), last = stop_ ? place(*stop_) : (step_ > 0 ? high : low);
    const index_t span = step_ > 0 ? last - first : first - last, size = step_ > 0 ? step_ : -step_;
    return {first, span > 0 ? (span - 1) / size + 1 : 0};
}

KDNA_FUNC nd_shape slice::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, 1, most_axes, where);
    nd_shape out = x;
    const index_t axis = axis_of(axis_, x.rank(), where);
    out[axis] = elements(x[axis]).count;
    if (out[axis] < 1)
        throw error(std::string(where),
                    concat("a part of axis ", axis, " of ", to_string(x), " with at least one element"),
                    concat("start ", start_, stop_ ? concat(", stop ", *stop_) : std::string(), ", step ", step_));
    return out;
}

KDNA_FUNC nd_view<const float> slice::view(const nd_view<const float>& x) const noexcept {
    const index_t axis = axis_ < 0 ? axis_ + x.rank() : axis_;
    const range part = elements(x.shape[axis]);
    nd_view<const float> out = x;
    index_t& stride = out.stride[static_cast<std::size_t>(axis)];
    out.shape[axis] = part.count;
    out.data += part.first * stride;
    stride = part.count > 1 ? stride * step_ : stride;
    return out;
}

KDNA_FUNC void slice::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    copy(view(in.front()), y, executor);
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
