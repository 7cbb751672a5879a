// DCD layers: both forms against the kernel form in double precision, and which one a plan takes.
#include <kdna/nn/dcd_conv2d.hpp>

#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

TEST_CASE("A DCD layer gives the same in both forms, and its plan says which", "[threads]") {
    struct geometry {
        index_t o, i, extent, h, w, stride;
    };
    int in_parts = 0, whole = 0;
    for (const auto& [o, i, extent, h, w, stride] :
         {geometry{64, 64, 3, 33, 31, 1}, geometry{160, 128, 3, 7, 7, 1}, geometry{96, 160, 3, 9, 8, 2},
          geometry{40, 24, 1, 12, 11, 1}, geometry{256, 200, 1, 3, 3, 1}}) {
        rng r(870, static_cast<std::uint64_t>(o + i));
        const kernel_shape k{.o = o, .i = i, .kh = extent, .kw = extent};
        auto t = dcd_tensors::random(r, k);
        t.bias.clear();
        const double size = 2.0 / std::sqrt(static_cast<double>(i * k.taps()));
        const auto w0 = dense_kernel::pack(k, r.floats(weight_count(k), -size, size));
        const auto bn = bn_tensors::random(r, o);
        const conv_params params{.stride = stride, .pad = extent / 2};
        const auto slopes = r.floats(o);
        const conv_options options{
            .bn = view_of(bn), .residual = true, .act = activation::prelu(slopes), .name = "layer.conv1"};
        const dcd_conv2d layer(w0, t.view(), params, options);
        const conv2d<dcd_kernel, dcd_router, backend::reference> oracle(dcd_kernel(w0, t.view()), params, options,
                                                                        t.router());
        const shape4 in{3, i, h, w}, out = layer.output_shape(in);
        frame x(r, in, placement::nhwc), residual(r, out, placement::nchw), y(r, out, placement::padded_nchw);
        x.fill(r);
        residual.fill(r);
        const auto expected = values_of(oracle(x.view(), residual.view()));
        for (const index_t threads : {1, 3}) {
            shuffling_executor pool(threads);
            auto plan = layer.plan(in, {.executor = pool});
            INFO(plan.explain());
            y.fill(r);
            layer.run(plan, x.view(), y.view(), residual.view());
            CHECK(error_of(values_of(y.view()), expected) < 3e-5);
            (plan.in_parts() ? in_parts : whole) += 1;
            CHECK((plan.explain().find("low-rank part in the kernel") == std::string::npos) == plan.in_parts());
        }
    }
    CHECK(in_parts > 0);
    CHECK(whole > 0);
}

TEST_CASE("A DCD layer gives the means of its channels in both forms") {
    for (const shape4& in : {shape4{2, 128, 7, 7}, shape4{2, 64, 30, 31}}) {
        rng r(871, static_cast<std::uint64_t>(in.c));
        const kernel_shape k{.o = in.c, .i = in.c, .kh = 3, .kw = 3};
        auto t = dcd_tensors::random(r, k);
        t.bias.clear();
        const dcd_conv2d layer(dense_kernel::pack(k, r.floats(weight_count(k), -0.1, 0.1)), t.view(), {.pad = 1});
        frame x(r, in, placement::nhwc), y(r, in, placement::nhwc);
        x.fill(r);
        y.fill(r);
        auto plan = layer.plan(in, {.channel_means = true});
        std::vector<float> means(static_cast<std::size_t>(in.n * in.c));
        layer.run(plan, x.view(), y.view(), {}, {.output = means.data()});
        CHECK(wrong_means(y.view(), means).empty());
    }
}

TEST_CASE("A DCD layer's padding is that of its low-rank part") {
    rng r(872, 0);
    const kernel_shape k{.o = 8, .i = 6, .kh = 3, .kw = 3};
    auto t = dcd_tensors::random(r, k);
    t.bias.clear();
    const auto w0 = dense_kernel::pack(k, r.floats(weight_count(k)));
    check_error([&] { return dcd_conv2d(w0, t.view(), {.pad = 0}, {.name = "l.conv"}); }, "l.conv",
                "zero padding of 1 rows and 1 columns", "0, 0, 0, 0");
    check_error(
        [&] { return dcd_conv2d(w0, t.view(), {.pad = 1, .mode = padding_mode::circular}, {.name = "l.conv"}); },
        "l.conv", "zero padding", "circular");
    const std::vector<float> bias(8, 0.5F);  // lambda scales it: only the kernel form has a place for it
    const dcd_conv2d biased(w0, t.view(), {.pad = 1}, {}, bias);
    CHECK_FALSE(biased.plan({1, 6, 2, 2}).in_parts());
}
