// Everything a layer and its plans reject, and what the messages say.
#include "support/death.hpp"
#include "support/errors.hpp"
#include "support/explanation.hpp"
#include "support/ones.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

squeeze_excite gate_for(index_t c) {
    return squeeze_excite({.fc1 = ones(2 * c), .bn = bn_of_ones(2), .fc2 = ones(2 * c), .fc2_bias = ones(c)});
}

const kernel_shape k33{.o = 6, .i = 4, .kh = 3, .kw = 3};
dense_kernel kernel33() { return dense_kernel::pack(k33, ones(6 * 4 * 9)); }

/// Routes any widths, from any number of channels.
struct any_router {
    using optional_members = members<>;

    route_widths w{};
    index_t channels = 4;
    [[nodiscard]] index_t input_channels() const { return channels; }
    [[nodiscard]] route_widths widths() const { return w; }
    [[nodiscard]] static index_t scratch_floats() { return 0; }
    void operator()(const float*, const route&, float*) const noexcept {}
};

}  // namespace

TEST_CASE("A layer rejects steps and padding that are none, by name") {
    const auto make = [](const conv_params& p) {
        return [p] { return conv2d(kernel33(), p, {.name = "layer1.0.conv1"}); };
    };
    check_error(make({.stride = 0}), "layer1.0.conv1", "stride and dilation >= 1", "stride 0x0");
    check_error(make({.stride = {1, -2}}), "layer1.0.conv1", "stride and dilation >= 1", "stride 1x-2");
    check_error(make({.dilation = {0, 1}}), "layer1.0.conv1", "stride and dilation >= 1", "dilation 0x1");
    check_error(make({.pad = -1}), "layer1.0.conv1", "padding >= 0", "-1, -1, -1, -1");
    check_error(make({.pad = {0, 0, 0, -1}}), "layer1.0.conv1", "padding >= 0", "0, 0, 0, -1");
}

TEST_CASE("A layer rejects tensors that do not fit its kernel, by name") {
    check_error([] { conv2d(kernel33(), {}, {.bias = ones(4), .name = "c"}); }, "c bias", "6 values", "4");
    check_error([] { conv2d(kernel33(), {}, {.bn = bn_of_ones(4), .name = "c"}); }, "c bn.weight", "6 values", "4");
    auto bn = bn_of_ones(6);
    bn.eps = -1.0;
    check_error([&] { conv2d(kernel33(), {}, {.bn = bn, .name = "c"}); }, "c bn.running_var", "var + eps > 0",
                "channel 0");
}

TEST_CASE("A layer rejects a router whose axes are not the kernel's") {
    const auto make = [](const route_widths& w, index_t channels = 4) {
        return [=] { return conv2d(kernel33(), {}, {.name = "c"}, any_router{w, channels}); };
    };
    check_error(make({.channel = 6}), "c router", "4 channel gates", "6");
    check_error(make({.filter = 4}), "c router", "6 filter factors", "4");
    check_error(make({.spatial = 3}), "c router", "9 spatial factors", "3");
    check_error(make({.mixture = 2}), "c router", "0 mixture weights", "2");
    check_error(make({.channel = 4}, 3), "c router", "4 input channels", "3");
    check_error([] { conv2d(kernel33(), {}, {.name = "c"}, gate_for(6)); }, "c router", "4 channel gates", "6");
    const auto mixture = mixture_kernel::pack(3, k33, ones(3 * 6 * 4 * 9));
    check_error([&] { conv2d(mixture, {}, {.name = "c"}, any_router{{}}); }, "c router", "3 mixture weights", "0");
    check_error([&] { conv2d(mixture, {}, {.name = "c"}, condconv_router(ones(8), ones(2), 4)); }, "c router",
                "3 mixture weights", "2");
    check_error([&] { conv2d(mixture, {}, {.name = "c"}, condconv_router(ones(15), ones(3), 5)); }, "c router",
                "4 input channels", "5");
    CHECK_NOTHROW(make({.channel = 4, .filter = 6, .spatial = 9})());
}

