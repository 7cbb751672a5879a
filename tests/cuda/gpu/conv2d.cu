// The emulator's tests of layers that name their backend (../conv2d.cpp) on a GPU.
#include "cuda/device_backend.hpp"
#include "cuda/gpu/device.hpp"

using namespace kdna;
using namespace kdna_test;

static_assert(std::is_same_v<backend::cuda, cuda::on<cuda::gpu>>);

TEST_CASE("Layers on backend::cuda give the CPU's answers") {
    cuda::gpu device;
    check_backend_layers(device);
}

TEST_CASE("A layer on backend::cuda takes float32 in any order, and its own numbers where they are") {
    cuda::gpu device;
    const test_stream stream;
    check_backend_orders(device, stream.ref(), [](auto&& call) { call(); });
}

TEST_CASE("Layers on backend::cuda take their kernels with each call") {
    cuda::gpu device;
    check_backend_runtime(device);
}
