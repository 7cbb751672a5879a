// Definitions of nn/network.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <set>

#include <kdna/core/arithmetic.hpp>
#include <kdna/nn/arena.hpp>
#include <kdna/nn/network.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC std::string network_plan::explain() const {
    std::string text;
    for (const stage& part : stages_) {
        if (stages_.size() > 1) text += concat("samples ", part.samples, " at a time:\n");
        for (std::size_t i = part.first; i < part.last; ++i) {
            if (const std::size_t g = group_of_[i]; g != none && groups_[g].first == i)
                text += concat("the next ", groups_[g].last - i, " in bands, ", groups_[g].parts.front().bytes / 1024,
                               " KiB between them:\n");
            if (std::string line = states_[i]->explain(); !line.empty()) text += line + "\n";
        }
    }
    return text + concat("activations ", (arena_.bytes() + 1023) / 1024, " KiB at their peak, scratch ",
                         (workspace_.bytes() + 1023) / 1024, " KiB, transformed kernels ", transformed_bytes_ / 1024,
                         " KiB\n");
}

KDNA_FUNC std::vector<network_plan::layer_gate> network_plan::gates(index_t n) const {
    std::vector<layer_gate> out;
    for (std::size_t i = 0; i < states_.size(); ++i)
        if (const auto g = gate(i, n); !g.empty()) out.push_back({names_[i], g});
    return out;
}

KDNA_FUNC std::span<const float> network_plan::gate(std::size_t step, index_t n) const noexcept {
    const std::span<const float> last = states_[step]->gate(0);
    if (gates_[step].size() == 0) return last.empty() ? last : states_[step]->gate(n);
    return {gates_[step].data() + n * static_cast<index_t>(last.size()), last.size()};
}

KDNA_FUNC network_plan network::plan(const shape4& in, const plan_options& options) const {
    static_cast<void>(element_count(in, "network input"));
    if (in.c != channels_) throw error("network input", concat(channels_, " channels"), to_string(in));
    network_plan p;
    p.owner_ = identity_.token();
    p.shapes_.push_back(in);
    for (const step& s : steps_) p.shapes_.push_back(s.op->output_shape(input_shapes(p, s)));
    p.stages_ = stages(p);
    p.means_ = buffer<float>(place_means(p), options.memory);
    for (const network_plan::stage& part : p.stages_)
        for (std::size_t i = part.first; i < part.last; ++i) {
            p.states_.push_back(plan_step(p, i, part.samples, options));
            p.transformed_bytes_ += p.states_.back()->transformed_bytes();
            p.names_.emplace_back(steps_[i].op->name());
            const auto gate_size = static_cast<index_t>(p.states_.back()->gate(0).size());
            p.gates_.emplace_back(part.samples < in.n ? in.n * gate_size : 0, options.memory);
        }
    p.executor_ = options.executor;
    group_steps(p);
    for (network_plan::banded_group& g : p.groups_) plan_parts(p, g, options);
    index_t workspace = 0;
    for (const auto& s : p.states_) workspace = std::max(workspace, s->workspace_bytes());
    p.workspace_ = buffer<std::byte>(workspace, options.memory);
    for (auto& s : p.states_) s->use_workspace(p.workspace_.data());
    p.arena_ = buffer<std::byte>(place_values(p), options.memory);
    return p;
}

KDNA_FUNC void network::check(const network_plan& p, const tensor_view<const float>& x,
                              const tensor_view<float>& y) const {
    if (p.owner_ != identity_.token()) throw error("network", "a plan of this network", "another network's");
    if (x.data == nullptr || y.data == nullptr) throw error("network", "views of memory", "a null pointer");
    if (x.shape != p.input_shape()) throw error("network input", to_string(p.input_shape()), to_string(x.shape));
    if (y.shape != p.output_shape()) throw error("network output", to_string(p.output_shape()), to_string(y.shape));
}

KDNA_FUNC void network::run(network_plan& p, const tensor_view<const float>& x,
                            const tensor_view<float>& y) const noexcept {
    detail::enforce([&] { check(p, x, y); });
    for (const network_plan::stage& part : p.stages_)
        for (index_t n = 0; n < p.input_shape().n; n += part.samples)
            for (std::size_t i = part.first; i < part.last;) {
                if (const std::size_t g = p.group_of_[i]; g != network_plan::none) {
                    run_group(p, p.groups_[g], x, y, n);
                    i = p.groups_[g].last;
                } else {
                    run_step(p, i, x, y, n, part.samples);
                    ++i;
                }
            }
}

