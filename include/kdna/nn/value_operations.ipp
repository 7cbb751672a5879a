// Definitions of nn/value_operations.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/nn/value_operations.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

KDNA_FUNC std::string shapes_text(std::string_view name, std::string_view what, std::span<const nd_shape> in,
                                  const nd_shape& out) {
    const bool says_more = !what.empty() && what != name;
    std::string text = concat(name, ": ", says_more ? what : "", says_more ? " of " : "");
    for (std::size_t i = 0; i < std::min<std::size_t>(in.size(), 4); ++i)
        text += concat(i == 0 ? "" : ", ", to_string(in[i]));
    if (in.size() > 4) text += concat(", ... (", in.size(), ")");
    return text + concat(" to ", to_string(out));
}

KDNA_FUNC bool follows_samples(const operation& op, std::span<const nd_shape> in) {
    const nd_shape all = op.output_shape(in);
    std::vector<nd_shape> fewer(in.begin(), in.end());
    const index_t samples = in.front()[0];
    if (all[0] != samples) return false;
    if (samples == 1) return true;
    for (nd_shape& s : fewer)
        if (s[0] == samples) s[0] = 1;
    nd_shape one = all;
    one[0] = 1;
    try {
        return op.output_shape(fewer) == one;
    } catch (const error&) {
        return false;
    }
}

/// Copies the part of x that a view of it is.
KDNA_FUNC void copy_part(const operation::part& part, const operation_call& c, const executor_ref& executor) noexcept {
    ops::copy({c.inputs.front().data + part.offset, c.output.shape, part.stride}, c.output, executor);
}

/// Strides with which memory of that shape and those strides has another shape, if there are some.
[[nodiscard]] KDNA_FUNC std::optional<axis_numbers> reshaped_strides(const nd_shape& from, const axis_numbers& stride,
                                                                     const nd_shape& to) {
    axis_numbers out{};
    const auto stride_of = [&](index_t axis) { return stride[static_cast<std::size_t>(axis)]; };
    // Runs of axes with equal products on both sides, from the last axis on.
    index_t i = from.rank(), j = to.rank();
    while (i > 0 || j > 0) {
        index_t a = 1, b = 1;
        const index_t i_end = i, j_end = j;
        if (i > 0) a = from[--i];
        if (j > 0) b = to[--j];
        while (a != b)
            if (a < b)
                a *= from[--i];
            else
                b *= to[--j];
        // Axes of extent 1 may be left over in front.
        if (i == 0)
            while (j > 0 && to[j - 1] == 1) --j;
        if (j == 0)
            while (i > 0 && from[i - 1] == 1) --i;
        // The axes of `from` must be one axis: each stride the next one's times its extent.
        index_t inner = 0, step = 1;
        bool any = false;
        for (index_t axis = i_end; axis-- > i;) {
            if (from[axis] == 1) continue;
            if (any && stride_of(axis) != inner) return std::nullopt;
            if (!any) step = stride_of(axis);
            any = true;
            inner = stride_of(axis) * from[axis];
        }
        for (index_t axis = j_end; axis-- > j;) {
            out[static_cast<std::size_t>(axis)] = step;
            step *= to[axis];
        }
    }
    return out;
}

}  // namespace detail

KDNA_FUNC std::string view_operation::text(std::span<const nd_shape> in) const {
    return detail::shapes_text(name_, what_, in.first(1), output_shape(in));
}

KDNA_FUNC std::unique_ptr<operation_state> view_operation::plan(std::span<const nd_shape> in,
                                                                const plan_options& options) const {
    return std::make_unique<detail::executor_state>(options.executor, text(in));
}

KDNA_FUNC bool view_operation::samplewise(std::span<const nd_shape> in) const {
    return detail::follows_samples(*this, in);
}

KDNA_FUNC reshape_operation::rule reshape_operation::to_extents(std::vector<extent> shape, std::string name) {
    return [shape = std::move(shape), name = std::move(name)](std::span<const nd_shape> in) {
        std::vector<index_t> to = extents_of(shape, in, name);
        const index_t all = element_count(in.front(), name);
        index_t known = 1;
        index_t* open = nullptr;
        for (index_t& e : to) {
            if (e == -1 && open == nullptr) {
                open = &e;
                continue;
            }
            if (e < 1) throw error(name, "extents >= 1, and -1 once", concat(e));
            known = checked_mul(known, e, name);
        }
        if (open != nullptr) {
            if (all % known != 0)
                throw error(name, concat("a multiple of ", known, " elements"), to_string(in.front()));
            *open = all / known;
        }
        return nd_shape(to, name);
    };
}

