// Definitions of graph/load.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <kdna/graph/load.hpp>
#include <kdna/graph/lowering.hpp>
#include <kdna/io/safetensors.hpp>

namespace kdna::inline KDNA_ABI {

namespace graph::detail {

/// Shapes on which to try a network: what its inputs say, or images of some usual sizes.
[[nodiscard]] KDNA_FUNC std::vector<std::vector<nd_shape>> trial_shapes(const description& net) {
    std::vector<std::vector<nd_shape>> out;
    for (const index_t size : {index_t{0}, index_t{224}, index_t{256}, index_t{64}, index_t{32}}) {
        std::vector<nd_shape> shapes;
        bool open = false;
        const auto open_extent = [&](const input_port& p, std::size_t axis) -> index_t {
            const bool named = size == 0 && !p.example.empty();
            // Two samples tell a batch from what is the same for all samples.
            if (axis == 0) return named ? std::max<index_t>(p.example[axis], 2) : 2;
            if (named) return p.example[axis];
            if (axis == 1 && p.extents.size() < 4) return 16;
            return size == 0 ? 224 : size;
        };
        for (const input_port& p : net.inputs) {
            std::vector<index_t> extents = p.extents;
            for (std::size_t i = 0; i < extents.size(); ++i) {
                if (extents[i] != 0) continue;
                open = open || p.example.empty();
                extents[i] = open_extent(p, i);
            }
            shapes.emplace_back(extents);
        }
        out.push_back(std::move(shapes));
        if (!open) break;
    }
    return out;
}

}  // namespace graph::detail

KDNA_FUNC bool has_graph(const state_dict& weights) { return weights.metadata().contains("kdna.graph"); }

KDNA_FUNC network load(const state_dict& weights, std::string_view where) {
    const auto found = weights.metadata().find("kdna.graph");
    if (found == weights.metadata().end())
        throw error(std::string(where),
                    "a network file, with \"kdna.graph\" in its metadata (tools/export.py writes one)",
                    "tensors without a graph");
    const graph::description net = graph::parse(found->second, where);
    graph::shared_weights shared;
    // What can be fused is seen from the shapes of an unfused network.
    std::optional<std::vector<nd_shape>> inputs;
    std::map<std::string, nd_shape> shapes;
    std::optional<error> first;
    for (const std::vector<nd_shape>& trial : graph::detail::trial_shapes(net)) {
        try {
            graph::lowering plain(net, weights, shared, nullptr);
            plain.add_nodes(trial);
            inputs = trial;
            shapes = plain.shapes();
            break;
        } catch (const error& e) {
            if (!first) first = e;
        }
    }
    if (!inputs) throw error(concat(where, ", ", first->where()), first->expected(), first->found());
    try {
        const graph::fusion fused(net, shapes);
        graph::lowering lowered(net, weights, shared, &fused);
        lowered.add_nodes(*inputs);
        return std::move(lowered).build();
    } catch (const error& e) {
        throw error(concat(where, ", ", e.where()), e.expected(), e.found());
    }
}

KDNA_FUNC network load(const std::filesystem::path& file, const load_options& options) {
    return load(load_safetensors(file, options), file.string());
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
