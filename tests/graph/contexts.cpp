// Networks from files whose layers are routed by a context.

#include "graph/network_case.hpp"
#include "graph/random_tensor.hpp"

using namespace kdna;
using namespace kdna_test;

TEST_CASE("Blocks of DyMN give what the formula gives, with one context for all their layers") {
    for (const char* name : {"dymn_block_s1", "dymn_block_s2"}) {
        const network_case c(name);
        const network net = load(c.network, name);
        for (const auto& [output, y] : run_on_inputs(net, c)) {
            const comparison found = compare(y, c.values.at("output." + output).values<float>());
            INFO(name << ": error " << found.error << ", largest " << found.largest);
            CHECK(found.largest > 1.0F);
            // Products of up to 40 terms that follow each other, and softmaxes of such.
            CHECK(found.error <= 1e-5F * found.largest);
        }
        const std::string text = net.plan({2, name == std::string("dymn_block_s1") ? 8 : 6, 9, 12}).explain();
        INFO(text);
        std::size_t routed = 0;
        for (auto at = text.find("routed by a context of "); at != std::string::npos;
             at = text.find("routed by", at + 1))
            ++routed;
        CHECK(routed == 3);
        CHECK(text.find("depth_act: dynamic_relu of") != std::string::npos);
    }
}

TEST_CASE("Layers with a context are fused with what follows, and share their kernels") {
    rng r(7300, 0);
    state_dict d;
    add_random_tensor(d, r, "w", {8, 8, 3, 3});
    add_random_tensor(d, r, "affine", {8, 5});
    add_random_tensor(d, r, "shift", {8});
    add_random_tensor(d, r, "mapping", {5, 8});
    add_random_tensor(d, r, "mean", {8});
    d.add("var", tensor_data::copy_of<float>({8}, std::vector<float>(8, 0.75F)));
    d.metadata()["kdna.graph"] =
        R"({"version": 1, "inputs": [{"name": "x", "shape": [null, 8, null, null]}],
            "outputs": [{"name": "y", "value": "y"}], "nodes": [
            {"op": "mean", "name": "pool", "in": ["x"], "out": "m", "axes": [2, 3]},
            {"op": "linear", "name": "mapping", "in": ["m"], "out": "style", "tensors": {"weight": "mapping"}},
            {"op": "conv2d", "name": "first", "in": ["x", "style"], "out": "a", "method": "modulated", "pad": [1, 1, 1, 1],
             "tensors": {"weight": "w", "affine.weight": "affine", "affine.bias": "shift"}},
            {"op": "batch_norm", "name": "bn", "in": ["a"], "out": "b", "tensors": {"mean": "mean", "var": "var"}},
            {"op": "activation", "name": "relu", "in": ["b"], "out": "c", "kind": "relu"},
            {"op": "conv2d", "name": "second", "in": ["c", "style"], "out": "e", "method": "modulated", "pad": [1, 1, 1, 1],
             "tensors": {"weight": "w", "affine.weight": "affine"}, "demodulate": false},
            {"op": "add", "name": "sum", "in": ["e", "x"], "out": "y"}]})";
    const network net = load(d, "styled");
    CHECK(net.step_count() == 4);  // mean, mapping, and two convolutions
    // Without Winograd, whose transformed kernels are each layer's own.
    const std::string text = net.plan({2, 8, 7, 5}, {.transform_budget = 0}).explain();
    INFO(text);
    CHECK(text.find("second: (O 8, I 8, 3x3)") != std::string::npos);
    CHECK(text.find("routed by a context of 5 values of each sample") != std::string::npos);
    // The sums of squares are the first layer's own; the kernel is both layers'.
    const index_t kernel =
        panel_layout({.o = 8, .i = 8, .kh = 3, .kw = 3}).floats() * static_cast<index_t>(sizeof(float));
    CHECK(net.weight_bytes() > kernel);
    CHECK(net.weight_bytes() < 2 * kernel);
}
