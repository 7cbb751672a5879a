// Random networks from files: with everything fused, viewed and placed, they compute what their steps compute one by one.
#include "support/counting_new.hpp"
// (first: it replaces operator new for the whole program)
#include <kdna/graph/load.hpp>
#include <kdna/graph/lowering.hpp>

#include <cmath>
#include <functional>
#include <map>

#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

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
    random_layers(rng& r, graph_writer& g) : r_(&r), g_(&g) {}

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
        switch (r_->between(0, 2)) {
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
};

/// A network with branches, joined in all the ways that networks join them.
state_dict random_graph(rng& r, const nd_shape& example, index_t inputs) {
    graph_writer g(r);
    random_layers l(r, g);
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
        switch (r.between(0, 15)) {
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
            case 6: y = l.convnext_block(x); break;
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
                if (s[2] * s[3] > 100) continue;
                y = l.attention(x);
                break;
            case 12:
                y = g.add("mul", {x, g.add("add", {l.global_mean(x)}, {s[0], s[1], 1, 1}, "\"scalar\": 0.5")}, s);
                break;
            case 13: y = l.mixtures(x); break;
            case 14: y = l.normalised_pixels(x); break;
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

using arrays = std::vector<std::vector<float>>;

/// Every step by itself, from and to dense row-major memory of its own.
arrays one_by_one(const network& net, const std::vector<nd_shape>& shapes, const arrays& inputs) {
    const std::vector<nd_shape> all = net.shapes(shapes);
    arrays values = inputs;
    for (index_t i = 0; i < net.step_count(); ++i) {
        const network::step_view s = net.step_at(i);
        const nd_shape& out = all[static_cast<std::size_t>(net.input_count() + i)];
        values.emplace_back(static_cast<std::size_t>(element_count(out)));
        if (s.inputs.empty()) {
            const nd_view<const float> c = s.op.constant();
            std::copy(c.data, c.data + values.back().size(), values.back().data());
            continue;
        }
        std::vector<nd_shape> in;
        std::vector<nd_view<const float>> x;
        for (const index_t id : s.inputs) {
            const auto v = static_cast<std::size_t>(id);
            in.push_back(all[v]);
            x.push_back(row_major_view<const float>(values[v].data(), all[v]));
        }
        for (const index_t id : s.shapes) in.push_back(all[static_cast<std::size_t>(id)]);
        const auto state = s.op.plan(in, {});
        buffer<std::byte> memory(state->workspace_bytes(), std::pmr::get_default_resource());
        state->use_workspace(memory.data());
        s.op.run(*state, {.inputs = x, .output = row_major_view(values.back().data(), out)});
    }
    arrays out;
    for (index_t i = 0; i < net.output_count(); ++i)
        out.push_back(values[static_cast<std::size_t>(net.output_value(i))]);
    return out;
}

arrays planned(const network& net, const std::vector<nd_shape>& shapes, const arrays& inputs,
               const plan_options& options) {
    network_plan plan = net.plan(shapes, options);
    std::vector<nd_view<const float>> x;
    for (std::size_t i = 0; i < inputs.size(); ++i)
        x.push_back(row_major_view<const float>(inputs[i].data(), shapes[i]));
    arrays out;
    std::vector<nd_view<float>> y;
    for (index_t i = 0; i < net.output_count(); ++i)
        out.emplace_back(static_cast<std::size_t>(element_count(plan.output_shape(i))), NAN);
    for (index_t i = 0; i < net.output_count(); ++i)
        y.push_back(row_major_view(out[static_cast<std::size_t>(i)].data(), plan.output_shape(i)));
    net.run(plan, x, y);
    const arrays first = out;
    const std::size_t before = allocations;
    net.run(plan, x, y);  // in memory that was used
    if (options.executor.concurrency() == 1) CHECK(allocations == before);
    for (std::size_t i = 0; i < out.size(); ++i) CHECK(out[i] == first[i]);
    return out;
}

void check_close(const arrays& found, const arrays& expected, double tolerance) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
        REQUIRE(found[i].size() == expected[i].size());
        double largest = 1e-3, worst = 0.0;
        for (std::size_t k = 0; k < found[i].size(); ++k) {
            const auto e = static_cast<double>(expected[i][k]), d = std::abs(static_cast<double>(found[i][k]) - e);
            largest = std::max(largest, std::abs(e));
            worst = d <= worst ? worst : d;
        }
        CHECK(worst <= tolerance * largest);
    }
}

