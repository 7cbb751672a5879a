// The dynamic layers that are measured, 3x3 with BatchNorm and ReLU behind them, by the state_dict keys of
// tools/kdna_torch: the layer under "conv.", BatchNorm under "bn.".
//
// `Tensors` says where weights come from: t.values(name, shape) is a tensor's floats, alive until the layer is made.
#pragma once

#include <algorithm>
#include <cmath>
#include <kdna/dna/acdc.hpp>
#include <kdna/dna/condconv.hpp>
#include <kdna/dna/dcd.hpp>
#include <kdna/dna/dyconv.hpp>
#include <kdna/dna/dymn.hpp>
#include <kdna/dna/kernel_warehouse.hpp>
#include <kdna/dna/modulated.hpp>
#include <kdna/dna/odconv.hpp>
#include <kdna/kdna.hpp>
#include <kdna/models/dynamic_layers.hpp>
#include <kdna/nn/dcd_conv2d.hpp>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/random.hpp"
#include "support/shapes.hpp"

namespace kdna_bench {

/// Random tensors by name, the same in every object: none is near zero or an identity, and logits of routers are such
/// that samples take clearly different routes.
class random_tensors {
public:
    /// How layers store the kernels that are made of these.
    kdna::number_format storage = kdna::number_format::float32;

    [[nodiscard]] std::span<const float> values(const std::string& name, const std::vector<index_t>& shape) {
        std::vector<float>& v = made_[name];
        index_t count = 1, inputs = 1;
        for (std::size_t i = 0; i < shape.size(); ++i) {
            count *= shape[i];
            // Kernels that are mixed have one axis more, in front of the filters.
            if (i >= (shape.size() == 5 ? 2U : 1U)) inputs *= shape[i];
        }
        if (name.ends_with("running_var")) {
            v = uniform(count, 0.5F, 2.0F);
        } else if (name == "context") {
            v = normal_values(generator_, count, 0.0F, 1.0F);
        } else if (shape.size() == 1) {
            v = name.ends_with(".weight") ? uniform(count, 0.5F, 1.5F) : normal_values(generator_, count, 0.0F, 0.5F);
        } else {
            float gain = 2.0F;
            // A product of two matrices with as many terms as phi has rows.
            if (name.ends_with("fc_phi.weight")) gain = 1.0F / std::sqrt(static_cast<float>(shape[0]));
            v = normal_values(generator_, count, 0.0F, std::sqrt(gain / static_cast<float>(inputs)));
        }
        return v;
    }

private:
    [[nodiscard]] std::vector<float> uniform(index_t count, float low, float high) {
        std::uniform_real_distribution<float> in(low, high);
        std::vector<float> out(static_cast<std::size_t>(count));
        for (float& v : out) v = in(generator_);
        return out;
    }
    std::mt19937 generator_{20250330};
    std::map<std::string, std::vector<float>> made_;
};

/// The cells of the warehouse that ResNet18's KernelWarehouse 1x layers of this width are made from.
[[nodiscard]] constexpr index_t warehouse_cells(index_t channels) noexcept {
    return channels <= 64 ? 56 : channels < 512 ? 47 : 27;
}

namespace detail {

template <class Tensors>
[[nodiscard]] kdna::batch_norm batch_norm_of(Tensors& t, const std::string& name, index_t channels) {
    return {.weight = t.values(name + ".weight", {channels}),
            .bias = t.values(name + ".bias", {channels}),
            .mean = t.values(name + ".running_mean", {channels}),
            .var = t.values(name + ".running_var", {channels})};
}
template <class Tensors>
[[nodiscard]] kdna::conv_options options(Tensors& t, const kdna::kernel_shape& k) {
    return {.bn = batch_norm_of(t, "bn", k.o), .act = kdna::activation::relu, .name = "layer"};
}
template <class Tensors>
[[nodiscard]] kdna::linear_weights head(Tensors& t, const std::string& name, index_t outputs, index_t inputs) {
    return {.weight = t.values(name + ".weight", {outputs, inputs, 1, 1}), .bias = t.values(name + ".bias", {outputs})};
}
template <class Tensors>
[[nodiscard]] kdna::number_format storage_of(const Tensors& t) {
    if constexpr (requires { t.storage; }) return t.storage;
    return kdna::number_format::float32;
}
template <class Tensors>
[[nodiscard]] kdna::dense_kernel one_kernel(Tensors& t, const std::string& name, const kdna::kernel_shape& k) {
    return kdna::dense_kernel::pack(k, t.values(name, {k.o, k.channels_per_group(), k.kh, k.kw}), name, storage_of(t));
}
template <class Tensors>
[[nodiscard]] kdna::mixture_kernel mixture(Tensors& t, index_t n, const kdna::kernel_shape& k) {
    return kdna::mixture_kernel::pack(n, k, t.values("conv.weight", {n, k.o, k.channels_per_group(), k.kh, k.kw}), {},
                                      "conv.weight", storage_of(t));
}
template <class Tensors>
[[nodiscard]] kdna::odconv_router odconv_attention(Tensors& t, const kdna::kernel_shape& k, index_t kernels) {
    const index_t hidden = std::max<index_t>(k.i / 16, 16);
    const std::string a = "conv.attention.";
    kdna::odconv_weights w{.fc = t.values(a + "fc.weight", {hidden, k.i, 1, 1}),
                           .bn = batch_norm_of(t, a + "bn", hidden),
                           .channel = head(t, a + "channel_fc", k.i, hidden),
                           .filter = head(t, a + "filter_fc", k.o, hidden),
                           .spatial = head(t, a + "spatial_fc", k.taps(), hidden)};
    if (kernels > 1) w.kernel = head(t, a + "kernel_fc", kernels, hidden);
    return kdna::odconv_router(w);
}

}  // namespace detail

// A method: make<Backend>(shape, tensors) is its layer.

struct plain_method {
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        return kdna::conv2d<kdna::dense_kernel, kdna::no_router, B>(detail::one_kernel(t, "conv.weight", s.kernel),
                                                                    s.params(), detail::options(t, s.kernel));
    }
};

