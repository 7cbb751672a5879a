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

TEST_CASE("kdna_run stores kernels, and those that are kept transformed, in the format that it is asked for") {
    const scratch_folder folder;
    save_npy(folder / "x.npy", {1, 3, 32, 32}, random_image({1, 3, 32, 32}).span());
    save_safetensors(folder / "w.safetensors", random_values(keys_of(arch::resnet18, form::plain), 902));
    const auto kibibytes = [&](const std::string& options) {
        const outcome result = run(KDNA_RUN, folder, arguments(folder, "resnet18") + " --plain --explain " + options);
        INFO(result.output);
        REQUIRE(result.code == 0);
        CHECK(contains(result.output, " of bfloat16,") ==
              (options.find("--transformed bfloat16") != std::string::npos));
        const auto at = result.output.find("\nweights ");
        REQUIRE(at != std::string::npos);
        return std::stol(result.output.substr(at + 9));
    };
    const long all = kibibytes("--winograd off"), half = kibibytes("--winograd off --storage float16");
    CHECK(half > all * 50 / 100);
    CHECK(half < all * 52 / 100);
    CHECK(kibibytes("--winograd off --storage file") == all);
    CHECK(kibibytes("--transformed bfloat16") < kibibytes(""));
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
    fails_with(good, {"3 channels", "[1, 1, 32, 96]"});
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

namespace {

/// A file of two inputs and two outputs: map = conv3x3(image) + bias, mean of it. Every weight is 1.
void save_two_ports(const std::string& path) {
    state_dict net;
    net.add("w", tensor_data::copy_of<float>({4, 3, 3, 3}, std::vector<float>(108, 1.0F)));
    net.metadata()["kdna.graph"] = R"({"version":1,
"inputs":[{"name":"image","shape":[null,3,null,null]},{"name":"bias","shape":[4,1,1]}],
"outputs":[{"name":"map","value":"map"},{"name":"mean","value":"mean"}],
"nodes":[{"op":"conv2d","name":"conv","in":["image"],"out":"conv","tensors":{"weight":"w"},"pad":[1,1,1,1]},
{"op":"add","name":"map","in":["conv","bias"],"out":"map"},
{"op":"mean","name":"mean","in":["map"],"out":"mean","axes":[2,3]}]})";
    save_safetensors(path, net);
}

}  // namespace

