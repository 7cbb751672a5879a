// Random networks from files: with everything fused, viewed and placed, they compute what their steps compute one by one.
#include "support/counting_new.hpp"
// (first: it replaces operator new for the whole program)
#include <kdna/graph/load.hpp>
#include <kdna/graph/lowering.hpp>

#include <cmath>
#include <functional>
#include <map>

#include "graph/random_graph.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

using arrays = std::vector<std::vector<float>>;

/// Every step by itself, from and to dense row-major memory of its own.
arrays one_by_one(const network& net, const std::vector<nd_shape>& shapes, const arrays& inputs) {
    const std::vector<nd_shape> all = net.shapes(shapes);
    arrays values = inputs;
    for (index_t i = 0; i < net.step_count(); ++i) {
        const network::step_view s = net.step_at(i);
        const nd_shape& out = all[static_cast<std::size_t>(net.input_count() + i)];
        values.emplace_back(static_cast<std::size_t>(element_count(out)));
        if (s.inputs.empty()) {
            const nd_view<const float> c = s.op.constant();
            std::copy(c.data, c.data + values.back().size(), values.back().data());
            continue;
        }
        std::vector<nd_shape> in;
        std::vector<nd_view<const float>> x;
        for (const index_t id : s.inputs) {
            const auto v = static_cast<std::size_t>(id);
            in.push_back(all[v]);
            x.push_back(row_major_view<const float>(values[v].data(), all[v]));
        }
        for (const index_t id : s.shapes) in.push_back(all[static_cast<std::size_t>(id)]);
        const auto state = s.op.plan(in, {});
        buffer<std::byte> memory(state->workspace_bytes(), std::pmr::get_default_resource());
        state->use_workspace(memory.data());
        s.op.run(*state, {.inputs = x, .output = row_major_view(values.back().data(), out)});
    }
    arrays out;
    for (index_t i = 0; i < net.output_count(); ++i)
        out.push_back(values[static_cast<std::size_t>(net.output_value(i))]);
    return out;
}

arrays planned(const network& net, const std::vector<nd_shape>& shapes, const arrays& inputs,
               const plan_options& options) {
    network_plan plan = net.plan(shapes, options);
    std::vector<nd_view<const float>> x;
    for (std::size_t i = 0; i < inputs.size(); ++i)
        x.push_back(row_major_view<const float>(inputs[i].data(), shapes[i]));
    arrays out;
    std::vector<nd_view<float>> y;
    for (index_t i = 0; i < net.output_count(); ++i)
        out.emplace_back(static_cast<std::size_t>(element_count(plan.output_shape(i))), NAN);
    for (index_t i = 0; i < net.output_count(); ++i)
        y.push_back(row_major_view(out[static_cast<std::size_t>(i)].data(), plan.output_shape(i)));
    net.run(plan, x, y);
    const arrays first = out;
    const std::size_t before = allocations;
    net.run(plan, x, y);  // in memory that was used
    if (options.executor.concurrency() == 1) CHECK(allocations == before);
    for (std::size_t i = 0; i < out.size(); ++i) CHECK(out[i] == first[i]);
    return out;
}

void check_close(const arrays& found, const arrays& expected, double tolerance) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
        REQUIRE(found[i].size() == expected[i].size());
        double largest = 1e-3, worst = 0.0;
        for (std::size_t k = 0; k < found[i].size(); ++k) {
            const auto e = static_cast<double>(expected[i][k]), d = std::abs(static_cast<double>(found[i][k]) - e);
            largest = std::max(largest, std::abs(e));
            worst = d <= worst ? worst : d;
        }
        CHECK(worst <= tolerance * largest);
    }
}

/// The network with nothing fused.
network unfused(const state_dict& weights, const std::vector<nd_shape>& shapes) {
    graph::shared_weights shared;
    const graph::description net = graph::parse(weights.metadata().at("kdna.graph"), "test");
    graph::lowering lowered(net, weights, shared, nullptr);
    lowered.add_nodes(shapes);
    return std::move(lowered).build();
}

}  // namespace

TEST_CASE("Random networks from files compute what their steps compute one by one") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(7100, static_cast<std::uint64_t>(i));
        const index_t inputs = r.chance(0.2) ? 2 : 1, height = r.between(4, 12), width = r.between(4, 12);
        const nd_shape example{2, 2 * r.between(1, 4), height, width};
        const state_dict weights = random_graph(r, example, inputs);
        INFO("case " << i << "\n" << weights.metadata().at("kdna.graph"));
        const network net = load(weights, "test");
        const network plain = unfused(weights, std::vector<nd_shape>(static_cast<std::size_t>(inputs), example));
        CHECK(net.step_count() <= plain.step_count());
        // Other batches and sizes than the example's.
        for (const index_t batch : {index_t{1}, r.between(2, 5)}) {
            const nd_shape shape{batch, example[1], height + r.between(0, 3), width + r.between(0, 3)};
            const std::vector<nd_shape> shapes(static_cast<std::size_t>(inputs), shape);
            arrays x;
            for (index_t k = 0; k < inputs; ++k) x.push_back(r.floats(element_count(shape)));
            const arrays expected = one_by_one(plain, shapes, x);
            // Fusing changes the order of a few roundings; Winograd is left out, whose errors are larger.
            check_close(planned(net, shapes, x, {.transform_budget = 0}), expected, 2e-4);
            check_close(planned(plain, shapes, x, {.transform_budget = 0}), expected, 2e-4);
        }
    }
}

TEST_CASE("Large maps, which pass in stages and bands, are placed as well") {
    for (int i = 0; i < scaled(16); ++i) {
        rng r(7102, static_cast<std::uint64_t>(i));
        const nd_shape example{r.between(2, 3), 8, r.between(88, 104), r.between(88, 104)};
        const state_dict weights = random_graph(r, example, 1);
        INFO("case " << i << "\n" << weights.metadata().at("kdna.graph"));
        const network net = load(weights, "test");
        const arrays x{r.floats(element_count(example))};
        check_close(planned(net, {example}, x, {.transform_budget = 0}),
                    one_by_one(unfused(weights, {example}), {example}, x), 2e-4);
    }
}

TEST_CASE("A network from a file gives the same bits on any number of threads", "[threads]") {
    for (int i = 0; i < scaled(40); ++i) {
        rng r(7101, static_cast<std::uint64_t>(i));
        const nd_shape example{r.between(1, 3), 2 * r.between(1, 4), r.between(4, 20), r.between(4, 20)};
        const state_dict weights = random_graph(r, example, 1);
        INFO(weights.metadata().at("kdna.graph"));
        const network net = load(weights, "test");
        const arrays x{r.floats(element_count(example))};
        const arrays alone = planned(net, {example}, x, {});
        for (const int threads : {2, 3}) {
            shuffling_executor team(threads);
            plan_options options;
            options.executor = team;
            const arrays together = planned(net, {example}, x, options);
            for (std::size_t k = 0; k < alone.size(); ++k) CHECK(alone[k] == together[k]);
        }
    }
}
