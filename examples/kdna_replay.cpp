// Known-answer replay: builds the layer or block of a case from its state_dict, runs it on the case's input, and compares
// with the case's output.
#include <cmath>
#include <common/program.hpp>
#include <fstream>
#include <functional>
#include <iostream>
#include <kdna/models.hpp>
#include <kdna/nn/x_volution.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

namespace {

using namespace kdna;
using models::layer_call;
using models::module_builder;
using models::value;

/// The parameters of a case or of one of its layers, a JSON object.
class parameters {
public:
    explicit parameters(const std::string& path) : parameters(path, parse(path)) {}

    [[nodiscard]] std::string text(const std::string& key) {
        const nlohmann::json v = take(key);
        if (!v.is_string()) throw error(concat(path_, ": ", key), "a string", v.dump());
        return v.get<std::string>();
    }
    [[nodiscard]] std::string text_or(const std::string& key, const std::string& missing) {
        return json_.contains(key) ? text(key) : missing;
    }
    [[nodiscard]] index_t number(const std::string& key) {
        const nlohmann::json v = take(key);
        if (!v.is_number_integer() || v.get<double>() < 0 || v.get<double>() > 1e6)
            throw error(concat(path_, ": ", key), "a number from 0 to 1000000", v.dump());
        return v.get<index_t>();
    }
    [[nodiscard]] index_t number_or(const std::string& key, index_t missing) {
        return json_.contains(key) ? number(key) : missing;
    }
    [[nodiscard]] double ratio(const std::string& key) {
        const nlohmann::json v = take(key);
        if (!v.is_number() || v.get<double>() < 1e-3 || v.get<double>() > 1e3)
            throw error(concat(path_, ": ", key), "a number from 0.001 to 1000", v.dump());
        return v.get<double>();
    }
    [[nodiscard]] double ratio_or(const std::string& key, double missing) {
        return json_.contains(key) ? ratio(key) : missing;
    }
    /// The objects of a list.
    [[nodiscard]] std::vector<parameters> list(const std::string& key) {
        const nlohmann::json v = take(key);
        if (!v.is_array() || v.empty()) throw error(concat(path_, ": ", key), "a list of objects", v.dump());
        std::vector<parameters> out;
        for (std::size_t i = 0; i < v.size(); ++i)
            out.push_back(parameters(concat(path_, ": ", key, "[", i, "]"), v[i]));
        return out;
    }
    /// Says which parameters were not used: a case may carry more than its family needs, and the comparison judges.
    void finish() const {
        for (const auto& item : json_.items()) std::cerr << path_ << ": \"" << item.key() << "\" is not used\n";
    }

private:
    parameters(std::string path, nlohmann::json json) : path_(std::move(path)), json_(std::move(json)) {
        if (!json_.is_object()) throw error(path_, "a JSON object", json_.type_name());
    }
    [[nodiscard]] static nlohmann::json parse(const std::string& path) {
        std::ifstream file(path);
        if (!file) throw error(path, "a readable file", "none");
        try {
            return nlohmann::json::parse(file);
        } catch (const nlohmann::json::exception& e) {
            throw error(path, "JSON", e.what());
        }
    }
    nlohmann::json take(const std::string& key) {
        if (!json_.contains(key)) throw error(path_, concat("\"", key, "\""), "no such key");
        nlohmann::json v = json_[key];
        json_.erase(key);
        return v;
    }
    std::string path_;
    nlohmann::json json_;
};

/// One family: reads its parameters and gives the output for x; widths and counts follow from the tensors.
using family = std::function<tensor<float>(state_dict, const tensor_view<const float>& x, parameters&)>;

/// A family whose cases are networks: `make(builder, input, parameters)` adds the layers and returns the output.
template <class Make>
family layers(const Make& make) {
    return [make](state_dict weights, const tensor_view<const float>& x, parameters& p) {
        return models::build(std::move(weights), x.shape.c, [&](const module_builder<>& m, const value& in) {
            const value out = make(m, in, p);
            p.finish();
            return out;
        })(x);
    };
}

value kernel_dna(const module_builder<>& m, const value& x, parameters& p) {
    const std::string kind = p.text("kind");
    const index_t stride = p.number("stride");
    const state_dict_reader& w = m.weights();
    if (kind == "resnet18_stage") return models::dna_basic_stage(m, x, w.extent("conv1.weight", 0, 4), stride);
    if (kind == "resnet50_layer3")
        return models::dna_bottleneck_pairs(m, x, w.extent("block0.layers.conv2.weight", 0, 4),
                                            w.extent("static_filter_attn", 0, 5), stride);
    if (kind == "resnet50_layer4")
        return models::dna_bottleneck_last(m, x, w.extent("block0.layers.conv2.weight", 0, 4), stride);
    if (kind == "mobilenet_v2_cluster")
        return models::dna_cluster(m, x, w.extent("last_block.layers.pw2.weight", 0, 4), stride,
                                   w.extent("static_filter_attn1", 0, 5));
    throw error("kind", "resnet18_stage, resnet50_layer3, resnet50_layer4 or mobilenet_v2_cluster", kind);
}

/// How a layer moves, and what follows it: "stride" (which layers in a chain may leave out), "padding", and "dilation" and "act"
/// where they are not 1 and none.
layer_call call_of(parameters& p, bool in_chain) {
    layer_call call{.stride = in_chain ? p.number_or("stride", 1) : p.number("stride"),
                    .pad = padding(p.number("padding")),
                    .dilation = p.number_or("dilation", 1)};
    if (const std::string act = p.text_or("act", "none"); act == "relu")
        call.act = activation::relu;
    else if (act != "none")
        throw error("act", "relu or none", act);
    return call;
}
index_t groups_of(parameters& p) {
    const index_t groups = p.number_or("groups", 1);
    if (groups < 1) throw error("groups", "at least one", concat(groups));
    return groups;
}

/// The families with stored kernels "weight" [n, O, I/groups, KH, KW].
template <class Make>
family mixture(const Make& make) {
    return layers([make](const module_builder<>& m, const value& x, parameters& p) {
        const state_dict_reader& w = m.weights();
        const auto extent = [&](std::size_t axis) { return w.extent("weight", axis, 5); };
        const index_t groups = groups_of(p);
        layer_call call = call_of(p, false);
        call.bias = w.contains("bias");
        return make(m, x, {extent(1), checked_mul(extent(2), groups, "weight"), extent(3), extent(4), groups}, call);
    });
}

/// A chain of layers over warehouse 0. Their filters follow from the rows of the router's last layer.
value kernel_warehouse(const module_builder<>& m, const value& x, parameters& p) {
    const warehouse cells = models::take_warehouses(m, 1).front();
    const cell_shape& cell = cells.shape();
    const double ratio = p.ratio("cell_num_ratio");
    static_cast<void>(p.ratio_or("nonlocal_basis_ratio", 1.0));  // the tensors tell
    value h = x;
    index_t i = 0, claimed = 0;
    for (parameters& layer : p.list("layers")) {
        const module_builder<> conv = m.child(concat("convs.", i++));
        const state_dict_reader a = conv.weights().scope("attention.");
        const index_t extent = layer.number("kernel"), groups = groups_of(layer);
        const index_t rows = a.contains("basis_bias") ? a.extent("basis_bias", 0, 1) : a.extent("fc2.weight", 0, 2);
        const index_t pieces = extent * extent / cell.taps(), wide = h.channels / groups / cell.c,
                      combinations = rows / (cell.n + 1);
        if (pieces < 1 || wide < 1)
            throw error(conv.name(), concat("a kernel larger than ", to_string(cell)),
                        concat(extent, "x", extent, " on ", h.channels, " channels in ", groups, " groups"));
        layer_call call = call_of(layer, true);
        call.bias = conv.weights().contains("bias");
        layer.finish();
        const index_t filters = checked_mul(combinations / (pieces * wide), cell.o, "filters");
        h = models::warehouse_layer(conv, h, {filters, h.channels, extent, extent, groups}, call, cells, claimed);
        claimed += models::claimed_cells(combinations, ratio);
    }
    return h;
}

value dcd(const module_builder<>& m, const value& x, parameters& p) {
    const std::string kind = p.text("kind");
    const state_dict_reader& w = m.weights();
    if (kind == "classifier") return models::dcd_classifier(m, x, w.extent("cls.weight", 0, 2));
    if (kind != "basic" && kind != "conv") throw error("kind", "basic, conv or classifier", kind);
    const auto extent = [&](std::size_t axis) { return w.extent("conv.weight", axis, 4); };
    const kernel_shape k{extent(0), x.channels, extent(2), extent(3)};
    layer_call call{.stride = p.number("stride")};
    if (kind == "basic") return models::dcd_layer(m, x, k, call, 2);
    if (p.number_or("kernel", k.kh) != k.kh) throw error("conv.weight", "an extent of \"kernel\"", concat(k.kh));
    call.pad = p.number("padding");
    return models::dcd_layer(m, x, k, call, 1);
}

/// A chain of layers that share their coefficients.
value acdc(const module_builder<>& m, const value& x, parameters& p) {
    const auto extent = [&](std::size_t axis) { return m.weights().extent("coefficients", axis, 3); };
    const index_t filters = extent(0), channels = extent(1), atoms = extent(2);
    const auto shared = shared_coefficients::pack(
        filters, channels, atoms, m.weights().take("coefficients", {filters, channels, atoms}), "coefficients");
    value h = x;
    index_t i = 0;
    for (parameters& layer : p.list("layers")) {
        const module_builder<> conv = m.child(concat("layers.", i++));
        const kernel_shape k{filters, h.channels, conv.weights().extent("atoms", 1, 3),
                             conv.weights().extent("atoms", 2, 3), groups_of(layer)};
        layer_call call = call_of(layer, true);
        call.bias = conv.weights().contains("bias");
        layer.finish();
        h = models::acdc_layer(conv, h, k, call, shared);
    }
    return h;
}

value sparse_kernel(const module_builder<>& m, const value& x, parameters& p) {
    const state_dict_reader& w = m.weights();
    const auto extent = [&](std::size_t axis) { return w.extent("codebook", axis, 3); };
    const kernel_shape k{w.extent("alpha", 0, 1), x.channels, extent(1), extent(2), groups_of(p)};
    const index_t bits = p.number("bits");
    if (bits > 16 || extent(0) != index_t{1} << bits)
        throw error("codebook", concat("2^", bits, " codewords"), concat(extent(0)));
    layer_call call = call_of(p, false);
    call.bias = w.contains("bias");
    return models::sparse_kernel_layer(m, x, k, call);
}

value x_volution(const module_builder<>& m, const value& x, parameters& p) {
    const state_dict_reader& w = m.weights();
    const kernel_shape k{x.channels, x.channels, w.extent("weight", 2, 4), w.extent("weight", 3, 4)};
    const conv_params params{.pad = p.number("padding")};
    const auto factor = [&](std::string_view name) { return w.take(name, {1}).front(); };
    const float factors = factor("w_q") * factor("w_k") * factor("w_v");
    kdna::x_volution layer(dense_kernel::pack(k, w.take("weight", {k.o, k.i, k.kh, k.kw}), "x_volution"), factors,
                           params, {.bias = w.take("bias", {k.o}), .name = "x_volution"});
    return m.net().add(std::move(layer), x);
}

value lsconv(const module_builder<>& m, const value& x, parameters& p) {
    return models::lsconv_layer(m, x, p.number("kernel"));
}

/// "kernel": one for all samples, N = 1, or one for each: dense [N, O, C/groups, KH, KW], depthwise [N, C, KH, KW], or shared by
/// all channels [N, KH, KW].
tensor<float> runtime(state_dict tensors, const tensor_view<const float>& x, parameters& p) {
    const state_dict_reader reader(tensors);
    const std::string kind = p.text("kind"), mode = p.text_or("padding_mode", "zeros");
    if (kind != "dense" && kind != "depthwise" && kind != "shared")
        throw error("kind", "dense, depthwise or shared", kind);
    if (mode != "zeros" && mode != "circular") throw error("padding_mode", "zeros or circular", mode);
    const std::vector<index_t> shape = reader.shape_of("kernel");
    const std::size_t rank = kind == "dense" ? 5 : kind == "depthwise" ? 4 : 3;
    const auto extent = [&](std::size_t axis) { return reader.extent("kernel", axis, rank); };
    const extent2 window(extent(rank - 2), extent(rank - 1));
    const index_t groups = groups_of(p);
    const runtime_kernel kernel =
        kind == "shared" ? runtime_kernel::shared(x.shape.c, window, "kernel")
        : kind == "depthwise"
            ? runtime_kernel::depthwise(extent(1), window, "kernel")
            : runtime_kernel::dense({extent(1), checked_mul(extent(2), groups, "kernel"), window.h, window.w, groups},
                                    "kernel");
    conv_params params{
        .stride = p.number_or("stride", 1), .pad = p.number("padding"), .dilation = p.number_or("dilation", 1)};
    if (mode == "circular") params.mode = padding_mode::circular;
    p.finish();
    const auto weights = reader.take("kernel", shape);
    reader.finish();
    return runtime_conv2d(kernel, params, {.name = "runtime_kernel"})(x, weights);
}

/// A family whose layers are routed by a context: `make(builder, x, context, parameters)` adds the layer. "context" [N, D] is a
/// tensor of the case.
template <class Make>
family contextual(const Make& make) {
    return [make](state_dict tensors, const tensor_view<const float>& x, parameters& p) {
        const tensor_data context = tensors.extract("context");
        const nd_shape shape(context.shape(), "context");
        if (shape.rank() != 2) throw error("context", "[N, D]", to_string(shape));
        network_builder builder;
        const value image = builder.input("input", {0, x.shape.c, 0, 0}),
                    given = builder.input("context", {0, shape[1]});
        const state_dict_reader reader(tensors);
        const value out = make(module_builder<>(builder, reader), image, given, p);
        p.finish();
        reader.finish();
        const network net = std::move(builder).build(out);
        const std::vector<nd_shape> shapes{nd_shape(x.shape), shape};
        network_plan plan = net.plan(shapes);
        const nd_view<const float> inputs[] = {x, row_major_view(context.values<float>("context").data(), shape)};
        tensor<float> y(image_shape(plan.output_shape(0), "output"));
        const nd_view<float> to = y.view();
        net.run(plan, inputs, {&to, 1});
        return y;
    };
}

value dymn(const module_builder<>& m, const value& x, const value& context, parameters& p) {
    const auto extent = [&](std::size_t axis) { return m.weights().extent("weight", axis, 5); };
    const index_t groups = groups_of(p);
    layer_call call = call_of(p, false);
    call.bias = m.weights().contains("bias");
    const kernel_shape k{extent(1), checked_mul(extent(2), groups, "weight"), extent(3), extent(4), groups};
    return models::dymn_layer(m, x, context, k, call, p.ratio_or("temperature", 1.0));
}

value modulated(const module_builder<>& m, const value& x, const value& context, parameters& p) {
    const auto extent = [&](std::size_t axis) { return m.weights().extent("weight", axis, 4); };
    layer_call call = call_of(p, false);
    call.bias = m.weights().contains("bias");
    return models::modulated_layer(m, x, context, {extent(0), extent(1), extent(2), extent(3)}, call,
                                   {.demodulate = p.number_or("demodulate", 1) != 0, .eps = p.ratio_or("eps", 1e-8)});
}

const std::map<std::string, family>& families() {
    static const std::map<std::string, family> all{
        {"kerneldna", layers(kernel_dna)},
        {"condconv", mixture(models::condconv_layer<backend::cpu>)},
        {"odconv", mixture(models::odconv_layer<backend::cpu>)},
        {"dyconv", mixture(models::dyconv_layer<backend::cpu>)},
        {"kernel_warehouse", layers(kernel_warehouse)},
        {"dcd", layers(dcd)},
        {"acdc", layers(acdc)},
        {"sparse_kernel", layers(sparse_kernel)},
        {"x_volution", layers(x_volution)},
        {"lsconv", layers(lsconv)},
        {"fdconv",
         mixture([](const module_builder<>& m, const value& x, const kernel_shape& k, const layer_call& call) {
             return models::fdconv_layer(m, models::fdconv_bands(m, x), x, k, call);
         })},
        {"runtime_kernel", runtime},
        {"dymn", contextual(dymn)},
        {"modulated", contextual(modulated)},
    };
    return all;
}

/// A float32 tensor [N, C, H, W] of the case.
tensor_view<const float> activation_view(const tensor_data& t, std::string_view name) {
    const auto& s = t.shape();
    if (s.size() != 4) throw error(std::string(name), "float32 [N, C, H, W]", concat(s.size(), " dimensions"));
    return nchw_view(t.values<float>(name).data(), s[0], s[1], s[2], s[3]);
}

int replay(const std::string& tensors, const std::string& description, double tolerance) {
    parameters p(description);
    const std::string name = p.text("family");
    const auto found = families().find(name);
    if (found == families().end()) {
        std::string known;
        for (const auto& [key, make] : families()) known += (known.empty() ? "" : ", ") + key;
        throw error(description, concat("a family of: ", known), name);
    }
    state_dict weights = load_safetensors(tensors);
    const tensor_data input = weights.extract("input"), output = weights.extract("output");
    const auto x = activation_view(input, "input"), expected = activation_view(output, "output");

    const tensor<float> y = found->second(std::move(weights), x, p);
    if (y.shape() != expected.shape) throw error("output", to_string(y.shape()), to_string(expected.shape));

    double largest = 0.0, worst = 0.0;
    const std::span<const float> want = output.values<float>("output");
    for (index_t i = 0; i < y.size(); ++i) {
        const double e = want[static_cast<std::size_t>(i)], d = std::abs(static_cast<double>(y.data()[i]) - e);
        largest = std::max(largest, std::abs(e));
        worst = d <= worst ? worst : d;  // a NaN becomes and stays the worst
        if (std::isnan(worst)) break;
    }
    const double relative = largest > 0.0 ? worst / largest : worst;
    const bool good = relative <= tolerance;
    std::cout << name << ": largest error " << relative << " of the largest output " << largest << ", "
              << (good ? "within " : "beyond ") << tolerance << "\n";
    return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Replays a known-answer case of a layer or block.", "kdna_replay");
    std::string tensors, description;
    double tolerance = 1e-4;
    app.add_option("case.safetensors", tensors, "state_dict, input and output")->required();
    app.add_option("case.json", description, "family and parameters")->required();
    app.add_option("--tolerance", tolerance, "largest error allowed, relative to the largest output")
        ->check(CLI::NonNegativeNumber);
    return examples::run_program(app, argc, argv, [&] { return replay(tensors, description, tolerance); });
}
