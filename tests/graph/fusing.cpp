// What is fused, shared and placed, as seen from outside: steps, bytes, explain().
#include <kdna/graph/load.hpp>

#include <cmath>

#include "graph/random_tensor.hpp"
#include "support/errors.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

network fusing_load(state_dict d, const std::string& inputs, const std::string& nodes, const std::string& outputs) {
    d.metadata()["kdna.graph"] =
        concat("{\"version\": 1, \"inputs\": [", inputs, "], \"outputs\": [", outputs, "], \"nodes\": [", nodes, "]}");
    return load(d, "test");
}
const std::string fusing_y = R"({"name": "y", "value": "y"})";

}  // namespace

TEST_CASE("A squeeze-excite block becomes the router of the convolution that reads it") {
    rng r(7200, 0);
    state_dict d;
    add_random_tensor(d, r, "fc1", {4, 8, 1, 1});
    add_random_tensor(d, r, "fc2", {8, 4, 1, 1});
    add_random_tensor(d, r, "w", {6, 8, 1, 1});
    const network net =
        fusing_load(std::move(d), R"({"name": "x", "shape": [null, 8, null, null]})",
                    R"({"op": "mean", "name": "pool", "in": ["x"], "out": "m", "axes": [2, 3], "keep": true},
           {"op": "conv2d", "name": "fc1", "in": ["m"], "out": "a", "tensors": {"weight": "fc1"}},
           {"op": "activation", "name": "act1", "in": ["a"], "out": "b", "kind": "relu"},
           {"op": "conv2d", "name": "fc2", "in": ["b"], "out": "c", "tensors": {"weight": "fc2"}},
           {"op": "activation", "name": "act2", "in": ["c"], "out": "g", "kind": "hard_sigmoid"},
           {"op": "mul", "name": "scale", "in": ["g", "x"], "out": "p"},
           {"op": "conv2d", "name": "project", "in": ["p"], "out": "y", "tensors": {"weight": "w"}})",
                    fusing_y);
    CHECK(net.step_count() == 1);
    CHECK(net.plan({1, 8, 7, 5}).explain().find("gate") != std::string::npos);
}

TEST_CASE("Concatenations, slices and shuffles copy nothing where channels stay in a row") {
    rng r(7201, 0);
    state_dict d;
    add_random_tensor(d, r, "w", {8, 8, 1, 1});
    const network net =
        fusing_load(std::move(d), R"({"name": "x", "shape": [null, 8, null, null]})",
                    R"({"op": "conv2d", "name": "a", "in": ["x"], "out": "a", "tensors": {"weight": "w"}},
           {"op": "slice", "name": "left", "in": ["a"], "out": "l", "axis": 1, "stop": 4},
           {"op": "conv2d", "name": "b", "in": ["a"], "out": "b", "tensors": {"weight": "w"}},
           {"op": "conv2d", "name": "c", "in": ["b"], "out": "c", "tensors": {"weight": "w"}},
           {"op": "concat", "name": "two", "in": ["a", "b"], "out": "ab", "axis": 1},
           {"op": "concat", "name": "three", "in": ["a", "b", "c"], "out": "abc", "axis": 1},
           {"op": "activation", "name": "r", "in": ["abc"], "out": "y", "kind": "relu"},
           {"op": "activation", "name": "s", "in": ["ab"], "out": "z", "kind": "relu"},
           {"op": "activation", "name": "t", "in": ["l"], "out": "u", "kind": "relu"})",
                    R"({"name": "y", "value": "y"}, {"name": "z", "value": "z"}, {"name": "u", "value": "u"})");
    const nd_shape shape{1, 8, 10, 10};
    const network_plan plan = net.plan({&shape, 1});
    const std::string text = plan.explain();
    for (const char* line : {"two: concat of [1, 8, 10, 10], [1, 8, 10, 10] to [1, 16, 10, 10], no copy",
                             "to [1, 24, 10, 10], no copy", "left: slice of [1, 8, 10, 10] to [1, 4, 10, 10], no copy"})
        CHECK(text.find(line) != std::string::npos);
    // The three maps, and nothing for the slice or either concatenation.
    CHECK(plan.arena_bytes() == 3 * 800 * static_cast<index_t>(sizeof(float)));
    // One kernel, however many layers have it.
    CHECK(net.weight_bytes() <
          3 * 8 * 16 * static_cast<index_t>(sizeof(float)) + 3 * 2 * 64 * static_cast<index_t>(sizeof(float)));
}

