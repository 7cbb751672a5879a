// Whatever becomes of a network file, it loads and runs, or ends in a kdna::error.
#include <algorithm>
#include <string>
#include <vector>

#include "graph/seeds.hpp"
#include "io/support.hpp"
#include "support/random.hpp"

namespace {

using graph_test::outcome;
using kdna::state_dict;

/// The same tensors, of which one is gone or has another shape.
state_dict mutation_of_tensors(const state_dict& from, kdna_test::rng& r) {
    state_dict out;
    out.metadata() = from.metadata();
    const auto victim = static_cast<std::size_t>(r.between(0, std::max<kdna::index_t>(from.size() - 1, 0)));
    std::size_t i = 0;
    for (const auto& [name, tensor] : from.tensors()) {
        std::vector<kdna::index_t> shape = tensor.shape();
        if (i++ == victim) {
            if (r.chance(0.2)) continue;
            const auto axis = static_cast<std::size_t>(r.between(0, static_cast<kdna::index_t>(shape.size())));
            if (r.chance(0.3))
                shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(axis), r.between(0, 3));
            else if (axis < shape.size() && r.chance(0.3))
                shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
            else if (axis < shape.size())
                shape[axis] = r.between(0, 2 * shape[axis]);
        }
        kdna::tensor_data data(r.chance(0.02) ? kdna::dtype::f64 : kdna::dtype::f32, shape);
        if (data.type() == kdna::dtype::f32) {
            auto* values = reinterpret_cast<float*>(data.bytes().data());
            for (std::size_t k = 0; k < data.bytes().size() / sizeof(float); ++k)
                values[k] = static_cast<float>(r.real(0.1, 1.0));
        }
        out.add(name, std::move(data));
    }
    return out;
}

}  // namespace

TEST_CASE("network files: the seeds of mutations run") {
    for (const std::string& json : graph_test::seeds()) {
        INFO(json);
        CHECK_NOTHROW(kdna::load(graph_test::seed_weights(json), "net"));
        CHECK(graph_test::load_and_run(graph_test::seed_weights(json)) == outcome::ran);
    }
}

TEST_CASE("network files: mutated texts") {
    io_test::mutator mutate(static_cast<std::uint32_t>(kdna_test::base_seed()), {"[",
                                                                                 "]",
                                                                                 "{",
                                                                                 "}",
                                                                                 ",",
                                                                                 ":",
                                                                                 "null",
                                                                                 "true",
                                                                                 "-1",
                                                                                 "0",
                                                                                 "1e300",
                                                                                 "65536",
                                                                                 "1073741824",
                                                                                 "4611686018427387904",
                                                                                 "\"x\"",
                                                                                 "\"y\"",
                                                                                 "\"t.w3\"",
                                                                                 "\"t.b4\"",
                                                                                 "\"t.s\"",
                                                                                 "\"mixture\"",
                                                                                 "\"t.m\"",
                                                                                 "\"t.none\"",
                                                                                 "[\"dim\",\"x\",0]",
                                                                                 "[\"div\",1,0]",
                                                                                 "\"axis\"",
                                                                                 "\"groups\"",
                                                                                 "\"stride\"",
                                                                                 "\"pad\"",
                                                                                 "\"shape\"",
                                                                                 ",\"groups\":2",
                                                                                 ",\"groups\":4",
                                                                                 ",\"stride\":[2,2]",
                                                                                 ",\"axis\":0",
                                                                                 ",\"keep\":true",
                                                                                 ",\"pad\":[1,0,2,1]",
                                                                                 ",\"pad_mode\":\"circular\""});
    int ran = 0;
    const int cases = kdna_test::scaled(3000);
    for (int i = 0; i < cases; ++i) {
        const std::string json = mutate(graph_test::seeds()[mutate.below(graph_test::seeds().size())]);
        KDNA_TEST_CASE_INFO(i, json);
        outcome result{};
        REQUIRE_NOTHROW(result = graph_test::load_and_run(graph_test::seed_weights(json)));
        ran += result == outcome::ran ? 1 : 0;
    }
    INFO(ran << " of " << cases << " ran");
    CHECK(ran > 0);
}

TEST_CASE("network files: mutated tensors") {
    const int cases = kdna_test::scaled(1500);
    int ran = 0;
    for (int i = 0; i < cases; ++i) {
        kdna_test::rng r(4711, static_cast<std::uint64_t>(i));
        const auto& seeds = graph_test::seeds();
        const std::string& json = seeds[static_cast<std::size_t>(r.between(0, static_cast<int>(seeds.size()) - 1))];
        KDNA_TEST_CASE_INFO(i, json);
        outcome result{};
        REQUIRE_NOTHROW(result = graph_test::load_and_run(mutation_of_tensors(graph_test::seed_weights(json), r)));
        ran += result == outcome::ran ? 1 : 0;
    }
    INFO(ran << " of " << cases << " ran");
    CHECK(ran > 0);
}