/// One kernel: attention scales channels, filters and taps.
struct odconv_1x_method {
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        const auto weight = t.values("conv.weight", {1, k.o, k.channels_per_group(), k.kh, k.kw});
        return kdna::conv2d<kdna::dense_kernel, kdna::odconv_router, B>(
            kdna::dense_kernel::pack(k, weight), s.params(), detail::options(t, k), detail::odconv_attention(t, k, 1));
    }
};

/// And mixes four kernels.
struct odconv_4x_method {
    static constexpr index_t kernels = 4;
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        return kdna::conv2d<kdna::mixture_kernel, kdna::odconv_router, B>(
            detail::mixture(t, kernels, k), s.params(), detail::options(t, k), detail::odconv_attention(t, k, kernels));
    }
};

struct condconv_4x_method {
    static constexpr index_t kernels = 4;
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        kdna::condconv_router routing(t.values("conv.routing.weight", {kernels, k.i}),
                                      t.values("conv.routing.bias", {kernels}), k.i);
        return kdna::conv2d<kdna::mixture_kernel, kdna::condconv_router, B>(detail::mixture(t, kernels, k), s.params(),
                                                                            detail::options(t, k), std::move(routing));
    }
};

struct dyconv_4x_method {
    static constexpr index_t kernels = 4;
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        const index_t hidden = k.i / 4 + 1;
        kdna::dyconv_router routing(t.values("conv.attention.fc1.weight", {hidden, k.i, 1, 1}),
                                    detail::head(t, "conv.attention.fc2", kernels, hidden), k.i);
        return kdna::conv2d<kdna::mixture_kernel, kdna::dyconv_router, B>(detail::mixture(t, kernels, k), s.params(),
                                                                          detail::options(t, k), std::move(routing));
    }
};

/// Values of a sample that come with each call, in the tensor `context` [most_samples, width].
inline constexpr index_t most_samples = 8;
/// A layer that is routed by a context, with the contexts of most_samples samples; it is used like one without.
template <class Layer>
struct with_context {
    using plan_type = typename Layer::plan_type;

