// Checkpoints as people have them: other classes and channels, element types, names, and counts of batches.
#include "models/published_keys.hpp"

#include <bit>
#include <cstring>

#include <kdna/backend/reference.hpp>
#include <kdna/io/safetensors.hpp>
#include <kdna/models/load_on.hpp>

#include "io/support.hpp"
#include "support/errors.hpp"
#include "support/frames.hpp"

using namespace kdna;
using namespace kdna_test;
using models::arch;
using models::form;

namespace {

struct some_network {
    std::string name;
    models::arch arch;
    models::form form;
    key_list keys;
};
/// All networks in all forms, the smallest of each.
std::vector<some_network> every_form() {
    std::vector<some_network> out;
    for (const arch a : all_archs)
        for (const form f : {form::kernel_dna, form::plain}) {
#ifndef __OPTIMIZE__
            if (a == arch::resnet50) continue;
#endif
            out.push_back({concat(models::arch_names[static_cast<std::size_t>(a)], " ",
                                  models::form_names[static_cast<std::size_t>(f)]),
                           a, f, keys_of(a, f)});
        }
    for (const dynamic_network& n : dynamic_networks)
        if (!n.name.ends_with("4x") || n.form == form::dyconv)
            out.push_back({std::string(n.name), n.arch, n.form, n.keys()});
    for (const published_network& n : published_networks())
        if (n.millions < 3) out.push_back({std::string(n.name), n.arch, n.form, n.keys().list()});
    return out;
}

/// The keys of the same network for images of `channels` and as many classes.
key_list adapted_to(const some_network& n, index_t channels, index_t classes) {
    key_list keys = n.keys;
    const bool late = n.name.ends_with("kw_1d2x");  // its classifier is a layer over a warehouse
    for (key& k : keys) {
        if (k.name == "conv1.weight" || k.name == "features.0.0.weight") k.shape[1] = channels;
        if (k.name == "features.0.0.attention.fc1.weight") k.shape[1] = channels;
        if (k.name == "warehouse_manager.weights.0" && k.shape[2] == 3) k.shape[2] = channels;
        if (late && k.name == "warehouse_manager.weights.9") k.shape[1] = classes;
        if (late && k.name == "classifier.1.conv.bias") k.shape[0] = classes;
        for (const char* head : {"fc.", "classifier.", "classifier.1.", "classifier.0.cls."})
            for (const char* part : {"weight", "bias"})
                if (k.name == std::string(head) + part) k.shape[0] = classes;
        // DCD's classifier has low-rank factors and a scale for each class.
        if (k.name == "classifier.0.cls_p.weight" || k.name == "classifier.0.fc_scale.weight") k.shape[0] = classes;
    }
    return keys;
}

/// The same tensors in another element type.
state_dict stored_as(dtype type, const state_dict& from) {
    state_dict out;
    for (const auto& [name, tensor] : from.tensors()) {
        tensor_data to(tensor.type() == dtype::f32 ? type : tensor.type(), tensor.shape(), name);
        if (tensor.type() == dtype::f32) {
            const auto values = tensor.values<float>();
            for (std::size_t i = 0; i < values.size(); ++i) {
                const double wide = static_cast<double>(values[i]);
                const auto brain = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(values[i]) >> 16U);
                if (type == dtype::f64)
                    std::memcpy(to.bytes().data() + i * sizeof(wide), &wide, sizeof(wide));
                else
                    std::memcpy(to.bytes().data() + i * sizeof(brain), &brain, sizeof(brain));
            }
        }
        out.add(name, std::move(to));
    }
    return out;
}

}  // namespace

TEST_CASE("Classes and input channels come from the tensors, in all networks and forms", "[networks]") {
    for (const some_network& n : every_form()) {
        INFO(n.name);
        for (const auto& [channels, classes] : {std::pair<index_t, index_t>{1, 10}, {4, 7}}) {
            const network net = models::load(n.arch, n.form, zeros(adapted_to(n, channels, classes)));
            const plan_options options{.transform_budget = 0};
            CHECK(net.plan({2, channels, 32, 32}, options).output_shape() == shape4{2, classes, 1, 1});
        }
    }
}

TEST_CASE("A network of ten classes and one channel gives the logits of double precision") {
    for (const some_network& n : every_form()) {
        if (n.name != "mobilenet_v2_1d2 kernel_dna" && n.name != "mobilenet_v2_1d2_kw_1d2x") continue;
        INFO(n.name);
        const key_list keys = adapted_to(n, 1, 10);
        const tensor<float> x = random_image({1, 1, 17, 20}, 650);
        const tensor<float> y = models::load(n.arch, n.form, random_values(keys, 651))(x.view());
        const tensor<float> exact =
            models::load<backend::reference>(n.arch, n.form, random_values(keys, 651))(x.view());
        double largest = 0.0, error = 0.0;
        for (std::size_t i = 0; i < 10; ++i) {
            const auto e = static_cast<double>(exact.span()[i]);
            largest = std::max(largest, std::abs(e));
            error = std::max(error, std::abs(static_cast<double>(y.span()[i]) - e));
        }
        CHECK(largest > 0.1);
        CHECK(error <= 2e-5 * largest);
    }
}

