// The emulator's tests of layers (../layers.cpp) on a GPU.
#include "cuda/gpu/device.hpp"
#include "cuda/random_layers.hpp"

using namespace kdna_test;

namespace {

struct make_device {
    static kdna::cuda::gpu make(rng&) { return kdna::cuda::gpu(0); }
};

}  // namespace

TEST_CASE("Plain layers on a GPU are the formula's") { check_plain_layers<make_device>(); }
TEST_CASE("Every activation on a GPU is the formula's") { check_activations<make_device>(); }
TEST_CASE("Gated layers on a GPU are the formula's") { check_gated_layers<make_device>(); }
TEST_CASE("Layers of one kernel with all factors routed are the formula's on a GPU") {
    check_routed_layers<make_device>();
}
TEST_CASE("Mixtures on a GPU are the formula's") { check_mixtures<make_device>(); }
TEST_CASE("Layers of a warehouse's cells on a GPU are the formula's") { check_warehouses<make_device>(); }
TEST_CASE("DCD layers on a GPU are the formula's") { check_decompositions<make_device>(); }
TEST_CASE("Kernels that come with a call on a GPU are the formula's") { check_runtime_kernels<make_device>(); }
TEST_CASE("X-volutions on a GPU are the formula's") { check_x_volutions<make_device>(); }
TEST_CASE("Static sources on a GPU are the formula's") { check_static_sources<make_device>(); }
