// What layers do with an activation's parameters: they check them, and keep their own.
#include <memory>
#include <optional>

#include <kdna/nn/position_conv2d.hpp>
#include <kdna/nn/runtime_conv2d.hpp>

#include "support/errors.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

const kernel_shape layer_kernel{.o = 19, .i = 5, .kh = 3, .kw = 3};

conv2d<> layer_with(const activation& act) {
    rng r(480, 0);
    return {dense_kernel::pack(layer_kernel, r.floats(weight_count(layer_kernel))),
            {.pad = 1},
            {.act = act, .name = "block.conv1"}};
}

}  // namespace

TEST_CASE("Slopes of channels that are not as many as the channels are an error that names the layer") {
    const std::vector<float> slopes(20, 0.5F);
    const auto some = [&](std::size_t n) { return activation::prelu(std::span(slopes).first(n)); };
    for (const std::size_t n : {0U, 1U, 18U, 20U})
        check_error([&] { return layer_with(some(n)); }, "block.conv1 prelu", "19 parameters of channels", concat(n));
    CHECK_NOTHROW(layer_with(some(19)));
    check_error(
        [&] {
            return layer_with({activation_kind::relu, 0.0F, slopes});
        },
        "block.conv1 relu", "0 parameters of channels", "20");
    check_error(
        [&] { return runtime_conv2d(runtime_kernel::dense(layer_kernel), {}, {.act = some(5), .name = "given"}); },
        "given prelu", "19", "5");
    const dot_product_attention attention(12, 3, 0.1F);
    check_error([&] { return position_conv2d(attention, {.act = some(19), .name = "position"}); }, "position prelu",
                "12", "19");
    CHECK_NOTHROW(position_conv2d(attention, {.act = some(12), .name = "position"}));
}

TEST_CASE("A layer keeps its slopes: those it was made with, and its copies have theirs") {
    rng r(481, 0);
    const shape4 in{1, layer_kernel.i, 6, 7};
    const auto x = r.floats(element_count(in));
    const std::vector<float> slopes = r.floats(layer_kernel.o);
    std::optional<conv2d<>> layer;
    {
        const std::vector<float> temporary = slopes;
        layer.emplace(layer_with(activation::prelu(temporary)));
    }
    CHECK(layer->act() == activation::prelu(slopes));
    const auto expected = values_of((*layer)(nchw_view(x.data(), 1, layer_kernel.i, 6, 7)));
    const conv2d<> copy = *layer;
    CHECK(copy.act().of_channel.data() != layer->act().of_channel.data());
    layer.reset();
    CHECK(same_bits(values_of(copy(nchw_view(x.data(), 1, layer_kernel.i, 6, 7))), expected));
    // Negative sums are there, and each channel's has its own slope.
    const auto plain = values_of(layer_with(activation::none)(nchw_view(x.data(), 1, layer_kernel.i, 6, 7)));
    bool some = false;
    for (std::size_t i = 0; i < plain.size(); ++i) {
        CHECK(expected[i] == (plain[i] > 0.0F ? plain[i] : slopes[i / (6 * 7)] * plain[i]));
        some = some || plain[i] < 0.0F;
    }
    CHECK(some);
}

TEST_CASE("Layers say which activation they have") {
    for (const activation_kind kind : all_activation_kinds()) {
        rng r(482, 0);
        const kept_activation act(r, kind, layer_kernel.o);
        CHECK(layer_with(act).act() == activation(act));
    }
}
