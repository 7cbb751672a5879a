// Random networks as files, for tests of what becomes of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <kdna/core/nd_shape.hpp>
#include <kdna/io/state_dict.hpp>

#include "support/random.hpp"

namespace kdna_test {

using kdna::concat;
using kdna::nd_shape;
using kdna::state_dict;
using kdna::tensor_data;

/// Writes a random network: its JSON, and its tensors.
class graph_writer {
public:
    explicit graph_writer(rng& r) : r_(&r) {}

    /// An image of C channels. Rows and columns are written as free, and have the given extents in the example.
    std::string input(const nd_shape& example, bool fixed = false) {
        const std::string name = concat("x", inputs_);
        json_inputs_ += concat(inputs_++ == 0 ? "" : ", ", "{\"name\": \"", name, "\", \"shape\": [",
                               fixed ? concat(example[0]) : "null", ", ", example[1],
                               fixed ? concat(", ", example[2], ", ", example[3]) : ", null, null",
                               "], \"example\": ", to_string(example), "}");
        shapes_[name] = example;
        return name;
    }
    std::string add(const std::string& op, const std::vector<std::string>& in, const nd_shape& shape,
                    const std::string& attributes = "", const std::map<std::string, std::string>& tensors = {}) {
        const std::string out = concat("v", count_++);
        std::string text =
            concat("{\"op\": \"", op, "\", \"name\": \"", op, "_", out, "\", \"out\": \"", out, "\", \"in\": [");
        for (std::size_t i = 0; i < in.size(); ++i) text += concat(i == 0 ? "" : ", ", "\"", in[i], "\"");
        text += "], \"tensors\": {";
        bool first = true;
        for (const auto& [role, name] : tensors) {
            text += concat(first ? "" : ", ", "\"", role, "\": \"", name, "\"");
            first = false;
        }
        nodes_ += concat(nodes_.empty() ? "" : ",\n ", text, "}", attributes.empty() ? "" : ", ", attributes, "}");
        shapes_[out] = shape;
        last_ = out;
        return out;
    }
    std::string tensor(const std::vector<index_t>& shape, double low = -0.5, double high = 0.5) {
        const std::string name = concat("t", weights_.size());
        index_t count = 1;
        for (const index_t e : shape) count *= e;
        const std::vector<float> values = r_->floats(count, low, high);
        weights_.add(name, tensor_data::copy_of<float>(shape, values));
        return name;
    }
    /// Weights that keep values at their size: a sum over `depth` products.
    std::string weights(const std::vector<index_t>& shape, index_t depth) {
        const double bound = std::sqrt(3.0 / static_cast<double>(depth));
        return tensor(shape, -bound, bound);
    }
    [[nodiscard]] const nd_shape& shape(const std::string& v) const { return shapes_.at(v); }
    [[nodiscard]] state_dict finish(const std::vector<std::string>& outputs) {
        std::string out;
        for (std::size_t i = 0; i < outputs.size(); ++i)
            out += concat(i == 0 ? "" : ", ", "{\"name\": \"y", i, "\", \"value\": \"", outputs[i], "\"}");
        weights_.metadata()["kdna.graph"] = concat("{\"version\": 1, \"inputs\": [", json_inputs_, "], \"outputs\": [",
                                                   out, "], \"nodes\": [\n ", nodes_, "]}");
        return std::move(weights_);
    }
    [[nodiscard]] rng& random() const { return *r_; }

private:
    rng* r_;
    index_t inputs_ = 0, count_ = 0;
    std::string json_inputs_, nodes_, last_;
    std::map<std::string, nd_shape> shapes_;
    state_dict weights_;
};

/// Layers and operations on images. Extents are those of the example; expressions keep the network free of them.
class random_layers {
public:
    random_layers(rng& r, graph_writer& g, bool images_only = false) : r_(&r), g_(&g), images_only_(images_only) {}

