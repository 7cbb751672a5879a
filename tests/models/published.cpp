// The published ODConv and KernelWarehouse networks in all their sizes.
#include "models/published_keys.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include <kdna/models/load_on.hpp>

#include "support/errors.hpp"
#include "support/patient_reference.hpp"

using namespace kdna;
using namespace kdna_test;
using models::arch;
using models::form;

namespace {

double millions_of_parameters(const key_list& keys) {
    double count = 0.0;
    for (const key& k : keys) {
        if (k.type != dtype::f32 || k.name.find("running_") != std::string::npos) continue;
        double size = 1.0;
        for (const index_t extent : k.shape) size *= static_cast<double>(extent);
        count += size;
    }
    return count / 1e6;
}

/// Whether these are the keys of tests/models/keys/`name`.txt, in any order.
void check_listed(const key_list& keys, std::string_view name) {
    const auto lines = [](const key_list& list) {
        std::set<std::string> out;
        for (const key& k : list) out.insert(k.name + " " + to_string(k.type, k.shape));
        return out;
    };
    INFO(name);
    CHECK(lines(keys) == lines(read_keys(name)));
}

/// The largest error, relative to the largest value.
double relative_difference(const tensor<float>& y, const tensor<float>& exact) {
    REQUIRE(y.shape() == exact.shape());
    double largest = 0.0, error = 0.0;
    for (std::size_t i = 0; i < y.span().size(); ++i) {
        const auto e = static_cast<double>(exact.span()[i]);
        largest = std::max(largest, std::abs(e));
        const double difference = std::abs(static_cast<double>(y.span()[i]) - e);
        error = difference <= error ? error : difference;
    }
    INFO("largest " << largest);
    CHECK(largest > 0.1);
    CHECK(largest < 1e4);
    return error / largest;
}

/// random_values() with smaller cells: those of half the extents make kernels that are too large, and errors with them.
state_dict tame_values(const key_list& keys, std::uint64_t stream) {
    state_dict from = random_values(keys, stream), out;
    for (const std::string& name : from.names()) {
        tensor_data tensor = from.extract(name);
        if (name.starts_with("warehouse")) {
            auto* values = reinterpret_cast<float*>(tensor.bytes().data());
            std::for_each(values, values + tensor.bytes().size() / sizeof(float), [](float& v) { v *= 0.7F; });
        }
        out.add(name, std::move(tensor));
    }
    return out;
}

/// The basis variant of a state_dict's attentions written out: fc2 with a row for each cell and a bias, no fc3.
[[maybe_unused]] state_dict without_basis(const state_dict& from, const std::vector<warehouse_place>& places) {
    state_dict out;
    for (const auto& [name, tensor] : from.tensors()) {
        if (name.ends_with("attention.fc2.weight") || name.ends_with("attention.fc3.weight") ||
            name.ends_with("attention.basis_bias"))
            continue;
        tensor_data copy(tensor.type(), tensor.shape());
        std::copy(tensor.bytes().begin(), tensor.bytes().end(), copy.bytes().begin());
        out.add(name, std::move(copy));
    }
    for (const warehouse_place& p : places) {
        const std::string name = p.layer + ".attention.";
        const auto fc2 = from.at(name + "fc2.weight").values<float>(),
                   fc3 = from.at(name + "fc3.weight").values<float>();
        const index_t others = p.cells - p.local, basis = std::ssize(fc3) / others, given = p.local + basis + 1;
        std::vector<float> rows(static_cast<std::size_t>(p.combinations * (p.cells + 1) * p.hidden));
        for (index_t j = 0; j < p.combinations; ++j)
            for (index_t h = 0; h < p.hidden; ++h) {
                const auto value = [&](index_t row) {
                    return fc2[static_cast<std::size_t>((j * given + row) * p.hidden + h)];
                };
                std::vector<float> all;
                for (index_t i = 0; i < others; ++i) {
                    double sum = 0.0;
                    for (index_t b = 0; b < basis; ++b)
                        sum += static_cast<double>(fc3[static_cast<std::size_t>(i * basis + b)]) *
                               static_cast<double>(value(p.local + b));
                    all.push_back(static_cast<float>(sum));
                }
                for (index_t i = 0; i < p.local; ++i) all.insert(all.begin() + std::min(p.first, others) + i, value(i));
                all.push_back(value(given - 1));
                for (index_t i = 0; i <= p.cells; ++i)
                    rows[static_cast<std::size_t>((j * (p.cells + 1) + i) * p.hidden + h)] =
                        all[static_cast<std::size_t>(i)];
            }
        out.add(name + "fc2.weight",
                tensor_data::copy_of<float>({p.combinations * (p.cells + 1), p.hidden}, rows, name));
        out.add(name + "fc2.bias", tensor_data::copy_of<float>({p.combinations * (p.cells + 1)},
                                                               from.at(name + "basis_bias").values<float>(), name));
    }
    return out;
}

}  // namespace

TEST_CASE("The rules by which published networks are listed give the lists of the public code") {
    check_listed(resnet_odconv(false, 1).list(), "resnet18_odconv_1x");
    check_listed(resnet_odconv(false, 4).list(), "resnet18_odconv_4x");
    check_listed(resnet_kw(false, warehouse_ratios::of(1)).list(), "resnet18_kw_1x");
    check_listed(mobilenet_odconv(true, 1).list(), "mobilenet_v2_odconv_1x");
    check_listed(mobilenet_odconv(true, 4).list(), "mobilenet_v2_odconv_4x");
    check_listed(mobilenet_kw(true, 1, true).list(), "mobilenet_v2_kw_1x");
    for (const published_network& n : published_networks()) {
        INFO(n.name);
        CHECK(std::abs(millions_of_parameters(n.keys().list()) - n.millions) < 0.0051);
    }
}