TEST_CASE("A plan rejects inputs the layer cannot run on, by name") {
    const conv2d layer(kernel33(), {.pad = {0, 1}}, {.name = "stem"});
    const auto plan = [&](const shape4& in) { return [&layer, in] { return layer.plan(in); }; };
    check_error(plan({1, 3, 8, 8}), "stem", "an input of 4 channels", "C 3");
    check_error(plan({1, 4, 2, 8}), "stem", "an input of at least 3", "2");
    check_error(plan({0, 4, 8, 8}), "stem", "extents >= 1", "N 0");
    check_error(plan({1, 4, index_t{1} << 40, index_t{1} << 40}), "stem", "fits in 64 bits", "");
    check_error(plan({index_t{1} << 59, 4, 3, 3}), "stem", "fits in 64 bits", "");
    const conv2d wound(kernel33(), {.pad = {1, 2, 3, 4}, .mode = padding_mode::circular}, {.name = "wound"});
    CHECK(wound.output_shape({1, 4, 2, 4}) == shape4{1, 6, 3, 9});
    check_error(
        [&] {
            return wound.plan({1, 4, 1, 4});
        },
        "wound", "circular padding of at most 1 rows and 4 columns", "1, 2, 3, 4");
    check_error(
        [&] {
            return wound.plan({1, 4, 2, 3});
        },
        "wound", "circular padding of at most 2 rows and 3 columns", "1, 2, 3, 4");
    // Output and workspace that do not fit, though the input does.
    const conv2d wide(dense_kernel::pack({.o = 4096, .i = 1}, ones(4096)), {}, {.name = "wide"});
    check_error([&] { return wide.plan({1, 1, index_t{1} << 30, index_t{1} << 25}); }, "wide", "fits in 64 bits", "");
    const index_t most = std::numeric_limits<index_t>::max();
    const conv2d padded(kernel33(), {.pad = most / 2 + 1}, {.name = "padded"});
    check_error([&] { return padded.plan({1, 4, 3, 3}); }, "padded", "a sum that fits", "");
    check_error(
        [&] {
            return conv2d(kernel33(), {.dilation = most}, {.name = "d"}).plan({1, 4, 3, 3});
        },
        "d", "fits in 64 bits", "");
}

TEST_CASE("Views that do not fit the plan are named") {
    rng r(410, 0);
    const conv2d layer(kernel33(), {.pad = 1}, {.residual = true, .name = "c"});
    const conv2d bare(kernel33(), {.pad = 1}, {.name = "bare"});
    const auto plan = layer.plan({2, 4, 5, 6});
    const auto bare_plan = bare.plan({2, 4, 5, 6});
    const auto nhwc_plan = bare.plan({2, 4, 5, 6}, {.order = conv::input_order::nhwc});
    frame x(r, {2, 4, 5, 6}, placement::nchw), y(r, {2, 6, 5, 6}, placement::nchw),
        other(r, {2, 6, 5, 5}, placement::nchw);
    const tensor_view<float> none{};
    check_error([&] { layer.check(plan, y.view(), y.view(), y.view()); }, "c input", "(N 2, C 4, H 5, W 6)",
                "(N 2, C 6, H 5, W 6)");
    check_error([&] { layer.check(plan, x.view(), other.view(), y.view()); }, "c output", "W 6", "W 5");
    check_error([&] { layer.check(plan, x.view(), y.view(), other.view()); }, "c residual", "W 6", "W 5");
    check_error([&] { layer.check(plan, x.view(), y.view()); }, "c residual", "a view of memory", "a null pointer");
    auto with_means = layer.plan({2, 4, 5, 6}, {.channel_means = true});
    std::vector<float> means(2 * 6);
    check_error([&] { layer.check(with_means, x.view(), y.view(), y.view()); }, "c channel means", "memory for them",
                "a null pointer");
    check_error([&] { layer.check(plan, x.view(), y.view(), y.view(), {.output = means.data()}); }, "c channel means",
                "a plan that takes them", "one that does not");
    check_error([&] { layer.check(plan, none, y.view(), y.view()); }, "c input", "a view of memory", "a null pointer");
    check_error([&] { layer.check(plan, x.view(), none, y.view()); }, "c output", "a view of memory", "a null pointer");
    check_error([&] { bare.check(bare_plan, x.view(), y.view(), y.view()); }, "bare residual", "none", "(N 2, C 6");
    check_error([&] { bare.check(nhwc_plan, x.view(), y.view()); }, "bare input", "contiguous channels",
                "channel stride 30");
    check_error([&] { static_cast<void>(layer(x.view())); }, "c residual", "a view of memory", "a null pointer");
    check_error(
        [&] {
            bare.check(bare.plan_without_workspace({2, 4, 5, 6}), x.view(), y.view());
        },
        "bare", "a plan with a workspace", "without");
    check_error([&] { bare.check(bare.plan({1, 4, 5, 6}), x.view(), y.view()); }, "bare input", "N 1", "N 2");
    CHECK_NOTHROW(layer.check(plan, x.view(), y.view(), y.view()));
    CHECK_NOTHROW(bare.check(bare_plan, x.view(), y.view()));
}