TEST_CASE("Classifiers and stems whose tensors disagree are refused") {
    key_list keys = keys_of(arch::resnet18, form::plain);
    const auto find = [&](std::string_view name) -> key& {
        return *std::find_if(keys.begin(), keys.end(), [&](const key& k) { return k.name == name; });
    };
    const auto load = [&] { return models::load(arch::resnet18, form::plain, zeros(keys)); };
    find("fc.weight").shape[0] = 10;
    check_error(load, "fc.bias", "float32 10", "float32 1000");
    find("fc.bias").shape[0] = 10;
    CHECK_NOTHROW(load());
    find("fc.weight").shape = {0, 512};
    find("fc.bias").shape = {0};
    check_error(load, "fc", "", "");
    find("fc.weight").shape = {10, 512, 1};
    check_error(load, "fc.weight", "2 dimensions", "float32 10x512x1");
    find("conv1.weight").shape = {64, 0, 7, 7};
    CHECK_THROWS_AS(load(), error);
}

TEST_CASE("Counts of batches are absent, of one element, or floating", "[networks]") {
    for (const some_network& n : every_form()) {
        if (n.arch == arch::resnet18 && n.form != form::dcd) continue;
        INFO(n.name);
        const auto with = [&](auto&& change) {
            key_list keys;
            for (key k : n.keys)
                if (!k.name.ends_with("num_batches_tracked") || change(k)) keys.push_back(k);
            return zeros(keys);
        };
        CHECK_NOTHROW(models::load(n.arch, n.form, with([](key&) { return false; })));
        CHECK_NOTHROW(models::load(n.arch, n.form, with([](key& k) {
                                       k.shape = {1};
                                       return true;
                                   })));
        CHECK_NOTHROW(models::load(n.arch, n.form, with([](key& k) {
                                       k.type = dtype::f32;
                                       return true;
                                   })));
        check_error(
            [&] {
                return models::load(n.arch, n.form, with([](key& k) {
                                        k.shape = {2};
                                        return true;
                                    }));
            },
            "num_batches_tracked", "one number", "int64 2");
    }
}

TEST_CASE("Weights of other element types are converted, and the report says so") {
    const arch a = arch::mobilenet_v2_1d2;
    const key_list keys = kernel_dna_keys(a);
    const tensor<float> x = random_image({1, 3, 17, 20}, 652);
    state_dict values = random_values(keys, 653);
    const state_dict brain = stored_as(dtype::bf16, values);
    load_report report;
    report.prefix = "left over";
    const auto logits = [&](state_dict weights) {
        return values_of(models::load(a, form::kernel_dna, std::move(weights), report)(x.view()));
    };
    index_t floats = 0;
    for (const key& k : keys) floats += k.type == dtype::f32 ? 1 : 0;

    const auto exact = logits(random_values(keys, 653));
    CHECK(to_string(report).empty());
    CHECK(same_bits(logits(stored_as(dtype::f64, values)), exact));
    CHECK(to_string(report) == concat(floats, " tensors converted to float32: ", floats, " from float64\n"));
    // What bfloat16 keeps of the values, as float32.
    state_dict upper = random_values(keys, 653);
    state_dict kept;
    for (const key& k : keys) {
        tensor_data t = upper.extract(k.name);
        if (k.type == dtype::f32)
            for (std::size_t i = 0; i < t.bytes().size(); i += 4) t.bytes()[i] = t.bytes()[i + 1] = std::byte{0};
        kept.add(k.name, std::move(t));
    }
    CHECK(same_bits(logits(stored_as(dtype::bf16, values)), logits(std::move(kept))));
    static_cast<void>(logits(stored_as(dtype::bf16, values)));
    REQUIRE(static_cast<index_t>(report.converted.size()) == floats);
    CHECK(report.converted.front().from == dtype::bf16);
    CHECK(report.converted.front().name == "classifier.1.bias");

    // Kernels may stay as they are in the file; what is left is converted.
    state_dict as_stored = stored_as(dtype::bf16, values);
    as_stored.set_options({.storage = storage_named("file")});
    report = {};
    const network half = models::load(a, form::kernel_dna, std::move(as_stored), report);
    CHECK(static_cast<index_t>(report.converted.size()) < floats);
    CHECK(std::none_of(report.converted.begin(), report.converted.end(),
                       [](const float32_conversion& c) { return c.name == "features.1.conv.0.0.weight"; }));
    const auto found = values_of(half(x.view())), same = logits(stored_as(dtype::bf16, values));
    CHECK(error_of(found, same) <= 2e-5);
    CHECK(half.weight_bytes() <
          models::load(a, form::kernel_dna, stored_as(dtype::bf16, values)).weight_bytes() * 6 / 10);

    // Too large for float32.
    state_dict wide = stored_as(dtype::f64, values);
    tensor_data bias = wide.extract("classifier.1.bias");
    const double huge = 1e300;
    std::memcpy(bias.bytes().data() + 8, &huge, sizeof(huge));
    wide.add("classifier.1.bias", std::move(bias));
    check_error([&] { return models::load(a, form::kernel_dna, std::move(wide)); }, "classifier.1.bias",
                "within the range of float32", "1e+300 at element 1");
}

