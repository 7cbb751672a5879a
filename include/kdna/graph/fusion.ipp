// Definitions of graph/fusion.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/graph/fusion.hpp>

namespace kdna::inline KDNA_ABI::graph {

namespace detail {

/// Calls f(value) for every value whose extents the attributes name.
template <class F>
void for_each_shape(const json_value& v, const F& f) {
    if (v.is == kind::array && v.items.size() == 3 && v.items[0].is == kind::string && v.items[0].string == "dim" &&
        v.items[1].is == kind::string)
        f(v.items[1].string);
    for (const json_value& item : v.items) for_each_shape(item, f);
}

[[nodiscard]] inline std::string text_of(const node& n, std::string_view key, std::string_view otherwise = {}) {
    const json_value* v = n.attributes.find(key);
    return v != nullptr && v->is == kind::string ? v->string : std::string(otherwise);
}
[[nodiscard]] inline index_t integer_of(const node& n, std::string_view key, index_t otherwise) {
    const json_value* v = n.attributes.find(key);
    return v != nullptr && v->is == kind::integer ? v->integer : otherwise;
}
/// Whether a list of integers is absent or all of these.
[[nodiscard]] inline bool all_are(const node& n, std::string_view key, index_t expected) {
    const json_value* v = n.attributes.find(key);
    if (v == nullptr) return true;
    return v->is == kind::array && std::all_of(v->items.begin(), v->items.end(), [&](const json_value& i) {
               return i.is == kind::integer && i.integer == expected;
           });
}
/// Whether a node takes the means of an image's channels, for any image.
[[nodiscard]] inline bool is_global_average(const node& n) {
    if (n.op == "adaptive_avg_pool2d") return n.attributes.find("size") != nullptr && all_are(n, "size", 1);
    const json_value* axes = n.attributes.find("axes");
    if (n.op != "mean" || axes == nullptr || axes->items.size() != 2) return false;
    const auto is = [&](std::size_t i, index_t axis) {
        const json_value& v = axes->items[i];
        return v.is == kind::integer && (v.integer == axis || v.integer == axis - 4);
    };
    return (is(0, 2) && is(1, 3)) || (is(0, 3) && is(1, 2));
}
/// Whether a node brings [N, H, W, C] back to [N, C, H, W].
[[nodiscard]] inline bool is_channels_first(const node& n) {
    const json_value* axes = n.attributes.find("axes");
    if (n.op != "permute" || axes == nullptr || axes->items.size() != 4) return false;
    const index_t back[] = {0, 3, 1, 2};
    for (std::size_t i = 0; i < 4; ++i)
        if (axes->items[i].is != kind::integer || (axes->items[i].integer + 4) % 4 != back[i]) return false;
    return true;
}
[[nodiscard]] inline bool is_dense(const node& n) {
    return n.op == "conv2d" && text_of(n, "method", "dense") == "dense";
}

/// What the second input of a layer is: the coefficients of its kernels, what its router reads, or its kernels of every position.
/// Empty: it has none.
[[nodiscard]] inline std::string_view given_of(const node& n) {
    if (n.op == "position_conv2d") return "kernels per position";
    if (n.op != "conv2d") return {};
    const std::string method = text_of(n, "method");
    if (method == "mixture") return "coefficients";
    if (method == "fdconv" && n.in.size() == 2) return "what its attention reads";
    return method == "dymn" || method == "modulated" ? "a context" : std::string_view();
}
[[nodiscard]] inline std::size_t inputs_of_layer(const node& n) { return given_of(n).empty() ? 1 : 2; }

}  // namespace detail

/// The step of a layer alone. The layer has as many inputs as it reads.
KDNA_FUNC fused_layer alone(const node& layer) {
    fused_layer f{&layer, layer.in.front()};
    if (!detail::given_of(layer).empty()) f.given = layer.in[1];
    f.out = layer.out;
    return f;
}

KDNA_FUNC fusion::fusion(const description& net, const std::map<std::string, nd_shape>& shapes) : shapes_(&shapes) {
    count_readers(net);
    find_sources(net);
    find_affine(net);
    // The last layers first: of two that are added, the later one adds the other, which is there by then.
    for (std::size_t i = net.nodes.size(); i-- > 0;) {
        const node& n = net.nodes[i];
        if (n.op == "conv2d" || n.op == "conv_transpose2d" || n.op == "linear" || n.op == "position_conv2d") follow(n);
    }
    for (const node& n : net.nodes)
        if (n.op == "batch_norm") follow_norm(n);
}

KDNA_FUNC void fusion::count_readers(const description& net) {
    for (const node& n : net.nodes) {
        makers_[n.out] = &n;
        for (const std::string& v : n.in) readers_[v].push_back(&n);
        detail::for_each_shape(n.attributes, [&](const std::string& v) { readers_[v].push_back(nullptr); });
    }
    for (const output_port& o : net.outputs) readers_[o.value].push_back(nullptr);
}

/// Where there are several inputs, which of them each value follows from.
KDNA_FUNC void fusion::find_sources(const description& net) {
    if (net.inputs.size() < 2) return;
    for (std::size_t i = 0; i < net.inputs.size(); ++i) sources_[net.inputs[i].name] = {i};
    for (const node& n : net.nodes) {
        std::set<std::size_t>& to = sources_[n.out];
        for (const std::string& v : n.in) to.insert(sources_[v].begin(), sources_[v].end());
    }
}

/// Whether two values that have one shape on an example have one on any inputs, as far as can be told: inputs of their own may
/// have extents that are broadcast.
KDNA_FUNC bool fusion::same_sources(const std::string& a, const std::string& b) const {
    const auto first = sources_.find(a), second = sources_.find(b);
    return first == sources_.end() || second == sources_.end() || first->second == second->second;
}

/// The node that alone reads a value, once; null if there are others.
KDNA_FUNC const node* fusion::only_reader(const std::string& value) const {
    const auto found = readers_.find(value);
    return found == readers_.end() || found->second.size() != 1 ? nullptr : found->second.front();
}

KDNA_FUNC const node* fusion::maker(const std::string& value) const {
    const auto found = makers_.find(value);
    return found == makers_.end() ? nullptr : found->second;
}

KDNA_FUNC bool fusion::fuses_activation(const node& n) const { return n.op == "activation" && n.in.size() == 1; }

/// The constant that a product multiplies every channel of `value` by, if it is one. `last_axis`: channels are the last axis.
KDNA_FUNC const node* fusion::channel_factor(const node& mul, const std::string& value, bool last_axis) const {
    if (mul.op != "mul" || mul.in.size() != 2 || shape(mul.out) != shape(value)) return nullptr;
    const node* factor = maker(mul.in[0] == value ? mul.in[1] : mul.in[0]);
    if (factor == nullptr || factor->op != "constant") return nullptr;
    const nd_shape &c = shape(factor->out), &x = shape(value);
    const index_t axis = (last_axis ? x.rank() - 1 : 1) - (x.rank() - c.rank());
    if (axis < 0 || c[axis] != x[last_axis ? x.rank() - 1 : 1]) return nullptr;
    for (index_t i = 0; i < c.rank(); ++i)
        if (i != axis && c[i] != 1) return nullptr;
    return factor;
}

/// Collects what follows a layer.
KDNA_FUNC void fusion::follow(const node& layer) {
    if (layer.in.size() != detail::inputs_of_layer(layer) || parts_.contains(&layer)) return;
    fused_layer f = alone(layer);
    if (const auto norm = affine_of_.find(&layer); norm != affine_of_.end()) f.affine = norm->second;
    const bool linear = layer.op == "linear";
    bool last_axis = linear && shape(layer.out).rank() > 2;
    std::vector<const node*> parts;
    const auto take = [&](const node* n, const node*& as) {
        as = n;
        parts.push_back(n);
        f.out = n->out;
    };
    const auto next = [&]() -> const node* {
        const node* n = only_reader(f.out);
        return n == nullptr || parts_.contains(n) || steps_.contains(n) ? nullptr : n;
    };
    const node* n = next();
    if (n != nullptr && n->op == "batch_norm" && !last_axis) {
        take(n, f.bn);
        n = next();
    }
    if (n != nullptr && last_axis && shape(f.out).rank() == 4 && detail::is_channels_first(*n)) {
        take(n, f.permute);
        last_axis = false;
        n = next();
    }
    if (n != nullptr && n->op == "mul")
        if (const node* factor = channel_factor(*n, f.out, last_axis)) {
            take(n, f.scale);
            f.factor = factor;
            n = next();
        }
    // Where channels are the last axis, a residual would be an image in another view.
    if (n != nullptr && n->op == "add" && n->in.size() == 2 && n->in[0] != n->in[1] && !last_axis &&
        (!linear || f.permute != nullptr)) {
        const std::string& other = n->in[0] == f.out ? n->in[1] : n->in[0];
        const node* made = maker(other);
        if (shape(other) == shape(f.out) && same_sources(other, f.out) && (made == nullptr || made->op != "constant")) {
            f.residual = other;
            take(n, f.add);
            n = next();
        }
    }
    // Slopes belong to axis 1, which is not that of the layer's filters where these are the last axis.
    if (n != nullptr && fuses_activation(*n) && (!last_axis || n->tensors.empty())) take(n, f.act);
    if (takes_gate(layer)) find_gate(f);
    if (f.gate) {
        // The product and the block in front of it; the mean was read by fc1 alone.
        const node* product = maker(layer.in.front());
        parts.push_back(product);
        for (const node* part : {f.gate->fc1, f.gate->bn1, f.gate->act1, f.gate->fc2, f.gate->act2})
            if (part != nullptr) parts.push_back(part);
        parts.push_back(maker(f.gate->fc1->in.front()));
    }
    // The step stands where its last part stood: all that it reads is made by then.
    const node* last = &layer;
    for (const node* part : {f.bn, f.permute, f.scale, f.add, f.act})
        if (part != nullptr) last = part;
    parts.push_back(&layer);
    for (const node* part : parts)
        if (part != last) parts_.insert(part);
    steps_.emplace(last, std::move(f));
}

/// A BatchNorm that no layer has taken, and its activation.
KDNA_FUNC void fusion::follow_norm(const node& norm) {
    if (norm.in.size() != 1 || parts_.contains(&norm) || steps_.contains(&norm)) return;
    const node* act = only_reader(norm.out);
    if (act == nullptr || !fuses_activation(*act) || parts_.contains(act) || steps_.contains(act)) return;
    fused_layer f = alone(norm);
    f.act = act;
    f.out = act->out;
    parts_.insert(&norm);
    steps_.emplace(act, std::move(f));
}

/// A convolution of single pixels, for any image.
KDNA_FUNC bool fusion::is_pointwise(const node& n) const {
    if (!detail::is_dense(n) || n.in.size() != 1 || shape(n.out).rank() != 4) return false;
    const nd_shape &x = shape(n.in.front()), &y = shape(n.out);
    return detail::integer_of(n, "groups", 1) == 1 && detail::all_are(n, "pad", 0) && detail::all_are(n, "stride", 1) &&
           x[2] == y[2] && x[3] == y[3];
}

/// W (g z + b) = (W g) z + W b: layer norms over channels whose weight g and bias b the kernels of all their readers can take, which
/// are nobody else's kernels.
KDNA_FUNC void fusion::find_affine(const description& net) {
    std::map<std::string, int> uses;
    for (const node& n : net.nodes)
        for (const auto& [role, tensor] : n.tensors) ++uses[tensor];
    const auto own_kernel = [&](const node& n) {
        const auto weight = n.tensors.find("weight");
        return weight != n.tensors.end() && uses[weight->second] == 1;
    };
    for (const node& norm : net.nodes) {
        if (norm.op != "layer_norm" || norm.tensors.empty() || detail::integer_of(norm, "axes", 0) != 1) continue;
        std::vector<const node*> layers;
        bool all = shape(norm.out).rank() > 1;
        const auto each_reader = [&](const std::string& v, const auto& f) {
            const auto found = readers_.find(v);
            all = all && found != readers_.end();
            for (std::size_t i = 0; all && i < found->second.size(); ++i) f(found->second[i]);
        };
        const auto take = [&](const node* n, bool fits) {
            all = all && fits && own_kernel(*n);
            if (all) layers.push_back(n);
        };
        each_reader(norm.out, [&](const node* n) {
            if (n != nullptr && shape(norm.out).rank() == 4 && detail::is_channels_first(*n))
                each_reader(n->out, [&](const node* conv) { take(conv, conv != nullptr && is_pointwise(*conv)); });
            else
                take(n, n != nullptr && n->op == "linear" && n->in.size() == 1);
        });
        if (!all || layers.empty()) continue;
        without_affine_.insert(&norm);
        for (const node* n : layers) affine_of_[n] = &norm;
    }
}

KDNA_FUNC bool fusion::takes_gate(const node& layer) const {
    return detail::is_dense(layer) && detail::integer_of(layer, "groups", 1) == 1;
}

/// Recognises a gate in front of a convolution.
KDNA_FUNC void fusion::find_gate(fused_layer& f) const {
    const node* product = maker(f.input);
    if (product == nullptr || product->op != "mul" || product->in.size() != 2 || only_reader(f.input) != f.layer)
        return;
    const auto dense_1x1 = [&](const node* n) {
        if (n == nullptr || parts_.contains(n) || n->in.size() != 1) return false;
        const nd_shape& y = shape(n->out);
        return is_pointwise(*n) && y[2] == 1 && y[3] == 1;
    };
    const auto alone = [&](const node* n, const node* reader) { return n != nullptr && only_reader(n->out) == reader; };
    for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
        const std::string& x = product->in[1 - side];
        fused_gate g{};
        g.act2 = maker(product->in[side]);
        if (!alone(g.act2, product) || g.act2->op != "activation" || g.act2->tensors.size() != 0) continue;
        g.fc2 = maker(g.act2->in.front());
        if (!alone(g.fc2, g.act2) || !dense_1x1(g.fc2)) continue;
        g.act1 = maker(g.fc2->in.front());
        if (!alone(g.act1, g.fc2) || g.act1->op != "activation" || g.act1->tensors.size() != 0) continue;
        const node* before = maker(g.act1->in.front());
        if (!alone(before, g.act1)) continue;
        if (before->op == "batch_norm") {
            g.bn1 = before;
            before = maker(before->in.front());
            if (!alone(before, g.bn1)) continue;
        }
        g.fc1 = before;
        if (!dense_1x1(g.fc1)) continue;
        const node* mean = maker(g.fc1->in.front());
        if (!alone(mean, g.fc1) || mean->in.size() != 1 || mean->in.front() != x) continue;
        const nd_shape &from = shape(x), &to = shape(mean->out);
        const bool pools = detail::is_global_average(*mean) && from.rank() == 4 && to.rank() == 4 && to[0] == from[0] &&
                           to[1] == from[1] && to[2] == 1 && to[3] == 1;
        if (!pools || shape(product->out) != from) continue;
        f.gate = g;
        f.input = x;
        return;
    }
}

}  // namespace kdna::inline KDNA_ABI::graph

#include <kdna/core/macros_pop.hpp>
