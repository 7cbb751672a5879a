// Definitions of nn/network.hpp and nn/network_plan.hpp: planning and running. Which steps run together:
// nn/network_schedule.ipp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <set>

#include <kdna/core/arithmetic.hpp>
#include <kdna/nn/network.hpp>
#include <kdna/nn/network_schedule.ipp>
#include <kdna/nn/ops/copy.hpp>
#include <kdna/simd/lanes.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC std::string network_plan::explain() const {
    std::string text;
    for (const stage& part : stages_) {
        if (stages_.size() > 1) text += concat("samples ", part.samples, " at a time:\n");
        for (std::size_t i = part.first; i < part.last; ++i) {
            if (const std::size_t g = group_of_[i]; g != none && groups_[g].first == i)
                text += concat("the next ", groups_[g].last - i, " in bands, ", groups_[g].parts.front().bytes / 1024,
                               " KiB between them:\n");
            if (std::string line = states_[i]->explain(); !line.empty())
                text += line + (places_[places_.size() - states_.size() + i].runs ? "" : ", no copy") + "\n";
        }
    }
    return text + concat("activations ", (arena_.bytes() + 1023) / 1024, " KiB at their peak, scratch ",
                         (workspace_.bytes() + 1023) / 1024, " KiB, transformed kernels ", transformed_bytes_ / 1024,
                         " KiB\nplanned for ", target_, ", vectors of ", simd::lanes, " floats\n");
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
    if (inputs_.size() != 1 || inputs_.front().extents.size() != 4)
        throw error("network input", "shapes for the network's inputs", "one image");
    const nd_shape shape(in);
    return plan({&shape, 1}, options);
}

KDNA_FUNC network_plan network::plan(std::span<const nd_shape> in, const plan_options& options) const {
    options.target.check();
    network_plan p;
    p.owner_ = identity_.token();
    p.target_ = to_string(options.target);
    p.value_shapes_ = shapes(in);
    for (const output_port& o : outputs_) p.outputs_.push_back(o.id);
    find_batch(p);
    find_stages(p, options.target);
    p.places_ = network_storage(*this, p.value_shapes_, p.batched_).place();
    p.means_ = buffer<float>(place_means(p), options.memory);
    std::size_t most = 0;
    for (const network_plan::stage& part : p.stages_)
        for (std::size_t i = part.first; i < part.last; ++i) {
            p.states_.push_back(plan_step(p, i, part.samples, options));
            p.transformed_bytes_ += p.states_.back()->transformed_bytes();
            p.names_.emplace_back(steps_[i].op->name());
            const auto gate_size = static_cast<index_t>(p.states_.back()->gate(0).size());
            p.gates_.emplace_back(part.samples < p.batch_ ? p.batch_ * gate_size : 0, options.memory);
            most = std::max(most, steps_[i].inputs.size());
        }
    p.step_inputs_.resize(most);
    p.executor_ = options.executor;
    group_steps(p, options.target);
    for (network_plan::banded_group& g : p.groups_) plan_parts(p, g, options);
    index_t workspace = 0;
    for (const auto& s : p.states_) workspace = std::max(workspace, s->workspace_bytes());
    p.workspace_ = buffer<std::byte>(workspace, options.memory);
    for (auto& s : p.states_) s->use_workspace(p.workspace_.data());
    p.arena_ = buffer<std::byte>(place_in(p), options.memory);
    return p;
}

KDNA_FUNC std::unique_ptr<operation_state> network::plan_step(const network_plan& p, std::size_t i, index_t samples,
                                                              const plan_options& options) const {
    const step& s = steps_[i];
    std::vector<nd_shape> in = shapes_of(p.value_shapes_, s);
    for (std::size_t k = 0; k < in.size(); ++k)
        if (p.batched_[position(k < s.inputs.size() ? s.inputs[k] : s.shapes[k - s.inputs.size()])]) in[k][0] = samples;
    plan_options inner = options;
    if (!s.inputs.empty()) {
        const network_plan::placement& x = p.places_[position(s.inputs.front())];
        if (x.in != network_plan::placement::memory::input)
            inner.order =
                in.front().rank() < 2 || x.stride[1] == 1 || in.front()[1] == 1 ? input_order::nhwc : input_order::any;
    }
    // When it is used up, kernels are transformed as they are used.
    if (options.transform_budget > 0)
        inner.transform_budget = std::max<index_t>(options.transform_budget - p.transformed_bytes_, 1);
    inner.channel_means = p.means_offsets_[position(value_of(i))] >= 0;
    return s.op->plan(in, inner);
}

