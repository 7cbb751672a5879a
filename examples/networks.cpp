// Networks written by hand: a U-Net, a feature pyramid whose levels share one kernel, and ConvNeXt blocks. docs/building.md shows these
// functions.
#include <cmath>
#include <cstdint>
#include <deque>
#include <iostream>
#include <kdna/kdna.hpp>
#include <kdna/nn/network_functions.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

using namespace kdna;
using nn::value;

/// Stand-ins for trained weights, which live as long as this object. Layers copy what they are made of.
class weights {
public:
    std::span<const float> numbers(index_t count, float low = -0.1F, float high = 0.1F) {
        std::vector<float>& v = all_.emplace_back(static_cast<std::size_t>(count));
        for (float& number : v) {
            state_ = state_ * 1664525U + 1013904223U;
            number = low + (high - low) * static_cast<float>(state_ >> 8U) / static_cast<float>(1U << 24U);
        }
        return v;
    }
    dense_kernel kernel(const kernel_shape& k) { return dense_kernel::pack(k, numbers(weight_count(k))); }
    batch_norm bn(index_t channels) {
        return {.weight = numbers(channels, 0.5F, 1.5F),
                .bias = numbers(channels),
                .mean = numbers(channels),
                .var = numbers(channels, 0.5F, 1.5F)};
    }
    /// y = scale * x, which a convolution takes along as its BatchNorm.
    batch_norm scale(index_t channels) {
        return {.weight = numbers(channels),
                .bias = numbers(channels, 0.0F, 0.0F),
                .mean = numbers(channels, 0.0F, 0.0F),
                .var = numbers(channels, 1.0F, 1.0F),
                .eps = 0.0};
    }

private:
    std::deque<std::vector<float>> all_;
    std::uint32_t state_ = 1;
};

value conv_bn_relu(network_builder& net, weights& w, const value& x, index_t filters, index_t stride = 1) {
    const conv2d layer(w.kernel({.o = filters, .i = x.channels, .kh = 3, .kw = 3}), {.stride = stride, .pad = 1},
                       {.bn = w.bn(filters), .act = activation::relu, .name = concat("conv", filters)});
    return net.add(layer, x);
}

network unet(weights& w, index_t classes) {
    network_builder net;
    const auto two_convs = [&](const value& x, index_t filters) {
        return conv_bn_relu(net, w, conv_bn_relu(net, w, x, filters), filters);
    };
    const value level1 = two_convs(net.input(3), 16);
    const value level2 = two_convs(nn::max_pool(net, level1, {.window = 2, .stride = 2}), 32);
    const value bottom = two_convs(nn::max_pool(net, level2, {.window = 2, .stride = 2}), 64);

    const value up2 = nn::conv_transpose2d(net, bottom, {64, 32, 2, 2}, w.numbers(64 * 32 * 4), {.stride = 2},
                                           {.bias = w.numbers(32), .name = "up2"});
    const value decoded2 = two_convs(nn::concat(net, {level2, up2}), 32);
    const value up1 = nn::resize_like(net, decoded2, level1, nn::resize_mode::bilinear);
    const value decoded1 = two_convs(nn::concat(net, {level1, up1}), 16);

    const conv2d last(w.kernel({.o = classes, .i = 16}), {}, {.bias = w.numbers(classes), .name = "classes"});
    const value probabilities = nn::softmax(net, net.add(last, decoded1), 1);
    return std::move(net).build(probabilities);
}

network feature_pyramid(weights& w, index_t width, bool one_kernel) {
    network_builder net;
    const value c3 = conv_bn_relu(net, w, conv_bn_relu(net, w, net.input(3), 16, 2), 32, 2);
    const value c4 = conv_bn_relu(net, w, c3, 64, 2);
    const value c5 = conv_bn_relu(net, w, c4, 128, 2);

    // A level is its own map, plus the level above it, enlarged.
    const auto lateral = [&](const value& c, const std::optional<value>& above) {
        const conv2d layer(w.kernel({.o = width, .i = c.channels}), {},
                           {.bias = w.numbers(width), .residual = above.has_value(), .name = "lateral"});
        return above ? net.add(layer, c, nn::resize_like(net, *above, c)) : net.add(layer, c);
    };
    const value p5 = lateral(c5, std::nullopt), p4 = lateral(c4, p5), p3 = lateral(c3, p4);

    // The head is one parent kernel for all levels. Each level has a child of it, with a factor for each filter and a BatchNorm.
    const kernel_shape shape{.o = width, .i = width, .kh = 3, .kw = 3};
    const parent_kernel shared = w.kernel(shape);
    const auto head = [&](const value& p, const std::string& name) {
        const parent_kernel parent = one_kernel ? shared : w.kernel(shape);
        const conv2d layer(parent.child({.filter = w.numbers(width)}), {.pad = 1},
                           {.bn = w.bn(width), .act = activation::relu, .name = "head " + name});
        return network_builder::output{name, net.add(layer, p)};
    };
    const std::vector<network_builder::output> outputs{head(p3, "p3"), head(p4, "p4"), head(p5, "p5")};
    return std::move(net).build(outputs);
}

