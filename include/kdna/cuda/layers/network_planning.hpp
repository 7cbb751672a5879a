// Plans a network on a device for an input shape: every step, which step takes which sums of channels, and all memory.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/device/vendor_library.hpp>
#include <kdna/cuda/layers/network_plan.hpp>
#include <kdna/cuda/layers/network_steps.hpp>
#include <kdna/cuda/programs/pooling.hpp>
#include <kdna/nn/arena.hpp>

namespace kdna::inline KDNA_ABI::cuda::detail {

/// Makes the plan of one network for one input shape.
template <device_api Device>
class network_planner {
public:
    /// `stored_channels`: of a pixel of the input as it is stored.
    network_planner(const std::vector<device_step<Device>>& steps, const basic_context<Device>& where,
                    index_t stored_channels, network_state<Device>& state)
        : steps_(&steps), context_(&where), stored_channels_(stored_channels), state_(&state) {}

    /// Fills in everything but the recording. Throws kdna::error naming the step that cannot run on its input.
    void plan(const shape4& in) {
        state_->shapes.push_back(in);
        index_t scratch = 0;
        for (const device_step<Device>& s : *steps_) {
            plan_step(s);
            if (s.residual >= 0 && state_->shape(s.residual) != state_->shapes.back())
                throw error(concat(s.name, " residual"), to_string(state_->shapes.back()),
                            to_string(state_->shape(s.residual)));
            scratch = std::max(scratch, state_->steps.back().conv.scratch_bytes);
        }
        place_sums();
        if constexpr (has_library<Device>) scratch = std::max(scratch, plan_library());
        state_->scratch = device_memory<Device>(context_->device(), scratch);
        place_values();
    }

private:
    using step_type = device_step<Device>;

    void plan_step(const step_type& s) {
        const shape4 in = state_->shape(s.input);
        step_plan<Device> p;
        shape4 out{in.n, in.c, 1, 1};  // of an average
        p.text = concat(s.name, " on ", to_string(in));
        if (const auto* conv = s.conv()) {
            if (conv->linear && (in.h != 1 || in.w != 1))
                throw error(s.name, "a pooled input, H = W = 1", to_string(in));
            p.conv = conv->layer.plan(in);
            p.text = p.conv.text;
            out = p.conv.out;
        } else if (const auto* pool = s.pool()) {
            out = pool->output_shape(in);
            static_cast<void>(checked_elements(out, s.name));
        }
        state_->steps.push_back(std::move(p));
        state_->shapes.push_back(out);
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
        for (std::size_t i = 0; i < steps_->size(); ++i) {
            const step_type& s = (*steps_)[i];
            const bool reads = s.is_average() || (s.conv() != nullptr && s.conv()->layer.reads_sums());
            if (!reads) continue;
            step_plan<Device>& p = state_->steps[i];
            if (step_plan<Device>* maker = maker_of_sums(s)) {
                p.takes_sums = true;
                if (maker->y_sums.channels == 0) place(maker->y_sums, maker->conv.out_rows, maker->conv.out);
            } else if (s.is_average()) {
                const shape4& in = state_->shape(s.input);
                place(p.x_sums,
                      tile_rows::cut(checked_int(in.h * in.w, s.name), checked_int(in.n * in.h * in.w, s.name),
                                     summing_rows),
                      in);
            }
        }
        state_->sums = device_memory<Device>(context_->device(), memory.bytes());
        for (const placed_sums& v : placed) v.sums->values = state_->sums.template span<float>(v.at, v.floats);
        for (std::size_t i = 0; i < steps_->size(); ++i)
            if (state_->steps[i].takes_sums) state_->steps[i].x_sums = maker_of_sums((*steps_)[i])->y_sums;
    }
    /// The plan of the convolution that makes a step's input, or null: others take no sums.
    [[nodiscard]] step_plan<Device>* maker_of_sums(const step_type& s) {
        const auto maker = static_cast<std::size_t>(s.input) - 1;
        return s.input > 0 && (*steps_)[maker].conv() != nullptr ? &state_->steps[maker] : nullptr;
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

    /// Places all values in the arena, the input and the output too, and allocates it.
    void place_values() {
        const auto count = static_cast<index_t>(steps_->size());
        std::vector<arena_value> values;
        for (index_t id = 0; id <= count; ++id) {
            device_layout one;
            shape4 stored = state_->shape(id);
            if (id == 0) stored.c = stored_channels_;
            static_cast<void>(one.add(element_count(stored), bytes_of(context_->options().numbers)));
            // Step id - 1 makes it, the input is made before all; the output is read after all.
            values.push_back({id - 1, id == count ? count : id - 1, one.bytes()});
        }
        const auto read = [&](index_t id, index_t by) {
            if (id < 0) return;
            index_t& last = values[static_cast<std::size_t>(id)].last;
            last = std::max(last, by);
        };
        for (index_t i = 0; i < count; ++i) {
            read((*steps_)[static_cast<std::size_t>(i)].input, i);
            read((*steps_)[static_cast<std::size_t>(i)].residual, i);
        }
        arena_layout placed = place_in_arena(values, "network arena");
        state_->offsets = std::move(placed.offsets);
        state_->arena = device_memory<Device>(context_->device(), placed.bytes);
    }

    const std::vector<step_type>* steps_;
    const basic_context<Device>* context_;
    index_t stored_channels_;
    network_state<Device>* state_;
};

}  // namespace kdna::inline KDNA_ABI::cuda::detail

#include <kdna/core/macros_pop.hpp>
