// The program kdna_run as its users meet it: files in, logits out, exit code 2 and a message where something is wrong.
#include <algorithm>
#include <cmath>
#include <kdna/backend/reference.hpp>
#include <kdna/io/npy.hpp>
#include <kdna/io/safetensors.hpp>
#include <kdna/models/load_on.hpp>

#include "models/state_dicts.hpp"
#include "programs/program.hpp"

#if defined(__unix__)

using namespace kdna;
using namespace kdna_test;
using models::arch;
using models::form;

namespace {

std::string arguments(const scratch_folder& f, const std::string& arch_name) {
    return concat("--arch ", arch_name, " --weights '", f / "w.safetensors", "' --input '", f / "x.npy", "' --output '",
                  f / "y.npy", "'");
}

tensor<float> random_image(const shape4& s) {
    rng r(900, 0);
    tensor<float> x(s);
    for (float& v : x.span()) v = static_cast<float>(r.real(-2, 2));
    return x;
}

}  // namespace

TEST_CASE("kdna_run writes the logits of double precision") {
    const scratch_folder folder;
    const arch a = arch::mobilenet_v2_1d2;
    const tensor<float> x = random_image({2, 3, 40, 56});
    save_npy(folder / "x.npy", {2, 3, 40, 56}, x.span());
    for (const form f : {form::kernel_dna, form::plain}) {
        const auto keys = keys_of(a, f);
        state_dict weights;
        for (const std::string& name : random_values(keys, 901).names())  // as DataParallel saves them
            weights.add("module." + name, random_values(keys, 901).extract(name));
        save_safetensors(folder / "w.safetensors", weights);
        const outcome result = run(KDNA_RUN, folder,
                                   arguments(folder, "mobilenet_v2_1d2") + (f == form::plain ? " --plain" : "") +
                                       " --threads 2 --repeat 3 --explain");
        INFO(result.output);
        REQUIRE(result.code == 0);
        CHECK(contains(result.output, "features.18.0"));
        CHECK(contains(result.output, "median"));
        const npy_array y = load_npy(folder / "y.npy");
        REQUIRE(y.shape == std::vector<index_t>{2, 1000});
        const tensor<float> exact = models::load<backend::reference>(a, f, random_values(keys, 901))(x.view());
        double largest = 0.0, worst = 0.0;
        for (index_t i = 0; i < exact.size(); ++i) {
            const auto e = static_cast<double>(exact.data()[i]), d = std::abs(static_cast<double>(y.data[i]) - e);
            largest = std::max(largest, std::abs(e));
            worst = d <= worst ? worst : d;
        }
        CHECK(worst <= 1e-5 * largest);
    }
}

TEST_CASE("kdna_run runs the networks of the dynamic methods") {
    const scratch_folder folder;
    const tensor<float> x = random_image({1, 3, 32, 40});
    save_npy(folder / "x.npy", {1, 3, 32, 40}, x.span());
    for (const dynamic_network& n : dynamic_networks) {
        if (n.arch != arch::mobilenet_v2 || n.name.ends_with("4x")) continue;
        const state_dict weights = random_values(n.keys(), 903);
        save_safetensors(folder / "w.safetensors", weights);
        const std::string name(models::form_names[static_cast<std::size_t>(n.form)]);
        const outcome result =
            run(KDNA_RUN, folder, arguments(folder, "mobilenet_v2") + " --form " + name + " --repeat 1");
        INFO(n.name << "\n" << result.output);
        REQUIRE(result.code == 0);
        CHECK(contains(result.output, "mobilenet_v2 " + name));
        CHECK(load_npy(folder / "y.npy").shape == std::vector<index_t>{1, 1000});

        const outcome other = run(KDNA_RUN, folder, arguments(folder, "mobilenet_v2"));
        CHECK(other.code == 2);
        CHECK(contains(other.output, "w.safetensors, features."));
        const outcome unpublished = run(KDNA_RUN, folder, arguments(folder, "mobilenet_v2") + " --form dcd");
        CHECK(unpublished.code == 2);
        CHECK(contains(unpublished.output, "published"));
    }
}

TEST_CASE("kdna_run answers mistakes with a message and exit code 2") {
    const scratch_folder folder;
    const auto keys = kernel_dna_keys(arch::mobilenet_v2_1d2);
    save_safetensors(folder / "w.safetensors", random_values(keys, 902));
    const tensor<float> x = random_image({1, 3, 32, 32});
    save_npy(folder / "x.npy", {1, 3, 32, 32}, x.span());
    const std::string good = arguments(folder, "mobilenet_v2_1d2");
    REQUIRE(run(KDNA_RUN, folder, good).code == 0);

    const auto fails_with = [&](const std::string& arguments, const std::vector<std::string>& parts) {
        const outcome result = run(KDNA_RUN, folder, arguments);
        INFO(arguments << "\n" << result.output);
        CHECK(result.code == 2);
        for (const std::string& part : parts) CHECK(contains(result.output, part));
    };
    fails_with("", {"--arch"});
    fails_with(good + " --wrong", {"--wrong"});
    fails_with(good + " --threads 0", {"--threads"});
    fails_with(good + " --repeat x", {"--repeat"});
    fails_with(arguments(folder, "resnet19"), {"resnet19", "resnet18"});
    fails_with(good + " --form condconv", {"condconv", "kernel_warehouse"});
    fails_with(good + " --form plain --plain", {"--plain"});
    fails_with(good + " --plain", {"w.safetensors", "no such tensor"});
    fails_with(arguments(folder, "resnet18"), {"w.safetensors", "conv1.weight"});

    save_npy(folder / "x.npy", {1, 1, 32, 96}, x.span());
    fails_with(good, {"3 channels", "C 1"});
    save_npy(folder / "x.npy", {3, 32, 32}, x.span());
    fails_with(good, {"x.npy", "[N, C, H, W]"});
    fs::resize_file(folder / "x.npy", 200);
    fails_with(good, {"x.npy"});
    save_npy(folder / "x.npy", {1, 3, 32, 32}, x.span());

    fs::remove(folder / "y.npy");
    fs::resize_file(folder / "w.safetensors", fs::file_size(folder / "w.safetensors") - 4);
    fails_with(good, {"w.safetensors"});
    state_dict wrong = random_values(keys, 902);
    static_cast<void>(wrong.extract("features.18.0.weight"));
    wrong.add("features.18.0.weight", tensor_data(dtype::f32, {1280, 160, 1, 2}));
    save_safetensors(folder / "w.safetensors", wrong);
    fails_with(good, {"features.18.0.weight", "float32 1280x160x1x1", "float32 1280x160x1x2"});
    fs::remove(folder / "w.safetensors");
    fails_with(good, {"w.safetensors"});
    CHECK(!fs::exists(folder / "y.npy"));
}

#endif
