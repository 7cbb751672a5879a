// libFuzzer: any bytes are either an array whose data fit its shape, or a kdna::error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include <kdna/io/npy.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const kdna::npy_array array = kdna::parse_npy(std::as_bytes(std::span(data, size)));
        kdna::index_t count = 1;
        for (const kdna::index_t extent : array.shape) count *= extent;
        if (count != array.data.size()) std::abort();
    } catch (const kdna::error&) {
    }
    return 0;
}