    template <class Tensors>
    with_context(Layer l, Tensors& t, index_t context) : layer(std::move(l)), width(context) {
        const auto values = t.values("context", {most_samples, width});
        contexts.assign(values.begin(), values.end());
    }
    [[nodiscard]] plan_type plan(const kdna::shape4& in, const kdna::plan_options& options) const {
        return layer.plan(in, options);
    }
    void run(plan_type& p, const kdna::tensor_view<const float>& x, const kdna::tensor_view<float>& y) const noexcept {
        layer.run(p, x, {contexts.data(), width}, y);
    }
    Layer layer;
    index_t width;
    std::vector<float> contexts{};
};

/// DyMN's: four kernels, mixed by a context as long as in its blocks with so many channels.
struct dymn_4x_method {
    static constexpr index_t kernels = 4;
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        const index_t context = std::clamp<index_t>(k.i / 4, 32, 128);
        kdna::dymn_router routing({.weight = t.values("conv.residuals.0.weight", {kernels, context}),
                                   .bias = t.values("conv.residuals.0.bias", {kernels})},
                                  context);
        kdna::conv2d<kdna::mixture_kernel, kdna::dymn_router, B> layer(
            kdna::mixture_kernel::pack(
                kernels, k, t.values("conv.weight", {1, 1, kernels, k.o * k.channels_per_group() * k.taps()})),
            s.params(), detail::options(t, k), std::move(routing));
        return with_context(std::move(layer), t, context);
    }
};

/// StyleGAN2's, with an affine layer from a latent vector of 512 values.
struct modulated_method {
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        constexpr index_t context = 512;
        const auto kernel = detail::one_kernel(t, "conv.weight", k);
        kdna::modulated_router routing(kernel, {.affine = {.weight = t.values("conv.affine.weight", {k.i, context}),
                                                           .bias = t.values("conv.affine.bias", {k.i})}});
        kdna::conv2d<kdna::dense_kernel, kdna::modulated_router, B> layer(kernel, s.params(), detail::options(t, k),
                                                                          std::move(routing));
        return with_context(std::move(layer), t, context);
    }
};

/// As in ResNet's basic blocks: the router reads 2 x 2 means of each channel. On the CPU's backend the plan chooses
/// between one kernel per sample and the low-rank part on activations; others compute it as one kernel.
struct dcd_method {
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        constexpr index_t grid = 2;
        const kdna::kernel_shape& k = s.kernel;
        const index_t features = grid * grid * k.i;
        auto rank = static_cast<index_t>(std::sqrt(static_cast<double>(features)));
        const index_t hidden = std::max<index_t>(std::max(features, rank * rank) / 16, 4);
        const kdna::dcd_weights w{.squeeze = t.values("conv.fc.0.weight", {hidden, features}),
                                  .gate = t.values("conv.fc.1.fc.0.weight", {hidden, hidden}),
                                  .phi = t.values("conv.fc_phi.weight", {rank * rank, hidden}),
                                  .scale = t.values("conv.fc_scale.weight", {k.o, hidden}),
                                  .q = t.values("conv.q.weight", {rank, k.i, 1, 1}),
                                  .p = t.values("conv.p.weight", {k.o, rank, 1, 1}),
                                  .bn1 = detail::batch_norm_of(t, "conv.bn1", rank),
                                  .bn2 = detail::batch_norm_of(t, "conv.bn2", rank),
                                  .grid = grid};
        kdna::dense_kernel w0 = detail::one_kernel(t, "conv.conv.weight", k);
        const kdna::conv_options around = detail::options(t, k);
        if constexpr (std::is_same_v<B, kdna::backend::cpu>)
            return kdna::basic_dcd_conv2d<B>(std::move(w0), w, s.params(), around);
        else
            return kdna::conv2d<kdna::dcd_kernel, kdna::dcd_router, B>(kdna::dcd_kernel(std::move(w0), w), s.params(),
                                                                       around, kdna::dcd_router(w, k.i));
    }
};