TEST_CASE("Every published ODConv and KernelWarehouse network loads, and nothing less or more does", "[networks]") {
    for (const published_network& n : published_networks()) {
#ifndef __OPTIMIZE__
        if (n.millions > 5) continue;
#endif
        INFO(n.name);
        key_list keys = n.keys().list();
        CHECK_NOTHROW(models::load(n.arch, n.form, zeros(keys)));
        if (n.millions > 30) continue;
        rng r(660, keys.size());
        const auto at = static_cast<std::size_t>(r.between(0, static_cast<index_t>(keys.size()) - 1));
        key_list more = keys, less = keys;
        more.push_back({keys[at].name + "_extra", {3}});
        check_error([&] { return models::load(n.arch, n.form, zeros(more)); }, more.back().name, "every tensor",
                    "unused");
        if (keys[at].name.ends_with("num_batches_tracked")) continue;
        less.erase(less.begin() + static_cast<std::ptrdiff_t>(at));
        check_error([&] { return models::load(n.arch, n.form, zeros(less)); }, keys[at].name, "", "no such tensor");
    }
}

TEST_CASE("A missing or superfluous warehouse of a published network is named") {
    for (const published_network& n : published_networks()) {
        if (n.form != form::kernel_warehouse || n.millions > 5) continue;
        INFO(n.name);
        const key_list keys = n.keys().list();
        index_t count = 0;
        for (const key& k : keys) count += k.name.starts_with("warehouse_manager") ? 1 : 0;
        for (const index_t i : {index_t{0}, count - 1}) {
            const std::string name = concat("warehouse_manager.weights.", i);
            key_list less = keys;
            std::erase_if(less, [&](const key& k) { return k.name == name; });
            check_error([&] { return models::load(n.arch, n.form, zeros(less)); }, name, "", "no such tensor");
        }
        key_list more = keys;
        more.push_back({concat("warehouse_manager.weights.", count), {5, 8, 8, 1, 1}});
        check_error([&] { return models::load(n.arch, n.form, zeros(more)); }, more.back().name, "", "unused");
    }
}

TEST_CASE("Published networks give the logits of double precision", "[networks]") {
    const auto check = [](std::string_view name, arch a, form f, const key_list& keys) {
        INFO(name);
        const tensor<float> x = random_image({1, 3, 17, 20}, 661);
        const tensor<float> y = models::load(a, f, tame_values(keys, 662))(x.view());
        REQUIRE(y.shape() == shape4{1, 1000, 1, 1});
        const double error =
            relative_difference(y, models::load<patient_reference>(a, f, tame_values(keys, 662))(x.view()));
        INFO("error " << error);
        CHECK(error > 0.0);
        CHECK(error <= 2e-5);
    };
    for (const published_network& n : published_networks()) {
        if (!n.compared) continue;
#ifndef __OPTIMIZE__
        if (n.arch != arch::mobilenet_v2_1d2 || n.name.ends_with("4x")) continue;
#endif
        check(n.name, n.arch, n.form, n.keys().list());
    }
#ifdef __OPTIMIZE__
    // ResNet50 with its published numbers of cells takes half a minute in double precision.
    check("resnet50 with few cells", arch::resnet50, form::kernel_warehouse,
          resnet_kw(true, warehouse_ratios::of(0.05)).list());
#endif
}

#ifdef __OPTIMIZE__
TEST_CASE("Layers of the basis variant find their own cells in the order of the public code", "[networks]") {
    const published_keys published = resnet50_kw_1d2x();
    const state_dict weights = random_values(published.list(), 663);
    const tensor<float> x = random_image({1, 3, 17, 20}, 664);
    const auto written_out =
        models::load(arch::resnet50, form::kernel_warehouse, without_basis(weights, published.places()));
    const auto basis = models::load(arch::resnet50, form::kernel_warehouse, random_values(published.list(), 663));
    const double error = relative_difference(basis(x.view()), written_out(x.view()));
    INFO(error);
    CHECK(error <= 1e-4);
    // Somewhere else, the cells make another network.
    std::vector<warehouse_place> shifted = published.places();
    shifted[3].first += 1;
    const auto other = models::load(arch::resnet50, form::kernel_warehouse, without_basis(weights, shifted));
    CHECK(relative_difference(basis(x.view()), other(x.view())) > 1e-3);
}
#endif

TEST_CASE("Own cells that do not add up to the warehouse are refused") {
#ifdef __OPTIMIZE__
    key_list keys = resnet50_kw_1d2x().list();
    // One layer with four cells fewer of its own.
    for (key& k : keys) {
        if (k.name == "layer1.1.conv1.attention.fc3.weight") k.shape[0] += 4;
        if (k.name == "layer1.1.conv1.attention.fc2.weight") k.shape[0] -= 4 * 16;
    }
    check_error([&] { return models::load(arch::resnet50, form::kernel_warehouse, zeros(keys)); },
                "warehouse_manager.weights.0", "cells, as its layers have of their own", "174");
#endif
}