    std::string conv(const std::string& x, index_t filters, index_t extent, index_t stride = 1, index_t groups = 1,
                     const std::string& shared = "") {
        const nd_shape& s = g_->shape(x);
        const index_t pad = extent / 2;
        const auto out = [&](index_t size) { return (size + 2 * pad - extent) / stride + 1; };
        std::map<std::string, std::string> tensors{
            {"weight", shared.empty()
                           ? g_->weights({filters, s[1] / groups, extent, extent}, s[1] / groups * extent * extent)
                           : shared}};
        if (r_->chance(0.4)) tensors["bias"] = g_->tensor({filters});
        return g_->add("conv2d", {x}, {s[0], filters, out(s[2]), out(s[3])},
                       concat("\"stride\": [", stride, ", ", stride, "], \"pad\": [", pad, ", ", pad, ", ", pad, ", ",
                              pad, "], \"groups\": ", groups),
                       tensors);
    }
    std::string bn(const std::string& x) {
        const index_t c = g_->shape(x)[1];
        return g_->add("batch_norm", {x}, g_->shape(x), "\"eps\": 0.001",
                       {{"weight", g_->tensor({c}, 0.5, 1.5)},
                        {"bias", g_->tensor({c})},
                        {"mean", g_->tensor({c})},
                        {"var", g_->tensor({c}, 0.5, 2)}});
    }
    std::string act(const std::string& x) {
        if (r_->chance(0.1)) {
            const std::string slopes = g_->tensor({r_->chance(0.5) ? 1 : g_->shape(x)[1]});
            return g_->add("activation", {x}, g_->shape(x), "\"kind\": \"prelu\"", {{"a", slopes}});
        }
        const char* kind = r_->pick({"relu", "relu6", "silu", "hard_swish", "gelu", "leaky_relu", "sigmoid"});
        return g_->add("activation", {x}, g_->shape(x), concat("\"kind\": \"", kind, "\""));
    }
    std::string global_mean(const std::string& x) {
        const nd_shape& s = g_->shape(x);
        return r_->chance(0.5) ? g_->add("mean", {x}, {s[0], s[1], 1, 1}, "\"axes\": [2, 3], \"keep\": true")
                               : g_->add("adaptive_avg_pool2d", {x}, {s[0], s[1], 1, 1}, "\"size\": [1, 1]");
    }
    /// Convolutions that share a mixture's coefficients, as timm's CondConv blocks do.
    std::string mixtures(const std::string& x) {
        const nd_shape s = g_->shape(x);
        const index_t n = r_->between(1, 4);
        std::string route = global_mean(x);
        if (r_->chance(0.7)) {
            route = g_->add("flatten", {route}, {s[0], s[1]}, "\"first\": 1");
            route = g_->add("linear", {route}, {s[0], n}, "",
                            {{"weight", g_->weights({n, s[1]}, s[1])}, {"bias", g_->tensor({n})}});
        } else {
            route = conv(route, n, 1);
        }
        route = g_->add("activation", {route}, g_->shape(route), "\"kind\": \"sigmoid\"");
        std::string y = x;
        for (const bool depthwise : {false, true}) {
            std::map<std::string, std::string> tensors{
                {"weight", g_->weights({n, s[1], depthwise ? 1 : s[1], 3, 3}, (depthwise ? 9 : 9 * s[1]) * n)}};
            if (r_->chance(0.4)) tensors["bias"] = g_->tensor({n, s[1]});
            y = g_->add("conv2d", {y, route}, s,
                        concat("\"method\": \"mixture\", \"pad\": [1, 1, 1, 1], \"groups\": ", depthwise ? s[1] : 1),
                        tensors);
            if (r_->chance(0.7)) y = bn(y);
            if (depthwise && r_->chance(0.5)) y = g_->add("add", {y, x}, s);
            if (r_->chance(0.7)) y = act(y);
        }
        return y;
    }
    /// Convolutions that are routed by one context, as in DyMN's blocks and StyleGAN2's.
    std::string contextual(const std::string& x) {
        const nd_shape s = g_->shape(x);
        const index_t width = r_->between(1, 9);
        std::string context = g_->add("flatten", {global_mean(x)}, {s[0], s[1]}, "\"first\": 1");
        context = g_->add("linear", {context}, {s[0], width}, "",
                          {{"weight", g_->weights({width, s[1]}, s[1])}, {"bias", g_->tensor({width})}});
        std::string y = x;
        for (const bool modulated : {r_->chance(0.5), r_->chance(0.5)}) {
            std::map<std::string, std::string> tensors;
            if (modulated) {
                tensors = {{"weight", g_->weights({s[1], s[1], 3, 3}, 9 * s[1])},
                           {"affine.weight", g_->weights({s[1], width}, width)},
                           {"affine.bias", g_->tensor({s[1]})}};
                if (r_->chance(0.4)) tensors["bias"] = g_->tensor({s[1]});
            } else {
                const index_t n = r_->between(1, 4);
                tensors = {{"weight", g_->weights({n, s[1], s[1], 3, 3}, 9 * s[1] * n)},
                           {"residuals.weight", g_->weights({n, width}, width)}};
                if (r_->chance(0.6)) tensors["residuals.bias"] = g_->tensor({n});
                if (r_->chance(0.4)) tensors["bias"] = g_->tensor({n, s[1]});
            }
            // Modulated styles may all be near zero, and then nothing but a large eps keeps the factors from a division by little.
            y = g_->add(
                "conv2d", {y, context}, s,
                concat("\"pad\": [1, 1, 1, 1], \"method\": ", modulated ? "\"modulated\", \"eps\": 0.5" : "\"dymn\""),
                tensors);
            if (r_->chance(0.5)) y = bn(y);
            if (r_->chance(0.5)) y = g_->add("add", {y, x}, s);
            if (r_->chance(0.7)) y = act(y);
        }
        if (r_->chance(0.5)) return y;
        const index_t theta = 2 * r_->between(1, 3) * s[1];
        const std::string lines =
            g_->add("linear", {context}, {s[0], theta}, "", {{"weight", g_->weights({theta, width}, width)}});
        return g_->add("dynamic_relu", {y, lines}, s);
    }
    /// Kernels of every position that a small network computes, as involution and LSConv have it.
    std::string positions(const std::string& x) {
        const nd_shape s = g_->shape(x);
        const index_t groups = s[1] % 2 == 0 && r_->chance(0.7) ? s[1] / 2 : 1, extent = r_->chance(0.8) ? 3 : 1;
        std::string w = conv(x, groups * extent * extent, 1);
        if (r_->chance(0.5)) w = g_->add("group_norm", {w}, g_->shape(w), concat("\"groups\": ", groups));
        if (r_->chance(0.5))
            w = g_->add("reshape", {w}, {s[0], groups, extent * extent, s[2], s[3]},
                        concat("\"shape\": [[\"dim\", \"", x, "\", 0], ", groups, ", ", extent * extent,
                               ", [\"dim\", \"", x, "\", 2], [\"dim\", \"", x, "\", 3]]"));
        const index_t pad = extent / 2;
        std::string y =
            g_->add("position_conv2d", {x, w}, s,
                    concat("\"window\": [", extent, ", ", extent, "], \"pad\": [", pad, ", ", pad, ", ", pad, ", ", pad,
                           "], \"groups\": ", groups, r_->chance(0.5) ? ", \"sharing\": \"interleaved\"" : ""));
        if (r_->chance(0.7)) y = bn(y);
        if (r_->chance(0.6)) y = g_->add("add", {y, x}, s);
        if (r_->chance(0.4)) y = act(y);
        return y;
    }
    /// x * gate(x), as it is written by hand.
    std::string squeeze_excite(const std::string& x) {
        const index_t c = g_->shape(x)[1], hidden = std::max<index_t>(c / 2, 1);
        std::string h = conv(global_mean(x), hidden, 1);
        if (r_->chance(0.3)) h = bn(h);
        h = g_->add("activation", {h}, g_->shape(h), r_->chance(0.5) ? "\"kind\": \"relu\"" : "\"kind\": \"silu\"");
        h = conv(h, c, 1);
        h = g_->add("activation", {h}, g_->shape(h),
                    r_->chance(0.5) ? "\"kind\": \"sigmoid\"" : "\"kind\": \"hard_sigmoid\"");
        return r_->chance(0.5) ? g_->add("mul", {x, h}, g_->shape(x)) : g_->add("mul", {h, x}, g_->shape(x));
    }
    std::string concat_of(const std::vector<std::string>& parts) {
        nd_shape s = g_->shape(parts.front());
        s[1] = 0;
        for (const std::string& p : parts) s[1] += g_->shape(p)[1];
        return g_->add("concat", parts, s, r_->chance(0.5) ? "\"axis\": 1" : "\"axis\": -3");
    }
    std::string channels_of(const std::string& x, index_t first, index_t last) {
        nd_shape s = g_->shape(x);
        const bool open = last == s[1] && r_->chance(0.5);
        s[1] = last - first;
        return g_->add("slice", {x}, s,
                       concat("\"axis\": 1, \"start\": ", first, open ? "" : concat(", \"stop\": ", last)));
    }
    /// [N, H, W, C] inside: norm, two fully connected layers, a factor for each channel, and the input again. The eps is large,
    /// so that two nearly equal channels do not magnify roundings.
    std::string convnext_block(const std::string& x) {
        const nd_shape s = g_->shape(x);
        const index_t c = s[1];
        std::string h = conv(x, c, 3, 1, c);
        h = g_->add("permute", {h}, {s[0], s[2], s[3], c}, "\"axes\": [0, 2, 3, 1]");
        h = g_->add("layer_norm", {h}, g_->shape(h), "\"axes\": 1, \"eps\": 0.1",
                    {{"weight", g_->tensor({c}, 0.5, 1.5)}, {"bias", g_->tensor({c})}});
        h = g_->add("linear", {h}, {s[0], s[2], s[3], 2 * c}, "",
                    {{"weight", g_->weights({2 * c, c}, c)}, {"bias", g_->tensor({2 * c})}});
        h = g_->add("activation", {h}, g_->shape(h), "\"kind\": \"gelu\"");
        h = g_->add("linear", {h}, {s[0], s[2], s[3], c}, "",
                    {{"weight", g_->weights({c, 2 * c}, 2 * c)}, {"bias", g_->tensor({c})}});
        h = g_->add("permute", {h}, s, "\"axes\": [0, 3, 1, 2]");
        const std::string scale = g_->add("constant", {}, {c, 1, 1}, "", {{"value", g_->tensor({c, 1, 1})}});
        h = r_->chance(0.5) ? g_->add("mul", {h, scale}, s) : g_->add("mul", {scale, h}, s);
        return r_->chance(0.5) ? g_->add("add", {h, x}, s) : g_->add("add", {x, h}, s);
    }
    /// A norm over channels of an image in the order of PyTorch, and two 1x1 convolutions of it.
    std::string normalised_pixels(const std::string& x) {
        const nd_shape s = g_->shape(x);
        const index_t c = s[1];
        std::string h = g_->add("permute", {x}, {s[0], s[2], s[3], c}, "\"axes\": [0, 2, 3, 1]");
        std::map<std::string, std::string> tensors;
        if (r_->chance(0.8)) tensors["weight"] = g_->tensor({c}, 0.5, 1.5);
        if (r_->chance(0.8)) tensors["bias"] = g_->tensor({c});
        h = g_->add("layer_norm", {h}, g_->shape(h), "\"axes\": 1, \"eps\": 0.1", tensors);
        h = g_->add("permute", {h}, s, "\"axes\": [0, 3, 1, -2]");
        return g_->add("mul", {conv(h, 4, 1), r_->chance(0.8) ? act(conv(h, 4, 1)) : conv(h, 4, 3)},
                       {s[0], 4, s[2], s[3]});
    }
    std::string shuffled(const std::string& x) {
        const nd_shape s = g_->shape(x);
        const index_t groups = s[1] % 2 == 0 ? 2 : 1;
        if (r_->chance(0.3)) return g_->add("channel_shuffle", {x}, s, concat("\"groups\": ", groups));
        std::string h = g_->add("reshape", {x}, {s[0], groups, s[1] / groups, s[2], s[3]},
                                concat("\"shape\": [[\"dim\", \"", x, "\", 0], ", groups, ", [\"div\", [\"dim\", \"", x,
                                       "\", 1], ", groups, "], [\"dim\", \"", x, "\", 2], -1]"));
        h = g_->add("permute", {h}, {s[0], s[1] / groups, groups, s[2], s[3]}, "\"axes\": [0, 2, 1, 3, 4]");
        return g_->add("flatten", {h}, s, "\"first\": 1, \"last\": 2");
    }
    /// Attention over pixels: softmax(x' x) of flattened maps.
    std::string attention(const std::string& x) {
        const nd_shape s = g_->shape(x);
        const index_t pixels = s[2] * s[3];
        const std::string flat = g_->add("flatten", {x}, {s[0], s[1], pixels}, "\"first\": 2");
        const std::string turned = g_->add("permute", {flat}, {s[0], pixels, s[1]}, "\"axes\": [0, 2, 1]");
        std::string h = g_->add("matmul", {turned, flat}, {s[0], pixels, pixels});
        h = g_->add("softmax", {h}, g_->shape(h), "\"axis\": -1");
        h = g_->add("matmul", {h, turned}, {s[0], pixels, s[1]});
        h = g_->add("permute", {h}, {s[0], s[1], pixels}, "\"axes\": [0, 2, 1]");
        return g_->add("reshape", {h}, s,
                       concat("\"shape\": [[\"dim\", \"", x, "\", 0], ", s[1], ", [\"dim\", \"", x,
                              "\", 2], [\"dim\", \"", x, "\", 3]]"));
    }
    std::string like(const std::string& x, const std::string& other) {
        const nd_shape s = g_->shape(x), o = g_->shape(other);
        const bool bilinear = r_->chance(0.5);
        return g_->add("resize", {x}, {s[0], s[1], o[2], o[3]},
                       concat("\"mode\": \"", bilinear ? "bilinear" : "nearest", "\", \"size\": [[\"dim\", \"", other,
                              "\", 2], [\"dim\", \"", other, "\", 3]]",
                              bilinear && r_->chance(0.5) ? ", \"align_corners\": true" : ""));
    }
    std::string twice(const std::string& x) {
        const nd_shape s = g_->shape(x);
        const index_t filters = 2 * r_->between(1, 4);
        switch (images_only_ ? 0 : r_->between(0, 2)) {
            case 0:
                return g_->add("resize", {x}, {s[0], s[1], 2 * s[2], 2 * s[3]},
                               "\"mode\": \"nearest\", \"scale\": [2, 2.0]");
            case 1:
                return g_->add(
                    "conv_transpose2d", {x}, {s[0], filters, 2 * s[2], 2 * s[3]},
                    "\"stride\": [2, 2], \"pad\": [1, 1], \"output_pad\": [1, 1]",
                    {{"weight", g_->weights({s[1], filters, 3, 3}, 3 * s[1])}, {"bias", g_->tensor({filters})}});
            default:
                return g_->add("conv_transpose2d", {x}, {s[0], filters, 2 * s[2], 2 * s[3]}, "\"stride\": [2, 2]",
                               {{"weight", g_->weights({s[1], filters, 2, 2}, s[1])}});
        }
    }
    std::string pooled(const std::string& x) {
        const nd_shape s = g_->shape(x);
        const bool mean = r_->chance(0.4);
        return g_->add(mean ? "avg_pool2d" : "max_pool2d", {x}, s,
                       "\"window\": [3, 3], \"stride\": [1, 1], \"pad\": [1, 1, 1, 1]");
    }

private:
    rng* r_;
    graph_writer* g_;
    bool images_only_;
};

/// A network with branches, joined in all the ways that networks join them. `images_only`: without transposed convolutions,
/// products of matrices, normalisations that follow from the values, and kernels mixed by coefficients of the network.
inline state_dict random_graph(rng& r, const nd_shape& example, index_t inputs, bool images_only = false) {
    graph_writer g(r);
    random_layers l(r, g, images_only);
    std::vector<std::string> values;
    for (index_t i = 0; i < inputs; ++i) values.push_back(g.input(example));
    for (std::string& v : values) v = l.conv(v, 2 * r.between(1, 9), 3);
    std::string shared;
    const index_t steps = r.between(3, 14);
    const auto some = [&] {
        return values[static_cast<std::size_t>(r.between(0, static_cast<index_t>(values.size()) - 1))];
    };
    for (index_t i = 0; i < steps; ++i) {
        const std::string x = r.chance(0.7) ? values.back() : some();
        const nd_shape s = g.shape(x);
        std::string y;
        switch (r.between(0, 16)) {
            case 0: y = l.act(l.bn(l.conv(x, 2 * r.between(1, 12), r.pick<index_t>({1, 3})))); break;
            case 1: {  // a residual, before or after the activation
                y = l.conv(x, s[1], 3);
                if (r.chance(0.7)) y = l.bn(y);
                if (r.chance(0.3)) y = l.act(y);
                y = r.chance(0.5) ? g.add("add", {y, x}, s) : g.add("add", {x, y}, s);
                if (r.chance(0.6)) y = l.act(y);
                break;
            }
            case 2:
                y = l.conv(l.squeeze_excite(l.act(l.bn(l.conv(x, s[1], 3, 1, s[1])))), 2 * r.between(1, 12), 1);
                break;
            case 3: y = l.squeeze_excite(x); break;
            case 4: {  // dense connections
                std::vector<std::string> parts{x};
                for (index_t k = 0; k < r.between(1, 3); ++k) {
                    const std::string all = parts.size() == 1 ? x : l.concat_of(parts);
                    parts.push_back(l.conv(r.chance(0.5) ? l.act(l.bn(all)) : all, 2 * r.between(1, 3), 3));
                }
                y = l.concat_of(parts);
                break;
            }
            case 5: {  // parts of one value, one of them passed through
                if (s[1] < 4) continue;
                const index_t cut = s[1] / 2;
                const std::string a = l.channels_of(x, 0, cut), b = l.channels_of(x, cut, s[1]);
                std::vector<std::string> parts{a, b, l.act(l.conv(b, 4, 3))};
                if (r.chance(0.3)) parts.push_back(b);
                y = l.concat_of(parts);
                break;
            }
            case 6:
                if (images_only) continue;
                y = l.convnext_block(x);
                break;
            case 7: y = l.shuffled(x); break;
            case 8: {  // down, up again, and beside each other
                const std::string low = l.act(l.conv(x, 2 * r.between(1, 6), 3, 2));
                y = l.concat_of({x, l.like(r.chance(0.5) ? l.twice(low) : low, x)});
                break;
            }
            case 9: y = l.concat_of({l.pooled(x), l.conv(x, 2 * r.between(1, 4), 1), x}); break;
            case 10: {
                const std::string eight = l.conv(x, 8, 1);
                if (shared.empty()) shared = g.weights({8, 8, 3, 3}, 72);
                y = l.bn(l.conv(l.act(l.bn(l.conv(eight, 8, 3, 1, 1, shared))), 8, 3, 1, 1, shared));
                break;
            }
            case 11:
                if (images_only || s[2] * s[3] > 100) continue;
                y = l.attention(x);
                break;
            case 12:
                y = g.add("mul", {x, g.add("add", {l.global_mean(x)}, {s[0], s[1], 1, 1}, "\"scalar\": 0.5")}, s);
                break;
            case 13:
                if (images_only) continue;
                y = r.chance(0.5) ? l.mixtures(x) : l.contextual(x);
                break;
            case 14:
                if (images_only) continue;
                y = l.normalised_pixels(x);
                break;
            case 15:
                if (images_only) continue;
                y = l.positions(x);
                break;
            default: y = l.act(g.add(r.pick({"sub", "maximum", "mul"}), {x, l.conv(x, s[1], 1)}, s));
        }
        values.push_back(y);
    }
    // Outputs: the last value, pixels or logits, and sometimes what lies on the way, twice or as a part.
    std::vector<std::string> outputs;
    const std::string last = values.back();
    const nd_shape s = g.shape(last);
    if (r.chance(0.5)) {
        const std::string flat = g.add("flatten", {l.global_mean(last)}, {s[0], s[1]}, "\"first\": 1");
        outputs.push_back(
            g.add("linear", {flat}, {s[0], 5}, "", {{"weight", g.weights({5, s[1]}, s[1])}, {"bias", g.tensor({5})}}));
    } else {
        outputs.push_back(last);
    }
    if (r.chance(0.3)) outputs.push_back(some());
    if (r.chance(0.2)) outputs.push_back(outputs.front());
    if (r.chance(0.2)) outputs.push_back(l.channels_of(last, 0, (s[1] + 1) / 2));
    // What no output needs is left out of the network, but every tensor has to be used.
    return g.finish(outputs);
}

}  // namespace kdna_test
