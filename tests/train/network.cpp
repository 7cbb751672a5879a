// A whole network backwards against autograd, its statistics, its optimiser, and its adapters in a file.
#include <filesystem>
#include <sstream>

#include <kdna/models/mobilenet_v2.hpp>
#include <kdna/train/train.hpp>

#include "io/support.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"
#include "train/cases.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// tools/make_gradient_cases.py's Network, for any builder.
const auto small_network = [](const auto& m, const models::value& x) {
    models::value h = models::dna_basic_stage(m.child("stage"), x, 8, 1);
    h = m.net().add(max_pool2d(3, 2, 1), h);
    h = models::dna_cluster(m.child("cluster"), h, 8, 2, 2);
    return models::classifier_head(m, h, "fc", 6);
};

struct small_case {
    state_dict file = load_gradients("network");
    gradient_case known = take_case(file, "");
    std::vector<int> labels{};
    small_case() {
        std::istringstream text(file.metadata().at("labels"));
        for (int label = 0; text >> label;) labels.push_back(label);
    }
    [[nodiscard]] tensor_view<const float> x() const {
        return make_view(known.of("input").data(), known.shape_of("input"), layout::nchw);
    }
    [[nodiscard]] train::network network(const train::selection& trained) const {
        return train::build(take_case(file, "").weights, 5, small_network, trained);
    }
    double loss(train::pass& pass) const {
        pass.forward(x());
        return train::softmax_cross_entropy(pass.output(), labels, pass.output_gradient());
    }
};

bool everything(std::string_view, train::role) { return true; }

}  // namespace

TEST_CASE("gradients of a network with parents, children and a classifier are those of autograd", "[train]") {
    const small_case c;
    for (const bool all : {true, false}) {
        CAPTURE(all);
        train::network net = c.network(all ? train::selection(everything) : train::adapters_gates_and_norms);
        train::pass pass(net, c.x().shape, {.input_gradient = true});
        CHECK(std::abs(c.loss(pass) - static_cast<double>(c.known.of("loss")[0])) <= 1e-6);
        pass.backward();
        CHECK(check_gradients(net, c.known) >= (all ? 70 : 50));
        CHECK(relative_error(values_of(pass.input_gradient()), c.known.of("grad.input")) <= gradient_tolerance);
        CHECK(pass.bytes() > 0);
    }
}

TEST_CASE("what comes before the first trained parameter is not gone back through", "[train]") {
    const small_case c;
    const auto bytes = [&](const train::selection& trained) {
        train::network net = c.network(trained);
        train::pass pass(net, c.x().shape);
        static_cast<void>(c.loss(pass));
        pass.backward();
        check_gradients(net, c.known);
        return pass.bytes();
    };
    const auto classifier = [](std::string_view, train::role is) { return is == train::role::classifier; };
    CHECK(bytes(classifier) * 2 < bytes(train::adapters_gates_and_norms));
}

TEST_CASE("a network that is trained gives what the deployed one gives", "[train]") {
    const small_case c;
    train::network net = c.network(train::adapters_gates_and_norms);
    train::pass pass(net, c.x().shape);
    pass.forward(c.x());
    const network deployed = models::build(take_case(c.file, "").weights, 5, small_network);
    const tensor<float> y = deployed(c.x());
    CHECK(relative_error(values_of(pass.output()), values_of(y.view())) <= gradient_tolerance);
}

TEST_CASE("adapters in a file make the base network the one that was trained", "[train]") {
    const small_case c;
    const io_test::temporary_folder folder;
    const auto base = folder / "base.safetensors", adapters = folder / "adapters.safetensors";
    {
        // The names of a wrapped network, which builders take off.
        state_dict wrapped;
        for (const auto& [name, tensor] : c.known.weights.tensors())
            wrapped.add("module." + name, tensor_data::copy_of<float>(tensor.shape(), tensor.values<float>()));
        save_safetensors(base, wrapped);
    }
    train::network net = train::build(load_safetensors(base), 5, small_network);
    train::pass pass(net, c.x().shape);
    train::adam optimiser(net.parameters(), {.rate = 1e-2});
    pass.estimate_statistics(c.x());
    pass.adopt_statistics();
    const double before = c.loss(pass);
    for (int i = 0; i < 20; ++i) {
        static_cast<void>(c.loss(pass));
        pass.backward();
        optimiser.step();
    }
    CHECK(c.loss(pass) < 0.5 * before);
    save_safetensors(adapters, net.parameters().changed());
    CHECK(std::filesystem::file_size(adapters) < std::filesystem::file_size(base));

    const network adapted = models::build(load_safetensors(base, load_options{.overlay = adapters}), 5, small_network);
    const tensor<float> y = adapted(c.x());
    CHECK(relative_error(values_of(pass.output()), values_of(y.view())) <= gradient_tolerance);
    // Kernels and the classifier were not touched.
    const state_dict saved = load_safetensors(adapters);
    CHECK(saved.contains("module.stage.static_spatial_attn"));
    CHECK(saved.contains("module.stage.bns.1.running_mean"));
    CHECK(saved.contains("module.cluster.blocks.0.se1.se.fc2.bias"));
    CHECK_FALSE(saved.contains("module.stage.conv2.weight"));
    CHECK_FALSE(saved.contains("module.fc.weight"));

    const auto overlaid = [&](const std::string& name, const std::vector<index_t>& shape) {
        state_dict other;
        other.add(name, tensor_data(dtype::f32, shape));
        save_safetensors(adapters, other);
        return load_safetensors(base, load_options{.overlay = adapters});
    };
    check_error([&] { return overlaid("module.fc.biass", {6}); }, "adapters.safetensors, module.fc.biass",
                "the name of a tensor that it replaces", "no such tensor");
    check_error([&] { return overlaid("module.fc.bias", {7}); }, "adapters.safetensors, module.fc.bias", "float32 6",
                "float32 7");
}

