// Decides where the values of a network lie: which of them are parts of others, so that nothing is copied.
//
// A view (a reshape, a slice, a permutation) lies inside the value it is made from. The inputs of a concatenation are made where
// the concatenation wants them. Where one concatenation repeats the inputs of an earlier one, as in DenseNet, the earlier one lies
// inside the later. A step that may run in place, and is the only reader of its input, does.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <vector>

#include <kdna/nn/network.hpp>

namespace kdna::inline KDNA_ABI {

/// Fills in the placements of one plan.
class network_storage {
public:
    network_storage(const network& net, network_plan& p)
        : net_(&net), plan_(&p), links_(p.value_shapes_.size()), uses_(p.value_shapes_.size(), 0) {}
    KDNA_FUNC void place();

private:
    using placement = network_plan::placement;
    /// How a value depends on the memory of another.
    struct link {
        enum class kind { own, view, in_place, slot };
        kind is = kind::own;
        index_t parent = 0;
        index_t axis = 0, start = 0;  ///< of a slot: along which axis it is a part of the parent, and from where on
    };
    [[nodiscard]] static std::size_t at(index_t id) noexcept { return static_cast<std::size_t>(id); }
    [[nodiscard]] const nd_shape& shape(index_t id) const { return plan_->value_shapes_[at(id)]; }
    [[nodiscard]] const network::step& maker(index_t id) const { return net_->steps_[net_->step_of(id)]; }
    [[nodiscard]] bool made_by_step(index_t id) const { return id >= net_->input_count(); }
    KDNA_FUNC void count_uses();
    KDNA_FUNC void link_views();
    KDNA_FUNC void link_concatenation(index_t id);
    [[nodiscard]] KDNA_FUNC bool repeats(index_t id, index_t axis);
    [[nodiscard]] KDNA_FUNC bool in_a_row(index_t id) const;
    [[nodiscard]] KDNA_FUNC index_t first_in_place(index_t id) const;
    [[nodiscard]] KDNA_FUNC axis_order order_of(index_t id) const;
    [[nodiscard]] KDNA_FUNC placement resolve(index_t id) const;
    [[nodiscard]] KDNA_FUNC placement slot_of(index_t id) const;

    const network* net_;
    network_plan* plan_;
    std::vector<link> links_;     // of values
    std::vector<index_t> uses_;   // of values: how often steps read them
    std::vector<index_t> ports_;  // of values: the output that they are, and nothing else; -1
    std::vector<bool> kept_;      // of values: whether they are outputs
};

KDNA_FUNC void network_storage::place() {
    count_uses();
    link_views();
    const auto values = static_cast<index_t>(links_.size());
    for (index_t id = values; id-- > net_->input_count();)
        if (maker(id).op->concatenates() >= 0) link_concatenation(id);
    plan_->places_.clear();
    for (index_t id = 0; id < values; ++id) plan_->places_.push_back(resolve(id));
}

KDNA_FUNC void network_storage::count_uses() {
    for (const network::step& s : net_->steps_)
        for (const index_t id : s.inputs) ++uses_[at(id)];
    ports_.assign(links_.size(), -1);
    kept_.assign(links_.size(), false);
    for (std::size_t i = 0; i < plan_->outputs_.size(); ++i) {
        const std::size_t v = at(plan_->outputs_[i]);
        ports_[v] = kept_[v] || uses_[v] > 0 ? -1 : static_cast<index_t>(i);
        kept_[v] = true;
    }
}

/// Views, and steps that run in place.
KDNA_FUNC void network_storage::link_views() {
    for (index_t id = net_->input_count(); id < static_cast<index_t>(links_.size()); ++id) {
        const network::step& s = maker(id);
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
            plan_->batched_[at(x)] == plan_->batched_[at(id)])
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
    const network::step& s = maker(id);
    const index_t axis = s.op->concatenates();
    // An output is copied into the caller's memory once, whether its inputs lie in a row or not.
    if (ports_[at(id)] >= 0) return;
    if (links_[at(id)].is == link::kind::own && repeats(id, axis)) return;
    index_t start = 0;
    for (const index_t v : s.inputs) {
        const index_t base = first_in_place(v);
        link& l = links_[at(base)];
        if (l.is == link::kind::own && made_by_step(base) && !maker(base).inputs.empty() && ports_[at(base)] < 0 &&
            plan_->batched_[at(base)] == plan_->batched_[at(id)])
            l = {link::kind::slot, id, axis, start};
        start += shape(v)[axis];
    }
}

/// Whether all inputs of a concatenation are made where they will lie: in it, or in the later one that it is a part of.
KDNA_FUNC bool network_storage::in_a_row(index_t id) const {
    const network::step& s = maker(id);
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
    if (made_by_step(id) && !maker(id).inputs.empty() && maker(id).op->keeps_order()) {
        const index_t x = maker(id).inputs.front();
        const placement& from = plan_->places_[at(x)];
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
KDNA_FUNC network_plan::placement network_storage::slot_of(index_t id) const {
    index_t top = id;
    while (links_[at(top)].is == link::kind::slot) top = links_[at(top)].parent;
    placement out{.root = top, .stride = strides_in(shape(top), channels_last(shape(top).rank()))};
    for (index_t v = id; v != top; v = links_[at(v)].parent)
        out.offset += links_[at(v)].start * out.stride[at(links_[at(v)].axis)];
    return out;
}

/// Where a value lies; those before it have been resolved.
KDNA_FUNC network_plan::placement network_storage::resolve(index_t id) const {
    const nd_shape& s = shape(id);
    placement own{.root = id};
    if (!made_by_step(id)) {
        own.in = placement::memory::input;
        own.number = id;
        own.runs = false;
        return own;
    }
    const network::step& step = maker(id);
    if (step.inputs.empty()) {
        own.in = placement::memory::constant;
        own.stride = step.op->constant().stride;
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
        placement out = plan_->places_[at(l.parent)];
        out.runs = true;
        return out;
    }
    if (l.is == link::kind::view) {
        const placement& from = plan_->places_[at(l.parent)];
        if (from.in == placement::memory::arena || from.in == placement::memory::constant)
            if (const auto part = step.op->view_of(network::shapes_of(plan_->value_shapes_, step), from.stride)) {
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

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
