// Definitions of nn/network_functions.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/nn/network_functions.hpp>
#include <kdna/nn/ops/norm.hpp>
#include <kdna/nn/ops/softmax.hpp>

namespace kdna::inline KDNA_ABI::nn {

namespace detail {

/// What a step is besides its operation and its name.
struct facts {
    const char* what;
    bool samplewise = true, in_place = false;
    index_t inputs = 1;
};

template <class Op>
[[nodiscard]] value push(network_builder& net, Op op, const std::vector<value>& inputs, const nd_shape& known,
                         std::string name, const facts& f) {
    return net.add(std::make_unique<value_operation<Op>>(std::move(op), value_step{.name = std::move(name),
                                                                                   .what = f.what,
                                                                                   .inputs = f.inputs,
                                                                                   .samplewise = f.samplewise,
                                                                                   .in_place = f.in_place}),
                   inputs, {}, known);
}

/// The same for an operation that keeps the shape, of which the channels alone may be known.
template <class Op>
[[nodiscard]] value push_same(network_builder& net, Op op, const value& x, std::string name, const facts& f) {
    const nd_shape& known = net.known_shape(x, name);
    if (known.rank() > 0) return push(net, std::move(op), {x}, known, std::move(name), f);
    return net.add(
        std::make_unique<value_operation<Op>>(
            std::move(op),
            value_step{.name = std::move(name), .what = f.what, .samplewise = f.samplewise, .in_place = f.in_place}),
        {x}, {}, x.channels);
}

/// What is known of an image.
[[nodiscard]] inline nd_shape image_of(const network_builder& net, const value& x, const std::string& name) {
    const nd_shape& known = net.known_shape(x, name);
    if (known.rank() == 0) return {0, x.channels, 0, 0};
    if (known.rank() != 4) throw error(name, "an image [N, C, H, W]", kdna::concat("rank ", known.rank()));
    return known;
}

[[nodiscard]] inline index_t known_axis(const nd_shape& known, index_t axis, const std::string& name) {
    if (known.rank() > 0) return axis_of(axis, known.rank(), name);
    if (axis < 0 || axis >= most_axes)
        throw error(name, "an axis from 0 to 4 of a value whose rank is not known", kdna::concat(axis));
    return axis;
}

inline void require_channels(const value& x, index_t channels, const std::string& name) {
    if (x.channels != 0 && x.channels != channels)
        throw error(kdna::concat(name, " input"), kdna::concat(channels, " channels"), kdna::concat(x.channels));
}

/// For parameters of channels, of which there may be none.
inline void require_channels(const value& x, std::span<const float> of_channels, const std::string& name) {
    if (!of_channels.empty()) require_channels(x, static_cast<index_t>(of_channels.size()), name);
}

inline void require_multiple(const value& x, index_t factor, const std::string& name) {
    if (factor >= 1 && x.channels % factor != 0)
        throw error(kdna::concat(name, " input"), kdna::concat("a multiple of ", factor, " channels"),
                    kdna::concat(x.channels));
}

/// What is known of a and b, broadcast.
[[nodiscard]] inline nd_shape broadcast_known(const nd_shape& a, const nd_shape& b, const std::string& name) {
    const nd_shape &longer = a.rank() >= b.rank() ? a : b, &shorter = a.rank() >= b.rank() ? b : a;
    nd_shape out = longer;
    for (index_t i = 0; i < shorter.rank(); ++i) {
        const index_t axis = longer.rank() - 1 - i, other = shorter[shorter.rank() - 1 - i];
        const index_t own = out[axis];
        if (own > 1 && other > 1 && own != other) {
            const bool channels = axis == 1;
            throw error(
                name, channels ? "inputs of as many channels" : "shapes that can be broadcast",
                channels ? kdna::concat(own, " and ", other) : kdna::concat(own, " and ", other, " on axis ", axis));
        }
        out[axis] = own == 1 || other == 1 ? (own == 1 ? other : own) : std::max(own, other);
    }
    return out;
}

[[nodiscard]] inline value binary(network_builder& net, ops::binary_kind kind, const value& a, const value& b,
                                  std::string name, const char* what) {
    const nd_shape &x = net.known_shape(a, name), &y = net.known_shape(b, name);
    const facts f{.what = what, .in_place = true, .inputs = 2};
    if (x.rank() > 0 && y.rank() > 0) {
        const nd_shape known = broadcast_known(x, y, name);
        return push(net, ops::binary(kind), {a, b}, known, std::move(name), f);
    }
    return net.add(
        std::make_unique<value_operation<ops::binary>>(
            ops::binary(kind), value_step{.name = std::move(name), .what = what, .inputs = 2, .in_place = true}),
        {a, b}, {}, a.channels == b.channels ? a.channels : 0);
}

[[nodiscard]] inline value binary(network_builder& net, ops::binary_kind kind, const value& x, float number,
                                  bool number_first, std::string name, const char* what) {
    return push_same(net, ops::binary(kind, number, number_first), x, std::move(name),
                     {.what = what, .in_place = true});
}

[[nodiscard]] inline value reshaped(network_builder& net, const value& x, const nd_shape& known,
                                    reshape_operation::rule rule, std::string name) {
    return net.add(std::make_unique<reshape_operation>(std::move(rule), std::move(name)), {x}, {}, known);
}

}  // namespace detail

KDNA_FUNC value concat(network_builder& net, const std::vector<value>& inputs, index_t axis, std::string name) {
    if (inputs.empty()) throw error(name, "at least one input", "none");
    nd_shape known;
    bool all_known = true;
    index_t channels = 0, sum = 0;
    for (const value& v : inputs) {
        const nd_shape& s = net.known_shape(v, name);
        if (s.rank() == 0) {
            all_known = false;
        } else if (known.rank() == 0) {
            known = s;
        } else if (s.rank() != known.rank()) {
            throw error(name, kdna::concat("inputs of rank ", known.rank()), kdna::concat("rank ", s.rank()));
        }
    }
    axis = detail::known_axis(known, axis, name);
    for (const value& v : inputs) {
        const nd_shape& s = net.known_shape(v, name);
        for (index_t i = 0; i < s.rank(); ++i)
            if (i != axis && s[i] != 0) {
                if (known[i] != 0 && s[i] != known[i])
                    throw error(name, kdna::concat("inputs that differ in axis ", axis, " alone"),
                                kdna::concat(i == 1 ? "channels " : "extents ", known[i], " and ", s[i],
                                             i == 1 ? "" : kdna::concat(" of axis ", i)));
                known[i] = s[i];
            }
        const index_t extent = axis == 1 ? v.channels : s.rank() > 0 ? s[axis] : 0;
        sum = extent == 0 || sum < 0 ? -1 : checked_add(sum, extent, name);
        if (axis != 1 && v.channels != 0) channels = v.channels;
    }
    sum = std::max<index_t>(sum, 0);
    auto op = std::make_unique<concat_operation>(axis, static_cast<index_t>(inputs.size()), std::move(name));
    if (!all_known) return net.add(std::move(op), inputs, {}, axis == 1 ? sum : channels);
    known[axis] = sum;
    return net.add(std::move(op), inputs, {}, known);
}

KDNA_FUNC value slice(network_builder& net, const value& x, index_t axis, index_t start, std::optional<index_t> stop,
                      index_t step, const std::string& name) {
    nd_shape known = net.known_shape(x, name);
    axis = detail::known_axis(known, axis, name);
    auto op =
        std::make_unique<slice_operation>(axis, start, stop ? std::optional<extent>(*stop) : std::nullopt, step, name);
    if (known.rank() == 0 && axis == 1 && x.channels > 0) {
        const nd_shape channels{1, x.channels}, out = op->output_shape({&channels, 1});
        return net.add(std::move(op), {x}, {}, out[1]);
    }
    if (known.rank() == 0) return net.add(std::move(op), {x}, {}, axis == 1 ? 0 : x.channels);
    if (known[axis] != 0) known = op->output_shape({&known, 1});
    return net.add(std::move(op), {x}, {}, known);
}

KDNA_FUNC value slice_channels(network_builder& net, const value& x, index_t first, index_t count,
                               const std::string& name) {
    if (first < 0 || count < 1)
        throw error(name, "at least one channel, counted from 0", kdna::concat(count, " from ", first, " on"));
    if (x.channels < 1 || count > x.channels - first)
        throw error(kdna::concat(name, " input"),
                    kdna::concat("at least ", checked_add(first, count, name), " channels"), kdna::concat(x.channels));
    return slice(net, x, 1, first, first + count, 1, name);
}

KDNA_FUNC std::vector<value> split_channels(network_builder& net, const value& x, const std::vector<index_t>& channels,
                                            const std::string& name) {
    index_t sum = 0;
    for (const index_t c : channels) sum = checked_add(sum, c, name);
    if (channels.empty() || sum != x.channels)
        throw error(kdna::concat(name, " input"), kdna::concat(sum, " channels"), kdna::concat(x.channels));
    std::vector<value> parts;
    index_t first = 0;
    for (const index_t c : channels) {
        parts.push_back(slice_channels(net, x, first, c, name));
        first += c;
    }
    return parts;
}

#define KDNA_BINARY(name_)                                                                          \
    KDNA_FUNC value name_(network_builder& net, const value& a, const value& b, std::string name) { \
        return detail::binary(net, ops::binary_kind::name_, a, b, std::move(name), #name_);         \
    }                                                                                               \
    KDNA_FUNC value name_(network_builder& net, const value& a, float b, std::string name) {        \
        return detail::binary(net, ops::binary_kind::name_, a, b, false, std::move(name), #name_);  \
    }
KDNA_BINARY(add)
KDNA_BINARY(sub)
KDNA_BINARY(mul)
KDNA_BINARY(div)
#undef KDNA_BINARY

KDNA_FUNC value sub(network_builder& net, float a, const value& b, std::string name) {
    return detail::binary(net, ops::binary_kind::sub, b, a, true, std::move(name), "sub");
}

KDNA_FUNC value div(network_builder& net, float a, const value& b, std::string name) {
    return detail::binary(net, ops::binary_kind::div, b, a, true, std::move(name), "div");
}

KDNA_FUNC value unary(network_builder& net, const value& x, const ops::unary& function, std::string name) {
    return detail::push_same(net, function, x, std::move(name), {.what = "unary", .in_place = true});
}

KDNA_FUNC value activate(network_builder& net, const value& x, const activation& act, std::string name) {
    detail::require_channels(x, act.of_channel, name);
    ops::activate op(act, name);
    return detail::push_same(net, std::move(op), x, std::move(name), {.what = "activation", .in_place = true});
}

KDNA_FUNC value batch_norm(network_builder& net, const value& x, const kdna::batch_norm& bn, std::string name,
                           const activation& act) {
    detail::require_channels(x, bn.mean, name);
    ops::batch_norm op(bn.weight, bn.bias, bn.mean, bn.var, static_cast<float>(bn.eps), name, act);
    return detail::push_same(net, std::move(op), x, std::move(name), {.what = "batch_norm", .in_place = true});
}

KDNA_FUNC value group_norm(network_builder& net, const value& x, index_t groups, const norm_weights& w,
                           std::string name) {
    detail::require_multiple(x, groups, name);
    detail::require_channels(x, w.weight, name);
    detail::require_channels(x, w.bias, name);
    ops::group_norm op(groups, w.weight, w.bias, w.eps, name);
    return detail::push_same(net, std::move(op), x, std::move(name), {.what = "group_norm"});
}

KDNA_FUNC value layer_norm(network_builder& net, const value& x, const norm_weights& w, std::string name) {
    const nd_shape known = net.known_shape(x, name);
    const auto weights = static_cast<index_t>(std::max(w.weight.size(), w.bias.size()));
    const index_t last = known.rank() > 0 ? known[known.rank() - 1] : 0;
    if (weights != 0 && last != 0 && last != weights)
        throw error(kdna::concat(name, " input"), kdna::concat("a last extent of ", weights), kdna::concat(last));
    if (weights != 0) {
        ops::layer_norm op(nd_shape{weights}, w.weight, w.bias, w.eps, name);
        return detail::push_same(net, std::move(op), x, std::move(name), {.what = "layer_norm", .in_place = true});
    }
    auto make = [eps = w.eps, name](std::span<const nd_shape> in) {
        return ops::layer_norm(nd_shape(in.front().extents().last(1)), {}, {}, eps, name);
    };
    auto op = std::make_unique<shaped_operation<ops::layer_norm>>(
        std::move(make), value_step{.name = std::move(name), .what = "layer_norm"});
    return known.rank() > 0 ? net.add(std::move(op), {x}, {}, known) : net.add(std::move(op), {x}, {}, x.channels);
}

KDNA_FUNC value layer_norm_channels(network_builder& net, const value& x, const norm_weights& w,
                                    const std::string& name) {
    static_cast<void>(detail::image_of(net, x, name));
    detail::require_channels(x, w.weight, name);
    detail::require_channels(x, w.bias, name);
    const value pixels = layer_norm(net, permute(net, x, {0, 2, 3, 1}, name), w, name);
    return permute(net, pixels, {0, 3, 1, 2}, name);
}

KDNA_FUNC value softmax(network_builder& net, const value& x, index_t axis, std::string name) {
    axis = detail::known_axis(net.known_shape(x, name), axis, name);
    return detail::push_same(net, ops::softmax(axis), x, std::move(name), {.what = "softmax", .samplewise = axis != 0});
}

KDNA_FUNC value reduce(network_builder& net, reduce_kind kind, const value& x, const std::vector<index_t>& axes,
                       bool keep, std::string name) {
    const nd_shape known = net.known_shape(x, name);
    std::vector<index_t> sorted;
    sorted.reserve(axes.size());
    for (const index_t axis : axes) sorted.push_back(detail::known_axis(known, axis, name));
    std::sort(sorted.begin(), sorted.end());
    if (kind == reduce_kind::mean && keep && known.rank() == 4 && sorted == std::vector<index_t>{2, 3})
        return net.add_global_average(x);  // this one can use the means that a convolution takes
    ops::reduce op(kind, sorted, keep, name);
    std::vector<index_t> left;
    for (index_t i = 0; i < known.rank(); ++i)
        if (!std::binary_search(sorted.begin(), sorted.end(), i))
            left.push_back(known[i]);
        else if (keep)
            left.push_back(1);
    if (known.rank() > 0 && left.empty()) throw error(name, "an axis that is left", "none");
    return detail::push(net, std::move(op), {x}, left.empty() ? nd_shape() : nd_shape(left), std::move(name),
                        {.what = "reduce", .samplewise = sorted.empty() || sorted.front() != 0});
}

KDNA_FUNC value mean(network_builder& net, const value& x, const std::vector<index_t>& axes, bool keep,
                     std::string name) {
    return reduce(net, reduce_kind::mean, x, axes, keep, std::move(name));
}

KDNA_FUNC value flatten(network_builder& net, const value& x, index_t first, index_t last, const std::string& name) {
    // Negative axes are counted for each plan where the rank is not known yet.
    const reshape_operation::rule rule = reshape_operation::flattened(first, last, name);
    const nd_shape& known = net.known_shape(x, name);
    return detail::reshaped(net, x, known.rank() > 0 ? rule({&known, 1}) : nd_shape(), rule, name);
}

KDNA_FUNC value reshape(network_builder& net, const value& x, const std::vector<extent>& shape,
                        const std::string& name) {
    std::vector<index_t> numbers;
    index_t open = 0;
    for (const extent& e : shape) {
        const index_t n = e.is_number() ? e.of({}, name) : 0;
        if (e.is_number() && n != -1 && n < 1) throw error(name, "extents >= 1, and -1 once", kdna::concat(n));
        if (n == -1 && ++open > 1) throw error(name, "extents >= 1, and -1 once", "-1 twice");
        numbers.push_back(std::max<index_t>(n, 0));
    }
    static_cast<void>(net.known_shape(x, name));
    return detail::reshaped(net, x, nd_shape(numbers, name), reshape_operation::to_extents(shape, name), name);
}

KDNA_FUNC value permute(network_builder& net, const value& x, const std::vector<index_t>& axes,
                        const std::string& name) {
    nd_shape known = net.known_shape(x, name);
    auto op = std::make_unique<permute_operation>(axes, name);
    if (known.rank() == 0) {  // the axes say it
        known = nd_shape(std::vector<index_t>(axes.size(), 0), name);
        if (known.rank() > 1) known[1] = x.channels;
    }
    const nd_shape out = op->output_shape({&known, 1});
    return net.add(std::move(op), {x}, {}, out);
}

KDNA_FUNC value constant(network_builder& net, const nd_shape& shape, std::span<const float> numbers,
                         std::string name) {
    return net.add(std::make_unique<constant_operation>(shape, numbers, std::move(name)), {}, {}, shape);
}

}  // namespace kdna::inline KDNA_ABI::nn

#include <kdna/core/macros_pop.hpp>
