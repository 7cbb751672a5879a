// Runs one layer once, for tools/neon_executed.py, which counts instructions:
//     neon_executed winograd M C O kept|used     F(MxM) on 24x24, C and O in vectors, its kernel kept transformed or transformed as it is used
//     neon_executed depthwise TAPS STRIDE C      28x28
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include <kdna/conv/winograd/algorithm.hpp>
#include <kdna/nn/conv2d.hpp>

using namespace kdna;

namespace {

void run_winograd(int m, index_t c, index_t o, bool kept) {
    const kernel_shape k{.o = o * simd::lanes, .i = c * simd::lanes, .kh = 3, .kw = 3};
    const dense_kernel kernel =
        dense_kernel::pack(k, std::vector<float>(static_cast<std::size_t>(weight_count(k)), 0.01F));
    const source_ref source(kernel);
    const conv_params params{.pad = 1};
    const tensor<float> x({1, k.i, 24, 24}, layout::nhwc);
    tensor<float> y({1, k.o, 24, 24}, layout::nhwc);
    conv::problem q{.source = source, .params = params};
    q.transform_budget = kept ? std::numeric_limits<index_t>::max() : 1;
    conv::plan p = conv::winograd::make_plan(
        {.layer = q, .in = x.shape(), .out = y.shape(), .where = "layer", .params = params, .map = x.shape()}, m);
    p.by = &conv::winograd::functions;
    conv::prepare(q, p);
    buffer<std::byte> workspace(p.workspace_bytes);
    const std::vector<float> factors(static_cast<std::size_t>(k.o + panel_layout::width), 1.0F);
    conv::call call{source, params, x.view(), y.view(), {}, {}, activation::none};
    call.factors.scale = {factors.data(), 0};
    call.factors.shift = {factors.data(), 0};
    conv::run(p, call, workspace.data(), {});
}

void run_depthwise(index_t taps, index_t stride, index_t c) {
    const index_t channels = c * simd::lanes;
    const kernel_shape k{.o = channels, .i = channels, .kh = taps, .kw = taps, .groups = channels};
    const std::vector<float> weights(static_cast<std::size_t>(weight_count(k)), 0.01F);
    const conv2d layer(dense_kernel::pack(k, weights), {.stride = stride, .pad = taps / 2});
    const tensor<float> x({1, channels, 28, 28}, layout::nhwc);
    tensor<float> y(layer.output_shape(x.shape()), layout::nhwc);
    auto plan = layer.plan(x.shape(), {.order = input_order::nhwc});
    layer.run(plan, x.view(), y.view());
}

}  // namespace

int main(int argc, char** argv) {
    const auto number = [&](int i) { return std::atoi(argv[i]); };
    if (argc == 6 && std::strcmp(argv[1], "winograd") == 0)
        run_winograd(number(2), number(3), number(4), std::strcmp(argv[5], "kept") == 0);
    else if (argc == 5 && std::strcmp(argv[1], "depthwise") == 0)
        run_depthwise(number(2), number(3), number(4));
    else
        return 2;
    return 0;
}
