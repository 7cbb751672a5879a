// Definitions of nn/network.hpp: which samples and which steps run together, and for how long values are kept.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/core/arithmetic.hpp>
#include <kdna/nn/arena.hpp>
#include <kdna/nn/network.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// Bytes that a stage's step may touch in activations: twice L2.
[[nodiscard]] inline index_t stage_bytes(const machine& m) noexcept { return 2 * m.l2_bytes; }
/// A value from this size on, half of L2, is worth keeping in bands.
[[nodiscard]] inline index_t banded_bytes(const machine& m) noexcept { return m.l2_bytes / 2; }
/// The rows of all values inside a group of banded steps together: half of L2.
[[nodiscard]] inline index_t band_buffer_bytes(const machine& m) noexcept { return m.l2_bytes / 2; }

}  // namespace detail

/// Finds out whether axis 0 of the inputs counts samples that pass the network independently of each other, and which values
/// have that axis. If one step mixes samples, the batch is not cut at all.
KDNA_FUNC void network::find_batch(network_plan& p) const {
    const std::vector<nd_shape>& shapes = p.value_shapes_;
    const index_t samples = shapes.front()[0];
    const auto whole = [&] {
        p.batch_ = 1;
        p.batched_.assign(shapes.size(), false);
    };
    p.batch_ = samples;
    p.batched_.assign(shapes.size(), false);
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
        if (shapes[i][0] != samples) return whole();
        p.batched_[i] = true;
    }
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        const step& s = steps_[i];
        const nd_shape& out = shapes[position(value_of(i))];
        bool any = false;
        for (const index_t id : s.inputs) any = any || p.batched_[position(id)];
        if (!any) continue;
        if (out[0] != samples || !s.op->samplewise(shapes_of(shapes, s))) return whole();
        // What is the same for all samples must not have an axis that counts them.
        for (const index_t id : s.inputs)
            if (const nd_shape& in = shapes[position(id)];
                !p.batched_[position(id)] && in.rank() >= out.rank() && in[0] != 1)
                return whole();
        p.batched_[position(value_of(i))] = true;
    }
    for (const output_port& o : outputs_)
        if (!p.batched_[position(o.id)]) return whole();
}

/// Cuts the steps into stages: the most samples whose activations fit, never fewer than in the stage before.
KDNA_FUNC void network::find_stages(network_plan& p, const machine& target) const {
    std::vector<index_t> most(steps_.size());
    for (std::size_t i = steps_.size(); i-- > 0;) {
        const auto bytes = [&](index_t id) {
            const nd_shape& s = p.value_shapes_[position(id)];
            const index_t all = checked_mul(element_count(s), static_cast<index_t>(sizeof(float)), "network");
            return p.batched_[position(id)] ? all / s[0] : all;
        };
        const step& s = steps_[i];
        index_t touched = bytes(value_of(i)), largest = touched;
        for (const index_t id : s.inputs) touched = checked_add(touched, bytes(id), "network");
        if (!s.inputs.empty()) largest = std::max(largest, bytes(s.inputs.front()));
        // A large value is worth a band, and bands are of one sample.
        index_t fitting = largest >= detail::banded_bytes(target)
                              ? 1
                              : std::clamp<index_t>(detail::stage_bytes(target) / touched, 1, p.batch_);
        while (p.batch_ % fitting != 0) --fitting;
        most[i] = i + 1 < steps_.size() ? std::min(fitting, most[i + 1]) : fitting;
    }
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        if (p.stages_.empty() || p.stages_.back().samples != most[i]) p.stages_.push_back({i, i, most[i]});
        p.stages_.back().last = i + 1;
    }
}

/// Groups neighbouring steps that can run in bands and have a large value between them that nobody else reads.
KDNA_FUNC void network::group_steps(network_plan& p, const machine& target) const {
    const std::size_t values = p.value_shapes_.size();
    std::vector<index_t> uses(values, 0), tenants(values, 0);
    for (const step& s : steps_)
        for (const index_t id : s.inputs) ++uses[position(id)];
    for (const index_t id : p.outputs_) ++uses[position(id)];
    for (const network_plan::placement& place : p.places_) ++tenants[position(place.root)];
    p.group_of_.assign(steps_.size(), network_plan::none);
    p.parts_.assign(values, 0);
    p.rows_.assign(values, 0);
    const auto row_bytes = [&](std::size_t id) {
        const nd_shape& s = p.value_shapes_[id];
        return s[3] * s[1] * static_cast<index_t>(sizeof(float));
    };
    const auto supports = [&](std::size_t i) {
        return steps_[i].inputs.size() <= 2 && !steps_[i].inputs.empty() && p.places_[position(value_of(i))].runs &&
               p.value_shapes_[position(value_of(i))].rank() == 4 &&
               p.value_shapes_[position(value_of(i))][0] == p.batch_ &&
               p.value_shapes_[position(steps_[i].inputs.front())].rank() == 4 &&
               steps_[i].op->bands(*p.states_[i]).multiple > 0;
    };
    for (const network_plan::stage& part : p.stages_) {
        if (part.samples != 1) continue;
        const auto joins = [&](std::size_t i) {  // step i and the one before it
            const index_t between = value_of(i - 1);
            const std::size_t v = position(between);
            return !steps_[i].inputs.empty() && steps_[i].inputs.front() == between && uses[v] == 1 &&
                   tenants[v] == 1 && p.places_[v].root == between && supports(i - 1) && supports(i) &&
                   row_bytes(v) * p.value_shapes_[v][2] >= detail::banded_bytes(target);
        };
        for (std::size_t first = part.first; first < part.last;) {
            std::size_t last = first + 1;
            while (last < part.last && joins(last)) ++last;
            if (last - first > 1) {
                std::vector<banded_step> steps;
                for (std::size_t i = first; i < last; ++i)
                    steps.push_back({steps_[i].op->bands(*p.states_[i]),
                                     p.value_shapes_[position(steps_[i].inputs.front())][2],
                                     p.value_shapes_[position(value_of(i))][2], row_bytes(position(value_of(i)))});
                network_plan::banded_group g{
                    first, last, schedule_parts(steps, p.executor_.concurrency(), detail::band_buffer_bytes(target))};
                for (std::size_t i = first; i < last; ++i) {
                    p.group_of_[i] = p.groups_.size();
                    if (i + 1 == last) continue;
                    const std::size_t v = position(value_of(i));
                    p.parts_[v] = static_cast<index_t>(g.parts.size());
                    for (const band_schedule& b : g.parts) p.rows_[v] = std::max(p.rows_[v], b.buffer_rows[i - first]);
                }
                p.groups_.push_back(std::move(g));
            }
            first = last;
        }
    }
}