#if defined(KDNA_TEST_DEATH) && KDNA_CHECK
TEST_CASE("A run with arguments that do not fit its plan ends the program with a message") {
    rng r(411, 0);
    const conv2d layer(kernel33(), {.pad = 1}, {.name = "layer3.conv2"});
    auto plan = layer.plan({2, 4, 5, 6});
    frame x(r, {2, 4, 5, 6}, placement::nchw), y(r, {2, 6, 5, 6}, placement::nchw);
    const auto words = [&](const tensor_view<float>& in, const tensor_view<float>& out) {
        return last_words([&] { layer.run(plan, in, out); });
    };
    CHECK(words(y.view(), y.view()).find("kdna: contract broken: layer3.conv2 input: expected (N 2, C 4") == 0);
    CHECK(words(x.view(), x.view()).find("kdna: contract broken: layer3.conv2 output: expected (N 2, C 6") == 0);
    CHECK(words(x.view(), {}).find("found a null pointer") != std::string::npos);
    const conv2d twin(kernel33(), {.pad = 1}, {.name = "twin"}), copy = layer;
    CHECK(last_words([&] { twin.run(plan, x.view(), y.view()); }).find("twin: expected a plan of this layer") !=
          std::string::npos);
    CHECK(last_words([&] { copy.run(plan, x.view(), y.view()); }) == "did not abort: ");
    CHECK(words(x.view(), y.view()) == "did not abort: ");
}
#endif

TEST_CASE("A plan says what was decided") {
    const auto text = [](const auto& layer, conv::input_order order, index_t transform_budget = 0) {
        return kdna_test::explanation_of(layer, {1, layer.kernel().i, 7, 7},
                                         {.order = order, .transform_budget = transform_budget});
    };
    const auto has = [](const std::string& t, std::string_view part) {
        INFO(t);
        CHECK(t.find(part) != std::string::npos);
    };
    constexpr auto any = conv::input_order::any, nhwc = conv::input_order::nhwc;
    const kernel_shape k{.o = 16, .i = 16, .kh = 3, .kw = 3}, dw{.o = 16, .i = 16, .kh = 3, .kw = 3, .groups = 16};
    const auto parent = dense_kernel::pack(k, ones(16 * 16 * 9));
    const conv2d plain(parent, {.pad = 1}, {.name = "plain"});
    has(text(plain, any), "plain: (O 16, I 16, 3x3) on (N 1, C 16, H 7, W 7): direct");
    has(text(plain, any), "input copied if strided");
    CHECK(text(plain, nhwc).find("copied") == std::string::npos);
    const conv2d child(parent.child({.spatial = ones(9)}), {.pad = 1}, {.name = "child"}, gate_for(16));
    has(text(child, nhwc), "direct");
    has(text(child, nhwc), "gate in the copy");
    has(text(child, nhwc), "spatial between taps");
    const kernel_shape wide{.o = 64, .i = 64, .kh = 3, .kw = 3};
    const conv2d transformed(
        dense_kernel::pack(wide, std::vector<float>(64 * 64 * 9, 0.5F)).child({.spatial = ones(9)}), {.pad = 1}, {},
        gate_for(64));
    has(text(transformed, nhwc, 1 << 30), "winograd F(");
    has(text(transformed, nhwc, 1 << 30), "gate in the input transform");
    has(text(transformed, nhwc, 1 << 30), "spatial in the transformed kernel");
    const kernel_shape few{.o = 16, .i = 3, .kh = 3, .kw = 3};
    has(text(conv2d(dense_kernel::pack(few, ones(16 * 3 * 9)), {.pad = 1}), nhwc), "input copied with its padding");
    const kernel_shape grouped{.o = 16, .i = 4, .kh = 3, .kw = 3, .groups = 2};
    has(text(conv2d(dense_kernel::pack(grouped, ones(16 * 2 * 9)), {.pad = 1}), nhwc), "im2col");
    const conv2d depthwise(dense_kernel::pack(dw, ones(144)).child({.spatial = ones(9)}), {.pad = 1}, {}, gate_for(16));
    has(text(depthwise, nhwc), "depthwise");
    has(text(depthwise, nhwc), "gate in the scale");
    has(text(depthwise, nhwc), "spatial in a panel copy");
    const conv2d wound(parent, {.pad = 1, .mode = padding_mode::circular});
    has(text(wound, nhwc), "direct");
    has(text(wound, nhwc), "input copied with its circular padding");
    const kernel_shape image{.o = 3, .i = 3, .kh = 5, .kw = 5, .groups = 3};
    const conv2d planes(dense_kernel::pack(image, ones(75)), {.pad = 2, .mode = padding_mode::circular});
    const auto on_planes = kdna_test::explanation_of(planes, {1, 3, 64, 64});
    has(on_planes, "planes, tile");
    has(on_planes, "each channel copied with its circular padding");
    const conv2d mixed(mixture_kernel::pack(2, {.o = 16, .i = 16}, ones(512)), {}, {},
                       condconv_router(ones(32), ones(2), 16));
    has(text(mixed, any), "panels assembled in");
    has(text(conv2d<dense_kernel, no_router, backend::reference>(parent, {}), any), "reference");
}