value convnext_block(network_builder& net, weights& w, const value& x) {
    const index_t c = x.channels;
    const conv2d depthwise(w.kernel({.o = c, .i = c, .kh = 7, .kw = 7, .groups = c}), {.pad = 3},
                           {.bias = w.numbers(c), .name = "depthwise"});
    const conv2d wider(w.kernel({.o = 4 * c, .i = c}), {},
                       {.bias = w.numbers(4 * c), .act = activation::gelu, .name = "wider"});
    // The layer scale is folded like a BatchNorm, and the block's input is the residual of its last layer.
    const conv2d back(w.kernel({.o = c, .i = 4 * c}), {},
                      {.bn = w.scale(c), .bias = w.numbers(c), .residual = true, .name = "back"});

    value y = net.add(depthwise, x);
    y = nn::layer_norm_channels(net, y, {.weight = w.numbers(c), .bias = w.numbers(c), .eps = 1e-6F});
    return net.add(back, net.add(wider, y), x);
}

network convnext(weights& w, index_t classes) {
    network_builder net;
    const conv2d patches(w.kernel({.o = 32, .i = 3, .kh = 4, .kw = 4}), {.stride = 4}, {.name = "patches"});
    value y = net.add(patches, net.input(3));
    for (int i = 0; i < 2; ++i) y = convnext_block(net, w, y);
    y = nn::flatten(net, nn::mean(net, y, {2, 3}, true));
    y = nn::layer_norm(net, y, {.weight = w.numbers(32), .bias = w.numbers(32), .eps = 1e-6F});
    const conv2d head(w.kernel({.o = classes, .i = 32}), {}, {.bias = w.numbers(classes), .name = "head"});
    const value scores = nn::linear(net, y, head);
    return std::move(net).build(scores);
}

/// Plans and runs a network on an image, and says what it did. Whether all outputs are numbers.
bool show(const std::string& name, const network& net, index_t extent) {
    const nd_shape shape{1, 3, extent, extent};
    network_plan plan = net.plan({&shape, 1});
    std::vector<float> image(static_cast<std::size_t>(element_count(shape)));
    for (std::size_t i = 0; i < image.size(); ++i) image[i] = std::sin(0.1F * static_cast<float>(i));
    std::vector<std::vector<float>> memory;
    std::vector<nd_view<float>> outputs;
    for (index_t i = 0; i < net.output_count(); ++i) {
        memory.emplace_back(static_cast<std::size_t>(element_count(plan.output_shape(i))));
        outputs.push_back(row_major_view(memory.back().data(), plan.output_shape(i)));
    }
    const nd_view<const float> x = row_major_view<const float>(image.data(), shape);
    net.run(plan, {&x, 1}, outputs);

    std::cout << name << ", " << net.weight_bytes() << " bytes of weights\n" << plan.explain();
    bool finite = true;
    for (index_t i = 0; i < net.output_count(); ++i) {
        std::cout << net.output_name(i) << " " << to_string(plan.output_shape(i)) << "\n";
        for (const float y : memory[static_cast<std::size_t>(i)]) finite = finite && std::isfinite(y);
    }
    std::cout << "\n";
    return finite;
}

int main() {
    weights w;
    const network pyramid = feature_pyramid(w, 64, true), apart = feature_pyramid(w, 64, false);
    // Before a plan, which packs kernels for this processor and may keep transformed ones beside them.
    const index_t one = pyramid.weight_bytes(), three = apart.weight_bytes();

    bool good = show("U-Net", unet(w, 4), 64);
    good = show("Feature pyramid", pyramid, 64) && good;
    good = show("ConvNeXt", convnext(w, 10), 64) && good;
    std::cout << "Feature pyramid with one kernel for three heads: " << one << " bytes; with three kernels: " << three
              << " bytes\n";
    const index_t kernel = 64 * 64 * 9 * static_cast<index_t>(sizeof(float));
    return good && three - one == 2 * kernel ? 0 : 1;
}