/// Cells of as many filters and channels as the kernel has, one tap each.
struct warehouse_method {
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        const index_t n = warehouse_cells(k.i), combinations = k.taps(), hidden = std::max<index_t>(k.i / 16, 16);
        const kdna::cell_shape cell{.n = n, .o = k.o, .c = k.i};
        kdna::warehouse_kernel kernel(
            kdna::warehouse::pack(cell, t.values("warehouse_manager.weights.0", {n, k.o, k.i, 1, 1}),
                                  "warehouse_manager.weights.0", detail::storage_of(t)),
            k);
        const std::string a = "conv.attention.";
        const kdna::warehouse_weights w{.fc1 = t.values(a + "fc1.weight", {hidden, k.i}),
                                        .norm = detail::batch_norm_of(t, a + "norm1", hidden),
                                        .fc2 = {.weight = t.values(a + "fc2.weight", {combinations * (n + 1), hidden}),
                                                .bias = t.values(a + "fc2.bias", {combinations * (n + 1)})}};
        return kdna::conv2d<kdna::warehouse_kernel, kdna::warehouse_router, B>(
            std::move(kernel), s.params(), detail::options(t, k), kdna::warehouse_router(w, combinations, n, k.i));
    }
};

/// Four atoms; the kernel is put together from coefficients that layers share.
struct acdc_method {
    static constexpr index_t atoms = 4;
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        const auto a = kdna::shared_coefficients::pack(k.o, k.i, atoms, t.values("coefficients", {k.o, k.i, atoms}));
        kdna::acdc_kernel kernel(a, k, t.values("conv.atoms", {atoms, k.kh, k.kw}));
        return kdna::conv2d<kdna::acdc_kernel, kdna::no_router, B>(std::move(kernel), s.params(),
                                                                   detail::options(t, k));
    }
};

/// The same layer with its kernel written out when it is loaded.
struct acdc_expanded_method {
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        const index_t pairs = k.o * k.i, taps = k.taps(), m = acdc_method::atoms;
        const auto a = t.values("coefficients", {k.o, k.i, m}), d = t.values("conv.atoms", {m, k.kh, k.kw});
        std::vector<float> kernel(static_cast<std::size_t>(pairs * taps), 0.0F);
        for (index_t p = 0; p < pairs; ++p)
            for (index_t tap = 0; tap < taps; ++tap)
                for (index_t i = 0; i < m; ++i)
                    kernel[static_cast<std::size_t>(p * taps + tap)] +=
                        a[static_cast<std::size_t>(p * m + i)] * d[static_cast<std::size_t>(i * taps + tap)];
        return kdna::conv2d<kdna::dense_kernel, kdna::no_router, B>(kdna::dense_kernel::pack(k, kernel), s.params(),
                                                                    detail::options(t, k));
    }
};

/// A KernelDNA child: gate, spatial and filter adapter on its parent's kernel.
struct child_method {
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static auto make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        const index_t hidden = k.i / 4;
        const std::string se = "gate.se.";
        kdna::squeeze_excite gate({.fc1 = t.values(se + "fc1.weight", {hidden, k.i, 1, 1}),
                                   .bn = detail::batch_norm_of(t, se + "bn", hidden),
                                   .fc2 = t.values(se + "fc2.weight", {k.i, hidden, 1, 1}),
                                   .fc2_bias = t.values(se + "fc2.bias", {k.i})});
        const kdna::static_adapter adapter{.spatial = t.values("static_spatial_attn", {1, 1, k.kh, k.kw}),
                                           .filter = t.values("static_filter_attn", {k.o, 1, 1, 1})};
        const auto parent = detail::one_kernel(t, "parent.weight", k);
        return kdna::conv2d<kdna::dense_kernel, kdna::squeeze_excite, B>(parent.child(adapter), s.params(),
                                                                         detail::options(t, k), std::move(gate));
    }
};

/// A layer that is several steps of a network, used like a conv2d.
struct network_layer {
    using plan_type = kdna::network_plan;

    [[nodiscard]] plan_type plan(const kdna::shape4& in, const kdna::plan_options& options = {}) const {
        return net.plan(in, options);
    }
    void run(plan_type& p, const kdna::tensor_view<const float>& x, const kdna::tensor_view<float>& y) const noexcept {
        net.run(p, x, y);
    }
    kdna::network net;
};

