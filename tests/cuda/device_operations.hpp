// The operations that are no convolutions on a device, beside the same network on the CPU.
#pragma once

#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <kdna/cuda/layers/network.hpp>
#include <kdna/nn/network_functions.hpp>
#include <kdna/nn/x_volution.hpp>

#include "cuda/device_networks.hpp"
#include "support/activations.hpp"

namespace kdna_test {

/// Unit roundoff of what a precision stores.
constexpr double stored_roundoff(precision p) {
    return p == precision::f16 ? 0x1p-11 : p == precision::bf16 ? 0x1p-8 : 0x1p-24;
}

/// Numbers that every precision has exactly.
inline std::vector<float> exact_numbers(rng& r, index_t count, index_t low = -64, index_t high = 64) {
    std::vector<float> out;
    for (index_t i = 0; i < count; ++i) out.push_back(static_cast<float>(r.between(low, high)) / 16);
    return out;
}

/// A network of many outputs, each of which one operation makes from the inputs: x [N, C, H, W], per_channel [N, C] as pixels,
/// and per_pixel [N, 1, H, W].
class operations_network {
public:
    operations_network(index_t channels, rng& r) : r_(&r), c_(channels) {
        x_ = net_.input(channels);
        pixels_ = net_.input("per_channel", {0, channels});
        per_pixel_ = net_.input(1);
        add_element_functions();
        add_images();
        add_moves();
    }
    [[nodiscard]] kdna::network build() && {
        std::vector<kdna::network_builder::output> outputs;
        for (std::size_t i = 0; i < made_.size(); ++i) outputs.push_back({kdna::concat(i, ", ", names_[i]), made_[i]});
        return std::move(net_).build(outputs);
    }

private:
    using value = kdna::network::value;
    void add(const std::string& name, const value& v) {
        names_.push_back(name);
        made_.push_back(v);
    }
    void add_element_functions() {
        using namespace kdna;
        const auto image = nn::reshape(net_, pixels_, {extent::dim(0, 0), c_, 1, 1});
        const std::vector<float> numbers = exact_numbers(*r_, c_, 1), slopes = r_->floats(c_, 0.1, 0.9);
        const auto constant = nn::constant(net_, {1, c_, 1, 1}, numbers);
        using binary = value (*)(network_builder&, const value&, const value&, std::string);
        for (const auto& [what, f] : {std::pair<const char*, binary>{"add", &nn::add},
                                      {"sub", &nn::sub},
                                      {"mul", &nn::mul},
                                      {"div", &nn::div}}) {
            add(what, f(net_, x_, x_, what));
            add(concat(what, ", channels"), f(net_, x_, image, what));
            add(concat(what, ", channels first"), f(net_, image, x_, what));
            add(concat(what, ", constant"), f(net_, x_, constant, what));
            add(concat(what, ", pixels"), f(net_, x_, per_pixel_, what));
        }
        for (const auto kind : {ops::binary_kind::maximum, ops::binary_kind::minimum})
            add("larger or smaller",
                net_.add(std::make_unique<value_operation<ops::binary>>(
                             ops::binary(kind), value_step{.name = "larger or smaller", .inputs = 2}),
                         {x_, per_pixel_}, {}, net_.known_shape(x_)));
        add("scalar", nn::mul(net_, x_, 0.75F));
        add("scalar first", nn::div(net_, 2.0F, x_));
        for (const activation_kind kind : all_activation_kinds()) {
            activation act{kind, 0.25F, {}};
            if (takes_channels(kind)) act.of_channel = slopes;
            add(to_string(kind), nn::activate(net_, x_, act));
        }
        add("one slope",
            net_.add(std::make_unique<value_operation<ops::activate>>(
                         ops::activate(activation::prelu(std::span(slopes).first(1))), value_step{.name = "one slope"}),
                     {x_}, {}, net_.known_shape(x_)));
        for (const auto kind : {ops::unary_kind::abs, ops::unary_kind::neg, ops::unary_kind::exp, ops::unary_kind::log,
                                ops::unary_kind::sqrt, ops::unary_kind::rsqrt})
            add(concat("unary ", static_cast<int>(kind)), nn::unary(net_, x_, ops::unary(kind)));
        add("clamp", nn::unary(net_, x_, ops::unary::clamp(-1.5F, 2.25F)));
        const auto weight = r_->floats(c_, 0.5, 1.5), bias = r_->floats(c_), mean = r_->floats(c_),
                   var = r_->floats(c_, 0.5, 2);
        const kdna::batch_norm bn{weight, bias, mean, var};
        add("batch norm", nn::batch_norm(net_, x_, bn));
        for (const activation& act : {activation{activation::relu6}, activation{activation::silu},
                                      activation::prelu(slopes), activation::prelu(std::span(slopes).first(1))})
            add(concat("batch norm, ", to_string(act.kind)), nn::batch_norm(net_, x_, bn, "batch_norm", act));
    }
    void add_images() {
        using namespace kdna;
        using nn::pool_window;
        for (const pool_window& w :
             {pool_window{.window = 3, .stride = 2, .pad = {1, 0, 1, 1}},
              pool_window{.window = {2, 3}, .stride = {3, 2}, .pad = {1, 1, 0, 2}, .ceil_mode = true}}) {
            add("max pool", nn::max_pool(net_, x_, w));
            add("mean pool", nn::avg_pool(net_, x_, w));
            add("mean pool without padding", nn::avg_pool(net_, x_, w, false));
        }
        add("dilated pool", nn::max_pool(net_, x_, {.window = 2, .stride = 1, .pad = 1, .dilation = 3}));
        add("windows", nn::adaptive_max_pool(net_, x_, {3, 4}));
        add("mean windows", nn::adaptive_avg_pool(net_, x_, {3, 9}));
        add("mean", net_.add_global_average(x_));
        using nn::resize_mode;
        add("nearest", nn::resize_by(net_, x_, 2.0));
        add("nearest, smaller", nn::resize_to(net_, x_, {5, 3}));
        add("nearest, like", nn::resize_like(net_, x_, per_pixel_));
        add("bilinear", nn::resize_by(net_, x_, std::array{1.7, 2.3}, resize_mode::bilinear));
        add("bilinear, corners", nn::resize_to(net_, x_, {5, 12}, resize_mode::bilinear, true));
        using nn::pad_mode;
        for (const pad_mode mode : {pad_mode::constant, pad_mode::reflect, pad_mode::replicate, pad_mode::circular})
            add("pad", nn::pad(net_, x_, {2, 1, 0, 3}, mode, 0.5F));
        add("crop", nn::pad(net_, x_, {-1, 2, 1, -2}));
    }
    void add_moves() {
        using namespace kdna;
        for (const index_t axis : {0, 1}) add("concat", nn::concat(net_, {x_, x_, x_}, axis));
        add("concat of rows", nn::concat(net_, {x_, per_pixel_}, 1));
        add("concat of columns", nn::concat(net_, {x_, x_}, 3));
        add("slice of rows", nn::slice(net_, x_, 2, 1, -1, 2));
        if (c_ > 1) add("slice of channels", nn::slice(net_, x_, 1, 1));
        add("flatten", nn::flatten(net_, x_));
        add("permute", nn::permute(net_, x_, {0, 2, 3, 1}));
        add("rank 3", nn::reshape(net_, nn::flatten(net_, x_, 2), {extent::dim(0, 0), -1}));
        if (c_ % 4 != 0) return;
        add("pixel shuffle", nn::pixel_shuffle(net_, x_, 2));
        add("pixel unshuffle", nn::pixel_unshuffle(net_, nn::resize_by(net_, x_, 2.0), 2));
        add("channel shuffle", nn::channel_shuffle(net_, x_, 4));
        add("groups of channels",
            nn::flatten(
                net_,
                nn::permute(net_,
                            nn::reshape(net_, x_, {extent::dim(0, 0), 4, c_ / 4, extent::dim(0, 2), extent::dim(0, 3)}),
                            {0, 2, 1, 3, 4}),
                1, 2));
    }