/// The network with nothing fused.
network unfused(const state_dict& weights, const std::vector<nd_shape>& shapes) {
    graph::shared_weights shared;
    const graph::description net = graph::parse(weights.metadata().at("kdna.graph"), "test");
    graph::lowering lowered(net, weights, shared, nullptr);
    lowered.add_nodes(shapes);
    return std::move(lowered).build();
}

}  // namespace

TEST_CASE("Random networks from files compute what their steps compute one by one") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(7100, static_cast<std::uint64_t>(i));
        const index_t inputs = r.chance(0.2) ? 2 : 1, height = r.between(4, 12), width = r.between(4, 12);
        const nd_shape example{2, 2 * r.between(1, 4), height, width};
        const state_dict weights = random_graph(r, example, inputs);
        INFO("case " << i << "\n" << weights.metadata().at("kdna.graph"));
        const network net = load(weights, "test");
        const network plain = unfused(weights, std::vector<nd_shape>(static_cast<std::size_t>(inputs), example));
        CHECK(net.step_count() <= plain.step_count());
        // Other batches and sizes than the example's.
        for (const index_t batch : {index_t{1}, r.between(2, 5)}) {
            const nd_shape shape{batch, example[1], height + r.between(0, 3), width + r.between(0, 3)};
            const std::vector<nd_shape> shapes(static_cast<std::size_t>(inputs), shape);
            arrays x;
            for (index_t k = 0; k < inputs; ++k) x.push_back(r.floats(element_count(shape)));
            const arrays expected = one_by_one(plain, shapes, x);
            // Fusing changes the order of a few roundings; Winograd is left out, whose errors are larger.
            check_close(planned(net, shapes, x, {.transform_budget = 0}), expected, 2e-4);
            check_close(planned(plain, shapes, x, {.transform_budget = 0}), expected, 2e-4);
        }
    }
}

TEST_CASE("Large maps, which pass in stages and bands, are placed as well") {
    for (int i = 0; i < scaled(16); ++i) {
        rng r(7102, static_cast<std::uint64_t>(i));
        const nd_shape example{r.between(2, 3), 8, r.between(88, 104), r.between(88, 104)};
        const state_dict weights = random_graph(r, example, 1);
        INFO("case " << i << "\n" << weights.metadata().at("kdna.graph"));
        const network net = load(weights, "test");
        const arrays x{r.floats(element_count(example))};
        check_close(planned(net, {example}, x, {.transform_budget = 0}),
                    one_by_one(unfused(weights, {example}), {example}, x), 2e-4);
    }
}

TEST_CASE("A network from a file gives the same bits on any number of threads", "[threads]") {
    for (int i = 0; i < scaled(40); ++i) {
        rng r(7101, static_cast<std::uint64_t>(i));
        const nd_shape example{r.between(1, 3), 2 * r.between(1, 4), r.between(4, 20), r.between(4, 20)};
        const state_dict weights = random_graph(r, example, 1);
        INFO(weights.metadata().at("kdna.graph"));
        const network net = load(weights, "test");
        const arrays x{r.floats(element_count(example))};
        const arrays alone = planned(net, {example}, x, {});
        for (const int threads : {2, 3}) {
            shuffling_executor team(threads);
            plan_options options;
            options.executor = team;
            const arrays together = planned(net, {example}, x, options);
            for (std::size_t k = 0; k < alone.size(); ++k) CHECK(alone[k] == together[k]);
        }
    }
}
