// Steps of a network as functions: what a network that is written by hand needs besides its layers.
//
// Each function adds a step to `net` and returns its output, so that a network reads like PyTorch's `forward`:
//
//     value y = nn::resize_like(net, x, skip, nn::resize_mode::bilinear);
//     y = net.add(conv2d(kernel, {.pad = 1}, {.act = activation::relu}), nn::concat(net, {y, skip}));
//
// Axes have PyTorch's meaning, and may be negative where the rank of the value is known. `name` is for messages and explain(). What
// is known of the shapes is checked when a step is added, and the rest when the network is planned: both throw a kdna::error that
// begins with that name. A value of another network is such an error as well.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <kdna/nn/conv_transpose2d.hpp>
#include <kdna/nn/network_builder.hpp>
#include <kdna/nn/ops/elementwise.hpp>
#include <kdna/nn/ops/pad.hpp>
#include <kdna/nn/ops/pool2d.hpp>
#include <kdna/nn/ops/reduce.hpp>
#include <kdna/nn/ops/resize.hpp>
#include <kdna/nn/value_operations.hpp>

namespace kdna::inline KDNA_ABI::nn {

using value = network::value;
using ops::pad_mode;
using ops::pool_window;
using ops::reduce_kind;
using ops::resize_mode;

// Values behind one another, and parts of one: views, where their place in memory allows.

/// Values behind one another: their channels, or another axis.
KDNA_FUNC value concat(network_builder& net, const std::vector<value>& inputs, index_t axis = 1,
                       std::string name = "concat");
/// Elements start, start + step, ... of an axis, before `stop`. Negative numbers count from the end; no `stop` is the end.
KDNA_FUNC value slice(network_builder& net, const value& x, index_t axis, index_t start,
                      std::optional<index_t> stop = std::nullopt, index_t step = 1, const std::string& name = "slice");
/// Channels first ... first + count - 1, which x must have.
KDNA_FUNC value slice_channels(network_builder& net, const value& x, index_t first, index_t count,
                               const std::string& name = "slice_channels");
/// Parts of so many channels each, which are all that x has.
KDNA_FUNC std::vector<value> split_channels(network_builder& net, const value& x, const std::vector<index_t>& channels,
                                            const std::string& name = "split_channels");

// Element by element. Two values are broadcast as PyTorch does it. An addition that follows a convolution is best the residual of
// that convolution, and an activation its `act`: they cost nothing there.

KDNA_FUNC value add(network_builder& net, const value& a, const value& b, std::string name = "add");
KDNA_FUNC value sub(network_builder& net, const value& a, const value& b, std::string name = "sub");
KDNA_FUNC value mul(network_builder& net, const value& a, const value& b, std::string name = "mul");
KDNA_FUNC value div(network_builder& net, const value& a, const value& b, std::string name = "div");
KDNA_FUNC value add(network_builder& net, const value& a, float b, std::string name = "add");
KDNA_FUNC value sub(network_builder& net, const value& a, float b, std::string name = "sub");
KDNA_FUNC value sub(network_builder& net, float a, const value& b, std::string name = "sub");
KDNA_FUNC value mul(network_builder& net, const value& a, float b, std::string name = "mul");
KDNA_FUNC value div(network_builder& net, const value& a, float b, std::string name = "div");
KDNA_FUNC value div(network_builder& net, float a, const value& b, std::string name = "div");
/// Any function of one value, such as ops::unary::clamp(0.0F, 1.0F) or ops::unary(ops::unary_kind::exp).
KDNA_FUNC value unary(network_builder& net, const value& x, const ops::unary& function, std::string name = "unary");
/// One that has a parameter for each channel needs as many as x has channels.
KDNA_FUNC value activate(network_builder& net, const value& x, const activation& act, std::string name = "activation");

// Images of another size.

/// To rows and columns.
KDNA_FUNC value resize_to(network_builder& net, const value& x, extent2 size, resize_mode mode = resize_mode::nearest,
                          bool align_corners = false, std::string name = "resize");
/// To rows and columns times `scale`, rounded down.
KDNA_FUNC value resize_by(network_builder& net, const value& x, const std::array<double, 2>& scale,
                          resize_mode mode = resize_mode::nearest, bool align_corners = false,
                          std::string name = "resize");
KDNA_FUNC value resize_by(network_builder& net, const value& x, double scale, resize_mode mode = resize_mode::nearest,
                          bool align_corners = false, std::string name = "resize");
/// To the rows and columns of another image.
KDNA_FUNC value resize_like(network_builder& net, const value& x, const value& like,
                            resize_mode mode = resize_mode::nearest, bool align_corners = false,
                            std::string name = "resize");
/// Windows without dilation that lie in the padded image run in bands (nn/bands.hpp); the step's name is max_pool2d then.
KDNA_FUNC value max_pool(network_builder& net, const value& x, const pool_window& window,
                         std::string name = "max_pool2d");
KDNA_FUNC value avg_pool(network_builder& net, const value& x, const pool_window& window, bool count_include_pad = true,
                         std::string name = "avg_pool2d");
KDNA_FUNC value adaptive_max_pool(network_builder& net, const value& x, extent2 size,
                                  std::string name = "adaptive_max_pool2d");
/// One pixel is network_builder::add_global_average.
KDNA_FUNC value adaptive_avg_pool(network_builder& net, const value& x, extent2 size,
                                  std::string name = "adaptive_avg_pool2d");
/// Rows and columns around an image; `number` is what pad_mode::constant puts there.
KDNA_FUNC value pad(network_builder& net, const value& x, const padding& around, pad_mode mode = pad_mode::constant,
                    float number = 0.0F, std::string name = "pad");
/// [N, C * r * r, H, W] to [N, C, H * r, W * r], and back.
KDNA_FUNC value pixel_shuffle(network_builder& net, const value& x, index_t factor, std::string name = "pixel_shuffle");
KDNA_FUNC value pixel_unshuffle(network_builder& net, const value& x, index_t factor,
                                std::string name = "pixel_unshuffle");
KDNA_FUNC value channel_shuffle(network_builder& net, const value& x, index_t groups,
                                std::string name = "channel_shuffle");

// Normalisations, softmax, means, and products.

/// Weights of a normalisation, or none: 1 and 0. They are read when the step is added.
struct norm_weights {
    std::span<const float> weight{}, bias{};
    float eps = 1e-5F;
};
/// One that follows a convolution is best its `bn`. The activation is computed in the same pass.
KDNA_FUNC value batch_norm(network_builder& net, const value& x, const kdna::batch_norm& bn,
                           std::string name = "batch_norm", const activation& act = activation::none);
KDNA_FUNC value group_norm(network_builder& net, const value& x, index_t groups, const norm_weights& w = {},
                           std::string name = "group_norm");
/// Over the last axis.
KDNA_FUNC value layer_norm(network_builder& net, const value& x, const norm_weights& w = {},
                           std::string name = "layer_norm");
/// Over the channels of an image, pixel by pixel, as ConvNeXt has it: the channels are the last axis of a view of the image.
KDNA_FUNC value layer_norm_channels(network_builder& net, const value& x, const norm_weights& w = {},
                                    const std::string& name = "layer_norm");
KDNA_FUNC value softmax(network_builder& net, const value& x, index_t axis, std::string name = "softmax");
/// The reduced axes keep an extent of 1 with `keep`, and vanish without. A mean over the rows and columns of an image that keeps them
/// is network_builder::add_global_average.
KDNA_FUNC value reduce(network_builder& net, reduce_kind kind, const value& x, const std::vector<index_t>& axes,
                       bool keep = false, std::string name = "reduce");
KDNA_FUNC value mean(network_builder& net, const value& x, const std::vector<index_t>& axes, bool keep = false,
                     std::string name = "mean");

/// Products of matrices [..., M, K] and [..., K, N]; the axes in front are broadcast. The ranks of both must be known.
KDNA_FUNC value matmul(network_builder& net, const value& a, const value& b, std::string name = "matmul");

// The same elements in another shape: views, where their place in memory allows.

/// Axes first ... last as one.
KDNA_FUNC value flatten(network_builder& net, const value& x, index_t first = 1, index_t last = -1,
                        const std::string& name = "flatten");
/// Extents may follow from those of x, for example {extent::dim(0, 0), 4, 16, extent::dim(0, 2), extent::dim(0, 3)} to cut 64
/// channels into groups; one of them may be -1, which is what is left. Of the output, only extents that are numbers are known.
KDNA_FUNC value reshape(network_builder& net, const value& x, const std::vector<extent>& shape,
                        const std::string& name = "reshape");
/// Axis i of the output is axis axes[i] of x.
KDNA_FUNC value permute(network_builder& net, const value& x, const std::vector<index_t>& axes,
                        const std::string& name = "permute");

// Layers, and numbers of the network's own.

/// A copy of `numbers`, row-major. Parameters of channels that are broadcast to images have the shape [1, C, 1, 1].
KDNA_FUNC value constant(network_builder& net, const nd_shape& shape, std::span<const float> numbers,
                         std::string name = "constant");
/// A transposed convolution with `weights` [C, O / groups, KH, KW], and a residual if options.residual says so. Its name is
/// options.name.
KDNA_FUNC value conv_transpose2d(network_builder& net, const value& x, const nd_shape& weight_shape,
                                 std::span<const float> weights, const conv_transpose_params& params = {},
                                 const conv_options& options = {.name = "conv_transpose2d"},
                                 const std::optional<value>& residual = std::nullopt);

namespace detail {

/// Pixels [N, ..., C] as an image [N, C, ..., ...], if x has the rank 3 or 4 and `channels` at the end.
[[nodiscard]] KDNA_FUNC value rows_as_image(network_builder& net, const value& x, index_t channels,
                                            const std::string& name);
/// The way back, to the rank of x.
[[nodiscard]] KDNA_FUNC value image_as_rows(network_builder& net, const value& y, const value& x,
                                            const std::string& name);

}  // namespace detail

/// A fully connected layer on the last axis of x, which is [N, C], [N, L, C] or [N, H, W, C]. The layer is a 1x1 convolution without
/// router, stride, padding or residual, as in network_builder::add_linear; it runs on a view of x.
template <kernel_source S, conv_backend B>
value linear(network_builder& net, const value& x, conv2d<S, no_router, B> layer) {
    if (net.known_shape(x, layer.name()).rank() == 2) return net.add_linear(std::move(layer), x);
    const std::string name = layer.name();
    if (layer.kernel().taps() != 1 || layer.params().stride != 1 || layer.params().pad != 0)
        throw error(name, "a 1x1 kernel with stride 1 and no padding in a fully connected layer",
                    to_string(layer.kernel()));
    const value image = detail::rows_as_image(net, x, layer.kernel().i, name);
    return detail::image_as_rows(net, net.add(std::move(layer), image), x, name);
}

}  // namespace kdna::inline KDNA_ABI::nn

#ifndef KDNA_COMPILED
#include <kdna/nn/network_functions.ipp>
#include <kdna/nn/network_image_functions.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
