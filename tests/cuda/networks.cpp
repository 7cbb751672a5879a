// Whole networks on the emulated device.
#include <array>
#include <cstring>

#include "cuda/device_networks.hpp"
#include "cuda/emulated.hpp"
#include "support/conv_cases.hpp"
#include "support/errors.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

const bool few = runs_few();
const shape4 small_images{few ? 1 : 2, 3, 32, few ? 17 : 32};

}  // namespace

TEST_CASE("The four networks on the emulated device give the CPU's logits", "[networks]") {
    emulator device(20);
    for (const arch a : all_archs) {
        const bool every = !few && (a == arch::resnet18 || a == arch::mobilenet_v2);
        const auto precisions = std::span(device_precisions).first(every ? 4 : 2);
        check_network(device, a, form::kernel_dna, keys_of(a, form::kernel_dna), small_images, precisions, 0);
        if (few) continue;
        const std::array plain{precision::f16};
        check_network(device, a, form::plain, keys_of(a, form::plain), small_images, plain, 0);
    }
}

TEST_CASE("Networks of mixtures on the emulated device give the CPU's logits", "[networks]") {
    for (const dynamic_network& n : dynamic_networks) {
        // Of the others, one has more of the same kernels and takes its time, and one fewer.
        if (n.name != "mobilenet_v2_odconv_4x" && n.name != "resnet18_odconv_1x" && n.name != "resnet18_dyconv_4x")
            continue;
        emulator device(4);
        const std::array precisions{precision::f16, precision::f32};
        check_network(device, n.arch, n.form, n.keys(), {2, 3, 17, 16},
                      std::span(precisions).first(few || n.name == "resnet18_dyconv_4x" ? 1 : 2), 0);
    }
}

TEST_CASE("Networks of warehouses on the emulated device give the CPU's logits, from cells stored once", "[networks]") {
    for (const dynamic_network& n : dynamic_networks) {
        if (n.form != form::kernel_warehouse) continue;
        const bool residual = n.arch == arch::resnet18;
        emulator device(4);
        const std::array precisions{residual ? precision::f16 : precision::f32};
        check_network(device, n.arch, n.form, n.keys(), {2, 3, 17, 16}, precisions, 0);
        if (few || !residual) continue;
        index_t parameters = 0;
        for (const key& k : n.keys()) {
            index_t count = 1;
            for (const index_t extent : k.shape) count *= extent;
            parameters += count;
        }
        const cuda::basic_network net(models::load(n.arch, n.form, random_values(n.keys(), 948)), device);
        CHECK(net.weight_bytes() <= (parameters + parameters / 100) * 4);
    }
}

TEST_CASE("A DCD network on the emulated device gives the CPU's logits", "[networks]") {
    for (const dynamic_network& n : dynamic_networks) {
        if (n.form != form::dcd) continue;
        emulator device(4);
        const std::array precisions{precision::f16, precision::f32};
        check_network(device, n.arch, n.form, n.keys(), {1, 3, 33, 32}, std::span(precisions).first(few ? 1 : 2), 0);
    }
}

TEST_CASE("PyTorch's answers come out of the emulated device") {
    for (const int multiprocessors : {1, 60}) {
        emulator device(multiprocessors);
        check_golden(device, 0);
        check_golden_kernels(device, 0);
    }
}

TEST_CASE("Plans on the emulated device share a network, and repeat their bits", "[networks]") {
    emulator device(4, 77);
    check_plans(device, 0, 0);
}

TEST_CASE("A published network is loaded to the emulated device by its backend's name", "[networks]") {
    emulator device;
    check_loading(device, 0);
}

TEST_CASE("The order in which threads and blocks run does not show in the emulated device's results") {
    const network host = models::load(arch::mobilenet_v2_1d2, form::kernel_dna,
                                      random_values(kernel_dna_keys(arch::mobilenet_v2_1d2), 940));
    const tensor<float> x = random_images({2, 3, 33, 20}, 941);
    emulator one(12, 1), other(12, 2);
    const auto a = cuda::basic_network(host, one, {.numbers = precision::f16})(x.view()),
               b = cuda::basic_network(host, other, {.numbers = precision::f16})(x.view());
    CHECK(same_bits(values_of(a.view()), values_of(b.view())));
}

