// The device's layers and networks, and its programs' text, which the build has nvcc write.
#include "cuda/ptx/device.hpp"

#include <fstream>
#include <iterator>

template class kdna::cuda::device_conv<kdna_test::ptx_device>;
template class kdna::cuda::detail::network_body<kdna_test::ptx_device>;
template class kdna::cuda::basic_network<kdna_test::ptx_device>;

namespace kdna_test {

const ptx::module& compiled_programs() {
    static const ptx::module programs = [] {
        std::ifstream file(KDNA_PTX);
        if (!file) throw kdna::error(KDNA_PTX, "a file that can be read", "none");
        return ptx::module(std::string(std::istreambuf_iterator<char>(file), {}));
    }();
    return programs;
}

}  // namespace kdna_test
