// A network: a list of steps over values, built once, run from many threads, each with a plan.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/nn/arena.hpp>
#include <kdna/nn/operation.hpp>

namespace kdna::inline KDNA_ABI {

class network;

/// The memory of one network for one input shape: every layer's plan, an arena in which activations share space as soon as
/// nobody needs them, and one scratch for all layers. A plan serves one run at a time; make one per thread.
///
/// A batch goes through the network in stages. In the first ones, where maps are large, few samples pass all the stage's
/// steps before the next few follow, so that activations stay in cache; later ones take more at a time, so that weights are
/// read less often.
class network_plan {
public:
    [[nodiscard]] const shape4& input_shape() const noexcept { return shapes_.front(); }
    [[nodiscard]] const shape4& output_shape() const noexcept { return shapes_.back(); }
    /// Bytes of activations (at their peak) and of scratch; allocated when the plan is made.
    [[nodiscard]] index_t arena_bytes() const noexcept { return arena_.bytes(); }
    [[nodiscard]] index_t workspace_bytes() const noexcept { return workspace_.bytes(); }
    /// Bytes of kernels transformed for Winograd that this plan uses; they belong to the network.
    [[nodiscard]] index_t transformed_bytes() const noexcept { return transformed_bytes_; }
    /// One line per layer: shapes, algorithm, tile, where each factor is applied, workspace; then the totals.
    [[nodiscard]] std::string explain() const {
        std::string text;
        for (const stage& part : stages_) {
            if (stages_.size() > 1) text += concat("samples ", part.samples, " at a time:\n");
            for (std::size_t i = part.first; i < part.last; ++i) {
                if (const std::size_t g = group_of_[i]; g != none && groups_[g].first == i)
                    text += concat("the next ", groups_[g].last - i, " in bands, ",
                                   groups_[g].parts.front().bytes / 1024, " KiB between them:\n");
                if (std::string line = states_[i]->explain(); !line.empty()) text += line + "\n";
            }
        }
        return text + concat("activations ", (arena_.bytes() + 1023) / 1024, " KiB at their peak, scratch ",
                             (workspace_.bytes() + 1023) / 1024, " KiB, transformed kernels ",
                             transformed_bytes_ / 1024, " KiB\n");
    }
    /// The names of the gated layers, in the order in which they run, with the gate of sample n in the last run.
    struct layer_gate {
        std::string name;
        std::span<const float> gate;
    };
    [[nodiscard]] std::vector<layer_gate> gates(index_t n) const {
        std::vector<layer_gate> out;
        for (std::size_t i = 0; i < states_.size(); ++i)
            if (const auto g = gate(i, n); !g.empty()) out.push_back({names_[i], g});
        return out;
    }

private:
    friend class network;
    /// Steps [first, last) that `samples` samples pass together.
    struct stage {
        std::size_t first, last;
        index_t samples;
    };
    /// A layer's own record is of the samples it ran last; those of a stage before the last run are copied.
    [[nodiscard]] std::span<const float> gate(std::size_t step, index_t n) const noexcept {
        const std::span<const float> last = states_[step]->gate(0);
        if (gates_[step].size() == 0) return last.empty() ? last : states_[step]->gate(n);
        return {gates_[step].data() + n * static_cast<index_t>(last.size()), last.size()};
    }

    /// Steps [first, last) of a stage that pass over their maps together; each thread makes a part of the last one's rows.
    struct banded_group {
        std::size_t first, last;
        std::vector<band_schedule> parts;
        /// Of every part but the first, which uses the plan's own: the steps' states, and their workspace.
        std::vector<std::vector<std::unique_ptr<operation_state>>> states{};
        std::vector<buffer<std::byte>> workspaces{};
    };
    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    std::shared_ptr<const char> owner_;  // which network made it
    std::vector<stage> stages_;
    std::vector<banded_group> groups_;
    std::vector<std::size_t> group_of_;  // of steps; none: by themselves
    std::vector<std::unique_ptr<operation_state>> states_;
    std::vector<std::string> names_;
    std::vector<buffer<float>> gates_;    // of steps, [N][C] where a stage has fewer samples than the batch
    std::vector<shape4> shapes_;          // of values, for the whole batch: input first, output last
    std::vector<index_t> samples_;        // of values: how many the arena holds, those of a stage or all
    std::vector<index_t> rows_;           // of values: how many the arena holds, those of a band or all
    std::vector<index_t> parts_;          // of values: threads that keep rows of their own, 0 for a whole value
    std::vector<index_t> offsets_;        // of values in the arena
    std::vector<index_t> means_offsets_;  // of values in means_, -1: nobody wants their channel means
    executor_ref executor_{};
    buffer<std::byte> arena_, workspace_;
    buffer<float> means_;
    index_t transformed_bytes_ = 0;
};

/// Immutable once built. Activations between steps are channels-last; input and output have the caller's strides.
class network {
public:
    /// A value of the network: the input is 0, step i makes value i + 1.
    struct value {
        index_t id = 0;
        index_t channels = 0;
    };