KDNA_FUNC tensor<float> network::operator()(const tensor_view<const float>& x, const plan_options& options) const {
    network_plan p = plan(x.shape, options);
    tensor<float> y(p.output_shape(), layout::nchw, options.memory);
    check(p, x, y.view());
    run(p, x, y.view());
    return y;
}

KDNA_FUNC index_t network::weight_bytes() const {
    std::set<const void*> seen;
    index_t bytes = 0;
    for (const step& s : steps_)
        s.op->for_each_storage([&](const void* address, index_t size) {
            if (seen.insert(address).second) bytes += size;
        });
    return bytes;
}

/// Samples [n, n + count) of an inner value; of one inside a group, the rows that thread `part` of it keeps.
KDNA_FUNC tensor_view<float> network::inner(network_plan& p, index_t id, index_t n, index_t count,
                                            index_t part) noexcept {
    const shape4& s = p.shapes_[position(id)];
    const strides4 stride{p.rows_[position(id)] * s.w * s.c, 1, s.w * s.c, s.c};
    if (p.parts_[position(id)] > 0)
        n = part;
    else if (p.samples_[position(id)] == count)
        n = 0;  // the arena holds those of the moment
    return {at_offset<float>(p.arena_.data(), p.offsets_[position(id)]) + n * stride.n, {count, s.c, s.h, s.w}, stride};
}

KDNA_FUNC float* network::means(network_plan& p, index_t id, index_t n) noexcept {
    const index_t offset = p.means_offsets_[position(id)];
    return offset < 0 ? nullptr : p.means_.data() + offset + n * p.shapes_[position(id)].c;
}

/// Shapes of a step's inputs for the whole batch.
KDNA_FUNC std::vector<shape4> network::input_shapes(const network_plan& p, const step& s) const {
    std::vector<shape4> in;
    for (const index_t id : s.inputs) in.push_back(p.shapes_[position(id)]);
    return in;
}

