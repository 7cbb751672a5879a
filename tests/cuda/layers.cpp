// Every program that a GPU would run for a layer, run by the emulator.
#include "cuda/emulated.hpp"
#include "cuda/random_layers.hpp"
#include "support/errors.hpp"

using namespace kdna_test;

namespace {

struct make_device {
    // With few processors large tiles are taken, with many the depth is cut.
    static kdna_test::emulator make(rng& r) { return kdna_test::emulator(r.pick({1, 4, 100}), r.bits()); }
};

}  // namespace

TEST_CASE("Plain layers on the emulated device are the formula's") { check_plain_layers<make_device>(); }
TEST_CASE("Every activation on the emulated device is the formula's") { check_activations<make_device>(); }
TEST_CASE("Gated layers on the emulated device are the formula's") { check_gated_layers<make_device>(); }
TEST_CASE("Layers of one kernel with all factors routed are the formula's on the emulated device") {
    check_routed_layers<make_device>();
}
TEST_CASE("Mixtures on the emulated device are the formula's") { check_mixtures<make_device>(); }
TEST_CASE("Layers of a warehouse's cells on the emulated device are the formula's") { check_warehouses<make_device>(); }
TEST_CASE("DCD layers on the emulated device are the formula's") { check_decompositions<make_device>(); }
TEST_CASE("Kernels that come with a call on the emulated device are the formula's") {
    check_runtime_kernels<make_device>();
}
TEST_CASE("X-volutions on the emulated device are the formula's") { check_x_volutions<make_device>(); }
TEST_CASE("Static sources on the emulated device are the formula's") { check_static_sources<make_device>(); }

TEST_CASE("Kernels of a call that are not those of the plan are named with both counts") {
    using namespace kdna;
    emulator device;
    cuda::kernel_store<emulator> store;
    const cuda::device_conv<emulator> layer(
        device, cuda::take_apart(runtime_conv2d(runtime_kernel::shared(3, 5), {.pad = 2}, {.name = "blur"})), {}, store,
        0);
    const auto memory = cuda::uploaded<float>(device, std::vector<float>(100, 1.0F), 0);
    const auto each = layer.plan({2, 3, 8, 8}, cuda::given_kernels::each), one = layer.plan({2, 3, 8, 8});
    const auto fails = [&](const cuda::device_conv_plan& p, const shape4& found, const char* expected,
                           const char* what) {
        cuda::device_conv_call c;
        if (found.n > 0)
            c.kernels = cuda::device_view<const float>::from_device_pointer(static_cast<const float*>(memory.data()),
                                                                            found, layout::nchw);
        check_error(
            [&] {
                layer.enqueue(p, c, 0);
                return 0;
            },
            "blur kernel", expected, what);
    };
    fails(each, {1, 25}, "2 of 25", "1 of 25");
    fails(one, {2, 25}, "1 of 25", "2 of 25");
    fails(each, {2, 24}, "2 of 25", "2 of 24");
    fails(one, {0}, "1 of 25", "0 of 0");
}
