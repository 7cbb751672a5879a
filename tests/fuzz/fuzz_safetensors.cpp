// libFuzzer: any bytes are either a state_dict whose tensors are exactly the file's data, or a kdna::error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include <kdna/io/safetensors.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const kdna::state_dict dict = kdna::parse_safetensors(std::as_bytes(std::span(data, size)));
        std::size_t bytes = 8;
        for (const auto& [name, tensor] : dict.tensors()) bytes += tensor.bytes().size();
        if (bytes > size) std::abort();
        kdna::state_dict_reader reader(dict);
        for (const auto& [name, tensor] : dict.tensors())
            if (tensor.type() == kdna::dtype::f32 || kdna::detail::converts_to_float32(tensor.type()))
                static_cast<void>(reader.take(name, tensor.shape()));
        reader.finish();
    } catch (const kdna::error&) {
    }
    return 0;
}