TEST_CASE("Mixtures take their coefficients from the network, are fused with what follows, and share their kernels") {
    rng r(7204, 0);
    state_dict d;
    add_random_tensor(d, r, "route", {3, 8});
    add_random_tensor(d, r, "experts", {3, 8, 8, 3, 3});
    for (const char* name : {"gamma", "beta", "mean"}) add_random_tensor(d, r, name, {8});
    d.add("var", tensor_data::copy_of<float>({8}, std::vector<float>(8, 0.75F)));
    const auto mixed = [](const std::string& name, const std::string& in, const std::string& out) {
        return concat(R"({"op": "conv2d", "name": ")", name, R"(", "in": [")", in, R"(", "a"], "out": ")", out,
                      R"(", "method": "mixture", "pad": [1, 1, 1, 1], "tensors": {"weight": "experts"}},)");
    };
    const network net =
        fusing_load(std::move(d), R"({"name": "x", "shape": [null, 8, null, null]})",
                    concat(R"({"op": "mean", "name": "pool", "in": ["x"], "out": "m", "axes": [2, 3]},
           {"op": "linear", "name": "routing", "in": ["m"], "out": "l", "tensors": {"weight": "route"}},
           {"op": "activation", "name": "sigmoid", "in": ["l"], "out": "a", "kind": "sigmoid"},)",
                           mixed("first", "x", "c"), R"({"op": "batch_norm", "name": "bn", "in": ["c"], "out": "n",
            "tensors": {"weight": "gamma", "bias": "beta", "mean": "mean", "var": "var"}},
           {"op": "activation", "name": "relu", "in": ["n"], "out": "h", "kind": "relu"},)",
                           mixed("second", "h", "d"), R"({"op": "add", "name": "sum", "in": ["d", "x"], "out": "y"})"),
                    fusing_y);
    CHECK(net.step_count() == 4);  // mean, routing, and two convolutions
    const std::string text = net.plan({2, 8, 7, 5}).explain();
    INFO(text);
    CHECK(text.find("first: (O 8, I 8, 3x3)") != std::string::npos);
    CHECK(text.find("kernels mixed by 3 coefficients of each sample") != std::string::npos);
    // Three experts once: neither one for each of the two layers, nor one for each sample.
    const index_t experts = 3 * 8 * 8 * 9 * static_cast<index_t>(sizeof(float));
    CHECK(net.weight_bytes() >= experts);
    CHECK(net.weight_bytes() < 4 * experts);
}

TEST_CASE("A batch norm in front of a convolution computes its activation") {
    rng r(7205, 0);
    state_dict d;
    add_random_tensor(d, r, "w", {8, 8, 3, 3});
    add_random_tensor(d, r, "mean", {8});
    add_random_tensor(d, r, "slopes", {8});
    d.add("var", tensor_data::copy_of<float>({8}, std::vector<float>(8, 0.75F)));
    const network net = fusing_load(
        std::move(d), R"({"name": "x", "shape": [null, 8, null, null]})",
        R"({"op": "batch_norm", "name": "norm1", "in": ["x"], "out": "a", "tensors": {"mean": "mean", "var": "var"}},
           {"op": "activation", "name": "relu1", "in": ["a"], "out": "b", "kind": "relu"},
           {"op": "conv2d", "name": "conv1", "in": ["b"], "out": "c", "pad": [1, 1, 1, 1], "tensors": {"weight": "w"}},
           {"op": "concat", "name": "all", "in": ["x", "c"], "out": "d", "axis": 1},
           {"op": "slice", "name": "half", "in": ["d"], "out": "e", "axis": 1, "start": 4, "stop": 12},
           {"op": "batch_norm", "name": "norm2", "in": ["e"], "out": "f", "tensors": {"mean": "mean", "var": "var"}},
           {"op": "activation", "name": "relu2", "in": ["f"], "out": "y", "kind": "prelu", "tensors": {"a": "slopes"}},
           {"op": "batch_norm", "name": "norm3", "in": ["y"], "out": "z", "tensors": {"mean": "mean", "var": "var"}},
           {"op": "activation", "name": "relu3", "in": ["z"], "out": "u", "kind": "relu"})",
        R"({"name": "y", "value": "y"}, {"name": "z", "value": "z"}, {"name": "u", "value": "u"})");
    // Of nine nodes: the third norm is an output, and so a step of its own.
    CHECK(net.step_count() == 7);
    const std::string text = net.plan({2, 8, 7, 5}).explain();
    INFO(text);
    CHECK(text.find("norm1: batch_norm and relu of [2, 8, 7, 5]") != std::string::npos);
    CHECK(text.find("norm2: batch_norm and prelu of [2, 8, 7, 5]") != std::string::npos);
    CHECK(text.find("norm3: batch_norm of [2, 8, 7, 5]") != std::string::npos);
    CHECK(text.find("relu1") == std::string::npos);
    CHECK(text.find("relu3: activation of") != std::string::npos);
}

