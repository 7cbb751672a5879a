// Routers that read means over a grid of windows.
#include <limits>

#include <kdna/nn/network_builder.hpp>

#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

/// Gates every channel with the mean of one of its windows, and writes over its scratch.
struct window_gate {
    using optional_members = members<member::pool_grid>;

    index_t channels, grid, window;
    [[nodiscard]] index_t pool_grid() const { return grid; }
    [[nodiscard]] index_t input_channels() const { return channels; }
    [[nodiscard]] route_widths widths() const { return {.channel = channels}; }
    [[nodiscard]] index_t scratch_floats() const { return 3; }
    void operator()(const float* pooled, const route& out, float* scratch) const noexcept {
        for (index_t c = 0; c < channels; ++c) out.channel[c] = pooled[c * grid * grid + window];
        std::fill_n(scratch, 3, std::numeric_limits<float>::quiet_NaN());
    }
};

dcd_kernel kernel_of(const conv_case& c) {
    return dcd_kernel(dense_kernel::pack(c.kernel, c.weights), c.dcd.view(), c.dcd.bias);
}

conv_case dcd_case(rng& r, index_t grid) {
    conv_case c;
    c.kind = method::dcd;
    c.kernel = {.o = 6, .i = 5, .kh = 3, .kw = 3};
    c.params = {.pad = 1};
    c.in = {3, 5, 5, 7};
    do randomise_tensors(r, c);
    while (c.dcd.grid != grid);
    return c;
}

}  // namespace

TEST_CASE("Every window of a grid reaches the router, of every sample, on any layout and number of threads",
          "[threads]") {
    for (int i = 0; i < scaled(60); ++i) {
        rng r(420, static_cast<std::uint64_t>(i));
        const index_t grid = r.pick<index_t>({1, 2, 2, 3}), channels = r.between(1, 40);
        const shape4 in{r.between(1, 4), channels, r.between(1, 6), r.between(1, 6)};
        const kernel_shape k{.o = channels, .i = channels, .groups = channels};
        const dense_kernel ones = dense_kernel::pack(k, std::vector<float>(static_cast<std::size_t>(channels), 1.0F));
        frame x(r, in, r.pick({placement::nchw, placement::nhwc, placement::padded_nhwc, placement::reversed}));
        x.fill(r);
        shuffling_executor threads(r.between(1, 4), r.bits());
        for (index_t window = 0; window < grid * grid; ++window) {
            const conv2d layer(ones, {}, {}, window_gate{channels, grid, window});
            CHECK(layer.reads_channel_means() == (grid == 1));
            const tensor<float> y = layer(x.view(), {}, {.executor = threads});
            for (index_t n = 0; n < in.n; ++n) {
                const auto mean = pooled(x.view(), n, grid);
                for (index_t c = 0; c < channels; ++c) {
                    const bounded& m = mean[static_cast<std::size_t>(c * grid * grid + window)];
                    for (index_t h = 0; h < in.h; ++h)
                        for (index_t w = 0; w < in.w; ++w) {
                            const auto v = static_cast<double>(x.view()(n, c, h, w));
                            const double error = (m.error + 8.0 * unit_roundoff * std::abs(m.value)) * std::abs(v);
                            if (!(std::abs(static_cast<double>(y(n, c, h, w)) - m.value * v) <= error + 1e-37))
                                FAIL("case " << i << ", window " << window << ", channel " << c);
                        }
                }
            }
        }
    }
}

TEST_CASE("Channel means of the layer before are not what a router of a grid reads") {
    rng r(421, 0);
    for (const index_t grid : {1, 2, 3}) {
        const conv_case c = dcd_case(r, grid);
        const conv2d layer(kernel_of(c), c.params, {}, c.dcd.router());
        CHECK(layer.reads_channel_means() == (grid == 1));
        frame x(r, c.in, placement::nhwc), y(r, layer.output_shape(c.in), placement::nchw),
            other(r, layer.output_shape(c.in), placement::nchw);
        x.fill(r);
        auto plan = layer.plan(c.in);
        layer.run(plan, x.view(), y.view());
        const std::vector<float> wrong(static_cast<std::size_t>(c.in.n * c.in.c), 3.0F);
        layer.run(plan, x.view(), other.view(), {}, {.input = wrong.data()});
        CHECK(same_bits(values_of(y.view()), values_of(other.view())) == (grid > 1));
    }
}

TEST_CASE("A layer after one that takes channel means ignores them for a grid, in a network too") {
    rng r(422, 0);
    for (const index_t grid : {1, 2}) {
        conv_case c = dcd_case(r, grid);
        const auto first = r.floats(5 * 5 * 9);
        const conv2d before(dense_kernel::pack({.o = 5, .i = 5, .kh = 3, .kw = 3}, first), {.pad = 1});
        const conv2d layer(kernel_of(c), c.params, {}, c.dcd.router());
        frame x(r, c.in, placement::nhwc);
        x.fill(r);
        const tensor<float> middle = before(x.view()), expected = layer(middle.view());
        network_builder builder;
        const auto v = builder.add(before, builder.input(5));
        const auto last = builder.add(layer, v);
        const network net = std::move(builder).build(last);
        const tensor<float> y = net(x.view());
        for (index_t i = 0; i < y.size(); ++i)
            if (!(std::abs(y.data()[i] - expected.data()[i]) <= 1e-4F)) FAIL("grid " << grid << ", " << i);
    }
}