TEST_CASE("In every form the kernels, mixtures and cells are stored as the options say", "[networks]") {
    for (const some_network& n : every_form()) {
        INFO(n.name);
        const auto bytes = [&](number_format format) {
            state_dict weights = zeros(n.keys);
            weights.set_options({.storage = format});
            return static_cast<double>(models::load(n.arch, n.form, std::move(weights)).weight_bytes());
        };
        const double all = bytes(number_format::float32);
        CHECK(bytes(number_format::float16) == bytes(number_format::bfloat16));
        CHECK(bytes(number_format::float16) < 0.75 * all);  // routers stay what they are
    }
    CHECK(storage_named("float16") == number_format::float16);
    CHECK(storage_named("file") == std::nullopt);
    check_error([] { static_cast<void>(storage_named("int8")); }, "storage", "float32, float16, bfloat16 or file",
                "int8");
}

TEST_CASE("A codebook's index stays what it is") {
    state_dict dict;
    dict.add("index", tensor_data(dtype::f16, {3}));
    check_error([&] { return state_dict_reader(dict).take<std::uint8_t>("index", {3}); }, "index", "uint8", "float16");
}

TEST_CASE("Prefixes of wrappers come off every network's names, and the report says which", "[networks]") {
    for (const std::string prefix : {"_orig_mod.", "model.", "module.model.", "_orig_mod.module."})
        for (const some_network& n : every_form()) {
            if (n.arch == arch::resnet50) continue;
            INFO(prefix << n.name);
            key_list keys = n.keys;
            for (key& k : keys) k.name = prefix + k.name;
            load_report report;
            CHECK_NOTHROW(models::load(n.arch, n.form, zeros(keys), report));
            CHECK(report.prefix == prefix);
            if (prefix != "model.") continue;
            keys[5].name = keys[5].name.substr(6);
            check_error([&] { return models::load(n.arch, n.form, zeros(keys)); }, keys[5].name,
                        "the prefix \"model.\"", "without it");
        }
}

TEST_CASE("A network of one's own may be called model") {
    state_dict weights;
    for (const char* name : {"model.a.weight", "model.a.bias"})
        weights.add(concat("_orig_mod.module.", name),
                    tensor_data(dtype::f32, name[8] == 'w' ? std::vector<index_t>{5, 3} : std::vector<index_t>{5}));
    const network net = models::build(std::move(weights), 3, [](const auto& m, const models::value& x) {
        return m.linear(m.net().add_global_average(x), "model.a");
    });
    CHECK(net.plan({1, 3, 4, 4}).output_shape() == shape4{1, 5, 1, 1});
}

TEST_CASE("A network loads from shards by the path of their index") {
    const io_test::temporary_folder folder;
    state_dict all = random_values(kernel_dna_keys(arch::mobilenet_v2_1d2), 654), parts[2];
    std::string map;
    std::size_t next = 0;
    for (const std::string& name : all.names()) {
        const std::size_t part = next++ % 2;
        map += concat(map.empty() ? "" : ",", "\"", name, "\":\"part", part, ".safetensors\"");
        parts[part].add(name, all.extract(name));
    }
    for (std::size_t i = 0; i < 2; ++i) save_safetensors(folder / concat("part", i, ".safetensors"), parts[i]);
    io_test::write_file(folder / "net.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
    const tensor<float> x = random_image({1, 3, 17, 20}, 655);
    const network net = models::load(arch::mobilenet_v2_1d2, folder / "net.safetensors.index.json");
    const network whole = models::load(arch::mobilenet_v2_1d2, form::kernel_dna,
                                       random_values(kernel_dna_keys(arch::mobilenet_v2_1d2), 654));
    CHECK(same_bits(values_of(net(x.view())), values_of(whole(x.view()))));
    check_error([&] { return models::load(arch::mobilenet_v2_1d2, folder / "part0.safetensors"); }, "part0.safetensors",
                "", "no such tensor");
}
