// Known-answer replay: builds the layer or block of a case from its state_dict, runs it on the case's input, and compares
// with the case's output.
#include <cmath>
#include <common/program.hpp>
#include <fstream>
#include <functional>
#include <iostream>
#include <kdna/models.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

namespace {

using namespace kdna;
using models::module_builder;
using models::value;

/// The parameters of a case, a JSON object.
class parameters {
public:
    explicit parameters(const std::string& path) : path_(path) {
        std::ifstream file(path);
        if (!file) throw error(path, "a readable file", "none");
        try {
            json_ = nlohmann::json::parse(file);
        } catch (const nlohmann::json::exception& e) {
            throw error(path, "JSON", e.what());
        }
        if (!json_.is_object()) throw error(path, "a JSON object", json_.type_name());
    }
    [[nodiscard]] std::string text(const std::string& key) {
        const nlohmann::json v = take(key);
        if (!v.is_string()) throw error(concat(path_, ": ", key), "a string", v.dump());
        return v.get<std::string>();
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
    /// Says which parameters were not used: a case may carry more than its family needs, and the comparison judges.
    void finish() const {
        for (const auto& item : json_.items()) std::cerr << path_ << ": \"" << item.key() << "\" is not used\n";
    }

private:
    nlohmann::json take(const std::string& key) {
        if (!json_.contains(key)) throw error(path_, concat("\"", key, "\""), "no such key");
        nlohmann::json v = json_[key];
        json_.erase(key);
        return v;
    }
    std::string path_;
    nlohmann::json json_;
};

/// One family: reads its parameters and adds its layers; widths and counts follow from the tensors.
using family = std::function<value(const module_builder<>&, const value&, parameters&)>;

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

value condconv(const module_builder<>& m, const value& x, parameters& p) {
    const index_t stride = p.number("stride"), pad = p.number("padding"), groups = p.number("groups");
    const index_t dilation = p.number_or("dilation", 1);
    const state_dict_reader& w = m.weights();
    const index_t n = w.extent("weight", 0, 5);
    const kernel_shape k{w.extent("weight", 1, 5), checked_mul(w.extent("weight", 2, 5), groups, "weight"),
                         w.extent("weight", 3, 5), w.extent("weight", 4, 5), groups};
    const auto weights = w.take("weight", {n, k.o, w.extent("weight", 2, 5), k.kh, k.kw});
    const auto biases = w.contains("bias") ? w.take("bias", {n, k.o}) : std::span<const float>();
    condconv_router routing(w.take("routing.weight", {n, x.channels}), w.take("routing.bias", {n}), x.channels);
    return m.net().add(conv2d<mixture_kernel, condconv_router>(mixture_kernel::pack(n, k, weights, biases),
                                                               {.stride = stride, .pad = pad, .dilation = dilation},
                                                               {.name = "condconv"}, std::move(routing)),
                       x);
}

const std::map<std::string, family>& families() {
    static const std::map<std::string, family> all{{"kerneldna", kernel_dna}, {"condconv", condconv}};
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

    const network net = models::build(std::move(weights), x.shape.c, [&](const module_builder<>& m, const value& in) {
        const value out = found->second(m, in, p);
        p.finish();
        return out;
    });
    network_plan plan = net.plan(x.shape);
    if (plan.output_shape() != expected.shape)
        throw error("output", to_string(plan.output_shape()), to_string(expected.shape));
    const tensor<float> y = net(x);

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