namespace {

/// A layer norm over channels, whose readers `readers` come after it, and its tensors.
network fusing_norm(const std::string& readers, const std::string& outputs) {
    rng r(7206, 0);
    state_dict d;
    add_random_tensor(d, r, "g", {8});
    add_random_tensor(d, r, "b", {8});
    for (const char* name : {"q", "k"})
        if (readers.find(concat("\"", name, "\"")) != std::string::npos) add_random_tensor(d, r, name, {6, 8});
    for (const char* name : {"p", "w"})
        if (readers.find(concat("\"", name, "\"")) != std::string::npos)
            add_random_tensor(d, r, name, {6, 8, name[0] == 'p' ? 1 : 3, name[0] == 'p' ? 1 : 3});
    return fusing_load(std::move(d), R"({"name": "x", "shape": [null, null, null, 8], "example": [2, 5, 7, 8]})",
                       concat(R"({"op": "layer_norm", "name": "norm", "in": ["x"], "out": "n", "axes": 1,
                                  "tensors": {"weight": "g", "bias": "b"}},)",
                              readers),
                       outputs);
}
std::string fusing_linear(const std::string& out, const std::string& tensor) {
    return concat(R"({"op": "linear", "name": ")", out, R"(", "in": ["n"], "out": ")", out,
                  R"(", "tensors": {"weight": ")", tensor, R"("}})");
}
std::string fusing_conv(const std::string& tensor, index_t pad) {
    return concat(R"({"op": "permute", "name": "first", "in": ["n"], "out": "turned", "axes": [0, 3, 1, 2]},
                      {"op": "conv2d", "name": "conv", "in": ["turned"], "out": "y", "pad": [)",
                  pad, ", ", pad, ", ", pad, ", ", pad, R"(], "tensors": {"weight": ")", tensor, R"("}})");
}
bool fusing_gave_away(const network& net) {
    const nd_shape shape{2, 5, 7, 8};
    return net.plan({&shape, 1}).explain().find("norm: layer_norm, weight and bias in the kernels behind it") !=
           std::string::npos;
}

}  // namespace

TEST_CASE("A layer norm's weight and bias go into the kernels of all that read it, unless others have them too") {
    const std::string two = R"({"name": "y", "value": "y"}, {"name": "z", "value": "z"})";
    CHECK(fusing_gave_away(fusing_norm(fusing_linear("y", "q"), fusing_y)));
    CHECK(fusing_gave_away(fusing_norm(fusing_linear("y", "q") + "," + fusing_linear("z", "k"), two)));
    CHECK(fusing_gave_away(fusing_norm(fusing_conv("p", 0), fusing_y)));
    // One kernel for two layers, which stays one; a border of zeros, which is no norm; a reader that is no layer; an output.
    CHECK_FALSE(fusing_gave_away(fusing_norm(fusing_linear("y", "q") + "," + fusing_linear("z", "q"), two)));
    CHECK_FALSE(fusing_gave_away(fusing_norm(fusing_conv("p", 1), fusing_y)));
    CHECK_FALSE(fusing_gave_away(fusing_norm(fusing_conv("w", 0), fusing_y)));
    CHECK_FALSE(fusing_gave_away(
        fusing_norm(fusing_linear("y", "q") + R"(,{"op": "abs", "name": "z", "in": ["n"], "out": "z"})", two)));
    CHECK_FALSE(fusing_gave_away(
        fusing_norm(fusing_linear("y", "q"), R"({"name": "y", "value": "y"}, {"name": "n", "value": "n"})")));
}