    rng* r_;
    index_t c_;
    kdna::network_builder net_;
    value x_{}, pixels_{}, per_pixel_{};
    std::vector<std::string> names_;
    std::vector<value> made_;
};

/// All outputs of a network on the CPU, row-major.
inline std::vector<kdna::tensor<float>> run_on_host(const kdna::network& net,
                                                    const std::vector<kdna::tensor<float>>& x) {
    using namespace kdna;
    std::vector<nd_view<const float>> in;
    std::vector<nd_shape> shapes;
    for (std::size_t i = 0; i < x.size(); ++i) {
        nd_view<const float> v = x[i].view();
        if (net.input_extents(static_cast<index_t>(i)).size() == 2)
            v = {v.data, {x[i].shape().n, x[i].shape().c}, {v.stride[0], v.stride[1]}};
        in.push_back(v);
        shapes.push_back(v.shape);
    }
    network_plan plan = net.plan(shapes);
    std::vector<tensor<float>> y;
    std::vector<nd_view<float>> out;
    for (index_t i = 0; i < net.output_count(); ++i) {
        y.emplace_back(image_shape(plan.output_shape(i), "output"), layout::nchw);
        out.push_back(row_major_view(y.back().data(), plan.output_shape(i)));
    }
    net.run(plan, in, out);
    return y;
}
template <class Network>
std::vector<kdna::tensor<float>> run_on_device(const Network& net, const std::vector<kdna::tensor<float>>& x) {
    std::vector<kdna::tensor_view<const float>> in;
    for (const auto& t : x) in.push_back(t.view());
    return net(in);
}

/// Every operation, for whole packs of channels and others. Each rounds once: its result, whose own error in float32 is a few
/// roundings of the largest number that it meets.
template <class Device>
void check_operations(Device& device, std::span<const index_t> channels, std::span<const precision> precisions) {
    using namespace kdna;
    for (const index_t c : channels) {
        rng r(960, static_cast<std::uint64_t>(c));
        const network host = operations_network(c, r).build();
        const shape4 shape{2, c, 7, 6};
        std::vector<tensor<float>> x;
        for (const shape4& s : {shape, shape4{2, c, 1, 1}, shape4{2, 1, 7, 6}}) {
            x.emplace_back(s, layout::nchw);
            const std::vector<float> v = exact_numbers(r, element_count(s));
            std::copy(v.begin(), v.end(), x.back().data());
        }
        const auto expected = run_on_host(host, x);
        for (const precision p : precisions) {
            const cuda::basic_network<Device> net(host, device, {.numbers = p});
            const auto found = run_on_device(net, x);
            REQUIRE(found.size() == expected.size());
            for (std::size_t i = 0; i < found.size(); ++i) {
                INFO(c << " channels, " << std::string(cuda::to_string(p)) << ", "
                       << host.output_name(static_cast<index_t>(i)));
                REQUIRE(found[i].shape() == expected[i].shape());
                const auto y = found[i].span(), e = expected[i].span();
                double largest = 4.0;
                for (const float v : e)
                    if (std::isfinite(v)) largest = std::max(largest, std::abs(static_cast<double>(v)));
                bool close = true;
                for (std::size_t k = 0; k < e.size(); ++k) {
                    const double a = static_cast<double>(y[k]), b = static_cast<double>(e[k]);
                    const double allowed = stored_roundoff(p) * std::abs(b) + 8 * 0x1p-24 * largest + 0x1p-25;
                    close = close && (a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= allowed);
                }
                CHECK(close);
            }
        }
    }
}

/// Layers that read a part of a value and make a part of another: the network that `kind` says, as wide as it is.
inline kdna::network parts_network(rng& r, index_t channels) {
    using namespace kdna;
    network_builder net;
    const auto packed = [&](const kernel_shape& k) {
        const double bound = std::sqrt(3.0 / static_cast<double>(k.taps() * k.channels_per_group()));
        return dense_kernel::pack(k, r.floats(weight_count(k), -bound, bound));
    };
    const auto bias = r.floats(channels);
    const auto conv = [&](const network::value& x, index_t groups, std::optional<network::value> residual) {
        conv_options o{.bias = bias, .act = activation::relu, .name = concat("conv of ", groups)};
        o.residual = residual.has_value();
        return net.add(conv2d<>(packed({channels, channels, 3, 3, groups}), {.pad = 1}, o), x, residual);
    };
    const auto x = net.input(3);
    const auto stem = net.add(conv2d<>(packed({4 * channels, 3, 3, 3}), {.stride = 2, .pad = 1}, {.name = "stem"}), x);
    std::vector<network::value> parts = nn::split_channels(net, stem, {channels, channels, channels, channels});
    parts.push_back(conv(parts[0], 1, parts[1]));
    parts.push_back(conv(parts[1], channels, parts[2]));
    const index_t hidden = 4;
    const std::vector<float> mean(static_cast<std::size_t>(hidden), 0.1F), var(mean.size(), 0.5F),
        ones(mean.size(), 1.0F), zeros(mean.size(), 0.25F);
    const auto fc1 = r.floats(hidden * channels), fc2 = r.floats(hidden * channels), fc2_bias = r.floats(channels);
    const squeeze_excite gate({.fc1 = fc1, .bn = {ones, zeros, mean, var}, .fc2 = fc2, .fc2_bias = fc2_bias});
    parts.push_back(
        net.add(conv2d<dense_kernel, squeeze_excite>(packed({channels, channels, 1, 1}), {}, {.name = "gated"}, gate),
                parts[2]));
    parts.push_back(net.add(conv2d<dense_kernel, squeeze_excite>(packed({channels, channels, 3, 3, channels}),
                                                                 {.pad = 1}, {.name = "gated depthwise"}, gate),
                            parts[3]));
    parts.push_back(net.add(
        x_volution(packed({channels, channels, 3, 3}), 0.1F, {.pad = 1}, {.residual = true, .name = "attention"}),
        parts[3], parts[0]));
    parts.push_back(nn::activate(net, parts[4], activation::silu));
    const auto all = nn::concat(net, parts);
    const auto halved = net.add(conv2d<>(packed({channels, 10 * channels, 1, 1}), {}, {.name = "head"}), all);
    return std::move(net).build(
        std::vector<network_builder::output>{{"all", all}, {"mean", net.add_global_average(parts[5])}, {"y", halved}});
}

template <class Device>
void check_parts(Device& device, std::span<const index_t> channels, std::span<const precision> precisions) {
    using namespace kdna;
    for (const index_t c : channels) {
        rng r(961, static_cast<std::uint64_t>(c));
        const network host = parts_network(r, c);
        std::vector<tensor<float>> x;
        x.push_back(random_images({2, 3, 11, 14}, 962));
        const auto expected = run_on_host(host, x);
        for (const precision p : precisions) {
            INFO(c << " channels, " << std::string(cuda::to_string(p)));
            const cuda::basic_network<Device> net(host, device, {.numbers = p});
            const auto found = run_on_device(net, x);
            for (std::size_t i = 0; i < found.size(); ++i)
                CHECK(relative_error(found[i].span(), expected[i].span()) <= network_tolerance(p));
        }
    }
}

}  // namespace kdna_test
