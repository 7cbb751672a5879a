// The networks of the dynamic methods: exactly the tensors of their public code, and the logits of double precision.
#include <kdna/models/load_on.hpp>

#include "models/state_dicts.hpp"

#include <algorithm>
#include <cmath>

#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/frames.hpp"
#include "support/patient_reference.hpp"

using namespace kdna;
using namespace kdna_test;
using models::arch;
using models::form;

namespace {

/// Where compilers do not optimise, the small ones.
std::vector<dynamic_network> checked() {
    std::vector<dynamic_network> out;
    for (const dynamic_network& n : dynamic_networks) {
#ifndef __OPTIMIZE__
        if (!n.name.starts_with("mobilenet") || n.name.ends_with("4x")) continue;
#endif
        out.push_back(n);
    }
    return out;
}

network load(const dynamic_network& n, state_dict weights) { return models::load(n.arch, n.form, std::move(weights)); }

/// f(network, its keys, index of one of them that `eligible` allows).
template <class Eligible, class F>
void for_some_key(std::uint64_t stream, Eligible&& eligible, F&& f) {
    for (const dynamic_network& n : checked()) {
        const key_list keys = n.keys();
        rng r(stream, keys.size());
        std::size_t at = 0;
        do at = static_cast<std::size_t>(r.between(0, static_cast<index_t>(keys.size()) - 1));
        while (!eligible(keys[at]));
        INFO(n.name << ": " << keys[at].name);
        f(n, keys, at);
    }
}
/// Counts may be written in any form, or be absent.
bool any_weight(const key& k) { return k.type == dtype::f32; }

double parameters(const key_list& keys) {
    double count = 0.0;
    for (const key& k : keys) {
        if (k.type != dtype::f32 || k.name.find("running_") != std::string::npos) continue;
        double size = 1.0;
        for (const index_t extent : k.shape) size *= static_cast<double>(extent);
        count += size;
    }
    return count;
}

}  // namespace

TEST_CASE("The keys of every dynamic network are exactly those it asks for") {
    constexpr std::size_t counts[] = {314, 346, 259, 179, 394, 824, 926, 691};
    std::size_t i = 0;
    for (const dynamic_network& n : dynamic_networks) CHECK(n.keys().size() == counts[i++]);
    for (const dynamic_network& n : checked()) {
        INFO(n.name);
        CHECK_NOTHROW(load(n, zeros(n.keys())));
        CHECK_THROWS_AS(models::load(n.arch, form::plain, zeros(n.keys())), error);
        CHECK_THROWS_AS(models::load(n.arch, n.form, zeros(keys_of(n.arch, form::plain))), error);
    }
}

TEST_CASE("Dynamic networks give the logits of double precision", "[networks]") {
    for (const dynamic_network& n : checked()) {
#ifdef __OPTIMIZE__
        const tensor<float> x = random_image({1, 3, 33, 47}, 630);
#else
        const tensor<float> x = random_image({1, 3, 17, 19}, 630);
#endif
        const key_list keys = n.keys();
        const tensor<float> y = load(n, random_values(keys, 631))(x.view());
        const tensor<float> exact = models::load<patient_reference>(n.arch, n.form, random_values(keys, 631))(x.view());
        REQUIRE(y.shape() == shape4{1, 1000, 1, 1});
        double largest = 0.0, error = 0.0;
        for (std::size_t i = 0; i < y.span().size(); ++i) {
            const auto e = static_cast<double>(exact.span()[i]);
            largest = std::max(largest, std::abs(e));
            const double difference = std::abs(static_cast<double>(y.span()[i]) - e);
            error = difference <= error ? error : difference;
        }
        INFO(n.name << ": " << error << " of " << largest);
        CHECK(largest > 0.6);
        CHECK(largest < 1e4);
        CHECK(error > 0.0);
        CHECK(error <= 2e-5 * largest);
    }
}

TEST_CASE("A dynamic network's batch has the bits of its samples, on any number of threads", "[threads]") {
    for (const dynamic_network& n : checked()) {
        if (n.name.ends_with("4x")) continue;
        INFO(n.name);
        const network net = load(n, random_values(n.keys(), 632));
        const tensor<float> x = random_image({2, 3, 21, 34}, 633);
        const auto batch = values_of(net(x.view()));
        std::vector<float> singly;
        for (index_t i = 0; i < 2; ++i) {
            const auto one = values_of(net(x.view().samples(i, 1)));
            singly.insert(singly.end(), one.begin(), one.end());
        }
        CHECK(same_bits(batch, singly));
        shuffling_executor threads(3);
        CHECK(same_bits(batch, values_of(net(x.view(), {.executor = threads}))));
    }
}

TEST_CASE("A dynamic network holds its parameters once, however many layers share them") {
    for (const dynamic_network& n : checked()) {
        const key_list keys = n.keys();
        const auto bytes = static_cast<double>(load(n, zeros(keys)).weight_bytes());
        INFO(n.name << ": " << bytes << " bytes for " << parameters(keys) << " parameters");
        CHECK(bytes > 0.99 * 4 * parameters(keys));
        CHECK(bytes < 1.06 * 4 * parameters(keys));
    }
}

TEST_CASE("A dynamic network's missing tensor is named") {
    for_some_key(640, any_weight, [](const dynamic_network& n, key_list keys, std::size_t at) {
        const std::string name = keys[at].name;
        keys.erase(keys.begin() + static_cast<std::ptrdiff_t>(at));
        check_error([&] { return load(n, zeros(keys)); }, name, "", "no such tensor");
    });
}