KDNA_FUNC reshape_operation::rule reshape_operation::flattened(index_t first, index_t last, std::string name) {
    return [first, last, name = std::move(name)](std::span<const nd_shape> in) {
        const nd_shape& s = in.front();
        const index_t from = axis_of(first, s.rank(), name), to = axis_of(last, s.rank(), name);
        if (from > to) throw error(name, "a first axis before the last", concat(from, " and ", to));
        std::vector<index_t> out;
        for (index_t i = 0; i < s.rank(); ++i)
            if (i > from && i <= to)
                out.back() = checked_mul(out.back(), s[i], name);
            else
                out.push_back(s[i]);
        return nd_shape(out, name);
    };
}

KDNA_FUNC nd_shape reshape_operation::output_shape(std::span<const nd_shape> in) const {
    const nd_shape out = shape_(in);
    if (element_count(out, name_) != element_count(in.front(), name_))
        throw error(name_, concat("a shape of as many elements as ", to_string(in.front())), to_string(out));
    return out;
}

KDNA_FUNC void reshape_operation::run(operation_state& s, const operation_call& c) const noexcept {
    ops::copy_elements(c.inputs.front(), c.output, static_cast<detail::executor_state&>(s).executor);
}

KDNA_FUNC std::optional<operation::part> reshape_operation::view_of(std::span<const nd_shape> in,
                                                                    const axis_numbers& stride) const {
    const auto strides = detail::reshaped_strides(in.front(), stride, output_shape(in));
    if (!strides) return std::nullopt;
    return part{0, *strides};
}

KDNA_FUNC permute_operation::permute_operation(std::vector<index_t> axes, std::string name)
    : view_operation(std::move(name), "permute"), axes_(std::move(axes)) {
    const auto rank = static_cast<index_t>(axes_.size());
    if (rank < 1 || rank > most_axes) throw error(name_, "1 to 5 axes", concat(rank));
    std::vector<bool> named(axes_.size(), false);
    for (index_t& axis : axes_) {
        axis = axis_of(axis, rank, name_);
        if (named[static_cast<std::size_t>(axis)])
            throw error(name_, "every axis once", concat("axis ", axis, " twice"));
        named[static_cast<std::size_t>(axis)] = true;
    }
}

KDNA_FUNC nd_shape permute_operation::output_shape(std::span<const nd_shape> in) const {
    const nd_shape& x = in.front();
    if (x.rank() != static_cast<index_t>(axes_.size()))
        throw error(name_, concat("an input of rank ", axes_.size()), to_string(x));
    nd_shape out = x;
    for (index_t i = 0; i < x.rank(); ++i) out[i] = x[axes_[static_cast<std::size_t>(i)]];
    return out;
}

KDNA_FUNC std::optional<operation::part> permute_operation::view_of(std::span<const nd_shape>,
                                                                    const axis_numbers& stride) const {
    part out;
    for (std::size_t i = 0; i < axes_.size(); ++i) out.stride[i] = stride[static_cast<std::size_t>(axes_[i])];
    return out;
}

KDNA_FUNC void permute_operation::run(operation_state& s, const operation_call& c) const noexcept {
    detail::copy_part(*view_of({}, c.inputs.front().stride), c, static_cast<detail::executor_state&>(s).executor);
}

KDNA_FUNC nd_shape expand_operation::output_shape(std::span<const nd_shape> in) const {
    const nd_shape out = shape_(in);
    static_cast<void>(element_count(out, name_));
    if (broadcast(in.front(), out, name_) != out)
        throw error(name_, concat("a shape to which ", to_string(in.front()), " can be expanded"), to_string(out));
    return out;
}

namespace detail {

/// Strides of x as a view of the shape that it is expanded to.
[[nodiscard]] inline axis_numbers expanded_strides(const nd_shape& x, const axis_numbers& stride,
                                                   const nd_shape& to) noexcept {
    axis_numbers out{};
    for (index_t i = 0; i < x.rank(); ++i)
        if (x[i] != 1) out[static_cast<std::size_t>(i + to.rank() - x.rank())] = stride[static_cast<std::size_t>(i)];
    return out;
}

}  // namespace detail

KDNA_FUNC std::optional<operation::part> expand_operation::view_of(std::span<const nd_shape> in,
                                                                   const axis_numbers& stride) const {
    return part{0, detail::expanded_strides(in.front(), stride, output_shape(in))};
}

KDNA_FUNC void expand_operation::run(operation_state& s, const operation_call& c) const noexcept {
    const nd_view<const float>& x = c.inputs.front();
    detail::copy_part({0, detail::expanded_strides(x.shape, x.stride, c.output.shape)}, c,
                      static_cast<detail::executor_state&>(s).executor);
}

KDNA_FUNC slice_operation::slice_operation(index_t axis, extent start, std::optional<extent> stop, index_t step,
                                           std::string name)
    : view_operation(std::move(name), "slice"),
      axis_(axis),
      start_(std::move(start)),
      stop_(std::move(stop)),
      step_(step) {
    if (step < 1) throw error(name_, "a step of at least 1", concat(step));
}

