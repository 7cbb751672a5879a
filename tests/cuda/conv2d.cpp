// Layers that name the emulated device as their backend.
#include "cuda/device_backend.hpp"
#include "cuda/emulated.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

using emulated = cuda::on<emulator>;
using context = cuda::basic_context<emulator>;

std::vector<const void*> addresses(const auto& layer) {
    std::vector<const void*> out;
    layer.for_each_storage([&](const void* address, index_t) { out.push_back(address); });
    return out;
}

}  // namespace

TEST_CASE("Layers that name the emulated device as their backend give the CPU's answers") {
    emulator device;
    check_backend_layers(device);
}

TEST_CASE("A layer of the emulated device takes float32 in any order, and its own numbers where they are") {
    emulator device;
    check_backend_orders(device, 0, [&](auto&& call) {
        const index_t before = device.allocations();
        call();
        CHECK(device.allocations() == before);
    });
}

TEST_CASE("Layers of the emulated device take their kernels with each call") {
    emulator device;
    check_backend_runtime(device);
}

TEST_CASE("A child made by itself runs on its parent's device copy, which lives as long as one of them") {
    const device_family f(966);
    emulator device;
    const context where(device, {.numbers = precision::bf16});
    std::optional plain = f.plain<emulated>(where);
    const index_t before = device.allocations();
    std::optional child = f.child<emulated>(where);
    CHECK(device.allocations() == before + 1);  // its factors and router
    REQUIRE(addresses(*plain).size() == 2);
    CHECK(addresses(*plain)[0] == addresses(*child)[0]);
    CHECK(addresses(*plain)[1] != addresses(*child)[1]);

    plain.reset();
    const auto again = f.plain<emulated>(where);
    CHECK(addresses(again)[0] == addresses(*child)[0]);
    const auto elsewhere = f.plain<emulated>(context(device));
    CHECK(addresses(elsewhere)[0] != addresses(*child)[0]);

    // A network of the same context and kernel, too.
    network_builder builder;
    const auto x = builder.input(16);
    const network host = std::move(builder).build(builder.add(f.plain<backend::reference>(), x));
    const cuda::basic_network net(host, where);
    const tensor<float> image = random_images({1, 16, 5, 5}, 967);
    CHECK(same_bits(values_of(net(image.view())), values_of(again(image.view()))));
    CHECK(device.allocations() > before);
}

TEST_CASE("Arguments that do not fit a device layer are named") {
    const device_family f(968);
    emulator device;
    const context where(device, {.numbers = precision::f16});
    const auto layer = f.child<emulated>(where), other = f.child<emulated>(where);
    const shape4 shape{1, 16, 6, 7};
    auto plan = layer.plan(shape), in_place = layer.plan(shape, {.conversions = false});
    cuda::basic_device_tensor<float, emulator> x(device, shape), y(device, shape), wrong(device, {1, 16, 7, 6});
    const auto in = std::as_const(x).view();
    const auto fails = [&](auto&& call, const char* name, const char* expected, const char* found) {
        check_error(
            [&] {
                call();
                return 0;
            },
            name, expected, found);
    };
    fails([&] { other.run(plan, in, y.view(), in); }, "child", "this layer", "another");
    fails([&] { layer.run(plan, std::as_const(wrong).view(), y.view(), in); }, "child input", "H 6", "H 7");
    fails([&] { layer.run(plan, in, wrong.view(), in); }, "child output", "H 6", "H 7");
    fails([&] { layer.run(plan, in, y.view()); }, "child residual", "device memory", "null");
    fails([&] { layer.run(in_place, in, y.view(), in); }, "child input", "no conversions", "another");
    const auto odd = cuda::device_view<cuda::bfloat16>::from_device_pointer(
        reinterpret_cast<cuda::bfloat16*>(y.view().device_pointer()), shape, layout::nhwc);
    fails([&] { layer.run(plan, odd, odd, odd); }, "child input", "f16", "another");
    check_error([&] { return layer.plan({1, 8, 6, 7}); }, "child", "16", "8");
    check_error([&] { return context(std::shared_ptr<emulator>(), {}); }, "context", "a device", "null");
}