TEST_CASE("A run on the emulated device allocates nothing, and children have no kernels of their own", "[networks]") {
    const network host =
        models::load(arch::resnet18, form::kernel_dna, random_values(kernel_dna_keys(arch::resnet18), 942));
    emulator device(4);
    const cuda::basic_network net(host, device);
    // 9,240,798 parameters once; every filter's depth in whole stages, and BatchNorms folded.
    CHECK(net.weight_bytes() < index_t{9'500'000} * 4);
    const cuda::basic_network halves(host, device, {.numbers = precision::f16});
    CHECK(halves.weight_bytes() < index_t{9'500'000} * 2 + index_t{600'000} * 4);

    auto plan = net.plan({1, 3, 32, 32});
    cuda::basic_device_tensor<float, emulator> x(device, plan.input_shape()), y(device, plan.output_shape());
    const tensor<float> images = random_images(plan.input_shape(), 943);
    x.upload(images.view(), 0);
    const index_t before = device.allocations(), launches = device.launches();
    net.run(plan, std::as_const(x).view(), y.view(), 0);
    CHECK(device.allocations() == before);
    // Conversions, 26 convolutions, pooling, the mean; a router for each of six children. No pass that only sums.
    CHECK(device.launches() - launches <= 60);
    CHECK(plan.explain().find("layer4.child2: (O 512, I 512, 3x3)") != std::string::npos);
    CHECK(plan.explain().find("gate on the input") != std::string::npos);
}

TEST_CASE("A library runs the plain layers whose sums nobody wants, on the network's own weights and memory",
          "[networks]") {
    emulator device(4);
    const network host =
        models::load(arch::resnet18, form::kernel_dna, random_values(kernel_dna_keys(arch::resnet18), 946));
    const tensor<float> x = random_images({2, 3, 33, 32}, 947);
    const cuda::basic_network net(host, device);
    const auto own = net(x.view());

    int asked = 0, ran = 0;
    device.library = [&](const cuda::plain_convolution& c) -> std::shared_ptr<const emulator::library_convolution> {
        ++asked;
        CHECK(c.out == output_shape(c.in, c.kernel, c.params));
        if (c.kernel.kh == 1) return nullptr;  // a library need not take everything
        auto out = std::make_shared<emulator::library_convolution>();
        out->scratch = 1 << 20;
        out->work = [c, &ran](const cuda::plain_convolution_call& call) {
            ++ran;
            std::memset(call.scratch, 0xff, 1 << 20);
            REQUIRE((call.residual != nullptr) == c.residual);
            // The call, read back as a host layer.
            const auto *w = static_cast<const float*>(call.w), *from = static_cast<const float*>(call.x);
            std::vector<float> weights;
            for (index_t o = 0; o < c.kernel.o; ++o)
                for (index_t i = 0; i < c.kernel.i; ++i)
                    for (index_t t = 0; t < c.kernel.taps(); ++t)
                        weights.push_back(w[(o * c.kernel.taps() + t) * c.kernel.i + i]);
            const std::vector<float> zeros(static_cast<std::size_t>(c.kernel.o), 0.0F),
                ones(static_cast<std::size_t>(c.kernel.o), 1.0F);
            const batch_norm bn{std::span(call.scale, zeros.size()), std::span(call.shift, zeros.size()), zeros, ones,
                                0.0};
            const conv2d<> layer(
                dense_kernel::pack(c.kernel, weights), c.params,
                {.bn = bn, .residual = c.residual, .act = c.range.low == 0.0F ? activation::relu : activation::none});
            tensor<float> residual(c.out, layout::nhwc);
            if (c.residual) std::copy_n(static_cast<const float*>(call.residual), residual.size(), residual.data());
            const auto y = layer(make_view(from, c.in, layout::nhwc),
                                 c.residual ? std::as_const(residual).view() : tensor_view<const float>{});
            copy(y.view(), make_view(static_cast<float*>(call.y), c.out, layout::nhwc));
        };
        return out;
    };
    const auto mixed = net(x.view());
    CHECK(relative_error(mixed.span(), own.span()) <= 1e-5);
    // Of 19 plain layers: not the first, whose filters are not whole stages, nor five whose sums a router or the mean
    // reads; and 1x1 kernels were not taken.
    CHECK(asked == 13);
    CHECK(ran == 9);
}

TEST_CASE("Pooling on the emulated device keeps NaN, ignores padding, and takes any number of channels") {
    emulator device(4, 3);
    check_pooling(device, 0);
}

TEST_CASE("Few input channels are stored in fours where only convolutions read them, and the results are the same") {
    for (const index_t channels : {1, 2, 3, 4, 5, 7}) {
        rng r(951, static_cast<std::uint64_t>(channels));
        const auto conv = [&](index_t inputs, index_t window, index_t groups, conv_params params) {
            const kernel_shape k{groups == 1 ? index_t{9} : inputs, inputs, window, window, groups};
            return conv2d<>(dense_kernel::pack(k, r.floats(k.o * k.channels_per_group() * k.taps(), -0.5, 0.5)),
                            params);
        };
        struct variant {
            network net;
            bool stored_in_fours;
        };
        std::vector<variant> variants;
        const auto add = [&](bool fours, auto build) {
            network_builder b;
            const auto x = b.input(channels);
            const auto y = build(b, x);
            variants.push_back({std::move(b).build(y), fours});
        };
        add(true, [&](network_builder& b, const network::value& x) {
            return b.add(conv(channels, 7, 1, {.stride = 2, .pad = 3}), x);
        });
        // Taps and channels of every carry: a stage ends inside of a row of taps and of a pixel.
        add(true, [&](network_builder& b, const network::value& x) {
            return b.add(conv(channels, 3, 1, {.dilation = 2}), x);
        });
        add(true, [&](network_builder& b, const network::value& x) { return b.add(conv(channels, 1, 1, {}), x); });
        // A second reader that has no zeros to multiply with.
        add(false, [&](network_builder& b, const network::value& x) {
            return b.add_global_average(b.add(max_pool2d(2, 1, 0), x));
        });
        if (channels > 1)
            add(false, [&](network_builder& b, const network::value& x) {
                return b.add(conv(channels, 3, channels, {.pad = 1}), x);
            });
        const tensor<float> x = random_images({2, channels, 13, 11}, 952);
        tensor<float> nhwc(x.shape(), layout::nhwc);
        copy(x.view(), nhwc.view());
        for (const variant& v : variants)
            for (const precision p : device_precisions) {
                emulator device(4, 6);
                const cuda::basic_network net(v.net, device, {.numbers = p});
                auto plan = net.plan(x.shape());
                const bool copies = plan.explain().find("asynchronous copies") != std::string::npos;
                CHECK(copies == v.stored_in_fours);
                const bool stored = plan.explain().find("channels stored") != std::string::npos;
                CHECK(stored == (v.stored_in_fours && channels % 4 != 0));
                // From both orders.
                cuda::basic_device_tensor<float, emulator> in(device, x.shape(), layout::nchw),
                    y(device, plan.output_shape(), layout::nchw);
                in.upload(x.view(), 0);
                net.run(plan, std::as_const(in).view(), y.view(), 0);
                const tensor<float> found = y.download(0);
                CHECK(relative_error(found.span(), v.net(x.view()).span()) <= network_tolerance(p));
                CHECK(same_bits(values_of(found.view()), values_of(net(nhwc.view()))));
            }
    }
}

namespace {

/// The sum of two values, in name and shape.
class sum_operation final : public operation {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return "sum"; }
    [[nodiscard]] index_t inputs() const noexcept override { return 2; }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override { return in.front(); }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape>, const plan_options&) const override {
        return std::make_unique<operation_state>();
    }
    void run(operation_state&, const operation_call&) const noexcept override {}
};

}  // namespace