/// LSNet's LSConv: kernels of every position from a network with a depthwise 7x7, applied as 3x3 that eight channels share.
struct lsconv_method {
    static constexpr bool steps = true;  // its oracle is one with convolutions by backend::reference
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static network_layer make(const layer_shape& s, Tensors& t) {
        const index_t c = s.kernel.i, half = c / 2, rows = c / 8 * 9;
        kdna::state_dict weights;
        const auto take = [&](const std::string& name, const std::vector<index_t>& shape) {
            weights.add(name, kdna::tensor_data::copy_of<float>(shape, t.values("conv." + name, shape)));
        };
        const auto take_bn = [&](const std::string& name, index_t channels) {
            for (const char* key : {".weight", ".bias", ".running_mean", ".running_var"}) take(name + key, {channels});
        };
        take("lkp.cv1.c.weight", {half, c, 1, 1});
        take("lkp.cv2.c.weight", {half, 1, 7, 7});
        take("lkp.cv3.c.weight", {half, half, 1, 1});
        for (const char* unit : {"lkp.cv1.bn", "lkp.cv2.bn", "lkp.cv3.bn"}) take_bn(unit, half);
        take("lkp.cv4.weight", {rows, half, 1, 1});
        for (const char* name : {"lkp.cv4.bias", "lkp.norm.weight", "lkp.norm.bias"}) take(name, {rows});
        take_bn("bn", c);
        kdna::network_builder net;
        const kdna::models::module_builder<B> layer(net, kdna::state_dict_reader(weights));
        const kdna::models::value y = kdna::models::lsconv_layer(layer, net.input(c), 3);
        const kdna::conv_options after = detail::options(t, s.kernel);
        return {std::move(net).build(kdna::nn::batch_norm(net, y, *after.bn, "bn", after.act))};
    }
};

/// FDConv with four kernels: a factor of every weight, and with `Bands` frequency band modulation in front.
template <bool Bands>
struct fdconv_method {
    static constexpr index_t kernels = 4;
    template <kdna::conv_backend B, class Tensors>
    [[nodiscard]] static network_layer make(const layer_shape& s, Tensors& t) {
        const kdna::kernel_shape& k = s.kernel;
        const index_t hidden = std::max<index_t>(k.i / 16, 16), taps = k.taps();
        kdna::state_dict weights;
        const auto take = [&](const std::string& name, const std::vector<index_t>& shape) {
            weights.add(name, kdna::tensor_data::copy_of<float>(shape, t.values("conv." + name, shape)));
        };
        const auto head = [&](const std::string& name, index_t outputs) {
            take("KSM_Global." + name + ".weight", {outputs, hidden, 1, 1});
            take("KSM_Global." + name + ".bias", {outputs});
        };
        take("weight", {kernels, k.o, k.i, k.kh, k.kw});
        take("KSM_Global.fc.weight", {hidden, k.i, 1, 1});
        for (const char* key : {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"})
            take(std::string("KSM_Global.") + key, {hidden});
        take("KSM_Global.relu.scale", {1});
        take("KSM_Global.relu.bias", {1});
        head("channel_fc", k.i);
        head("filter_fc", k.o);
        head("spatial_fc", taps);
        head("kernel_fc", kernels);
        take("KSM_Local.norm.weight", {k.i});
        take("KSM_Local.norm.bias", {k.i});
        take("KSM_Local.conv.weight", {k.o * taps, 1, 5});
        for (index_t i = 0; Bands && i < 3; ++i) {
            const std::string conv = kdna::concat("FBM.freq_weight_conv_list.", i);
            take(conv + ".weight", {1, k.i, 3, 3});
            take(conv + ".bias", {1});
        }
        kdna::network_builder net;
        const kdna::state_dict_reader reader(weights);
        const kdna::models::value x = net.input(k.i),
                                  y = kdna::models::fdconv_bands(kdna::models::module_builder<>(net, reader), x);
        const kdna::conv_options after = detail::options(t, k);
        return {std::move(net).build(kdna::models::fdconv_layer(kdna::models::module_builder<B>(net, reader), y, x, k,
                                                                {.act = after.act, .bn = after.bn}))};
    }
};

}  // namespace kdna_bench