TEST_CASE("A dynamic network's superfluous tensor is named") {
    for_some_key(641, any_weight, [](const dynamic_network& n, key_list keys, std::size_t at) {
        const std::string name = keys[at].name + "_extra";
        keys.push_back({name, {3}});
        check_error([&] { return load(n, zeros(keys)); }, name, "every tensor to be used", "1 unused tensor: " + name);
    });
    for (const dynamic_network& n : checked())
        if (n.form == form::kernel_warehouse) {
            key_list keys = n.keys();
            keys.push_back({"warehouse_manager.weights.13", {5, 8, 8, 1, 1}});
            check_error([&] { return load(n, zeros(keys)); }, keys.back().name, "every tensor to be used", "unused");
        }
}

// The first extent of a weight may say how many kernels, hidden units or ranks there are; the last one never does.
TEST_CASE("A dynamic network's tensor of another shape is named with both shapes") {
    const auto eligible = [](const key& k) { return any_weight(k) && !k.name.starts_with("warehouse"); };
    for_some_key(642, eligible, [](const dynamic_network& n, key_list keys, std::size_t at) {
        const std::string right = to_string(keys[at].type, keys[at].shape);
        keys[at].shape.back() += 1;
        check_error([&] { return load(n, zeros(keys)); }, keys[at].name, right,
                    to_string(keys[at].type, keys[at].shape));
    });
    for_some_key(643, eligible, [](const dynamic_network& n, key_list keys, std::size_t at) {
        keys[at].shape.push_back(1);
        check_error([&] { return load(n, zeros(keys)); }, keys[at].name, "", "");
    });
}

TEST_CASE("A dynamic network's tensor of another type is named with both types") {
    for_some_key(644, any_weight, [](const dynamic_network& n, key_list keys, std::size_t at) {
        keys[at].type = dtype::i64;
        check_error([&] { return load(n, zeros(keys)); }, keys[at].name, "float32", "int64");
    });
}

TEST_CASE("Tensors that disagree about a size are refused") {
    const auto fails = [](const dynamic_network& n, const std::string& name, std::size_t axis,
                          const std::string& where) {
        key_list keys = n.keys();
        const auto k =
            std::find_if(keys.begin(), keys.end(), [&](const key& candidate) { return candidate.name == name; });
        REQUIRE(k != keys.end());
        k->shape[axis] += 1;
        check_error([&] { return load(n, zeros(keys)); }, where, "", "");
    };
    for (const dynamic_network& n : checked()) {
        if (n.name == "mobilenet_v2_odconv_1x") {
            // Two kernels, but nothing that mixes them.
            fails(n, "features.1.conv.1.weight", 0, "features.1.conv.1.attention.kernel_fc.weight");
            fails(n, "features.1.conv.1.attention.fc.weight", 0, "features.1.conv.1.attention.bn.weight");
        }
        if (n.name == "mobilenet_v2_kw_1x") {
            fails(n, "warehouse_manager.weights.11", 0, "features.15.conv.0.0.attention.fc2.weight");
            fails(n, "warehouse_manager.weights.11", 1, "features.15.conv.0.0");
            fails(n, "warehouse_manager.weights.0", 4, "features.0.0");
            fails(n, "features.1.conv.1.attention.fc1.weight", 0, "features.1.conv.1.attention.norm1.weight");
        }
        if (n.name == "resnet18_odconv_4x")
            fails(n, "layer1.0.conv1.weight", 0, "layer1.0.conv1.attention.kernel_fc.weight");
        if (n.name == "resnet18_dyconv_4x")
            fails(n, "layer2.0.downsample.0.weight", 0, "layer2.0.downsample.0.attention.fc2.weight");
        if (n.name == "resnet18_dcd") {
            fails(n, "layer1.0.conv1.q.weight", 0, "layer1.0.conv1.fc_phi.weight");
            fails(n, "classifier.0.fc.0.weight", 0, "classifier.0.fc.1.fc.0.weight");
        }
    }
}

TEST_CASE("DCD's classifier may stand behind a dropout") {
    for (const dynamic_network& n : checked()) {
        if (n.form != form::dcd) continue;
        key_list keys = n.keys();
        for (key& k : keys)
            if (k.name.starts_with("classifier.0.")) k.name[11] = '1';
        CHECK_NOTHROW(load(n, zeros(keys)));
    }
}

TEST_CASE("A prefix module. is taken off a dynamic network's names") {
    for (const dynamic_network& n : checked()) {
        key_list keys = n.keys();
        for (key& k : keys) k.name = "module." + k.name;
        CHECK_NOTHROW(load(n, zeros(keys)));
    }
}

TEST_CASE("A form in which a network does not come is refused") {
    for (const arch a : all_archs)
        for (std::size_t i = 0; i < models::form_names.size(); ++i) {
            const auto f = static_cast<form>(i);
            CHECK(models::form_of(models::form_names[i]) == f);
            if (!models::published(a, f))
                check_error([&] { return models::load(a, f, state_dict()); },
                            std::string(models::arch_names[static_cast<std::size_t>(a)]), "published",
                            std::string(models::form_names[i]));
        }
    CHECK(models::published(arch::resnet18, form::dcd));
    CHECK(!models::published(arch::resnet50, form::dcd));
    check_error([] { return models::form_of("condconv"); }, "form", "kernel_dna, plain", "\"condconv\"");
}