TEST_CASE("A network on the emulated device leaves the weights on the host as they came") {
    rng r(948, 0);
    const kernel_shape k{.o = 3, .i = 3, .kh = 3, .kw = 3};
    network_builder builder;
    const auto image = builder.input(3);
    const network host =
        std::move(builder).build(builder.add(conv2d(dense_kernel::pack(k, r.floats(weight_count(k))), {}), image));
    const index_t before = host.weight_bytes();
    emulator device(4);
    const cuda::basic_network net(host, device);
    CHECK(host.weight_bytes() == before);
    static_cast<void>(host.plan({1, 3, 32, 32}));
    CHECK(host.weight_bytes() > before);  // panels of whole vectors
}

TEST_CASE("What has no device form is named, and so are arguments that do not fit") {
    emulator device;
    // A router of the tests' own, whose type nobody named.
    rng r(944, 0);
    conv_case c;
    c.kind = method::mixed;
    c.kernel = {.o = 4, .i = 3};
    c.mixture = 2;
    randomise_tensors(r, c);
    network_builder builder;
    const auto image = builder.input(3);
    const network foreign = std::move(builder).build(builder.add(make_layer<method::mixed, backend::cpu>(c), image));
    check_error([&] { return cuda::basic_network(foreign, device); }, "layer", "device form", "another");
    // So is a step of the tests' own, of several inputs.
    network_builder sums;
    const auto left = sums.input(3);
    const auto right = sums.add(max_pool2d(1, 1, 0), left);
    const network adding =
        std::move(sums).build(sums.add(std::make_unique<sum_operation>(), std::vector{left, right}, 3));
    check_error([&] { return cuda::basic_network(adding, device); }, "sum", "device form", "another");
    const network host = models::load(arch::resnet18, form::plain, random_values(plain_keys::of(arch::resnet18), 945));
    const cuda::basic_network net(host, device), other(host, device);
    auto plan = net.plan({1, 3, 32, 32});
    cuda::basic_device_tensor<float, emulator> x(device, {1, 3, 32, 32}), wrong(device, {1, 3, 32, 33}),
        y(device, plan.output_shape());
    check_error([&] { return net.plan({1, 4, 32, 32}); }, "network input", "3 channels", "[1, 4, 32, 32]");
    check_error(
        [&] {
            net.run(plan, std::as_const(wrong).view(), y.view(), 0);
            return 0;
        },
        "network input", "W 32", "W 33");
    check_error(
        [&] {
            net.run(plan, {}, y.view(), 0);
            return 0;
        },
        "network input", "device memory", "null");
    check_error(
        [&] {
            other.run(plan, std::as_const(x).view(), y.view(), 0);
            return 0;
        },
        "network", "this network", "another");
}
