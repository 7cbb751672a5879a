// Plans a network on a device for the shapes of its inputs: where values lie, every step, which step takes which sums of channels,
// and all memory.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/device/vendor_library.hpp>
#include <kdna/cuda/layers/network_plan.hpp>
#include <kdna/cuda/layers/network_steps.hpp>
#include <kdna/cuda/programs/pooling.hpp>
#include <kdna/nn/arena.hpp>
#include <kdna/nn/network_storage.hpp>
#include <kdna/nn/value_operations.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

/// Makes the plan of one network for one set of input shapes.
template <device_api Device>
class network_planner {
public:
    /// `stored_channels`: of a pixel of each input as it is stored.
    network_planner(const network_graph& graph, const std::vector<device_step<Device>>& steps,
                    const basic_context<Device>& where, const std::vector<index_t>& stored_channels,
                    network_state<Device>& state)
        : graph_(&graph), steps_(&steps), context_(&where), stored_channels_(&stored_channels), state_(&state) {}

    /// Fills in everything but the recording. Throws kdna::error naming the input that does not fit, or the step that cannot
    /// run.
    void plan(const std::vector<nd_shape>& in) {
        shapes_ = graph_->shapes(in);
        for (std::size_t id = 0; id < shapes_.size(); ++id)
            static_cast<void>(checked_int(element_count(shapes_[id]), name_of(id)));
        place_values();
        for (index_t i = 0; i < graph_->step_count(); ++i) plan_step(i);
        place_sums();
        index_t scratch = 0;
        for (const step_plan<Device>& p : state_->steps) scratch = std::max(scratch, p.conv.scratch_bytes);
        if constexpr (has_library<Device>) scratch = std::max(scratch, plan_library());
        state_->scratch = device_memory<Device>(context_->device(), scratch);
    }

private:
    using step_type = device_step<Device>;

    [[nodiscard]] const step_type& step(index_t i) const { return (*steps_)[static_cast<std::size_t>(i)]; }
    [[nodiscard]] std::string name_of(std::size_t id) const {
        const auto inputs = static_cast<std::size_t>(graph_->input_count());
        return id < inputs ? "network input" : (*steps_)[id - inputs].name;
    }
    [[nodiscard]] precision numbers() const noexcept { return context_->options().numbers; }

    /// Decides where all values lie, inputs and outputs too, and allocates the arena.
    void place_values() {
        const index_t element = bytes_of(numbers());
        const std::vector<bool> batched(shapes_.size(), false);
        places_ = network_storage(*graph_, shapes_, batched, {.callers_memory = false, .row_alignment = 16 / element})
                      .place();
        const auto inputs = static_cast<std::size_t>(graph_->input_count());
        std::vector<arena_value> values = lifetimes(*graph_, places_, [](index_t i) { return std::pair(i, i); });
        for (std::size_t id = 0; id < shapes_.size(); ++id) {
            value_placement& place = places_[id];
            const bool own = place.in == value_placement::memory::arena && place.root == static_cast<index_t>(id);
            if (!own) {
                values[id] = {};
                continue;
            }
            nd_shape stored = shapes_[id];
            if (id < inputs) {
                if (const index_t channels = (*stored_channels_)[id]; channels > 0) stored[1] = channels;
                place.stride = strides_in(stored, channels_last(stored.rank()));
                values[id].first = -1;  // before all steps
            }
            static_cast<void>(checked_int(element_count(stored), name_of(id)));
            device_layout one;
            static_cast<void>(one.add(element_count(stored), element));
            values[id].bytes = one.bytes();
        }
        const arena_layout placed = place_in_arena(values, "network arena");
        state_->arena = device_memory<Device>(context_->device(), placed.bytes);
        for (std::size_t id = 0; id < shapes_.size(); ++id) {
            const value_placement& place = places_[id];
            const auto root = static_cast<std::size_t>(place.root);
            void* const memory = place.in == value_placement::memory::constant
                                     ? (*steps_)[root - inputs].constant()->memory.data()
                                     : static_cast<std::byte*>(state_->arena.data()) + placed.offsets[root];
            state_->values.push_back(
                {static_cast<std::byte*>(memory) + place.offset * element, shapes_[id], place.stride});
        }
        for (std::size_t i = 0; i < inputs; ++i) state_->input_shapes.push_back(state_->values[i].image());
        for (index_t i = 0; i < graph_->output_count(); ++i) {
            const index_t id = graph_->output_value(i);
            state_->outputs.push_back(id);
            state_->output_shapes.push_back(
                image_shape(shapes_[static_cast<std::size_t>(id)], concat("network output ", graph_->output_name(i))));
        }
    }
    [[nodiscard]] const device_operand& value(index_t id) const { return state_->values[static_cast<std::size_t>(id)]; }

    void plan_step(index_t i) {
        const step_type& s = step(i);
        const network_graph::step_view v = graph_->step_at(i);
        const index_t id = graph_->input_count() + i;
        const bool runs = places_[static_cast<std::size_t>(id)].runs;
        const std::vector<nd_shape> in = graph_->shapes_of_step(shapes_, i);
        step_plan<Device> p;
        for (const index_t input : v.inputs) p.inputs.push_back(value(input));
        p.output = value(id);
        p.text = kdna::detail::shapes_text(s.name, {}, std::span(in).first(v.inputs.size()), p.output.shape);
        if (const auto* conv = s.conv()) {
            conv_pixels pixels{.in = pixels_of(p.inputs.front()), .out = pixels_of(p.output), .residual = {}};
            if (p.inputs.size() > 1) pixels.residual = pixels_of(p.inputs[1]);
            p.conv = conv->layer.plan(p.inputs.front().image(), given_kernels::one, pixels);
            p.text = p.conv.text;
        } else if (const auto* operation = s.operation()) {
            p.operation = (*operation)->plan(in, p.output.shape, s.name);
        } else if (std::holds_alternative<move_step>(s.what)) {
            if (runs)
                plan_copies(p, v.op, in, s.name);
            else
                p.text += ", no copy";
        }
        state_->steps.push_back(std::move(p));
    }
    /// Pixels as a convolution is told of them; a single one has no distance to another.
    [[nodiscard]] pixel_row pixels_of(const device_operand& v) const {
        const shape4 s = v.image();
        return {s.n * s.h * s.w == 1 ? 0 : v.pixel(),
                static_cast<index_t>(reinterpret_cast<std::uintptr_t>(v.data) % 16) / bytes_of(numbers())};
    }