KDNA_FUNC std::unique_ptr<operation_state> network::plan_step(const network_plan& p, std::size_t i, index_t samples,
                                                              const plan_options& options) const {
    const step& s = steps_[i];
    std::vector<shape4> in = input_shapes(p, s);
    for (shape4& shape : in) shape.n = samples;
    plan_options inner = options;
    inner.order = s.inputs.front() == 0 ? options.order : input_order::nhwc;
    // When it is used up, kernels are transformed as they are used.
    if (options.transform_budget > 0)
        inner.transform_budget = std::max<index_t>(options.transform_budget - p.transformed_bytes_, 1);
    inner.channel_means = p.means_offsets_[i + 1] >= 0;
    return s.op->plan(in, inner);
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

/// Runs a group's steps on sample n, every thread its part, band by band.
KDNA_FUNC void network::run_group(network_plan& p, const network_plan::banded_group& group,
                                  const tensor_view<const float>& x, const tensor_view<float>& y,
                                  index_t n) const noexcept {
    p.executor_.parallel_for(static_cast<index_t>(group.parts.size()), [&](index_t part) {
        const auto t = position(part);
        for (const band_action& a : group.parts[t].actions) {
            const std::size_t i = group.first + a.step;
            if (a.kept_from > 0 && a.kept > 0) {
                const tensor_view<float> v = inner(p, static_cast<index_t>(i) + 1, 0, 1, part);
                std::copy(v.at(0, 0, a.kept_from, 0), v.at(0, 0, a.kept_from + a.kept, 0), v.data);
            }
            run_step(p, t == 0 ? *p.states_[i] : *group.states[t - 1][a.step], i, x, y, n, 1, a.rows, part);
        }
    });
}

/// Runs one step on samples [n, n + count).
KDNA_FUNC void network::run_step(network_plan& p, std::size_t i, const tensor_view<const float>& x,
                                 const tensor_view<float>& y, index_t n, index_t count) const noexcept {
    run_step(p, *p.states_[i], i, x, y, n, count, {}, 0);
    if (p.gates_[i].size() > 0)
        for (index_t k = 0; k < count; ++k) {
            const auto gate = p.states_[i]->gate(k);
            std::copy(gate.begin(), gate.end(), p.gates_[i].data() + (n + k) * static_cast<index_t>(gate.size()));
        }
}

KDNA_FUNC void network::run_step(network_plan& p, operation_state& state, std::size_t i,
                                 const tensor_view<const float>& x, const tensor_view<float>& y, index_t n,
                                 index_t count, const conv::row_band& rows, index_t part) const noexcept {
    const auto samples = [&](auto v) {
        v.data = v.at(n, 0, 0, 0);
        v.shape.n = count;
        return v;
    };
    const step& s = steps_[i];
    tensor_view<const float> in[most_inputs];
    for (std::size_t k = 0; k < s.inputs.size(); ++k)
        in[k] = s.inputs[k] == 0 ? samples(x) : tensor_view<const float>(inner(p, s.inputs[k], n, count, part));
    const auto id = static_cast<index_t>(i) + 1;
    s.op->run(state, {.inputs = {in, s.inputs.size()},
                      .y = i + 1 == steps_.size() ? samples(y) : inner(p, id, n, count, part),
                      .means = {means(p, s.inputs.front(), n), means(p, id, n)},
                      .rows = rows});
}

namespace detail {

/// Bytes that a stage's step may touch in activations, twice a typical L2.
inline constexpr index_t stage_bytes = index_t{2} << 20;
/// A value from this size on, half a typical L2, is worth keeping in bands.
inline constexpr index_t banded_bytes = 512 * 1024;
/// The rows of all values inside a group of banded steps together.
inline constexpr index_t band_buffer_bytes = 512 * 1024;

}  // namespace detail

/// Cuts the steps into stages: the most samples whose activations fit, never fewer than in the stage before.
KDNA_FUNC std::vector<network_plan::stage> network::stages(const network_plan& p) const {
    const index_t batch = p.shapes_.front().n;
    std::vector<index_t> most(steps_.size());
    for (std::size_t i = steps_.size(); i-- > 0;) {
        const auto bytes = [&](index_t id) {
            const shape4& s = p.shapes_[position(id)];
            return s.c * s.h * s.w * static_cast<index_t>(sizeof(float));
        };
        const step& s = steps_[i];
        index_t touched = bytes(static_cast<index_t>(i) + 1);
        for (const index_t id : s.inputs) touched += bytes(id);
        // A large value is worth a band, and bands are of one sample.
        const bool large =
            std::max(bytes(s.inputs.front()), bytes(static_cast<index_t>(i) + 1)) >= detail::banded_bytes;
        index_t fitting = large ? 1 : std::clamp<index_t>(detail::stage_bytes / touched, 1, batch);
        while (batch % fitting != 0) --fitting;
        most[i] = i + 1 < steps_.size() ? std::min(fitting, most[i + 1]) : fitting;
    }
    std::vector<network_plan::stage> out;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        if (out.empty() || out.back().samples != most[i]) out.push_back({i, i, most[i]});
        out.back().last = i + 1;
    }
    return out;
}