KDNA_FUNC slice_operation::range slice_operation::elements(std::span<const nd_shape> in) const {
    const nd_shape& x = in.front();
    range r{axis_of(axis_, x.rank(), name_), 0, 0, 1};
    const index_t size = x[r.axis];
    const auto inside = [&](index_t i) { return std::clamp<index_t>(i < 0 ? i + size : i, 0, size); };
    r.first = inside(start_.of(in, name_));
    const index_t stop = stop_ ? inside(stop_->of(in, name_)) : size;
    if (stop <= r.first)
        throw error(name_, concat("a part of the ", size, " elements of axis ", r.axis),
                    concat("elements ", r.first, " to ", stop));
    r.count = (stop - r.first - 1) / step_ + 1;
    if (r.count > 1) r.step = step_;
    return r;
}

KDNA_FUNC nd_shape slice_operation::output_shape(std::span<const nd_shape> in) const {
    const range r = elements(in);
    nd_shape out = in.front();
    out[r.axis] = r.count;
    return out;
}

namespace detail {

/// A slice knows from the shapes where it begins.
struct slice_state final : executor_state {
    slice_state(const executor_ref& e, std::string words, index_t along, index_t from, index_t by)
        : executor_state(e, std::move(words)), axis(along), first(from), step(by) {}
    [[nodiscard]] operation::part of(const axis_numbers& stride) const noexcept {
        const auto a = static_cast<std::size_t>(axis);
        operation::part out{first * stride[a], stride};
        out.stride[a] *= step;
        return out;
    }
    index_t axis, first, step;
};

}  // namespace detail

KDNA_FUNC std::unique_ptr<operation_state> slice_operation::plan(std::span<const nd_shape> in,
                                                                 const plan_options& options) const {
    const range r = elements(in);
    return std::make_unique<detail::slice_state>(options.executor, text(in), r.axis, r.first, r.step);
}

KDNA_FUNC void slice_operation::run(operation_state& s, const operation_call& c) const noexcept {
    const auto& planned = static_cast<detail::slice_state&>(s);
    detail::copy_part(planned.of(c.inputs.front().stride), c, planned.executor);
}

KDNA_FUNC bool slice_operation::samplewise(std::span<const nd_shape> in) const {
    return axis_of(axis_, in.front().rank(), name_) != 0 && detail::follows_samples(*this, in);
}

KDNA_FUNC std::optional<operation::part> slice_operation::view_of(std::span<const nd_shape> in,
                                                                  const axis_numbers& stride) const {
    const range r = elements(in);
    return detail::slice_state({}, {}, r.axis, r.first, r.step).of(stride);
}

KDNA_FUNC concat_operation::concat_operation(index_t axis, index_t inputs, std::string name)
    : axis_(axis), inputs_(inputs), name_(std::move(name)) {
    if (inputs < 1 || inputs > most_inputs)
        throw error(concat(name_, " inputs"), concat("1 to ", most_inputs), concat(inputs));
    if (axis < 0) throw error(name_, "an axis counted from the first", concat(axis));
}

KDNA_FUNC nd_shape concat_operation::output_shape(std::span<const nd_shape> in) const {
    nd_shape out = in.front();
    if (axis_ >= out.rank()) throw error(name_, concat("inputs with an axis ", axis_), to_string(out));
    for (const nd_shape& s : in.subspan(1)) {
        if (s.rank() != out.rank()) throw error(name_, concat("inputs of rank ", out.rank()), to_string(s));
        for (index_t a = 0; a < out.rank(); ++a)
            if (a != axis_ && s[a] != out[a])
                throw error(name_, concat("inputs that differ in axis ", axis_, " alone, as ", to_string(in.front())),
                            to_string(s));
        out[axis_] = checked_add(out[axis_], s[axis_], name_);
    }
    return out;
}

KDNA_FUNC std::unique_ptr<operation_state> concat_operation::plan(std::span<const nd_shape> in,
                                                                  const plan_options& options) const {
    return std::make_unique<detail::executor_state>(options.executor,
                                                    detail::shapes_text(name_, "concat", in, output_shape(in)));
}

KDNA_FUNC void concat_operation::run(operation_state& s, const operation_call& c) const noexcept {
    const auto axis = static_cast<std::size_t>(axis_);
    nd_view<float> y = c.output;
    for (const nd_view<const float>& x : c.inputs) {
        y.shape = x.shape;
        if (x.data != y.data) ops::copy(x, y, static_cast<detail::executor_state&>(s).executor);
        y.data += x.shape[axis_] * y.stride[axis];
    }
}

KDNA_FUNC constant_operation::constant_operation(const nd_shape& shape, std::span<const float> values, std::string name)
    : shape_(shape), values_(values.begin(), values.end()), name_(std::move(name)) {
    if (element_count(shape_, name_) != static_cast<index_t>(values_.size()))
        throw error(name_, concat("values for ", to_string(shape_)), concat(values_.size()));
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