    /// The copies of a step that moves values which do not lie in their place.
    void plan_copies(step_plan<Device>& p, const operation& op, const std::vector<nd_shape>& in,
                     const std::string& name) const {
        const auto add = [&](const ops::detail::nest& n, const device_operand& x, const device_operand& y) {
            check_nest(n, name);
            p.copies.push_back({n, x, y});
        };
        const auto moved = [&](const device_operand& v, index_t elements) {
            device_operand out = v;
            out.data = static_cast<std::byte*>(v.data) + elements * bytes_of(numbers());
            return out;
        };
        const device_operand& x = p.inputs.front();
        if (const index_t axis = op.concatenates(); axis >= 0) {
            index_t start = 0;
            for (const device_operand& part : p.inputs) {
                device_operand to = moved(p.output, start * p.output.stride[static_cast<std::size_t>(axis)]);
                to.shape = part.shape;
                if (to.data != part.data) add(nest_over(to, part.stride), part, to);
                start += part.shape[axis];
            }
        } else if (const std::optional<operation::part> view = op.view_of(in, x.stride)) {
            device_operand from = moved(x, view->offset);
            from.shape = p.output.shape;
            from.stride = view->stride;
            add(nest_over(p.output, from.stride), from, p.output);
        } else if (const auto nest = ops::element_nest(x.shape, x.stride, p.output.shape, p.output.stride)) {
            add(*nest, x, p.output);
        } else {
            throw error(name,
                        concat("a shape on a device whose axes divide those of ", to_string(x.shape),
                               ", or are divided by them"),
                        to_string(p.output.shape));
        }
    }

    /// Where sums of channels will lie in a block of memory that is not allocated yet.
    struct placed_sums {
        device_sums* sums;
        index_t at, floats;
    };

    /// Gives sums of channels to every step that reads them, and lets the step before take them where it can.
    void place_sums() {
        device_layout memory;
        std::vector<placed_sums> placed;
        const auto place = [&](device_sums& sums, const tile_rows& rows, const shape4& of) {
            sums.rows = rows;
            sums.channels = known_int(of.c);
            const index_t floats = device_conv_plan::floats_of(rows, of);
            placed.push_back({&sums, memory.add(floats, sizeof(float)), floats});
        };
        for (index_t i = 0; i < graph_->step_count(); ++i) {
            const step_type& s = step(i);
            const bool reads = s.is_average() || (s.conv() != nullptr && s.conv()->layer.reads_sums());
            if (!reads) continue;
            step_plan<Device>& p = state_->steps[static_cast<std::size_t>(i)];
            if (step_plan<Device>* maker = maker_of_sums(i)) {
                p.takes_sums = true;
                if (maker->y_sums.channels == 0) place(maker->y_sums, maker->conv.out_rows, maker->conv.out);
            } else if (s.is_average()) {
                const shape4 in = p.inputs.front().image();
                place(p.x_sums,
                      tile_rows::cut(checked_int(in.h * in.w, s.name), checked_int(in.n * in.h * in.w, s.name),
                                     summing_rows),
                      in);
            }
        }
        state_->sums = device_memory<Device>(context_->device(), memory.bytes());
        for (const placed_sums& v : placed) v.sums->values = state_->sums.template span<float>(v.at, v.floats);
        for (index_t i = 0; i < graph_->step_count(); ++i)
            if (step_plan<Device>& p = state_->steps[static_cast<std::size_t>(i)]; p.takes_sums)
                p.x_sums = maker_of_sums(i)->y_sums;
    }
    /// The plan of the convolution that makes a step's input, or null: others take no sums.
    [[nodiscard]] step_plan<Device>* maker_of_sums(index_t i) {
        const index_t maker = graph_->step_at(i).inputs.front() - graph_->input_count();
        return maker >= 0 && step(maker).conv() != nullptr ? &state_->steps[static_cast<std::size_t>(maker)] : nullptr;
    }

    /// Gives plain layers to the library, where it takes them, unless the sums of their output are read. Returns the
    /// scratch they need.
    [[nodiscard]] index_t plan_library() requires(has_library<Device>) {
        index_t scratch = 0;
        for (std::size_t i = 0; i < steps_->size(); ++i) {
            step_plan<Device>& p = state_->steps[i];
            const auto* conv = (*steps_)[i].conv();
            if (conv == nullptr || p.y_sums) continue;
            const std::optional<plain_convolution> plain = conv->layer.as_plain(p.conv);
            if (plain) p.library = context_->device().plan_plain(*plain);
            if (p.library == nullptr) continue;
            scratch = std::max(scratch, p.library->scratch_bytes());
            p.text = plan_heading((*steps_)[i].name, plain->kernel, plain->in, plain->numbers) + p.library->explain();
        }
        return scratch;
    }

    const network_graph* graph_;
    const std::vector<step_type>* steps_;
    const basic_context<Device>* context_;
    const std::vector<index_t>* stored_channels_;
    network_state<Device>* state_;
    std::vector<nd_shape> shapes_{};
    std::vector<value_placement> places_{};
};

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
