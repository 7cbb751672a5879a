// A run allocates nothing, whatever the layer; plans allocate from the caller's resource.
#include "support/counting_new.hpp"
// (first: it replaces operator new for the whole program)
#include "nn/networks.hpp"

#include "support/counting_resource.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

template <method Kind, class Backend>
void check_runs(std::uint64_t stream, int count) {
    for (int i = 0; i < scaled(count); ++i) {
        rng r(stream, static_cast<std::uint64_t>(i));
        const conv_case c = random_case(r, Kind, 3e4);
        const auto layer = make_layer<Kind, Backend>(c);
        const shape4 out = layer.output_shape(c.in);
        frame x(r, c.in, c.x_at), y(r, out, c.y_at), residual(r, out, c.residual_at);
        x.fill(r);
        residual.fill(r);
        auto plan = layer.plan(c.in, {.order = c.order});
        const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
        const std::size_t before = allocations;
        layer.run(plan, x.view(), y.view(), added);
        const std::size_t made = allocations - before;
        KDNA_TEST_CASE_INFO(i, c.describe());
        if (made != 0) FAIL(made << " allocations");
    }
}

}  // namespace

TEST_CASE("The counter sees allocations of every kind") {
    const std::size_t before = allocations, bytes = live_bytes;
    {
        const auto one = std::make_unique<int>(1);
        const std::vector<float> two(100);
        const buffer<float> three(100);
        CHECK(allocations == before + 3);
        CHECK(live_bytes == bytes + sizeof(int) + 800);
    }
    CHECK(live_bytes == bytes);
}

TEST_CASE("A run of a layer allocates nothing") {
    check_runs<method::plain, backend::cpu>(430, 300);
    check_runs<method::gated, backend::cpu>(431, 150);
    check_runs<method::routed, backend::cpu>(432, 150);
    check_runs<method::condconv, backend::cpu>(433, 100);
    check_runs<method::mixed, backend::cpu>(434, 100);
    check_runs<method::gated, backend::reference>(435, 20);
}

TEST_CASE("A run of a network allocates nothing") {
    for (int i = 0; i < scaled(50); ++i) {
        rng r(436, static_cast<std::uint64_t>(i));
        const twin_networks twins = random_network(r, 3, true);
        tensor<float> x({2, 3, 11, 10});
        auto plan = twins.network->plan(x.shape());
        tensor<float> y(plan.output_shape());
        const std::size_t before = allocations;
        twins.network->run(plan, x.view(), y.view());
        const std::size_t made = allocations - before;
        if (made != 0) FAIL(made << " allocations");
    }
}

TEST_CASE("A plan's workspace comes from the caller's resource and goes back to it") {
    for (int i = 0; i < scaled(50); ++i) {
        rng r(437, static_cast<std::uint64_t>(i));
        const conv_case c = random_case(r, method::gated, 3e4);
        const auto layer = make_layer<method::gated, backend::cpu>(c);
        counting_resource memory;
        {
            auto plan = layer.plan(c.in, {.memory = &memory});
            CHECK(memory.live_bytes >= static_cast<std::size_t>(plan.workspace_bytes()));
            auto moved = std::move(plan);
            plan = std::move(moved);
        }
        CHECK(memory.live_bytes == 0);
    }
}