KDNA_FUNC void network::check(const network_plan& p, std::span<const nd_view<const float>> x,
                              std::span<const nd_view<float>> y) const {
    if (p.owner_ != identity_.token()) throw error("network", "a plan of this network", "another network's");
    if (x.size() != inputs_.size()) throw error("network", concat(inputs_.size(), " inputs"), concat(x.size()));
    if (y.size() != outputs_.size()) throw error("network", concat(outputs_.size(), " outputs"), concat(y.size()));
    const auto fits = [](std::string_view what, const std::string& name, bool alone, const nd_shape& expected,
                         const nd_shape& found, const void* data) {
        if (data == nullptr) throw error("network", "views of memory", "a null pointer");
        if (expected == found) return;
        throw error(concat("network ", what, alone ? "" : " ", alone ? "" : name), to_string(expected),
                    to_string(found));
    };
    for (std::size_t i = 0; i < x.size(); ++i)
        fits("input", inputs_[i].name, x.size() == 1, p.value_shapes_[i], x[i].shape, x[i].data);
    for (std::size_t i = 0; i < y.size(); ++i)
        fits("output", outputs_[i].name, y.size() == 1, p.value_shapes_[position(outputs_[i].id)], y[i].shape,
             y[i].data);
}

KDNA_FUNC void network::check(const network_plan& p, const tensor_view<const float>& x,
                              const tensor_view<float>& y) const {
    if (p.owner_ != identity_.token()) throw error("network", "a plan of this network", "another network's");
    if (x.data == nullptr || y.data == nullptr) throw error("network", "views of memory", "a null pointer");
    if (input_count() != 1 || output_count() != 1)
        throw error("network", concat(input_count(), " inputs and ", output_count(), " outputs"), "one of each");
    if (x.shape != p.input_shape()) throw error("network input", to_string(p.input_shape()), to_string(x.shape));
    if (y.shape != p.output_shape()) throw error("network output", to_string(p.output_shape()), to_string(y.shape));
}

namespace detail {

/// The view of an image as one of that rank: its own, or of rank 2 [N, C] for single pixels.
template <class T>
[[nodiscard]] nd_view<T> view_of_rank(const tensor_view<T>& v, index_t rank) noexcept {
    if (rank == 2) return {v.data, nd_shape{v.shape.n, v.shape.c}, {v.stride.n, v.stride.c}};
    return v;
}

}  // namespace detail

KDNA_FUNC void network::run(network_plan& p, const tensor_view<const float>& x,
                            const tensor_view<float>& y) const noexcept {
    detail::enforce([&] { check(p, x, y); });
    const nd_view<const float> in = detail::view_of_rank(x, p.input_shape(0).rank());
    const nd_view<float> out = detail::view_of_rank(y, p.output_shape(0).rank());
    run(p, {&in, 1}, {&out, 1});
}

