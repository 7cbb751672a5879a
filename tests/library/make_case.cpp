// make_case FOLDER: writes networks with random weights, their inputs, and the outputs of kdna::compiled for them.
#include <filesystem>
#include <fstream>
#include <span>
#include <vector>

#include <kdna/load.hpp>
#include <kdna/models.hpp>

#include "models/state_dicts.hpp"

int main(int, char** argv) {
    using namespace kdna;
    const std::filesystem::path folder = argv[1];
    const models::arch arch = models::arch::mobilenet_v2_1d2;
    state_dict weights = kdna_test::random_values(kdna_test::kernel_dna_keys(arch), 77);
    save_safetensors(folder / "net.safetensors", weights);
    tensor<float> x({1, 3, 64, 48});
    unsigned state = 1;
    for (float& v : x.span()) {
        state = state * 1664525U + 1013904223U;
        v = static_cast<float>(state >> 8) / 8388608.0F - 1.0F;
    }
    const network net = models::load(arch, models::form::kernel_dna, std::move(weights));
    const tensor<float> y = net(x.view());
    const auto write = [&](const char* name, std::span<const float> values) {
        std::ofstream file(folder / name, std::ios::binary);
        file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
    };
    write("x", x.span());
    write("y", y.span());

    // A network file with two inputs and two outputs of different ranks.
    state_dict graph;
    graph.add("w", tensor_data::copy_of<float>({4, 3, 1, 1}, x.span().first(12)));
    graph.metadata()["kdna.graph"] = R"({"version":1,
"inputs":[{"name":"image","shape":[null,3,null,null]},{"name":"bias","shape":[4,1,1]}],
"outputs":[{"name":"map","value":"map"},{"name":"mean","value":"mean"}],
"nodes":[{"op":"conv2d","name":"conv","in":["image"],"out":"conv","tensors":{"weight":"w"}},
{"op":"add","name":"map","in":["conv","bias"],"out":"map"},
{"op":"mean","name":"mean","in":["map"],"out":"mean","axes":[2,3]}]})";
    save_safetensors(folder / "graph.safetensors", graph);
    const network two = load(folder / "graph.safetensors");
    const nd_shape shapes[] = {{2, 3, 5, 7}, {4, 1, 1}};
    network_plan plan = two.plan(shapes);
    std::vector<float> map(2 * 4 * 5 * 7), mean(2 * 4);
    const nd_view<const float> in[] = {row_major_view<const float>(x.data(), shapes[0]),
                                       row_major_view<const float>(x.data() + 500, shapes[1])};
    const nd_view<float> out[] = {row_major_view(map.data(), nd_shape{2, 4, 5, 7}),
                                  row_major_view(mean.data(), nd_shape{2, 4})};
    two.check(plan, in, out);
    two.run(plan, in, out);
    write("map", map);
    write("mean", mean);
}
