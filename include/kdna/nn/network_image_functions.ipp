// Definitions of nn/network_functions.hpp: images of another size, matrices, and layers.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/nn/network_functions.hpp>
#include <kdna/nn/network_functions.ipp>
#include <kdna/nn/ops/matmul.hpp>

namespace kdna::inline KDNA_ABI::nn {

namespace detail {

/// What is known of an image of another size.
[[nodiscard]] inline nd_shape resized(nd_shape known, index_t channels, const extent2& size) {
    known[1] = channels;
    known[2] = size.h;
    known[3] = size.w;
    return known;
}

}  // namespace detail

KDNA_FUNC value resize_to(network_builder& net, const value& x, extent2 size, resize_mode mode, bool align_corners,
                          std::string name) {
    const nd_shape known = detail::resized(detail::image_of(net, x, name), x.channels, size);
    ops::resize op(mode, size, align_corners, name);
    return detail::push(net, std::move(op), {x}, known, std::move(name), {.what = "resize"});
}

KDNA_FUNC value resize_by(network_builder& net, const value& x, const std::array<double, 2>& scale, resize_mode mode,
                          bool align_corners, std::string name) {
    const nd_shape known = detail::resized(detail::image_of(net, x, name), x.channels, 0);
    ops::resize op(mode, scale, align_corners, name);
    return detail::push(net, std::move(op), {x}, known, std::move(name), {.what = "resize"});
}

KDNA_FUNC value resize_by(network_builder& net, const value& x, double scale, resize_mode mode, bool align_corners,
                          std::string name) {
    return resize_by(net, x, std::array<double, 2>{scale, scale}, mode, align_corners, std::move(name));
}

KDNA_FUNC value resize_like(network_builder& net, const value& x, const value& like, resize_mode mode,
                            bool align_corners, std::string name) {
    const nd_shape size = detail::image_of(net, like, name);
    const nd_shape known = detail::resized(detail::image_of(net, x, name), x.channels, {size[2], size[3]});
    auto make = [mode, align_corners, name](std::span<const nd_shape> in) {
        const extent2 to(extent::dim(1, 2).of(in, name), extent::dim(1, 3).of(in, name));
        return ops::resize(mode, to, align_corners, name);
    };
    return net.add(std::make_unique<shaped_operation<ops::resize>>(
                       std::move(make), value_step{.name = std::move(name), .what = "resize"}),
                   {x}, {like}, known);
}

KDNA_FUNC value max_pool(network_builder& net, const value& x, const pool_window& window, std::string name) {
    window.check(name);
    const nd_shape known = detail::resized(detail::image_of(net, x, name), x.channels, 0);
    if (window.is_plain())  // this one can run in bands
        return net.add(std::make_unique<max_pool_operation>(kdna::max_pool2d(window.window, window.stride, window.pad)),
                       {x}, {}, known);
    ops::max_pool2d op(window, name);
    return detail::push(net, std::move(op), {x}, known, std::move(name), {.what = "max_pool2d"});
}

KDNA_FUNC value avg_pool(network_builder& net, const value& x, const pool_window& window, bool count_include_pad,
                         std::string name) {
    const nd_shape known = detail::resized(detail::image_of(net, x, name), x.channels, 0);
    ops::avg_pool2d op(window, count_include_pad, std::nullopt, name);
    return detail::push(net, std::move(op), {x}, known, std::move(name), {.what = "avg_pool2d"});
}

KDNA_FUNC value adaptive_max_pool(network_builder& net, const value& x, extent2 size, std::string name) {
    const nd_shape known = detail::resized(detail::image_of(net, x, name), x.channels, size);
    ops::adaptive_max_pool2d op(size, name);
    return detail::push(net, std::move(op), {x}, known, std::move(name), {.what = "adaptive_max_pool2d"});
}

KDNA_FUNC value adaptive_avg_pool(network_builder& net, const value& x, extent2 size, std::string name) {
    const nd_shape known = detail::resized(detail::image_of(net, x, name), x.channels, size);
    if (size == extent2(1)) return net.add_global_average(x);  // this one can use the means that a convolution takes
    ops::adaptive_avg_pool2d op(size, name);
    return detail::push(net, std::move(op), {x}, known, std::move(name), {.what = "adaptive_avg_pool2d"});
}

KDNA_FUNC value pad(network_builder& net, const value& x, const padding& around, pad_mode mode, float number,
                    std::string name) {
    nd_shape known = detail::image_of(net, x, name);
    const std::array<index_t, 4> before{0, 0, around.top, around.left}, after{0, 0, around.bottom, around.right};
    ops::pad op(before, after, mode, number, name);
    const auto padded = [](index_t extent, index_t more) {
        return extent == 0 ? 0 : std::max<index_t>(extent + more, 0);
    };
    known =
        detail::resized(known, x.channels,
                        {padded(known[2], around.top + around.bottom), padded(known[3], around.left + around.right)});
    return detail::push(net, std::move(op), {x}, known, std::move(name), {.what = "pad"});
}

KDNA_FUNC value pixel_shuffle(network_builder& net, const value& x, index_t factor, std::string name) {
    nd_shape known = detail::image_of(net, x, name);
    ops::pixel_shuffle op(factor, name);
    detail::require_multiple(x, checked_mul(factor, factor, name), name);
    known = detail::resized(known, x.channels / (factor * factor),
                            {checked_mul(known[2], factor, name), checked_mul(known[3], factor, name)});
    return detail::push(net, std::move(op), {x}, known, std::move(name), {.what = "pixel_shuffle"});
}

KDNA_FUNC value pixel_unshuffle(network_builder& net, const value& x, index_t factor, std::string name) {
    nd_shape known = detail::image_of(net, x, name);
    ops::pixel_unshuffle op(factor, name);
    known = detail::resized(known, checked_mul(x.channels, checked_mul(factor, factor, name), name),
                            {known[2] / factor, known[3] / factor});
    return detail::push(net, std::move(op), {x}, known, std::move(name), {.what = "pixel_unshuffle"});
}

KDNA_FUNC value channel_shuffle(network_builder& net, const value& x, index_t groups, std::string name) {
    ops::channel_shuffle op(groups, name);
    detail::require_multiple(x, groups, name);
    return detail::push_same(net, std::move(op), x, std::move(name), {.what = "channel_shuffle"});
}

KDNA_FUNC value matmul(network_builder& net, const value& a, const value& b, std::string name) {
    nd_shape x = net.known_shape(a, name), y = net.known_shape(b, name);
    const index_t p = x.rank(), q = y.rank();
    if (p < 2 || q < 2)
        throw error(name, "two values whose ranks are known, and from 2 to 5", kdna::concat("ranks ", p, " and ", q));
    const index_t rows = x[p - 2], columns = y[q - 1];
    if (x[p - 1] != 0 && y[q - 2] != 0 && x[p - 1] != y[q - 2])
        throw error(name, kdna::concat("a second input of ", x[p - 1], " rows"), kdna::concat(y[q - 2]));
    x[p - 2] = x[p - 1] = y[q - 2] = y[q - 1] = 1;
    nd_shape known = detail::broadcast_known(x, y, name);
    known[known.rank() - 2] = rows;
    known[known.rank() - 1] = columns;
    return net.add(
        std::make_unique<value_operation<ops::matmul>>(
            ops::matmul(),
            value_step{
                .name = std::move(name), .what = "matmul", .inputs = 2, .samplewise = ops::matmul::samplewise(p, q)}),
        {a, b}, {}, known);
}

KDNA_FUNC value conv_transpose2d(network_builder& net, const value& x, const nd_shape& weight_shape,
                                 std::span<const float> weights, const conv_transpose_params& params,
                                 const conv_options& options, const std::optional<value>& residual) {
    const std::string& name = options.name;
    nd_shape known = detail::image_of(net, x, name);
    auto op = std::make_unique<conv_transpose2d_operation>(weight_shape.extents(), weights, params, options);
    detail::require_channels(x, weight_shape[0], name);
    known = detail::resized(known, weight_shape[1] * params.groups, 0);
    std::vector<value> inputs{x};
    if (options.residual != residual.has_value())
        throw error(kdna::concat(name, " residual"), options.residual ? "one" : "none", residual ? "one" : "none");
    if (residual) {
        detail::require_channels(*residual, known[1], kdna::concat(name, " residual,"));
        inputs.push_back(*residual);
    }
    return net.add(std::move(op), inputs, {}, known);
}

namespace detail {

KDNA_FUNC value rows_as_image(network_builder& net, const value& x, index_t channels, const std::string& name) {
    const nd_shape known = net.known_shape(x, name);
    if (known.rank() != 3 && known.rank() != 4)
        throw error(kdna::concat(name, " input"), "a value known to be [N, C], [N, L, C] or [N, H, W, C]",
                    kdna::concat("rank ", known.rank()));
    const index_t last = known[known.rank() - 1];
    if (last != 0 && last != channels)
        throw error(kdna::concat(name, " input"), kdna::concat("a last extent of ", channels), kdna::concat(last));
    value rows = x;
    if (known.rank() == 3)
        rows = reshaped(
            net, x, {known[0], known[1], 1, channels},
            [](std::span<const nd_shape> in) {
                return nd_shape{in[0][0], in[0][1], 1, in[0][2]};
            },
            name);
    auto op = std::make_unique<permute_operation>(std::vector<index_t>{0, 3, 1, 2}, name);
    const nd_shape image{known[0], channels, known[1], known.rank() == 3 ? 1 : known[2]};
    return net.add(std::move(op), {rows}, {}, image);
}

KDNA_FUNC value image_as_rows(network_builder& net, const value& y, const value& x, const std::string& name) {
    const nd_shape from = net.known_shape(x, name);
    const value pixels = net.add(std::make_unique<permute_operation>(std::vector<index_t>{0, 2, 3, 1}, name), {y}, {},
                                 nd_shape{from[0], from[1], from.rank() == 3 ? 1 : from[2], y.channels});
    if (from.rank() == 4) return pixels;
    return reshaped(
        net, pixels, {from[0], from[1], y.channels},
        [](std::span<const nd_shape> in) {
            return nd_shape{in[0][0], in[0][1], in[0][3]};
        },
        name);
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI::nn

#include <kdna/core/macros_pop.hpp>