TEST_CASE("kdna_run --model runs a network file, inputs and outputs by name or position") {
    const scratch_folder folder;
    save_two_ports(folder / "net.safetensors");
    save_npy(folder / "image.npy", {2, 3, 8, 8}, std::vector<float>(384, 1.0F));
    save_npy(folder / "bias.npy", {4, 1, 1}, std::vector<float>{1, 2, 3, 4});
    const std::string model = concat("--model '", folder / "net.safetensors", "'"),
                      image = concat("'", folder / "image.npy", "'"), bias = concat("'", folder / "bias.npy", "'"),
                      map = concat("'", folder / "map.npy", "'"), mean = concat("'", folder / "mean.npy", "'");
    const auto checked = [&](const std::string& more) {
        fs::remove(folder / "map.npy");
        fs::remove(folder / "mean.npy");
        const outcome result = run(KDNA_RUN, folder, concat(model, " ", more));
        INFO(more << "\n" << result.output);
        CHECK(result.code == 0);
        if (result.code != 0) return result.output;
        const npy_array y = load_npy(folder / "mean.npy");
        CHECK(y.shape == std::vector<index_t>{2, 4});
        // 27 taps, without those outside: 22 * 22 of the 24 * 24 rows and columns of taps, three channels each.
        for (index_t i = 0; i < 8; ++i)
            CHECK(std::abs(y.data[i] - (3.0F * 22 * 22 / 64 + static_cast<float>(i % 4 + 1))) < 1e-4F);
        return result.output;
    };
    for (const char* winograd : {"", " --winograd on", " --winograd off"}) {
        checked(concat("--input ", image, " --input ", bias, " --output ", map, " --output ", mean, winograd));
        CHECK(load_npy(folder / "map.npy").shape == std::vector<index_t>{2, 4, 8, 8});
        CHECK(load_npy(folder / "map.npy").data[9] == 28.0F);
    }
    // Names in any order, and one output alone.
    checked(concat("--input bias=", bias, " --input image=", image, " --output mean=", mean));
    CHECK(!fs::exists(folder / "map.npy"));
    checked(concat("--input ", image, " ", bias, " --output mean=", mean, " --output map=", map));
    const std::string told = checked(
        concat("--input ", image, " --input ", bias, " --output mean=", mean, " --threads 2 --repeat 2 --explain"));
    CHECK(contains(told, "conv: "));
    CHECK(contains(told, "median"));
    CHECK(contains(told, "net.safetensors"));

    // An overlay's tensors take the place of the file's.
    const auto save_overlay = [&](const char* name, float value) {
        state_dict overlay;
        overlay.add(name, tensor_data::copy_of<float>({4, 3, 3, 3}, std::vector<float>(108, value)));
        save_safetensors(folder / "overlay.safetensors", overlay);
    };
    const std::string overlaid = concat(" --overlay '", folder / "overlay.safetensors", "'");
    save_overlay("w", 2.0F);
    const outcome doubled =
        run(KDNA_RUN, folder, concat(model, " --input ", image, " --input ", bias, " --output map=", map, overlaid));
    INFO(doubled.output);
    CHECK(doubled.code == 0);
    CHECK(load_npy(folder / "map.npy").data[9] == 2 * 27.0F + 1.0F);
    save_overlay("v", 2.0F);

    const auto fails_with = [&](const std::string& more, const std::vector<std::string>& parts) {
        const outcome result = run(KDNA_RUN, folder, concat(model, " ", more));
        INFO(more << "\n" << result.output);
        CHECK(result.code == 2);
        for (const std::string& part : parts) CHECK(contains(result.output, part));
    };
    const std::string both = concat("--input ", image, " --input ", bias), out = concat(" --output mean=", mean);
    fs::remove(folder / "mean.npy");
    fails_with("", {"--input"});
    fails_with(both, {"--output"});
    fails_with(concat(both, out, overlaid), {"overlay.safetensors", "v"});
    fails_with(concat("--input ", image, out), {"--input", "2", "found 1"});
    fails_with(concat("--input photo=", image, " --input ", bias, out), {"image, bias", "\"photo\""});
    fails_with(concat("--input image=", image, " --input image=", image, out), {"--input", "once", "image twice"});
    fails_with(concat("--input bias=", bias, " --input ", bias, out), {"--input", "once", "bias twice"});
    fails_with(concat("--input ", bias, " --input ", image, out), {"bias.npy", "[N, C, H, W]", "[4, 1, 1]"});
    fails_with(concat(both, " --output logits=", mean), {"map, mean", "\"logits\""});
    fails_with(concat(both, out, " --output ", map, " --output ", map), {"--output", "at most 2", "3"});
    fails_with(concat(both, out, " --winograd maybe"), {"--winograd"});
    fails_with(concat(both, out, " --machine maybe"), {"one of generic", "maybe"});
    fails_with(concat(both, out, " --arch resnet18"), {"--arch", "--model"});
    fails_with(concat(both, out, " --form plain"), {"--form", "--arch"});
    fails_with(concat(both, out, " --plain"), {"--plain", "--arch"});
    fails_with(concat("--input '", folder / "none.npy", "' --input ", bias, out), {"none.npy"});
    save_npy(folder / "bias.npy", {4, 1, 2}, std::vector<float>(8, 1.0F));
    fails_with(concat(both, out), {"network input bias", "an extent of 1 on axis 2", "[4, 1, 2]"});
    state_dict bare;
    bare.add("w", tensor_data(dtype::f32, {1}));
    save_safetensors(folder / "net.safetensors", bare);
    fails_with(concat(both, out), {"net.safetensors", "kdna.graph", "without a graph"});
    fs::remove(folder / "net.safetensors");
    fails_with(concat(both, out), {"net.safetensors"});
    CHECK(!fs::exists(folder / "mean.npy"));
}

#endif
