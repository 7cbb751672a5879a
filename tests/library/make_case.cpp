// make_case FOLDER: writes a network with random weights, an input, and the output of kdna::compiled for it.
#include <filesystem>
#include <fstream>
#include <span>

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
}