TEST_CASE("statistics are those of the images, and the network is then the same on them", "[train]") {
    const small_case c;
    // Two batches of images that are not what the network's statistics were made for.
    tensor<float> x({32, 5, 9, 8}), other({32, 5, 9, 8});
    rng random(1, 0);
    for (float& v : x.span()) v = static_cast<float>(random.real(-2.0, 4.0));
    for (float& v : other.span()) v = static_cast<float>(random.real(-1.0, 5.0));
    train::network net = c.network(train::adapters_gates_and_norms);
    train::pass pass(net, x.shape());
    pass.forward(x.view());
    const std::vector<float> before = values_of(pass.output());
    pass.estimate_statistics(x.view());
    const std::vector<float> by_batch = values_of(pass.output());
    pass.adopt_statistics();
    pass.forward(x.view());
    // The running statistics differ from the batch's own by the divisor, 31 instead of 32 in the gates' norms.
    CHECK(relative_error(values_of(pass.output()), by_batch) <= 0.05);
    CHECK(relative_error(before, by_batch) > 0.5);

    // The first norm sees what does not depend on others: averages over batches, of variances with the divisor count - 1.
    pass.estimate_statistics(x.view());
    pass.estimate_statistics(other.view());
    pass.adopt_statistics();
    const train::parameter &mean = net.parameters().named("stage.downsample.1.running_mean"),
                           &var = net.parameters().named("stage.downsample.1.running_var");
    CHECK(mean.changed);
    const std::span<const float> w = c.known.of("stage.downsample.0.weight");
    const index_t pixels = x.shape().n * x.shape().h * x.shape().w;
    for (index_t o = 0; o < 8; ++o) {
        double means = 0.0, vars = 0.0;
        for (const tensor<float>* batch : {&x, &other}) {
            std::vector<double> z;
            for (index_t n = 0; n < 32; ++n)
                for (index_t h = 0; h < 9; ++h)
                    for (index_t col = 0; col < 8; ++col) {
                        double sum = 0.0;
                        for (index_t i = 0; i < 5; ++i)
                            sum += static_cast<double>(w[static_cast<std::size_t>(o * 5 + i)]) *
                                   static_cast<double>((*batch)(n, i, h, col));
                        z.push_back(sum);
                    }
            double average = 0.0, squares = 0.0;
            for (const double v : z) average += v / static_cast<double>(pixels);
            for (const double v : z) squares += (v - average) * (v - average);
            means += average / 2.0;
            vars += squares / static_cast<double>(pixels - 1) / 2.0;
        }
        CHECK(std::abs(static_cast<double>(mean.values[o]) - means) <= 1e-5 * std::sqrt(vars));
        CHECK(std::abs(static_cast<double>(var.values[o]) - vars) <= 1e-5 * vars);
    }
}

TEST_CASE("networks that cannot be trained are refused", "[train]") {
    const small_case c;
    check_error([&] { return c.network([](std::string_view, train::role) { return false; }); }, "network",
                "at least one parameter that is trained", "none");
    const auto odconv = [](const auto& m, const models::value& x) {
        return m.add(x,
                     dense_kernel::pack({.o = 8, .i = 5}, m.weights().take("stage.downsample.0.weight", {8, 5, 1, 1})),
                     {}, 0);
    };
    check_error([&] { return train::build(take_case(c.file, "").weights, 5, odconv); }, "layer",
                "a plain convolution, KernelDNA's parents and children", "another method");
    train::network net = c.network(everything);
    CHECK(net.parameters().trained() == net.parameters().total());
    check_error([&] { return net.parameters().named("fc.weights").count(); }, "fc.weights", "a parameter of this name",
                "no such parameter");
    train::pass pass(net, c.x().shape);
    pass.forward(c.x());
    const std::vector<int> few{1, 2}, wrong{1, 2, 6};
    check_error([&] { return train::softmax_cross_entropy(pass.output(), few, pass.output_gradient()); }, "labels",
                "3, one a sample", "2");
    check_error([&] { return train::softmax_cross_entropy(pass.output(), wrong, pass.output_gradient()); }, "labels",
                "0 to 5", "6");
}
