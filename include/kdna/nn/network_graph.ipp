// Definitions of nn/network_graph.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/nn/network_graph.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// The index of the port of that name.
template <class Ports>
[[nodiscard]] index_t port_named(const Ports& ports, std::string_view name, std::string_view what) {
    std::string names;
    for (std::size_t i = 0; i < ports.size(); ++i) {
        if (ports[i].name == name) return static_cast<index_t>(i);
        if (i < 8) names += concat(i == 0 ? "" : ", ", ports[i].name);
    }
    throw error(concat("network ", what), concat("one of: ", names), concat("\"", name, "\""));
}

}  // namespace detail

KDNA_FUNC index_t network_graph::input_named(std::string_view name) const {
    return detail::port_named(inputs_, name, "input");
}
KDNA_FUNC index_t network_graph::output_named(std::string_view name) const {
    return detail::port_named(outputs_, name, "output");
}

/// Throws kdna::error unless the shapes are what the inputs must be.
KDNA_FUNC void network_graph::check_inputs(std::span<const nd_shape> in) const {
    if (in.size() != inputs_.size()) throw error("network inputs", concat(inputs_.size()), concat(in.size()));
    for (std::size_t i = 0; i < in.size(); ++i) {
        const input_port& port = inputs_[i];
        const std::string where = inputs_.size() == 1 ? "network input" : concat("network input ", port.name);
        if (in[i].rank() != static_cast<index_t>(port.extents.size()))
            throw error(where, concat("rank ", port.extents.size()), to_string(in[i]));
        static_cast<void>(element_count(in[i], where));
        for (index_t axis = 0; axis < in[i].rank(); ++axis) {
            const index_t extent = port.extents[position(axis)];
            if (extent != 0 && in[i][axis] != extent)
                throw error(
                    where, axis == 1 ? concat(extent, " channels") : concat("an extent of ", extent, " on axis ", axis),
                    to_string(in[i]));
        }
    }
}

/// Shapes of a step's inputs, and of what else it needs the shapes of.
KDNA_FUNC std::vector<nd_shape> network_graph::shapes_of(const std::vector<nd_shape>& values, const step& s) {
    std::vector<nd_shape> in;
    in.reserve(s.inputs.size() + s.shapes.size());
    for (const index_t id : s.inputs) in.push_back(values[position(id)]);
    for (const index_t id : s.shapes) in.push_back(values[position(id)]);
    return in;
}

KDNA_FUNC std::vector<nd_shape> network_graph::shapes(std::span<const nd_shape> in) const {
    check_inputs(in);
    std::vector<nd_shape> all(in.begin(), in.end());
    for (const step& s : steps_) {
        all.push_back(s.op->output_shape(shapes_of(all, s)));
        static_cast<void>(element_count(all.back(), s.op->name()));
    }
    return all;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
