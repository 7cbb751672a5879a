// Definitions of nn/network_storage.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/nn/network_storage.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC std::optional<index_t> row_distance(const nd_shape& s, const axis_numbers& stride) {
    if (s.rank() != 2 && s.rank() != 4) return std::nullopt;
    if (s[1] > 1 && stride[1] != 1) return std::nullopt;
    index_t rows = 1, distance = s[1];
    for (const index_t axis : {index_t{3}, index_t{2}, index_t{0}}) {
        if (axis >= s.rank() || s[axis] == 1) continue;
        const index_t own = stride[static_cast<std::size_t>(axis)];
        if (rows == 1) distance = own;
        if (own != rows * distance) return std::nullopt;
        rows *= s[axis];
    }
    return distance < s[1] ? std::nullopt : std::optional(distance);
}

KDNA_FUNC std::vector<value_placement> network_storage::place() {
    count_uses();
    link_views();
    const auto values = static_cast<index_t>(links_.size());
    for (index_t id = values; id-- > net_->input_count();)
        if (maker(id).op->concatenates() >= 0) link_concatenation(id);
    places_.clear();
    for (index_t id = 0; id < values; ++id) places_.push_back(resolve(id));
    return std::move(places_);
}

KDNA_FUNC void network_storage::count_uses() {
    for (const network_graph::step& s : net_->steps_)
        for (const index_t id : s.inputs) ++uses_[at(id)];
    ports_.assign(links_.size(), -1);
    kept_.assign(links_.size(), false);
    for (index_t i = 0; i < net_->output_count(); ++i) {
        const std::size_t v = at(net_->output_value(i));
        ports_[v] = kept_[v] || uses_[v] > 0 || !rules_.callers_memory ? -1 : i;
        kept_[v] = true;
    }
}

/// Views, and steps that run in place.
KDNA_FUNC void network_storage::link_views() {
    for (index_t id = net_->input_count(); id < static_cast<index_t>(links_.size()); ++id) {
        const network_graph::step& s = maker(id);
        if (s.inputs.empty()) continue;
        const index_t x = s.inputs.front();
        if (s.op->is_view()) {
            links_[at(id)] = {link::kind::view, x};
            continue;
        }
        const link::kind from = links_[at(x)].is;
        const bool own = from == link::kind::own || from == link::kind::in_place;
        if (s.op->runs_in_place() && ports_[at(id)] < 0 && own && made_by_step(x) && !maker(x).inputs.empty() &&
            maker(x).op->concatenates() < 0 && uses_[at(x)] == 1 && !kept_[at(x)] && shape(x) == shape(id) &&
            batched(x) == batched(id))
            links_[at(id)] = {link::kind::in_place, x};
    }
}

/// The value whose memory the steps before `id` work in.
KDNA_FUNC index_t network_storage::first_in_place(index_t id) const {
    while (links_[at(id)].is == link::kind::in_place) id = links_[at(id)].parent;
    return id;
}

/// Whether the inputs of a concatenation lie in a row in the memory of a later one already. Then it lies there itself.
KDNA_FUNC bool network_storage::repeats(index_t id, index_t axis) {
    const std::vector<index_t>& inputs = maker(id).inputs;
    const link first = links_[at(first_in_place(inputs.front()))];
    if (first.is != link::kind::slot || first.axis != axis) return false;
    index_t start = first.start;
    for (const index_t v : inputs) {
        const link& l = links_[at(first_in_place(v))];
        if (l.is != link::kind::slot || l.parent != first.parent || l.axis != axis || l.start != start) return false;
        start += shape(v)[axis];
    }
    links_[at(id)] = {link::kind::slot, first.parent, axis, first.start};
    return true;
}

KDNA_FUNC void network_storage::link_concatenation(index_t id) {
    const network_graph::step& s = maker(id);
    const index_t axis = s.op->concatenates();
    // An output is copied into the caller's memory once, whether its inputs lie in a row or not.
    if (ports_[at(id)] >= 0) return;
    if (links_[at(id)].is == link::kind::own && repeats(id, axis)) return;
    index_t start = 0;
    for (const index_t v : s.inputs) {
        const index_t base = first_in_place(v);
        link& l = links_[at(base)];
        if (l.is == link::kind::own && made_by_step(base) && !maker(base).inputs.empty() && ports_[at(base)] < 0 &&
            batched(base) == batched(id)) {
            l = {link::kind::slot, id, axis, start};
            const placement slot = slot_of(base);
            if (!fits(base, slot.offset, slot.stride)) l = {};
        }
        start += shape(v)[axis];
    }
}

/// Whether a part of another value's memory is what the rules ask for.
KDNA_FUNC bool network_storage::fits(index_t id, index_t offset, const axis_numbers& stride) const {
    const nd_shape& s = shape(id);
    if (rules_.row_alignment == 0 || (s.rank() != 2 && s.rank() != 4)) return true;
    const std::optional<index_t> distance = row_distance(s, stride);
    if (!distance) return false;
    return s[1] % rules_.row_alignment != 0 ||
           (offset % rules_.row_alignment == 0 && *distance % rules_.row_alignment == 0);
}

