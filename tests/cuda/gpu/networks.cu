// The emulator's tests of networks (../networks.cpp) on a GPU, at the size and the batches that networks are used at.
#include <array>

#include "cuda/device_operations.hpp"
#include "cuda/gpu/device.hpp"
#include "support/errors.hpp"

using namespace kdna;
using namespace kdna_test;

TEST_CASE("The four networks on a GPU give the CPU's logits") {
    cuda::gpu device;
    const test_stream stream;
    for (const arch a : all_archs)
        for (const form f : {form::kernel_dna, form::plain})
            for (const shape4& in : {shape4{1, 3, 224, 224}, shape4{5, 3, 97, 65}, shape4{32, 3, 64, 64}})
                check_network(device, a, f, keys_of(a, f), in, device_precisions, stream.ref());
}

TEST_CASE("Networks of dynamic layers on a GPU give the CPU's logits") {
    cuda::gpu device;
    const test_stream stream;
    for (const dynamic_network& n : dynamic_networks)
        check_network(device, n.arch, n.form, n.keys(), {3, 3, 96, 96}, device_precisions, stream.ref());
}

TEST_CASE("PyTorch's answers come out of a GPU") {
    cuda::gpu device;
    const test_stream stream;
    check_golden(device, stream.ref());
    check_golden_kernels(device, stream.ref());
}

TEST_CASE("Every operation on a GPU gives the CPU's values, rounded once") {
    cuda::gpu device;
    const std::array<index_t, 4> channels{1, 5, 16, 64};
    check_operations(device, channels, device_precisions);
}

TEST_CASE("Layers on a GPU read parts of values and make parts of others") {
    cuda::gpu device;
    const std::array<index_t, 3> channels{6, 16, 128};
    check_parts(device, channels, device_precisions);
}

TEST_CASE("Plans on a GPU share a network in several streams, and repeat their bits") {
    cuda::gpu device;
    const test_stream a, b;
    check_plans(device, a.ref(), b.ref());
}

TEST_CASE("A published network is loaded to backend::cuda") {
    static_assert(std::is_same_v<network_on<backend::cuda>::type, cuda::network>);
    cuda::gpu device;
    const test_stream stream;
    check_loading(device, stream.ref());
}

TEST_CASE("A CUDA error names the call and CUDA's text") {
    cuda::gpu device;
    check_error([&] { return device.allocate(index_t{1} << 50); }, "cudaMalloc of", "cudaSuccess",
                "cudaErrorMemoryAllocation");
}
