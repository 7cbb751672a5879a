// Layers that name a device, the emulated or a real one, as their backend.
#pragma once

#include <kdna/cuda/layers/runtime_conv2d.hpp>
#include <kdna/dna/kernel_dna.hpp>

#include "cuda/device_layers.hpp"
#include "cuda/device_networks.hpp"
#include "support/errors.hpp"

namespace kdna_test {

/// A parent of 16 channels and a child with adapters and a gate, written once for every backend.
struct device_family {
    explicit device_family(std::uint64_t stream) : r(stream, 0) {}
    std::vector<float> values(int count) {
        std::vector<float> v;
        for (int i = 0; i < count; ++i) v.push_back(static_cast<float>(r.real(-0.5, 0.5)));
        return v;
    }
    [[nodiscard]] kdna::batch_norm bn() const {
        return {.weight = bn_scale, .bias = bn_shift, .mean = means, .var = variances};
    }

    template <class Backend, class... Where>
    [[nodiscard]] auto plain(const Where&... where) const {
        return kdna::conv2d<kdna::dense_kernel, kdna::no_router, Backend>(
            parent, {.stride = 2, .pad = 1}, {.bn = bn(), .act = kdna::activation::relu, .name = "plain"}, {},
            where...);
    }
    template <class Backend, class... Where>
    [[nodiscard]] auto child(const Where&... where) const {
        const kdna::batch_norm hidden{.weight = std::span(bn_scale).first(4),
                                      .bias = std::span(bn_shift).first(4),
                                      .mean = std::span(means).first(4),
                                      .var = std::span(variances).first(4)};
        return kdna::conv2d<kdna::dense_kernel, kdna::squeeze_excite, Backend>(
            parent.child({.spatial = spatial, .filter = filter}), {.pad = 1},
            {.bn = bn(), .residual = true, .act = kdna::activation::relu6, .name = "child"},
            kdna::squeeze_excite({.fc1 = fc1, .bn = hidden, .fc2 = fc2, .fc2_bias = fc2_bias}), where...);
    }

    rng r;
    std::vector<float> kernel = values(16 * 16 * 9), spatial = values(9), filter = values(16), fc1 = values(4 * 16),
                       fc2 = values(16 * 4), fc2_bias = values(16), bn_scale = values(16), bn_shift = values(16),
                       means = std::vector<float>(16, 0.25F), variances = std::vector<float>(16, 1.5F);
    kdna::parent_kernel parent = kdna::parent_kernel::pack({.o = 16, .i = 16, .kh = 3, .kw = 3}, kernel);
};

/// The same layers on the CPU and on a device, in all precisions, and where nothing says which device.
template <class Device>
void check_backend_layers(Device& device) {
    using namespace kdna;
    using there = cuda::on<Device>;
    const device_family f(960);
    const tensor<float> x = random_images({2, 16, 11, 9}, 961), residual = random_images({2, 16, 11, 9}, 962);
    const tensor<float> plain = f.plain<backend::cpu>()(x.view()),
                        child = f.child<backend::cpu>()(x.view(), residual.view());
    for (const precision p : device_precisions) {
        const cuda::basic_context<Device> where(device, {.numbers = p});
        const double tolerance = p == precision::f32 ? 1e-5 : 1e-2;
        CHECK(relative_error(f.plain<there>(where)(x.view()).span(), plain.span()) <= tolerance);
        CHECK(relative_error(f.child<there>(where)(x.view(), residual.view()).span(), child.span()) <= tolerance);
    }
    CHECK(relative_error(f.plain<there>()(x.view()).span(), plain.span()) <= 1e-5);
    CHECK(f.plain<there>().context().options().numbers == precision::f32);
}

/// Float32 in any order, and a layer's own numbers where they are, in one stream. `run(call)` runs a call that
/// allocates nothing.
template <class Device, class Run>
void check_backend_orders(Device& device, typename Device::stream s, Run&& run) {
    using namespace kdna;
    const device_family f(963);
    const shape4 shape{1, 16, 6, 7};
    const tensor<float> x = random_images(shape, 964), residual = random_images(shape, 965);
    const auto layer = f.child<cuda::on<Device>>(cuda::basic_context<Device>(device, {.numbers = precision::f16}));
    const tensor<float> expected = layer(x.view(), residual.view(), s);
    for (const layout order : {layout::nchw, layout::nhwc}) {
        cuda::basic_device_tensor<float, Device> dx(device, shape, order), dr(device, shape, order),
            dy(device, shape, order);
        dx.upload(x.view(), s);
        dr.upload(residual.view(), s);
        auto plan = layer.plan(shape);
        run([&] { layer.run(plan, std::as_const(dx).view(), dy.view(), std::as_const(dr).view(), s); });
        CHECK(same_bits(values_of(dy.download(s)), values_of(expected.view())));
    }
    const auto hx = to_device(device, x.view(), precision::f16, s),
               hy = to_device(device, residual.view(), precision::f16, s);  // y may be the residual
    const auto view = [&](const auto& m) {
        return cuda::device_view<cuda::half>::from_device_pointer(static_cast<cuda::half*>(m.data()), shape,
                                                                  layout::nhwc);
    };
    auto plan = layer.plan(shape, {.conversions = false});
    CHECK(plan.workspace_bytes() < layer.plan(shape).workspace_bytes());
    run([&] { layer.run(plan, view(hx), view(hy), view(hy), s); });
    const tensor<float> found = from_device(device, hy, shape, precision::f16, s);
    CHECK(same_bits(values_of(found.view()), values_of(expected.view())));
}

/// Kernels that come with each call, one for all samples and one for each, beside the CPU's.
template <class Device>
void check_backend_runtime(Device& device) {
    using namespace kdna;
    using cuda::precision;
    device_family f(971);
    const tensor<float> x = random_images({3, 4, 13, 11}, 972);
    const conv_params params{.stride = 2, .pad = 2, .mode = padding_mode::circular};
    const conv_options options{.act = activation::relu, .name = "given"};
    const auto check = [&](const runtime_kernel& kernel) {
        const runtime_conv2d host(kernel, params, options);
        for (const precision p : {precision::f32, precision::f16})
            for (const index_t kernels : {1, 3}) {
                const auto weights = f.values(static_cast<int>(kernels * kernel.mixture_size()));
                const basic_runtime_conv2d<cuda::on<Device>> layer(kernel, params, options,
                                                                   cuda::basic_context<Device>(device, {.numbers = p}));
                CHECK(layer.weights() == kernel.mixture_size());
                CHECK(relative_error(layer(x.view(), weights).span(), host(x.view(), weights).span()) <=
                      (p == precision::f32 ? 1e-5 : 1e-2));
                check_error([&] { return layer(x.view(), std::span(weights).first(weights.size() - 1)); },
                            "given kernel", "weights", "");
            }
    };
    check(runtime_kernel::dense({.o = 8, .i = 4, .kh = 5, .kw = 3}));
    check(runtime_kernel::depthwise(4, {5, 5}));
    check(runtime_kernel::shared(4, {3, 5}));
}

}  // namespace kdna_test