KDNA_FUNC void network::run(network_plan& p, std::span<const nd_view<const float>> x,
                            std::span<const nd_view<float>> y) const noexcept {
    detail::enforce([&] { check(p, x, y); });
    const arguments a{x, y};
    for (const network_plan::stage& part : p.stages_)
        for (index_t n = 0; n < p.batch_; n += part.samples)
            for (std::size_t i = part.first; i < part.last;) {
                if (const std::size_t g = p.group_of_[i]; g != network_plan::none) {
                    run_group(p, p.groups_[g], a, n);
                    i = p.groups_[g].last;
                } else {
                    run_step(p, i, a, n, part.samples);
                    ++i;
                }
            }
    copy_outputs(p, a);
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

/// Samples [n, n + count) of a value in the arena; of one inside a group, the rows that thread `part` of it keeps.
KDNA_FUNC nd_view<float> network::inner(network_plan& p, index_t id, index_t n, index_t count,
                                        index_t part) const noexcept {
    const std::size_t v = position(id);
    const network_plan::placement& place = p.places_[v];
    nd_view<float> view{at_offset<float>(p.arena_.data(), p.offsets_[position(place.root)]) + place.offset,
                        p.value_shapes_[v], place.stride};
    if (p.rows_[v] > 0) view.stride[0] = p.rows_[v] * view.stride[2];
    if (!p.batched_[v]) return view;
    view.shape[0] = count;
    if (p.parts_[v] > 0)
        n = part;
    else if (p.samples_[position(place.root)] == count)
        n = 0;  // the arena holds those of the moment
    view.data += n * view.stride[0];
    return view;
}

/// The same of any value that a step reads.
KDNA_FUNC nd_view<const float> network::read(network_plan& p, const arguments& a, index_t id, index_t n, index_t count,
                                             index_t part) const noexcept {
    using memory = network_plan::placement::memory;
    const network_plan::placement& place = p.places_[position(id)];
    if (place.in == memory::arena) return inner(p, id, n, count, part);
    if (place.in == memory::constant) {
        nd_view<const float> view = steps_[step_of(place.root)].op->constant();
        return {view.data + place.offset, p.value_shapes_[position(id)], place.stride};
    }
    nd_view<const float> view = a.x[position(place.number)];
    if (!p.batched_[position(id)]) return view;
    view.shape[0] = count;
    view.data += n * view.stride[0];
    return view;
}

KDNA_FUNC float* network::means(network_plan& p, index_t id, index_t n) noexcept {
    const index_t offset = p.means_offsets_[position(id)];
    return offset < 0 ? nullptr : p.means_.data() + offset + n * p.value_shapes_[position(id)][1];
}

/// Runs a group's steps on sample n, every thread its part, band by band.
KDNA_FUNC void network::run_group(network_plan& p, const network_plan::banded_group& group, const arguments& a,
                                  index_t n) const noexcept {
    p.executor_.parallel_for(static_cast<index_t>(group.parts.size()), [&](index_t part) {
        const auto t = position(part);
        nd_view<const float> in[2];
        for (const band_action& action : group.parts[t].actions) {
            const std::size_t i = group.first + action.step;
            if (action.kept_from > 0 && action.kept > 0) {
                const nd_view<float> v = inner(p, value_of(i), 0, 1, part);
                const float* from = v.data + action.kept_from * v.stride[2];
                std::copy(from, from + action.kept * v.stride[2], v.data);
            }
            run_step(p, t == 0 ? *p.states_[i] : *group.states[t - 1][action.step], i, a, n, 1, action.rows, part, in);
        }
    });
}

/// Runs one step on samples [n, n + count).
KDNA_FUNC void network::run_step(network_plan& p, std::size_t i, const arguments& a, index_t n,
                                 index_t count) const noexcept {
    if (!p.places_[position(value_of(i))].runs) return;
    run_step(p, *p.states_[i], i, a, n, count, {}, 0, p.step_inputs_);
    if (p.gates_[i].size() > 0)
        for (index_t k = 0; k < count; ++k) {
            const auto gate = p.states_[i]->gate(k);
            std::copy(gate.begin(), gate.end(), p.gates_[i].data() + (n + k) * static_cast<index_t>(gate.size()));
        }
}

KDNA_FUNC void network::run_step(network_plan& p, operation_state& state, std::size_t i, const arguments& a, index_t n,
                                 index_t count, const conv::row_band& rows, index_t part,
                                 std::span<nd_view<const float>> in) const noexcept {
    const step& s = steps_[i];
    for (std::size_t k = 0; k < s.inputs.size(); ++k) in[k] = read(p, a, s.inputs[k], n, count, part);
    const index_t id = value_of(i);
    operation_call call{.inputs = in.first(s.inputs.size()), .output = {}, .rows = rows};
    if (const network_plan::placement& place = p.places_[position(id)];
        place.in == network_plan::placement::memory::output) {
        call.output = a.y[position(place.number)];
        if (p.batched_[position(id)]) {
            call.output.shape[0] = count;
            call.output.data += n * call.output.stride[0];
        }
    } else {
        call.output = inner(p, id, n, count, part);
    }
    if (!s.inputs.empty()) call.means = {means(p, s.inputs.front(), n), means(p, id, n)};
    s.op->run(state, call);
}

/// Outputs that lie in the arena, because others read them or they are parts of others, or that are inputs or constants.
KDNA_FUNC void network::copy_outputs(network_plan& p, const arguments& a) const noexcept {
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
        const network_plan::placement& place = p.places_[position(outputs_[i].id)];
        if (place.in == network_plan::placement::memory::output && place.number == static_cast<index_t>(i)) continue;
        ops::copy(read(p, a, outputs_[i].id, 0, p.batch_, 0), a.y[i], p.executor_);
    }
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