/// Groups neighbouring steps that can run in bands and have a large value between them that nobody else reads.
KDNA_FUNC void network::group_steps(network_plan& p) const {
    std::vector<index_t> uses(p.shapes_.size(), 0);
    for (const step& s : steps_)
        for (const index_t id : s.inputs) ++uses[position(id)];
    p.group_of_.assign(steps_.size(), network_plan::none);
    p.parts_.assign(p.shapes_.size(), 0);
    p.rows_.clear();
    for (const shape4& s : p.shapes_) p.rows_.push_back(s.h);
    const auto row_bytes = [&](std::size_t id) {
        return p.shapes_[id].w * p.shapes_[id].c * static_cast<index_t>(sizeof(float));
    };
    for (const network_plan::stage& part : p.stages_) {
        if (part.samples != 1) continue;
        const auto joins = [&](std::size_t i) {  // step i and the one before it, whose value is i
            return steps_[i].inputs.front() == static_cast<index_t>(i) && uses[i] == 1 &&
                   row_bytes(i) * p.shapes_[i].h >= detail::banded_bytes &&
                   steps_[i - 1].op->bands(*p.states_[i - 1]).multiple > 0 &&
                   steps_[i].op->bands(*p.states_[i]).multiple > 0;
        };
        for (std::size_t first = part.first; first < part.last;) {
            std::size_t last = first + 1;
            while (last < part.last && joins(last)) ++last;
            if (last - first > 1) {
                std::vector<banded_step> steps;
                for (std::size_t i = first; i < last; ++i)
                    steps.push_back({steps_[i].op->bands(*p.states_[i]),
                                     p.shapes_[position(steps_[i].inputs.front())].h, p.shapes_[i + 1].h,
                                     row_bytes(i + 1)});
                network_plan::banded_group g{
                    first, last, schedule_parts(steps, p.executor_.concurrency(), detail::band_buffer_bytes)};
                for (std::size_t i = first; i < last; ++i) {
                    p.group_of_[i] = p.groups_.size();
                    if (i + 1 == last) continue;
                    p.parts_[i + 1] = static_cast<index_t>(g.parts.size());
                    p.rows_[i + 1] = 0;
                    for (const band_schedule& b : g.parts)
                        p.rows_[i + 1] = std::max(p.rows_[i + 1], b.buffer_rows[i - first]);
                }
                p.groups_.push_back(std::move(g));
            }
            first = last;
        }
    }
}

/// Gives the channel means of every value that somebody reads and its step can give a place; returns the floats of all.
KDNA_FUNC index_t network::place_means(network_plan& p) const {
    p.means_offsets_.assign(p.shapes_.size(), -1);
    index_t floats = 0;
    for (const step& s : steps_) {
        const index_t read = s.inputs.front();
        index_t& offset = p.means_offsets_[position(read)];
        if (read == 0 || offset >= 0 || !s.op->reads_channel_means() ||
            !steps_[position(read) - 1].op->gives_channel_means())
            continue;
        offset = floats;
        const shape4& v = p.shapes_[position(read)];
        floats = checked_add(floats, checked_mul(v.n, v.c, "network"), "network");
    }
    return floats;
}

/// Places the inner values in the arena. A value that leaves its stage is kept for the whole batch, and for as long as both
/// stages run. Returns the arena's bytes.
KDNA_FUNC index_t network::place_values(network_plan& p) const {
    const auto count = static_cast<index_t>(steps_.size());
    std::vector<index_t> last_use(p.shapes_.size(), 0);
    for (index_t i = 0; i < count; ++i)
        for (const index_t id : steps_[position(i)].inputs) last_use[position(id)] = i;
    const auto stage_of = [&](index_t i) {
        return *std::find_if(p.stages_.begin(), p.stages_.end(),
                             [&](const network_plan::stage& s) { return static_cast<std::size_t>(i) < s.last; });
    };
    p.samples_.assign(p.shapes_.size(), p.shapes_.front().n);
    // Input and output are the caller's: they take no bytes.
    std::vector<arena_value> values(p.shapes_.size());
    for (index_t id = 1; id < count; ++id) {
        arena_value v{id - 1, std::max(id - 1, last_use[position(id)]), 0};
        // A group's steps run in turns: what any of them touches is alive while all do.
        const auto group = [&](index_t i) { return p.group_of_[position(i)]; };
        if (group(v.first) != network_plan::none) v.first = static_cast<index_t>(p.groups_[group(v.first)].first);
        if (group(v.last) != network_plan::none) v.last = static_cast<index_t>(p.groups_[group(v.last)].last) - 1;
        const network_plan::stage made = stage_of(v.first), used = stage_of(v.last);
        if (made.first == used.first) {
            p.samples_[position(id)] = made.samples;
        } else {
            v.first = static_cast<index_t>(made.first);
            v.last = static_cast<index_t>(used.last) - 1;
        }
        shape4 held = p.shapes_[position(id)];
        held.n = p.samples_[position(id)];
        held.h = p.rows_[position(id)];
        if (p.parts_[position(id)] > 0) held.n = p.parts_[position(id)];
        workspace_layout one;
        static_cast<void>(one.add<float>(element_count(held)));
        v.bytes = one.bytes();
        values[position(id)] = v;
    }
    arena_layout placed = place_in_arena(values, "network arena");
    p.offsets_ = std::move(placed.offsets);
    return placed.bytes;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
