// Random networks, built twice: as steps of a network and as layers that run one by one on tensors of their own.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>

#include <kdna/nn/network_builder.hpp>

#include "support/conv_cases.hpp"

namespace kdna_test {

/// A network and the same computation without arena, workspace sharing, steps and stages.
struct twin_networks {
    struct value {
        kdna::tensor<float> data;
        std::vector<float> means{};  ///< of the channels, as the convolution took them; empty: by none
        [[nodiscard]] const float* known_means() const { return means.empty() ? nullptr : means.data(); }
    };
    using values = std::vector<value>;

    std::optional<kdna::network> network;
    std::vector<std::function<value(const values&)>> steps;

    [[nodiscard]] std::vector<float> one_by_one(const kdna::tensor_view<const float>& x) const {
        values all;
        all.push_back({kdna::tensor<float>(x.shape)});
        kdna::copy(x, all.back().data.view());
        for (const auto& step : steps) all.push_back(step(all));
        return values_of(all.back().data.view());
    }
};

template <class Backend>
class twin_builder {
public:
    explicit twin_builder(index_t channels, const kdna::machine& target = kdna::machine::host()) : target_(target) {
        values_.push_back(net_.input(channels));
    }

    template <class Layer>
    index_t convolution(const Layer& layer, index_t x, index_t residual = -1) {
        values_.push_back(net_.add(layer, at(x), residual < 0 ? std::nullopt : std::optional(at(residual))));
        return step([=, target = target_](const twin_networks::values& v) {
            const twin_networks::value& in = v[static_cast<std::size_t>(x)];
            const auto added =
                residual < 0 ? kdna::tensor_view<const float>{} : v[static_cast<std::size_t>(residual)].data.view();
            const kdna::shape4 shape = layer.output_shape(in.data.shape());
            twin_networks::value y{kdna::tensor<float>(shape, kdna::layout::nhwc),
                                   std::vector<float>(static_cast<std::size_t>(shape.n * shape.c))};
            auto plan = layer.plan(in.data.shape(),
                                   {.order = x == 0 ? kdna::conv::input_order::any : kdna::conv::input_order::nhwc,
                                    .target = target,
                                    .channel_means = true});
            layer.run(plan, in.data.view(), y.data.view(), added, {in.known_means(), y.means.data()});
            return y;
        });
    }
    index_t pool(const kdna::max_pool2d& p, index_t x) {
        values_.push_back(net_.add(p, at(x)));
        return step([=](const twin_networks::values& v) {
            const kdna::tensor<float>& in = v[static_cast<std::size_t>(x)].data;
            twin_networks::value y{kdna::tensor<float>(p.output_shape(in.shape()), kdna::layout::nhwc)};
            p.run(in.view(), y.data.view());
            return y;
        });
    }
    index_t average(index_t x) {
        values_.push_back(net_.add_global_average(at(x)));
        return step([=](const twin_networks::values& v) {
            const twin_networks::value& known = v[static_cast<std::size_t>(x)];
            const auto in = known.data.view();
            twin_networks::value y{kdna::tensor<float>({in.shape.n, in.shape.c, 1, 1}, kdna::layout::nhwc)};
            if (!known.means.empty())
                std::copy(known.means.begin(), known.means.end(), y.data.data());
            else
                for (index_t n = 0; n < in.shape.n; ++n) kdna::global_average(in, n, y.data.view().at(n, 0, 0, 0));
            return y;
        });
    }
    template <class Layer>
    index_t linear(const Layer& layer, index_t x) {
        values_.push_back(net_.add_linear(layer, at(x)));
        return step([=](const twin_networks::values& v) {
            return twin_networks::value{layer(v[static_cast<std::size_t>(x)].data.view())};
        });
    }
    [[nodiscard]] index_t channels(index_t x) const { return at(x).channels; }
    [[nodiscard]] twin_networks build() && {
        twin_.network = std::move(net_).build(values_.back());
        return std::move(twin_);
    }

private:
    [[nodiscard]] const kdna::network::value& at(index_t id) const { return values_[static_cast<std::size_t>(id)]; }
    template <class F>
    index_t step(F f) {
        twin_.steps.emplace_back(std::move(f));
        return static_cast<index_t>(twin_.steps.size());
    }

    kdna::machine target_;  // that both are planned for
    kdna::network_builder net_;
    std::vector<kdna::network::value> values_;
    twin_networks twin_;
};

/// A random network of plain layers, children of one parent, depthwise layers and pools, with skip connections of any
/// length and values that nobody uses; `wide` channels after the stem.
template <class Backend = kdna::backend::cpu>
twin_networks random_network(rng& r, index_t in_channels, bool head) {
    using namespace kdna;
    const index_t width = r.between(3, 20);
    const kernel_shape k3{.o = width, .i = width, .kh = 3, .kw = 3};
    const auto parent = parent_kernel::pack(k3, r.floats(weight_count(k3), -0.3, 0.3));
    twin_builder<Backend> b(in_channels);
    const kernel_shape stem{.o = width, .i = in_channels, .kh = 3, .kw = 3};
    std::vector<index_t> values{
        b.convolution(conv2d<dense_kernel, no_router, Backend>(dense_kernel::pack(stem, r.floats(weight_count(stem))),
                                                               {.stride = 2, .pad = 1}, {.name = "stem"}),
                      0)};
    const index_t steps = r.between(2, 9);
    for (index_t i = 0; i < steps; ++i) {
        const auto some_value = [&] {
            return values[static_cast<std::size_t>(r.between(0, static_cast<index_t>(values.size()) - 1))];
        };
        const index_t x = r.chance(0.7) ? values.back() : some_value(), added = r.chance(0.5) ? some_value() : -1;
        const auto bn = bn_tensors::random(r, width);
        const conv_options options{
            .bn = view_of(bn), .residual = added >= 0, .act = activation::relu, .name = concat("step", i)};
        switch (r.between(0, 3)) {
            case 0:
                values.push_back(
                    b.convolution(conv2d<dense_kernel, no_router, Backend>(parent, {.pad = 1}, options), x, added));
                break;
            case 1: {
                const auto spatial = r.floats(9), filter = r.floats(width);
                values.push_back(b.convolution(conv2d<dense_kernel, squeeze_excite, Backend>(
                                                   parent.child({.spatial = spatial, .filter = filter}), {.pad = 1},
                                                   options, gate_of(se_tensors::random(r, width, 2))),
                                               x, added));
                break;
            }
            case 2: {
                const kernel_shape dw{.o = width, .i = width, .kh = 3, .kw = 3, .groups = width};
                values.push_back(b.convolution(conv2d<dense_kernel, no_router, Backend>(
                                                   dense_kernel::pack(dw, r.floats(9 * width)), {.pad = 1}, options),
                                               x, added));
                break;
            }
            default: values.push_back(b.pool(max_pool2d(3, 1, 1), x));
        }
    }
    if (head) {
        const auto weight = r.floats(7 * width), bias = r.floats(7);
        b.linear(conv2d<dense_kernel, no_router, Backend>(dense_kernel::pack({.o = 7, .i = width}, weight), {},
                                                          {.bias = bias, .name = "fc"}),
                 b.average(values.back()));
    }
    return std::move(b).build();
}

}  // namespace kdna_test
