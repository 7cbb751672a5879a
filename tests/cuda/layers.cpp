// Every kernel that a GPU would run for a layer, run by the emulator.
#include "cuda/emulated.hpp"
#include "cuda/random_layers.hpp"

using namespace kdna_test;

namespace {

struct make_device {
    // With few processors large tiles are taken, with many the depth is cut.
    static kdna::cuda::emulator make(rng& r) { return kdna::cuda::emulator(r.pick({1, 4, 100}), r.bits()); }
};

}  // namespace

TEST_CASE("Plain layers on the emulated device are the formula's") { check_plain_layers<make_device>(); }
TEST_CASE("Gated layers on the emulated device are the formula's") { check_gated_layers<make_device>(); }
TEST_CASE("Layers of one kernel with all factors routed are the formula's on the emulated device") {
    check_routed_layers<make_device>();
}
TEST_CASE("Mixtures on the emulated device are the formula's") { check_mixtures<make_device>(); }
TEST_CASE("Layers of a warehouse's cells on the emulated device are the formula's") { check_warehouses<make_device>(); }
TEST_CASE("DCD layers on the emulated device are the formula's") { check_decompositions<make_device>(); }
TEST_CASE("Static sources on the emulated device are the formula's") { check_static_sources<make_device>(); }
