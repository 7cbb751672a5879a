// What the functions of network_functions.hpp reject, what they know, and how much memory a shared kernel takes.
#include <kdna/nn/network_functions.hpp>

#include "support/conv_cases.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

using namespace kdna;
using kdna_test::check_error;
using kdna_test::rng;

TEST_CASE("Functions reject channels and shapes that do not fit when they are added, by name", "[network_functions]") {
    network_builder net;
    const network::value x = net.input(6), y = net.input("y", {0, 4, 0, 0}), tokens = net.input("tokens", {0, 10, 7});
    const std::vector<float> four(4, 1.0F), seven(7, 1.0F);
    const auto rejects = [](const auto& f, const char* where, const char* expected, const char* found) {
        INFO(where);
        check_error(f, where, expected, found);
    };
    rejects([&] { return nn::add(net, x, y, "sum"); }, "sum", "as many channels", "6 and 4");
    rejects([&] { return nn::mul(net, tokens, nn::constant(net, {9}, std::vector<float>(9)), "scaled"); }, "scaled",
            "broadcast", "7 and 9 on axis 2");
    rejects([&] { return nn::concat(net, {}, 1, "nothing"); }, "nothing", "at least one input", "none");
    rejects([&] { return nn::concat(net, {x, y}, 2, "rows"); }, "rows", "differ in axis 2 alone", "channels 6 and 4");
    rejects([&] { return nn::concat(net, {x, tokens}, 1, "skip"); }, "skip", "rank 4", "rank 3");
    rejects([&] { return nn::concat(net, {x, x}, 4, "skip"); }, "skip", "axis", "4");
    rejects([&] { return nn::slice(net, x, 1, 6, std::nullopt, 1, "cut"); }, "cut", "6 elements of axis 1", "6 to 6");
    rejects([&] { return nn::slice_channels(net, x, 4, 3, "cut"); }, "cut input", "at least 7 channels", "6");
    rejects([&] { return nn::slice_channels(net, x, -1, 3, "cut"); }, "cut", "counted from 0", "-1");
    rejects([&] { return nn::split_channels(net, x, {3, 4}, "halves"); }, "halves input", "7 channels", "6");
    rejects([&] { return nn::activate(net, x, activation::prelu(four), "act"); }, "act input", "4 channels", "6");
    rejects([&] { return nn::batch_norm(net, x, {four, four, four, four}, "bn"); }, "bn input", "4 channels", "6");
    rejects([&] { return nn::batch_norm(net, y, {four, four, four, seven}, "bn"); }, "bn", "4", "7");
    rejects([&] { return nn::layer_norm_channels(net, x, {four, four}, "ln"); }, "ln input", "4 channels", "6");
    rejects([&] { return nn::layer_norm(net, tokens, {four, four}, "ln"); }, "ln input", "a last extent of 4", "7");
    rejects([&] { return nn::group_norm(net, x, 4, {}, "gn"); }, "gn input", "a multiple of 4 channels", "6");
    rejects([&] { return nn::group_norm(net, x, 3, {four, four}, "gn"); }, "gn input", "4 channels", "6");
    rejects([&] { return nn::pixel_shuffle(net, x, 2, "shuffle"); }, "shuffle input", "a multiple of 4", "6");
    rejects([&] { return nn::channel_shuffle(net, x, 4, "shuffle"); }, "shuffle input", "a multiple of 4", "6");
    rejects([&] { return nn::resize_by(net, tokens, 2.0, nn::resize_mode::nearest, false, "up"); }, "up",
            "an image [N, C, H, W]", "rank 3");
    rejects([&] { return nn::resize_by(net, x, -1.0, nn::resize_mode::nearest, false, "up"); }, "up", "", "-1");
    rejects([&] { return nn::max_pool(net, x, {.window = 0}, "pool"); }, "pool", "", "0");
    rejects([&] { return nn::softmax(net, tokens, 3, "soft"); }, "soft", "an axis from -3 to 2", "3");
    rejects([&] { return nn::mean(net, x, {0, 1, 2, 3}, false, "mean"); }, "mean", "an axis that is left", "none");
    rejects([&] { return nn::permute(net, tokens, {0, 2, 1, 3}, "turn"); }, "turn", "rank 4", "0, 10, 7");
    rejects([&] { return nn::reshape(net, x, {-1, 6, -1}, "shape"); }, "shape", "-1 once", "twice");
    rejects([&] { return nn::flatten(net, x, 3, 2, "flat"); }, "flat", "before the last", "3 and 2");
    rejects(
        [&] {
            return nn::conv_transpose2d(net, x, {4, 1, 1, 1}, four, {}, {.name = "up"});
        },
        "up input", "4 channels", "6");
    rejects(
        [&] {
            return nn::conv_transpose2d(net, y, {4, 1, 1, 1}, four, {}, {.residual = true, .name = "up"});
        },
        "up residual", "one", "none");
    rejects(
        [&] {
            return nn::matmul(net, tokens, nn::constant(net, {4, 1}, four), "scores");
        },
        "scores", "a second input of 7 rows", "4");
    const conv2d fc(dense_kernel::pack({.o = 1, .i = 4}, four), {}, {.name = "fc"});
    rejects([&] { return nn::linear(net, tokens, fc); }, "fc input", "a last extent of 4", "7");
    const conv2d wide(dense_kernel::pack({.o = 1, .i = 7}, seven), {.pad = 1}, {.name = "fc"});
    rejects([&] { return nn::linear(net, tokens, wide); }, "fc", "no padding", "1x1");
}