TEST_CASE("A nearest resize is made where a concatenation wants it, and copied no further") {
    rng r(7207, 0);
    state_dict d;
    add_random_tensor(d, r, "w", {8, 8, 1, 1});
    add_random_tensor(d, r, "v", {8, 16, 1, 1});
    const network net =
        fusing_load(std::move(d), R"({"name": "x", "shape": [null, 8, null, null]})",
                    R"({"op": "conv2d", "name": "a", "in": ["x"], "out": "a", "tensors": {"weight": "w"}},
           {"op": "max_pool2d", "name": "p", "in": ["a"], "out": "p", "window": [2, 2], "stride": [2, 2]},
           {"op": "resize", "name": "up", "in": ["p"], "out": "up", "mode": "nearest", "scale": [2, 2]},
           {"op": "concat", "name": "both", "in": ["up", "a"], "out": "c", "axis": 1},
           {"op": "conv2d", "name": "y", "in": ["c"], "out": "y", "tensors": {"weight": "v"}})",
                    fusing_y);
    const network_plan plan = net.plan({1, 8, 12, 10});
    INFO(plan.explain());
    CHECK(plan.explain().find("both: concat of [1, 8, 12, 10], [1, 8, 12, 10] to [1, 16, 12, 10], no copy") !=
          std::string::npos);
    // Both maps in one, and the pooled one beside it.
    CHECK(plan.arena_bytes() == (16 * 120 + 8 * 30) * static_cast<index_t>(sizeof(float)));
}

TEST_CASE("A sum of two inputs is broadcast, though they had one shape in the example") {
    rng r(7202, 0);
    state_dict d;
    add_random_tensor(d, r, "w", {4, 4, 3, 3});
    const network net = fusing_load(
        std::move(d),
        R"({"name": "a", "shape": [null, 4, null, null], "example": [1, 4, 8, 6]},
           {"name": "b", "shape": [null, 4, null, null], "example": [1, 4, 8, 6]})",
        R"({"op": "conv2d", "name": "c", "in": ["a"], "out": "c", "pad": [1, 1, 1, 1], "tensors": {"weight": "w"}},
           {"op": "add", "name": "sum", "in": ["c", "b"], "out": "y"})",
        fusing_y);
    const std::vector<nd_shape> shapes{{2, 4, 8, 6}, {2, 4, 1, 1}};
    network_plan plan = net.plan(shapes);
    const auto a = r.floats(2 * 4 * 48), b = r.floats(8), zero = std::vector<float>(8, 0.0F);
    std::vector<float> y(a.size()), plain(a.size());
    const auto run = [&](const std::vector<float>& added, std::vector<float>& to) {
        const nd_view<const float> x[] = {row_major_view<const float>(a.data(), shapes[0]),
                                          row_major_view<const float>(added.data(), shapes[1])};
        const nd_view<float> out = row_major_view(to.data(), shapes[0]);
        net.run(plan, x, {&out, 1});
    };
    run(b, y);
    run(zero, plain);
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == plain[i] + b[i / 48]);
}

TEST_CASE("Channels of an input may be left open, and plans of impossible shapes end in an error") {
    rng r(7203, 0);
    state_dict d;
    add_random_tensor(d, r, "w", {4, 4, 1, 1});
    const network net =
        fusing_load(std::move(d), R"({"name": "x", "shape": [null, null, null, null], "example": [1, 4, 8, 6]})",
                    R"({"op": "conv2d", "name": "c", "in": ["x"], "out": "y", "tensors": {"weight": "w"}})", fusing_y);
    CHECK(net.plan({1, 4, 3, 3}).output_shape() == shape4{1, 4, 3, 3});
    check_error([&] { static_cast<void>(net.plan({1, 5, 3, 3})); }, "c", "4 channels", "C 5");
    check_error([&] { static_cast<void>(net.plan({index_t{1} << 60, 4, 1, 1})); }, "", "", "");
}