/// Plans a group's steps for one thread each, and their work on the other threads.
KDNA_FUNC void network::plan_parts(network_plan& p, network_plan::banded_group& g, const plan_options& options) const {
    if (g.parts.size() == 1 && options.executor.concurrency() == 1) return;
    plan_options alone = options;
    alone.executor = {};
    // Another timing might choose an algorithm that cannot run in bands.
    alone.in_bands = true;
    alone.autotune = false;
    for (std::size_t i = g.first; i < g.last; ++i) p.states_[i] = plan_step(p, i, 1, alone);
    for (std::size_t t = 1; t < g.parts.size(); ++t) {
        index_t workspace = 0;
        auto& states = g.states.emplace_back();
        for (std::size_t i = g.first; i < g.last; ++i) {
            states.push_back(plan_step(p, i, 1, alone));
            workspace = std::max(workspace, states.back()->workspace_bytes());
        }
        g.workspaces.emplace_back(workspace, options.memory);
        for (auto& s : states) s->use_workspace(g.workspaces.back().data());
    }
}

/// Gives the channel means of every value that somebody reads and its step can give a place; returns the floats of all.
KDNA_FUNC index_t network::place_means(network_plan& p) const {
    p.means_offsets_.assign(p.value_shapes_.size(), -1);
    index_t floats = 0;
    for (const step& s : steps_) {
        if (s.inputs.empty() || !s.op->reads_channel_means()) continue;
        const index_t read = s.inputs.front();
        index_t& offset = p.means_offsets_[position(read)];
        if (read < input_count() || offset >= 0 || !steps_[step_of(read)].op->gives_channel_means()) continue;
        const nd_shape& v = p.value_shapes_[position(read)];
        if (v.rank() != 4) continue;
        offset = floats;
        floats = checked_add(floats, checked_mul(v[0], v[1], "network"), "network");
    }
    return floats;
}

/// Places the roots in the arena. One that leaves its stage is kept for the whole batch, and for as long as both stages run.
/// Returns the arena's bytes.
KDNA_FUNC index_t network::place_in(network_plan& p) const {
    const std::size_t values = p.value_shapes_.size();
    const auto root = [&](index_t id) { return position(p.places_[position(id)].root); };
    // A group's steps run in turns: what any of them touches is alive while all do.
    std::vector<arena_value> spans = lifetimes(*this, p.places_, [&](index_t i) {
        const std::size_t g = p.group_of_[position(i)];
        if (g == network_plan::none) return std::pair(i, i);
        return std::pair(static_cast<index_t>(p.groups_[g].first), static_cast<index_t>(p.groups_[g].last) - 1);
    });
    const auto stage_of = [&](index_t i) {
        return *std::find_if(p.stages_.begin(), p.stages_.end(),
                             [&](const network_plan::stage& s) { return static_cast<std::size_t>(i) < s.last; });
    };
    p.samples_.assign(values, p.batch_);
    std::vector<bool> kept(values, false);
    for (const index_t id : p.outputs_) kept[root(id)] = true;
    for (std::size_t id = 0; id < values; ++id) {
        arena_value& v = spans[id];
        const network_plan::placement& place = p.places_[id];
        if (place.in != network_plan::placement::memory::arena || position(place.root) != id || v.last < 0) {
            v = {};  // takes no bytes
            continue;
        }
        const network_plan::stage made = stage_of(v.first), used = stage_of(v.last);
        if (made.first == used.first && !(kept[id] && made.samples < p.batch_)) {
            p.samples_[id] = made.samples;
        } else {
            v.first = static_cast<index_t>(made.first);
            v.last = static_cast<index_t>(used.last) - 1;
        }
        nd_shape held = p.value_shapes_[id];
        if (p.batched_[id]) held[0] = p.parts_[id] > 0 ? p.parts_[id] : p.samples_[id];
        if (p.rows_[id] > 0) held[2] = p.rows_[id];
        workspace_layout one;
        static_cast<void>(one.add<float>(element_count(held)));
        v.bytes = one.bytes();
    }
    arena_layout placed = place_in_arena(spans, "network arena");
    p.offsets_ = std::move(placed.offsets);
    return placed.bytes;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
