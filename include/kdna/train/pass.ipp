// Definitions of train/pass.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/nn/arena.hpp>
#include <kdna/train/pass.hpp>

namespace kdna::inline KDNA_ABI::train {

namespace detail {

[[nodiscard]] inline std::size_t at(index_t id) noexcept { return static_cast<std::size_t>(id); }

/// Adds the gradient of every window's mean to its pixels, and that of every window's maximum to where it was found.
inline void back_through_average(const float* of_y, const shape4& in, float* of_x) noexcept {
    const index_t pixels = in.h * in.w;
    const float share = 1.0F / static_cast<float>(pixels);
    for (index_t n = 0; n < in.n; ++n)
        for (index_t p = 0; p < pixels; ++p)
            for (index_t c = 0; c < in.c; ++c) of_x[(n * pixels + p) * in.c + c] += share * of_y[n * in.c + c];
}

/// The first of equal values gets it, and NaN before all, as in PyTorch.
inline void back_through_max(const max_pool2d& pool, const tensor_view<const float>& x, const shape4& out,
                             const float* of_y, float* of_x) noexcept {
    for (index_t n = 0; n < out.n; ++n)
        for (index_t h = 0; h < out.h; ++h)
            for (index_t w = 0; w < out.w; ++w) {
                const index_t row = h * pool.stride().h - pool.pad().top,
                              column = w * pool.stride().w - pool.pad().left;
                const index_t top = std::max<index_t>(row, 0), left = std::max<index_t>(column, 0),
                              bottom = std::min(row + pool.window().h, x.shape.h),
                              right = std::min(column + pool.window().w, x.shape.w);
                for (index_t c = 0; c < out.c; ++c) {
                    index_t best_i = top, best_j = left;
                    for (index_t i = top; i < bottom; ++i)
                        for (index_t j = left; j < right; ++j) {
                            const float v = x(n, c, i, j), best = x(n, c, best_i, best_j);
                            if (best == best && !(v <= best)) best_i = i, best_j = j;
                        }
                    of_x[((n * x.shape.h + best_i) * x.shape.w + best_j) * x.shape.c + c] +=
                        of_y[((n * out.h + h) * out.w + w) * out.c + c];
                }
            }
}

}  // namespace detail

KDNA_FUNC pass::pass(network& net, const shape4& in, const pass_options& options)
    : net_(&net), executor_(options.executor), input_gradient_(options.input_gradient) {
    static_cast<void>(element_count(in, "input"));
    if (in.c != net.input_channels()) throw error("input", concat(net.input_channels(), " channels"), to_string(in));
    values_.push_back({.shape = in, .gradient = options.input_gradient});
    make_steps(options);
    place_values();
}

/// Shapes of all values, which of them have gradients, and the passes of convolutions.
KDNA_FUNC void pass::make_steps(const pass_options& options) {
    const parameters& p = net_->parameters();
    index_t workspace = 0;
    for (const step& s : net_->steps()) {
        const value& x = values_[detail::at(s.input)];
        value y{.gradient = x.gradient || (s.residual >= 0 && values_[detail::at(s.residual)].gradient)};
        step_state state;
        if (const auto* c = std::get_if<convolution>(&s.op)) {
            y.gradient |= c->trained(p);
            state.convolution.emplace_back(*c, net_->parameters(), x.shape, y.gradient, x.gradient, options.executor);
            y.shape = state.convolution.front().output_shape();
            workspace = std::max(workspace, state.convolution.front().workspace_bytes());
            if (s.residual >= 0 && values_[detail::at(s.residual)].shape != y.shape)
                throw error(concat(c->name, " residual"), to_string(y.shape),
                            to_string(values_[detail::at(s.residual)].shape));
        } else if (const auto* pool = std::get_if<max_pool2d>(&s.op)) {
            y.shape = pool->output_shape(x.shape);
        } else {
            y.shape = {x.shape.n, x.shape.c, 1, 1};
        }
        values_.push_back(y);
        steps_.push_back(std::move(state));
    }
    workspace_ = buffer<std::byte>(workspace);
}

/// Step i runs at the time i, and back at the time 2 * steps - i: who is read when decides who may share memory.
KDNA_FUNC void pass::place_values() {
    const auto steps = static_cast<index_t>(steps_.size());
    const auto back_at = [&](index_t i) { return 2 * steps - i; };
    const auto bytes_of = [](const shape4& s) {
        workspace_layout w;
        w.add<float>(element_count(s));
        return w.bytes();
    };
    std::vector<arena_value> all;
    for (index_t id = 0; id <= steps; ++id) {
        const value& v = values_[detail::at(id)];
        arena_value y{std::max<index_t>(id - 1, 0), id == steps ? steps : id, bytes_of(v.shape)};
        arena_value gradient{id == steps ? steps : back_at(id - 1), back_at(id - 1), v.gradient ? y.bytes : 0};
        arena_value z{};
        for (index_t i = 0; i < steps; ++i) {
            const step& s = net_->steps()[detail::at(i)];
            const step_state& state = steps_[detail::at(i)];
            const bool goes_back = values_[detail::at(i + 1)].gradient;
            const bool convolves = !state.convolution.empty();
            if (i + 1 == id && convolves && goes_back) {
                if (state.convolution.front().reads_y()) y.last = std::max(y.last, back_at(i));
                if (state.convolution.front().reads_z()) z = {i, back_at(i), y.bytes};
            }
            if (goes_back && (s.input == id || s.residual == id)) gradient.first = std::min(gradient.first, back_at(i));
            if (s.residual == id) y.last = std::max(y.last, i);
            if (s.input != id) continue;
            y.last = std::max(y.last, i);
            const bool reads_x =
                convolves ? state.convolution.front().reads_x() : std::holds_alternative<max_pool2d>(s.op);
            if (goes_back && reads_x) y.last = std::max(y.last, back_at(i));
        }
        all.insert(all.end(), {y, gradient, z});
    }
    const arena_layout placed = place_in_arena(all, "training pass");
    for (std::size_t id = 0; id < values_.size(); ++id) {
        values_[id].place = placed.offsets[3 * id];
        values_[id].gradient_place = placed.offsets[3 * id + 1];
        if (id > 0) steps_[id - 1].z_place = placed.offsets[3 * id + 2];
    }
    arena_ = buffer<std::byte>(placed.bytes);
}

KDNA_FUNC index_t pass::bytes() const noexcept {
    index_t out = arena_.bytes() + workspace_.bytes();
    for (const step_state& s : steps_)
        for (const convolution_pass& c : s.convolution) out += c.own_bytes();
    return out;
}

KDNA_FUNC float* pass::memory(index_t place) const noexcept { return at_offset<float>(arena_.data(), place); }

KDNA_FUNC tensor_view<float> pass::view(index_t id) const {
    const value& v = values_[detail::at(id)];
    return make_view(memory(v.place), v.shape, layout::nhwc);
}

/// Where gradients of a value are added up; null if it has none.
KDNA_FUNC float* pass::accumulated(index_t id) {
    value& v = values_[detail::at(id)];
    if (!v.gradient) return nullptr;
    float* out = memory(v.gradient_place);
    if (!std::exchange(v.written, true)) std::fill_n(out, element_count(v.shape), 0.0F);
    return out;
}

KDNA_FUNC void pass::forward(const tensor_view<const float>& x) {
    run(x, false);
    last_ = phase::forwards;
}

KDNA_FUNC void pass::run(const tensor_view<const float>& x, bool with_batch) {
    last_ = phase::other;
    if (x.shape != input_shape()) throw error("input", to_string(input_shape()), to_string(x.shape));
    copy(x, view(0));
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        const step& s = net_->steps()[i];
        const tensor_view<float> from = view(s.input), to = view(static_cast<index_t>(i) + 1);
        if (std::holds_alternative<convolution>(s.op)) {
            const tensor_view<const float> residual =
                s.residual < 0 ? tensor_view<const float>() : tensor_view<const float>(view(s.residual));
            steps_[i].convolution.front().forward(from, residual, memory(steps_[i].z_place), to, workspace_.data(),
                                                  with_batch);
        } else if (const auto* pool = std::get_if<max_pool2d>(&s.op)) {
            pool->run(from, to);
        } else {
            pool_samples(from, to.data, to.shape.c, executor_);
        }
    }
}

