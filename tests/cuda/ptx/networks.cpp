// Whole networks by nvcc's programs.
#include <array>

#include "cuda/device_operations.hpp"
#include "cuda/ptx/device.hpp"

using namespace kdna;
using namespace kdna_test;

TEST_CASE("Networks by nvcc's programs give the CPU's logits") {
    ptx_device device(20);
    check_network(device, arch::mobilenet_v2_1d2, form::kernel_dna, keys_of(arch::mobilenet_v2_1d2, form::kernel_dna),
                  {2, 3, 32, 32}, device_precisions, 0);
    const std::array halves{precision::f16};
    check_network(device, arch::resnet18, form::kernel_dna, keys_of(arch::resnet18, form::kernel_dna), {1, 3, 32, 17},
                  halves, 0);
}

TEST_CASE("PyTorch's answers come out of nvcc's programs") {
    ptx_device device(60);
    check_golden(device, 0);
    check_golden_kernels(device, 0);
}

TEST_CASE("Every operation by nvcc's programs gives the CPU's values, rounded once") {
    ptx_device device(4);
    const std::array<index_t, 2> channels{3, 8};
    const std::array precisions{precision::f32, precision::f16, precision::bf16};
    check_operations(device, channels, precisions);
}

TEST_CASE("Layers by nvcc's programs read parts of values and make parts of others") {
    ptx_device device(4);
    const std::array<index_t, 2> channels{6, 8};
    const std::array precisions{precision::f16};
    check_parts(device, channels, precisions);
}

TEST_CASE("Pooling by nvcc's programs keeps NaN, ignores padding, and takes any number of channels") {
    ptx_device device(4);
    check_pooling(device, 0);
}
