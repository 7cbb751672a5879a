// Device forms of operations element by element and of those that move elements.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include <kdna/cuda/layers/step_forms.hpp>
#include <kdna/cuda/programs/copy.hpp>
#include <kdna/cuda/programs/functions.hpp>
#include <kdna/nn/ops/copy.hpp>
#include <kdna/nn/ops/norm.hpp>

namespace kdna::inline KDNA_ABI::cuda {

namespace detail {

/// Launches Program with arguments that have a nest, by packs where they are whole.
template <template <class, int> class Program, class T, device_api Device, class Arguments>
void launch_nest(const step_call<Device>& call, const planned_nest& n, Arguments a) {
    a.nest = n.nest;
    if (n.wide)
        call.template launch<Program<T, wide<T>>>(n.nest.items, a);
    else
        call.template launch<Program<T, 1>>(n.nest.items, a);
}

/// Copies operand 1 of a nest, which is x, to operand 0, which is y.
template <class T, device_api Device>
void enqueue_copy(const step_call<Device>& call, const ops::detail::nest& n, const device_operand& x,
                  const device_operand& y) {
    launch_nest<copy_program, T>(call, nest_for<T>(n, {y.data, x.data, nullptr}),
                                 copy_arguments<T>{y.template span<T>(), x.template span<const T>()});
}

/// Strides with which a value has the axes of a broadcast shape.
[[nodiscard]] inline axis_numbers broadcast_strides(const device_operand& x, index_t rank) {
    return ops::detail::broadcast_strides({nullptr, x.shape, x.stride}, rank);
}
/// The nest over y and up to two operands.
[[nodiscard]] inline ops::detail::nest nest_over(const device_operand& y, const axis_numbers& s1,
                                                 const axis_numbers& s2 = {}) {
    return ops::detail::nest_over({nullptr, y.shape, y.stride}, s1, s2);
}

template <class T, device_api Device>
void enqueue_function(const step_call<Device>& call, const device_function& f, const axis_numbers& channels) {
    const device_operand &x = call.inputs.front(), &y = call.output;
    launch_nest<unary_program, T>(call, nest_for<T>(nest_over(y, x.stride, channels), {y.data, x.data, nullptr}),
                                  unary_arguments<T>{y.template span<T>(), x.template span<const T>(), {}, f});
}

}  // namespace detail

template <>
struct device_form<ops::binary> {
    template <class T, device_api Device>
    static void enqueue(const ops::binary& op, const step_call<Device>& call) {
        const device_operand &y = call.output, &first = call.inputs.front();
        const index_t rank = y.shape.rank();
        binary_arguments<T> a{y.template span<T>(), first.template span<const T>()};
        a.kind = op.kind();
        a.scalar = op.scalar();
        axis_numbers s1 = detail::broadcast_strides(first, rank), s2{};
        const void *data1 = first.data, *data2 = nullptr;
        if (op.inputs() == 2) {
            const device_operand& second = call.inputs[1];
            a.b = second.template span<const T>();
            s2 = detail::broadcast_strides(second, rank);
            data2 = second.data;
        } else if (op.scalar_first()) {
            std::swap(a.a, a.b);
            std::swap(s1, s2);
            std::swap(data1, data2);
        }
        detail::launch_nest<binary_program, T>(
            call, detail::nest_for<T>(detail::nest_over(y, s1, s2), {y.data, data1, data2}), a);
    }
};

template <>
struct device_form<ops::unary> {
    static void check(const ops::unary& op, const std::string& where) {
        if (op.kind() == ops::unary_kind::pow) throw error(where, "a function with a device form", "pow");
    }
    template <class T, device_api Device>
    static void enqueue(const ops::unary& op, const step_call<Device>& call) {
        device_function f;
        f.is = device_function::family::unary;
        f.kind = op.kind();
        f.low = op.low();
        f.high = op.high();
        detail::enqueue_function<T>(call, f, {});
    }
};

template <>
struct device_form<ops::activate> {
    [[nodiscard]] static std::vector<float> parameters(const ops::activate& op) {
        const activation act = op.act();
        return {act.of_channel.begin(), act.of_channel.end()};
    }
    template <class T, device_api Device>
    static void enqueue(const ops::activate& op, const step_call<Device>& call) {
        device_function f;
        f.act = device_activation(op.act(), call.parameters);
        detail::enqueue_function<T>(call, f, {0, call.parameters.size > 1 ? 1 : 0, 0, 0, 0});
    }
};

template <>
struct device_form<ops::batch_norm> {
    /// Scale and shift of the channels, and the activation's number of each where it has any.
    [[nodiscard]] static std::vector<float> parameters(const ops::batch_norm& op) {
        std::vector<float> all(op.scale().begin(), op.scale().end());
        all.insert(all.end(), op.shift().begin(), op.shift().end());
        const std::span<const float> slopes = op.act().of_channel;
        if (slopes.size() == 1)
            all.insert(all.end(), op.scale().size(), slopes.front());
        else
            all.insert(all.end(), slopes.begin(), slopes.end());
        return all;
    }
    template <class T, device_api Device>
    static void enqueue(const ops::batch_norm& op, const step_call<Device>& call) {
        const auto channels = static_cast<int>(op.scale().size());
        const float* const data = call.parameters.data;
        device_function f;
        f.scale = {data, channels};
        f.shift = {data + channels, channels};
        f.act = device_activation(op.act(), takes_channels(op.act().kind)
                                                ? device_span<const float>{data + 2 * channels, channels}
                                                : device_span<const float>{});
        detail::enqueue_function<T>(call, f, {0, 1, 0, 0, 0});
    }
};

/// Operations that are one copy.
template <class Op>
requires requires(const Op& op, const nd_shape& s, const axis_numbers& n) { op.moves(s, n, s, n); }
struct device_form<Op> {
    static void check_shapes(const Op& op, std::span<const nd_shape> in, const nd_shape& out,
                             const std::string& where) {
        const nd_shape& x = in.front();
        detail::check_nest(
            op.moves(x, strides_in(x, channels_last(x.rank())), out, strides_in(out, channels_last(out.rank()))),
            where);
    }
    template <class T, device_api Device>
    static void enqueue(const Op& op, const step_call<Device>& call) {
        const device_operand &x = call.inputs.front(), &y = call.output;
        detail::enqueue_copy<T>(call, op.moves(x.shape, x.stride, y.shape, y.stride), x, y);
    }
};

template <>
struct device_form<ops::pad> {
    template <class T, device_api Device>
    static void enqueue(const ops::pad& op, const step_call<Device>& call) {
        const device_operand &x = call.inputs.front(), &y = call.output;
        pad_arguments<T> a{y.template span<T>(), x.template span<const T>()};
        a.rank = detail::known_int(y.shape.rank());
        a.mode = op.mode();
        a.value = op.value();
        // Axes by their distance in y, the innermost first.
        axis_order order = row_major;
        std::stable_sort(order.begin(), order.begin() + a.rank, [&](index_t i, index_t j) {
            return y.stride[static_cast<std::size_t>(i)] < y.stride[static_cast<std::size_t>(j)];
        });
        bool whole =
            reinterpret_cast<std::uintptr_t>(y.data) % 16 == 0 && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
        for (int i = 0; i < a.rank; ++i) {
            const index_t axis = order[static_cast<std::size_t>(i)];
            const auto k = static_cast<std::size_t>(axis);
            a.axes[i] = {detail::known_int(y.shape[axis]), detail::known_int(x.shape[axis]),
                         detail::known_int(op.before()[k]), detail::known_int(y.stride[k]),
                         detail::known_int(x.stride[k])};
            const padded_axis& p = a.axes[i];
            if (i == 0)
                whole = whole && p.extent == p.x_extent && p.before == 0 && p.y_stride == 1 && p.x_stride == 1 &&
                        p.extent % wide<T> == 0;
            else
                whole = whole && p.y_stride % wide<T> == 0 && p.x_stride % wide<T> == 0;
        }
        if (whole) {
            padded_axis& packs = a.axes[0];
            packs = {packs.extent / wide<T>, packs.extent / wide<T>, 0, wide<T>, wide<T>};
        }
        for (int i = 0; i < a.rank; ++i) a.items *= a.axes[i].extent;
        if (whole)
            call.template launch<pad_program<T, wide<T>>>(a.items, a);
        else
            call.template launch<pad_program<T, 1>>(a.items, a);
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