KDNA_FUNC tensor_view<const float> pass::output() const { return view(static_cast<index_t>(steps_.size())); }

KDNA_FUNC tensor_view<float> pass::output_gradient() {
    const value& v = values_.back();
    return make_view(memory(v.gradient_place), v.shape, layout::nhwc);
}

KDNA_FUNC void pass::backward() {
    if (last_ != phase::forwards)
        throw error("backward", "a call of forward before it",
                    last_ == phase::made ? "none" : "another call, which did not keep what is needed");
    last_ = phase::other;
    for (value& v : values_) v.written = false;
    values_.back().written = true;
    for (std::size_t i = steps_.size(); i-- > 0;)
        if (values_[i + 1].gradient) back(i);
}

/// One step, if any gradient has come to its output.
KDNA_FUNC void pass::back(std::size_t i) {
    const step& s = net_->steps()[i];
    const index_t id = static_cast<index_t>(i) + 1;
    float *of_y = accumulated(id), *of_x = accumulated(s.input);
    if (std::holds_alternative<convolution>(s.op))
        steps_[i].convolution.front().backward({.x = view(s.input),
                                                .y = view(id),
                                                .z = memory(steps_[i].z_place),
                                                .of_y = of_y,
                                                .of_x = of_x,
                                                .of_residual = s.residual < 0 ? nullptr : accumulated(s.residual)},
                                               workspace_.data());
    else if (const auto* pool = std::get_if<max_pool2d>(&s.op))
        detail::back_through_max(*pool, view(s.input), values_[i + 1].shape, of_y, of_x);
    else
        detail::back_through_average(of_y, values_[detail::at(s.input)].shape, of_x);
}

KDNA_FUNC tensor_view<const float> pass::input_gradient() const {
    if (!input_gradient_) throw error("input_gradient", "a pass with pass_options::input_gradient", "one without");
    const value& v = values_.front();
    return make_view<const float>(memory(v.gradient_place), v.shape, layout::nhwc);
}

KDNA_FUNC void pass::estimate_statistics(const tensor_view<const float>& x) {
    for (std::size_t i = 0; i < steps_.size(); ++i)
        if (const auto* c = std::get_if<convolution>(&net_->steps()[i].op)) {
            const shape4& y = values_[i + 1].shape;
            if ((c->bn && y.n * y.h * y.w < 2) || (c->se && y.n < 2))
                throw error(c->name, "several values for each channel, to take statistics of", "one");
        }
    run(x, true);
}

KDNA_FUNC void pass::adopt_statistics() {
    for (step_state& s : steps_)
        for (convolution_pass& c : s.convolution) c.adopt_statistics();
}

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
