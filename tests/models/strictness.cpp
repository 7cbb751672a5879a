// A state_dict that is not exactly the network's is refused, by the name of the tensor.
#include "models/state_dicts.hpp"

#include "support/errors.hpp"

using namespace kdna;
using namespace kdna_test;
using models::arch;
using models::form;

namespace {

#ifdef __OPTIMIZE__
const std::vector<arch> checked_archs{arch::resnet18, arch::resnet50, arch::mobilenet_v2, arch::mobilenet_v2_1d2};
#else
const std::vector<arch> checked_archs{arch::mobilenet_v2, arch::mobilenet_v2_1d2};
#endif

/// f(keys, key to damage, generator) for each network, both forms, and some of its keys.
template <class F>
void for_some_keys(std::uint64_t stream, F&& f) {
    for (const arch a : checked_archs)
        for (const form which : {form::kernel_dna, form::plain}) {
            const key_list keys = keys_of(a, which);
            rng r(stream, static_cast<std::uint64_t>(a));
            for (int i = 0; i < scaled(2); ++i) {
                std::size_t at = 0;
                do at = static_cast<std::size_t>(r.between(0, static_cast<index_t>(keys.size()) - 1));
                while (keys[at].type != dtype::f32);  // counts may be written in any form, or be absent
                INFO(models::arch_names[static_cast<std::size_t>(a)] << (which == form::plain ? " plain: " : ": ")
                                                                     << keys[at].name);
                f(keys, at, [a, which](key_list damaged) { return models::load(a, which, zeros(damaged)); });
            }
        }
}

}  // namespace

TEST_CASE("The keys of every network are exactly those it asks for") {
    constexpr std::size_t plain_count[] = {122, 320, 314, 314}, dna_count[] = {192, 370, 392, 392};
    for (const arch a : checked_archs) {
        const auto i = static_cast<std::size_t>(a);
        CHECK(keys_of(a, form::plain).size() == plain_count[i]);
        CHECK(keys_of(a, form::kernel_dna).size() == dna_count[i]);
        CHECK_NOTHROW(models::load(a, form::plain, zeros(keys_of(a, form::plain))));
        CHECK_NOTHROW(models::load(a, form::kernel_dna, zeros(keys_of(a, form::kernel_dna))));
        CHECK_THROWS_AS(models::load(a, form::plain, zeros(keys_of(a, form::kernel_dna))), error);
        CHECK_THROWS_AS(models::load(a, form::kernel_dna, zeros(keys_of(a, form::plain))), error);
    }
}

TEST_CASE("A missing tensor is named") {
    for_some_keys(610, [](key_list keys, std::size_t at, auto&& load) {
        const std::string name = keys[at].name;
        keys.erase(keys.begin() + static_cast<std::ptrdiff_t>(at));
        check_error([&] { return load(keys); }, name, "", "no such tensor");
    });
}

TEST_CASE("A superfluous tensor is named") {
    for_some_keys(611, [](key_list keys, std::size_t at, auto&& load) {
        const std::string name = keys[at].name + "_extra";
        keys.push_back({name, {3}});
        check_error([&] { return load(keys); }, name, "every tensor to be used", "1 unused tensor: " + name);
    });
}

TEST_CASE("A renamed tensor is missing") {
    for_some_keys(612, [](key_list keys, std::size_t at, auto&& load) {
        const std::string name = keys[at].name;
        keys[at].name = "other." + name;
        check_error([&] { return load(keys); }, name, "", "no such tensor; did you mean ");
    });
}

TEST_CASE("A tensor of another shape is named with both shapes") {
    for_some_keys(613, [](key_list keys, std::size_t at, auto&& load) {
        const std::string right = to_string(keys[at].type, keys[at].shape);
        auto& shape = keys[at].shape;
        shape.back() += 1;  // the first extent may be the number of classes
        check_error([&] { return load(keys); }, keys[at].name, right, to_string(keys[at].type, shape));
    });
}

TEST_CASE("A tensor with the right number of elements in another shape is refused") {
    for_some_keys(614, [](key_list keys, std::size_t at, auto&& load) {
        keys[at].shape.push_back(1);
        check_error([&] { return load(keys); }, keys[at].name, "", to_string(keys[at].type, keys[at].shape));
    });
}

TEST_CASE("A tensor of another type is named with both types") {
    for_some_keys(615, [](key_list keys, std::size_t at, auto&& load) {
        keys[at].type = dtype::i64;
        check_error([&] { return load(keys); }, keys[at].name, "float32", "int64");
    });
}

TEST_CASE("A prefix module. is taken off if all names have it, and refused on some") {
    for (const arch a : checked_archs) {
        key_list keys = kernel_dna_keys(a);
        for (key& k : keys) k.name = "module." + k.name;
        CHECK_NOTHROW(models::load(a, form::kernel_dna, zeros(keys)));
        keys[5].name = keys[5].name.substr(7);
        check_error([&] { return models::load(a, form::kernel_dna, zeros(keys)); }, keys[5].name,
                    "the prefix \"module.\"", "without it");
    }
}

TEST_CASE("A variance that BatchNorm cannot divide by is named") {
    auto weights = zeros(kernel_dna_keys(arch::mobilenet_v2_1d2));
    const std::string name = "features.6.blocks.0.bn2.running_var";
    const std::vector<float> bad(96, -1.0F);
    static_cast<void>(weights.extract(name));
    weights.add(name, tensor_data::copy_of<float>({96}, bad, name));
    check_error([&] { return models::load(arch::mobilenet_v2_1d2, form::kernel_dna, std::move(weights)); },
                "features.6.blocks.0.dwconv bn.running_var", "var + eps > 0", "-1");
}

TEST_CASE("Only the four published names are networks") {
    for (const arch a : all_archs) CHECK(models::arch_of(models::arch_names[static_cast<std::size_t>(a)]) == a);
    check_error([] { return models::arch_of("resnet34"); }, "architecture", "resnet18, resnet50", "\"resnet34\"");
    check_error([] { return models::arch_of(""); }, "architecture", "mobilenet_v2_1d2", "\"\"");
}