    [[nodiscard]] index_t input_channels() const noexcept { return channels_; }
    [[nodiscard]] index_t output_channels() const noexcept { return output_channels_; }
    /// Step i reads value `input`, and value `residual` unless that is -1, and makes value i + 1. Valid while the network lives.
    struct step_view {
        const operation& op;
        index_t input, residual;
    };
    [[nodiscard]] index_t step_count() const noexcept { return static_cast<index_t>(steps_.size()); }
    [[nodiscard]] step_view step_at(index_t i) const noexcept {
        const step& s = steps_[position(i)];
        return {*s.op, s.input, s.residual};
    }

    /// Plans every layer for inputs of shape `in` and allocates all memory a run needs. Throws kdna::error naming the layer
    /// that cannot run on its input.
    [[nodiscard]] network_plan plan(const shape4& in, const plan_options& options = {}) const {
        static_cast<void>(element_count(in, "network input"));
        if (in.c != channels_) throw error("network input", concat(channels_, " channels"), to_string(in));
        network_plan p;
        p.owner_ = identity_;
        p.shapes_.push_back(in);
        for (const step& s : steps_) {
            const shape4 y = s.op->output_shape(p.shapes_[position(s.input)]);
            if (s.residual >= 0 && p.shapes_[position(s.residual)] != y)
                throw error(concat(s.op->name(), " residual"), to_string(y),
                            to_string(p.shapes_[position(s.residual)]));
            p.shapes_.push_back(y);
        }
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

    /// Throws kdna::error unless `run` may be called with these arguments.
    void check(const network_plan& p, const tensor_view<const float>& x, const tensor_view<float>& y) const {
        if (p.owner_ != identity_) throw error("network", "a plan of this network", "another network's");
        if (x.data == nullptr || y.data == nullptr) throw error("network", "views of memory", "a null pointer");
        if (x.shape != p.input_shape()) throw error("network input", to_string(p.input_shape()), to_string(x.shape));
        if (y.shape != p.output_shape()) throw error("network output", to_string(p.output_shape()), to_string(y.shape));
    }

    /// x [plan.input_shape()] to y [plan.output_shape()], any strides, not overlapping. Allocates nothing. Arguments that do
    /// not fit the plan end the program with a message (KDNA_CHECK=0: are undefined).
    void run(network_plan& p, const tensor_view<const float>& x, const tensor_view<float>& y) const noexcept {
#if KDNA_CHECK
        try {
            check(p, x, y);
        } catch (const error& e) {
            contract_failure(e);
        }
#endif
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

    /// Plans and runs in one go; the output is NCHW. Throws kdna::error. For tests and for code that runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x, const plan_options& options = {}) const {
        network_plan p = plan(x.shape, options);
        tensor<float> y(p.output_shape(), layout::nchw, options.memory);
        check(p, x, y.view());
        run(p, x, y.view());
        return y;
    }

    /// Bytes of weights that the network keeps in memory now; what layers share counts once. The first plan packs them, with zeros
    /// that fill vectors.
    [[nodiscard]] index_t weight_bytes() const {
        std::set<const void*> seen;
        index_t bytes = 0;
        for (const step& s : steps_)
            s.op->for_each_storage([&](const void* address, index_t size) {
                if (seen.insert(address).second) bytes += size;
            });
        return bytes;
    }

private:
    friend class network_builder;
    struct step {
        std::unique_ptr<operation> op;
        index_t input;
        index_t residual;  // -1: none
    };

    [[nodiscard]] static std::size_t position(index_t id) noexcept { return static_cast<std::size_t>(id); }
    /// Samples [n, n + count) of an inner value; of one inside a group, the rows that thread `part` of it keeps.
    [[nodiscard]] static tensor_view<float> inner(network_plan& p, index_t id, index_t n, index_t count,
                                                  index_t part = 0) noexcept {
        const shape4& s = p.shapes_[position(id)];
        const strides4 stride{p.rows_[position(id)] * s.w * s.c, 1, s.w * s.c, s.c};
        if (p.parts_[position(id)] > 0)
            n = part;
        else if (p.samples_[position(id)] == count)
            n = 0;  // the arena holds those of the moment
        return {
            at_offset<float>(p.arena_.data(), p.offsets_[position(id)]) + n * stride.n, {count, s.c, s.h, s.w}, stride};
    }
    template <class T>
    [[nodiscard]] static tensor_view<T> samples(tensor_view<T> v, index_t n, index_t count) noexcept {
        v.data = v.at(n, 0, 0, 0);
        v.shape.n = count;
        return v;
    }
    [[nodiscard]] static float* means(network_plan& p, index_t id, index_t n) noexcept {
        const index_t offset = p.means_offsets_[position(id)];
        return offset < 0 ? nullptr : p.means_.data() + offset + n * p.shapes_[position(id)].c;
    }

    [[nodiscard]] std::unique_ptr<operation_state> plan_step(const network_plan& p, std::size_t i, index_t samples,
                                                             const plan_options& options) const {
        const step& s = steps_[i];
        shape4 x = p.shapes_[position(s.input)];
        x.n = samples;
        plan_options inner = options;
        inner.order = s.input == 0 ? options.order : input_order::nhwc;
        // When it is used up, kernels are transformed as they are used.
        if (options.transform_budget > 0)
            inner.transform_budget = std::max<index_t>(options.transform_budget - p.transformed_bytes_, 1);
        inner.channel_means = p.means_offsets_[i + 1] >= 0;
        return s.op->plan(x, inner);
    }

    /// Plans a group's steps for one thread each, and their work on the other threads.
    void plan_parts(network_plan& p, network_plan::banded_group& g, const plan_options& options) const {
        if (g.parts.size() == 1 && options.executor.concurrency() == 1) return;
        plan_options alone = options;
        alone.executor = {};
        // What was chosen stays: bands are for steps without Winograd, and another timing might choose it.
        alone.transform_budget = 0;
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
    void run_group(network_plan& p, const network_plan::banded_group& group, const tensor_view<const float>& x,
                   const tensor_view<float>& y, index_t n) const noexcept {
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
    void run_step(network_plan& p, std::size_t i, const tensor_view<const float>& x, const tensor_view<float>& y,
                  index_t n, index_t count) const noexcept {
        run_step(p, *p.states_[i], i, x, y, n, count, {}, 0);
        if (p.gates_[i].size() > 0)
            for (index_t k = 0; k < count; ++k) {
                const auto gate = p.states_[i]->gate(k);
                std::copy(gate.begin(), gate.end(), p.gates_[i].data() + (n + k) * static_cast<index_t>(gate.size()));
            }
    }
    void run_step(network_plan& p, operation_state& state, std::size_t i, const tensor_view<const float>& x,
                  const tensor_view<float>& y, index_t n, index_t count, const conv::row_band& rows,
                  index_t part) const noexcept {
        const step& s = steps_[i];
        const auto read = [&](index_t id) -> tensor_view<const float> {
            return id == 0 ? samples(x, n, count) : inner(p, id, n, count, part);
        };
        const auto id = static_cast<index_t>(i) + 1;
        s.op->run(state, {.x = read(s.input),
                          .y = i + 1 == steps_.size() ? samples(y, n, count) : inner(p, id, n, count, part),
                          .residual = s.residual < 0 ? tensor_view<const float>{} : read(s.residual),
                          .means = {means(p, s.input, n), means(p, id, n)},
                          .rows = rows});
    }

    /// Bytes that a stage's step may touch in activations, twice a typical L2.
    static constexpr index_t stage_bytes = index_t{2} << 20;
    /// A value from this size on, half a typical L2, is worth keeping in bands.
    static constexpr index_t banded_bytes = 512 * 1024;
    /// The rows of all values inside a group of banded steps together.
    static constexpr index_t band_buffer_bytes = 512 * 1024;

    /// Cuts the steps into stages: the most samples whose activations fit, never fewer than in the stage before.
    [[nodiscard]] std::vector<network_plan::stage> stages(const network_plan& p) const {
        const index_t batch = p.shapes_.front().n;
        std::vector<index_t> most(steps_.size());
        for (std::size_t i = steps_.size(); i-- > 0;) {
            const auto bytes = [&](index_t id) {
                const shape4& s = p.shapes_[position(id)];
                return s.c * s.h * s.w * static_cast<index_t>(sizeof(float));
            };
            const step& s = steps_[i];
            const index_t touched =
                bytes(s.input) + bytes(static_cast<index_t>(i) + 1) + (s.residual < 0 ? 0 : bytes(s.residual));
            // A large value is worth a band, and bands are of one sample.
            const bool large = std::max(bytes(s.input), bytes(static_cast<index_t>(i) + 1)) >= banded_bytes;
            index_t fitting = large ? 1 : std::clamp<index_t>(stage_bytes / touched, 1, batch);
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

    /// Puts neighbouring steps together that can run in bands and have a large value between them that nobody else reads.
    void group_steps(network_plan& p) const {
        std::vector<index_t> uses(p.shapes_.size(), 0);
        for (const step& s : steps_) {
            ++uses[position(s.input)];
            if (s.residual >= 0) ++uses[position(s.residual)];
        }
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
                return steps_[i].input == static_cast<index_t>(i) && steps_[i].residual != static_cast<index_t>(i) &&
                       uses[i] == 1 && row_bytes(i) * p.shapes_[i].h >= banded_bytes &&
                       steps_[i - 1].op->bands(*p.states_[i - 1]).multiple > 0 &&
                       steps_[i].op->bands(*p.states_[i]).multiple > 0;
            };
            for (std::size_t first = part.first; first < part.last;) {
                std::size_t last = first + 1;
                while (last < part.last && joins(last)) ++last;
                if (last - first > 1) {
                    std::vector<banded_step> steps;
                    for (std::size_t i = first; i < last; ++i)
                        steps.push_back({steps_[i].op->bands(*p.states_[i]), p.shapes_[position(steps_[i].input)].h,
                                         p.shapes_[i + 1].h, row_bytes(i + 1)});
                    network_plan::banded_group g{first, last,
                                                 schedule_parts(steps, p.executor_.concurrency(), band_buffer_bytes)};
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
    [[nodiscard]] index_t place_means(network_plan& p) const {
        p.means_offsets_.assign(p.shapes_.size(), -1);
        index_t floats = 0;
        for (const step& s : steps_) {
            index_t& offset = p.means_offsets_[position(s.input)];
            if (s.input == 0 || offset >= 0 || !s.op->reads_channel_means() ||
                !steps_[position(s.input) - 1].op->gives_channel_means())
                continue;
            offset = floats;
            const shape4& v = p.shapes_[position(s.input)];
            floats = checked_add(floats, checked_mul(v.n, v.c, "network"), "network");
        }
        return floats;
    }

    /// Places the inner values in the arena. A value that leaves its stage is kept for the whole batch, and for as long as both
    /// stages run. Returns the arena's bytes.
    [[nodiscard]] index_t place_values(network_plan& p) const {
        const auto count = static_cast<index_t>(steps_.size());
        std::vector<index_t> last_use(p.shapes_.size(), 0);
        for (index_t i = 0; i < count; ++i) {
            last_use[position(steps_[position(i)].input)] = i;
            if (steps_[position(i)].residual >= 0) last_use[position(steps_[position(i)].residual)] = i;
        }
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

    index_t channels_ = 0, output_channels_ = 0;
    std::vector<step> steps_;
    std::shared_ptr<const char> identity_ = std::make_shared<const char>();  // moves along with the steps
};

/// Builds a network step by step; widths are checked as layers are added, so a network that was built can be planned for
/// any input its windows fit on.
class network_builder {
public:
    using value = network::value;

    /// The network's input of so many channels. Throws kdna::error for a second one, or if there are none.
    [[nodiscard]] value input(index_t channels) {
        if (channels < 1) throw error("network input", "at least one channel", concat(channels));
        if (!widths_.empty()) throw error("network input", "one input", "a second");
        widths_.push_back(channels);
        net_.channels_ = channels;
        return {0, channels};
    }

    /// A convolution of `x`, by a conv2d or a layer that is used like one; with a residual if the layer takes one. Throws
    /// kdna::error if channel counts do not fit.
    template <class Layer>
    requires requires(const Layer& l) {
        typename Layer::plan_type;
        l.kernel();
        l.takes_residual();
    }
    value add(Layer layer, const value& x, const std::optional<value>& residual = std::nullopt) {
        const kernel_shape k = layer.kernel();
        require(layer.name(), "input", x, k.i);
        if (layer.takes_residual() != residual.has_value())
            throw error(concat(layer.name(), " residual"), layer.takes_residual() ? "one" : "none",
                        residual ? "one" : "none");
        if (residual) require(layer.name(), "residual", *residual, k.o);
        return push(std::make_unique<conv_operation<Layer>>(std::move(layer)), x, residual ? residual->id : -1, k.o);
    }
    /// A fully connected layer, given as a 1x1 convolution without router, stride, padding or residual, on a pooled `x`.
    /// Throws kdna::error if it is not one, or if channel counts do not fit.
    template <kernel_source S, conv_backend B>
    value add_linear(conv2d<S, no_router, B> layer, const value& x) {
        const kernel_shape k = layer.kernel();
        require(layer.name(), "input", x, k.i);
        if (k.taps() != 1) throw error(layer.name(), "a 1x1 kernel", to_string(k));
        if (layer.params().stride != 1 || layer.params().pad != 0)
            throw error(layer.name(), "stride 1 and no padding in a fully connected layer", "others");
        if (layer.takes_residual())
            throw error(concat(layer.name(), " residual"), "none in a fully connected layer", "one");
        return push(std::make_unique<linear_operation<conv2d<S, no_router, B>>>(std::move(layer)), x, -1, k.o);
    }
    value add(const max_pool2d& pool, const value& x) {
        return push(std::make_unique<max_pool_operation>(pool), x, -1, x.channels);
    }
    value add_global_average(const value& x) {
        return push(std::make_unique<global_average_operation>(), x, -1, x.channels);
    }
    /// A step of your own that gives `channels` channels. Throws kdna::error if there is none.
    value add(std::unique_ptr<operation> op, const value& x, index_t channels) {
        return push(std::move(op), x, -1, channels);
    }

    /// The finished network. Throws kdna::error unless `output` is the last value made.
    [[nodiscard]] network build(const value& output) && {
        if (net_.steps_.empty() || output.id != static_cast<index_t>(net_.steps_.size()))
            throw error("network", concat("the last value, ", net_.steps_.size(), ", as its output"),
                        concat("value ", output.id));
        net_.output_channels_ = output.channels;
        return std::move(net_);
    }

private:
    void require(const std::string& layer, std::string_view what, const value& v, index_t channels) const {
        require_known(layer, what, v);
        if (v.channels != channels)
            throw error(concat(layer, " ", what), concat(channels, " channels"), concat(v.channels));
    }
    void require_known(std::string_view layer, std::string_view what, const value& v) const {
        if (v.id < 0 || v.id >= static_cast<index_t>(widths_.size()) ||
            widths_[static_cast<std::size_t>(v.id)] != v.channels)
            throw error(concat(layer, " ", what), "a value of this network",
                        concat("value ", v.id, " of ", v.channels, " channels"));
    }
    value push(std::unique_ptr<operation> op, const value& x, index_t residual, index_t channels) {
        if (op == nullptr) throw error("network step", "an operation", "a null pointer");
        require_known(op->name(), "input", x);
        if (channels < 1) throw error(std::string(op->name()), "at least one channel", concat(channels));
        widths_.push_back(channels);
        net_.steps_.push_back({std::move(op), x.id, residual});
        return {static_cast<index_t>(net_.steps_.size()), channels};
    }
    network net_;
    std::vector<index_t> widths_;  // channels of the values so far, the input first
};

/// The networks of a backend: their type, on which host backend their layers are made, and how they are made from that.
/// A leaf that has devices specialises it for them.
template <layer_backend B>
struct network_on {
    KDNA_REQUIRE_HOST_BACKEND(B);
    using type = network;
    using host_backend = B;
    [[nodiscard]] static network make(network host) { return host; }
};

}  // namespace kdna::inline KDNA_ABI
