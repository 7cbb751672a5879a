// libFuzzer: any text is either a network, which then runs on a small input, or a kdna::error.
//
// The tensors are those of tests/graph/seeds.hpp that the text names; bytes behind a NUL change their shapes. The first
// inputs are the seeds, which the fuzzer is given by its own mutator: an empty or one-byte input stands for one of them.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/seeds.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
    const auto& seeds = graph_test::seeds();
    if (size < 2 || seed % 64 == 0) {
        const std::string& text = seeds[seed / 64 % seeds.size()];
        if (text.size() <= most) {
            std::memcpy(data, text.data(), text.size());
            return text.size();
        }
    }
    return LLVMFuzzerMutate(data, size, most);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(data, data + size);
    const std::size_t nul = text.find('\0');
    const std::string json = text.substr(0, nul);
    const std::string_view changes =
        nul == std::string::npos ? std::string_view() : std::string_view(text).substr(nul + 1);
    kdna::state_dict weights;
    std::size_t at = 0;
    const kdna::state_dict named = graph_test::seed_weights(json);
    for (const auto& [name, tensor] : named.tensors()) {
        std::vector<kdna::index_t> shape = tensor.shape();
        for (kdna::index_t& extent : shape)
            if (at < changes.size()) {
                const auto change = static_cast<unsigned char>(changes[at++]);
                if (change >= 128) extent = change % 16;
            }
        kdna::tensor_data data_of(kdna::dtype::f32, shape);
        const std::span<const std::byte> from = tensor.bytes();
        const std::span<std::byte> to = data_of.bytes();
        for (std::size_t i = 0; i < to.size(); ++i) to[i] = from.empty() ? std::byte{0} : from[i % from.size()];
        weights.add(name, std::move(data_of));
    }
    weights.metadata()["kdna.graph"] = json;
    static_cast<void>(graph_test::load_and_run(weights));
    return 0;
}