/// Whether all inputs of a concatenation are made where they will lie: in it, or in the later one that it is a part of.
KDNA_FUNC bool network_storage::in_a_row(index_t id) const {
    const network_graph::step& s = maker(id);
    const link& own = links_[at(id)];
    const index_t axis = s.op->concatenates();
    index_t start = 0;
    for (const index_t v : s.inputs) {
        const link& part = links_[at(first_in_place(v))];
        if (part.is != link::kind::slot || part.axis != axis) return false;
        const bool here = part.parent == id && part.start == start;
        const bool beside = own.is == link::kind::slot && part.parent == own.parent && part.start == own.start + start;
        if (!here && !beside) return false;
        start += shape(v)[axis];
    }
    return true;
}

/// The order of axes in memory of a value whose memory is its own.
KDNA_FUNC axis_order network_storage::order_of(index_t id) const {
    const nd_shape& s = shape(id);
    if (rules_.row_alignment > 0) return channels_last(s.rank());
    if (made_by_step(id) && !maker(id).inputs.empty() && maker(id).op->keeps_order()) {
        const index_t x = maker(id).inputs.front();
        const placement& from = places_[at(x)];
        const bool callers = from.in == placement::memory::input || from.in == placement::memory::output;
        if (!callers && shape(x).rank() == s.rank()) {
            axis_order order = row_major;
            bool distinct = true;
            for (index_t a = 0; a < s.rank(); ++a) distinct = distinct && from.stride[at(a)] > 0;
            std::stable_sort(order.begin(), order.begin() + s.rank(),
                             [&](index_t a, index_t b) { return from.stride[at(a)] > from.stride[at(b)]; });
            if (distinct && order.front() == 0) return order;
        }
    }
    return made_by_step(id) && maker(id).op->makes_row_major() ? row_major : channels_last(s.rank());
}

/// Where a part of a concatenation lies, which may be a part of another.
KDNA_FUNC value_placement network_storage::slot_of(index_t id) const {
    index_t top = id;
    while (links_[at(top)].is == link::kind::slot) top = links_[at(top)].parent;
    placement out{.root = top, .stride = strides_in(shape(top), channels_last(shape(top).rank()))};
    for (index_t v = id; v != top; v = links_[at(v)].parent)
        out.offset += links_[at(v)].start * out.stride[at(links_[at(v)].axis)];
    return out;
}

/// Where a value lies; those before it have been resolved.
KDNA_FUNC value_placement network_storage::resolve(index_t id) const {
    const nd_shape& s = shape(id);
    placement own{.root = id};
    if (!made_by_step(id)) {
        own.in = rules_.callers_memory ? placement::memory::input : placement::memory::arena;
        own.number = id;
        own.stride = strides_in(s, channels_last(s.rank()));
        own.runs = false;
        return own;
    }
    const network_graph::step& step = maker(id);
    if (step.inputs.empty()) {
        own.in = placement::memory::constant;
        own.stride = rules_.row_alignment > 0 ? strides_in(s, order_of(id)) : step.op->constant().stride;
        own.runs = false;
        return own;
    }
    const link& l = links_[at(id)];
    if (l.is == link::kind::slot) {
        placement out = slot_of(id);
        if (step.op->concatenates() >= 0) out.runs = !in_a_row(id);
        return out;
    }
    if (l.is == link::kind::in_place) {
        placement out = places_[at(l.parent)];
        out.runs = true;
        return out;
    }
    if (l.is == link::kind::view) {
        const placement& from = places_[at(l.parent)];
        if (from.in == placement::memory::arena || from.in == placement::memory::constant)
            if (const auto part = step.op->view_of(network_graph::shapes_of(*shapes_, step), from.stride);
                part && fits(id, from.offset + part->offset, part->stride)) {
                placement out = from;
                out.offset += part->offset;
                out.stride = part->stride;
                out.runs = false;
                return out;
            }
    } else if (ports_[at(id)] >= 0) {
        own.in = placement::memory::output;
        own.number = ports_[at(id)];
        return own;
    }
    own.stride = strides_in(s, order_of(id));
    if (step.op->concatenates() >= 0) own.runs = !in_a_row(id);
    return own;
}

KDNA_FUNC std::vector<arena_value> lifetimes(const network_graph& net, const std::vector<value_placement>& places,
                                             const std::function<std::pair<index_t, index_t>(index_t)>& together) {
    const index_t count = net.step_count();
    std::vector<arena_value> spans(places.size(), {count, -1, 0});
    const auto touch = [&](index_t id, index_t i) {
        arena_value& v = spans[static_cast<std::size_t>(places[static_cast<std::size_t>(id)].root)];
        const auto [first, last] = together(i);
        v.first = std::min(v.first, first);
        v.last = std::max(v.last, last);
    };
    for (index_t i = 0; i < count; ++i) {
        touch(net.input_count() + i, i);
        for (const index_t id : net.step_at(i).inputs) touch(id, i);
    }
    for (index_t i = 0; i < net.output_count() && count > 0; ++i)
        touch(net.output_value(i), count - 1);  // copied when all steps have run
    return spans;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