TEST_CASE("Functions reject values of another network", "[network_functions]") {
    network_builder net, other;
    const network::value x = net.input(3), foreign = other.input(4);
    check_error([&] { return nn::add(net, x, foreign, "sum"); }, "sum input", "a value of this network", "4 channels");
    check_error([&] { return nn::concat(net, {x, foreign}); }, "concat input", "a value of this network", "4 channels");
    check_error([&] { return nn::resize_like(net, x, foreign); }, "resize input", "a value of this network", "4");
    check_error([&] { return nn::slice_channels(net, foreign, 0, 2); }, "slice_channels input",
                "a value of this network", "4");
}

TEST_CASE("What only a plan can see is reported by name as well", "[network_functions]") {
    network_builder net;
    const network::value a = net.input("a", {0, 3, 0, 0}), b = net.input("b", {0, 3, 0, 0});
    const network::value y = nn::add(net, a, b, "sum");
    const network built = std::move(net).build(y);
    const nd_shape shapes[] = {{1, 3, 4, 4}, {1, 3, 5, 5}};
    check_error([&] { return built.plan(shapes); }, "sum", "broadcast", "[1, 3, 5, 5]");
}

namespace {

/// A step of the user's own, of whose output the builder knows the channels alone.
class own_step final : public operation {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return "own"; }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override { return in.front(); }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape>, const plan_options&) const override {
        return std::make_unique<operation_state>();
    }
    void run(operation_state&, const operation_call& c) const noexcept override {
        ops::copy(c.inputs.front(), c.output, {});
    }
};

}  // namespace

TEST_CASE("Functions take values of which only the channels are known", "[network_functions]") {
    network_builder net;
    const network::value x = net.input(8), own = net.add(std::make_unique<own_step>(), x, 8);
    CHECK(net.known_shape(own).rank() == 0);
    CHECK(nn::add(net, own, x).channels == 8);
    CHECK(nn::mul(net, own, 2.0F).channels == 8);
    CHECK(nn::concat(net, {own, x}).channels == 16);
    CHECK(nn::concat(net, {own, x}, 2).channels == 8);
    CHECK(nn::slice_channels(net, own, 1, 3).channels == 3);
    CHECK(nn::resize_like(net, own, x).channels == 8);
    CHECK(nn::max_pool(net, own, {.window = 2}).channels == 8);
    CHECK(nn::layer_norm_channels(net, own).channels == 8);
    CHECK(nn::softmax(net, own, 1).channels == 8);
    CHECK(nn::permute(net, own, {0, 1, 3, 2}).channels == 8);
    CHECK(nn::permute(net, own, {0, 2, 1, 3}).channels == 0);
    CHECK(nn::flatten(net, own).channels == 0);
    CHECK(nn::reshape(net, own, {extent::dim(0, 0), 4, -1}).channels == 4);
    check_error([&] { return nn::softmax(net, own, -1); }, "softmax", "whose rank is not known", "-1");

    const network::value y = nn::mean(net, nn::channel_shuffle(net, nn::add(net, own, x), 2), {2, 3}, true);
    const network built = std::move(net).build(y);
    tensor<float> in({.n = 1, .c = 8, .h = 2, .w = 2});
    for (index_t i = 0; i < in.size(); ++i) in.data()[i] = static_cast<float>(i / 4);
    const tensor<float> out = built(in.view());
    for (index_t c = 0; c < 8; ++c) CHECK(out(0, c, 0, 0) == static_cast<float>(2 * (c % 2 * 4 + c / 2)));
}

TEST_CASE("What a view can say is not copied", "[network_functions]") {
    network_builder net;
    const network::value x = net.input(8);
    network::value y = nn::mul(net, x, 2.0F);
    y = nn::layer_norm_channels(net, y);
    const std::vector<network::value> parts = nn::split_channels(net, y, {3, 5});
    y = nn::concat(net, {nn::activate(net, parts[0], activation::relu), nn::mul(net, parts[1], 3.0F)});
    const network built = std::move(net).build(nn::add(net, y, 1.0F));
    const std::string text = built.plan({1, 8, 4, 4}).explain();
    INFO(text);
    const auto count = [&](std::string_view words) {
        index_t n = 0;
        for (std::size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++n;
        return n;
    };
    CHECK(count("no copy") == 5);  // two permutes, two slices and the concatenation
}

TEST_CASE("A kernel that three levels share is counted once", "[network_functions]") {
    rng r(971, 0);
    const index_t c = 16;
    const kernel_shape k{.o = c, .i = c, .kh = 3, .kw = 3};
    const auto weights = r.floats(weight_count(k)), filter = r.floats(c);
    std::vector<kdna_test::bn_tensors> norms;
    for (int i = 0; i < 3; ++i) norms.push_back(kdna_test::bn_tensors::random(r, c));
    const auto bytes = [&](bool shared) {
        const parent_kernel one = parent_kernel::pack(k, weights);
        network_builder net;
        network::value x = net.input(c);
        std::vector<network_builder::output> outputs;
        for (std::size_t level = 0; level < 3; ++level) {
            const parent_kernel parent = shared ? one : parent_kernel::pack(k, weights);
            const conv2d head(parent.child({.filter = filter}), {.pad = 1}, {.bn = view_of(norms[level])});
            outputs.push_back({concat("p", level), net.add(head, x)});
            x = nn::max_pool(net, x, {.window = 2, .stride = 2});
        }
        const network built = std::move(net).build(outputs);
        static_cast<void>(built.plan({1, c, 16, 16}, {.transform_budget = 0}));
        return built.weight_bytes();
    };
    const index_t kernel = weight_count(k) * static_cast<index_t>(sizeof(float));
    const index_t one = bytes(true), three = bytes(false);
    CHECK(one >= kernel);
    CHECK(one < 2 * kernel);
    CHECK(three - one >= 2 * kernel);
}
