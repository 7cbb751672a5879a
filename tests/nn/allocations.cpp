// A run allocates nothing, whatever the layer; plans allocate from the caller's resource.
#include "support/counting_new.hpp"
// (first: it replaces operator new for the whole program)
#include "nn/networks.hpp"
#include "nn/ops_cases.hpp"

#include <kdna/nn/dcd_conv2d.hpp>
#include <kdna/nn/given_position_conv2d.hpp>
#include <kdna/nn/runtime_conv2d.hpp>
#include <kdna/nn/x_volution.hpp>

#include "support/context_tensors.hpp"
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
    check_runs<method::odconv, backend::cpu>(436, 60);
    check_runs<method::warehouse, backend::cpu>(437, 60);
    check_runs<method::gated, backend::reference>(435, 20);
}

TEST_CASE("A run with a context allocates nothing") {
    for (int i = 0; i < scaled(60); ++i) {
        rng r(439, static_cast<std::uint64_t>(i));
        const kernel_shape k{.o = r.between(1, 40), .i = r.between(1, 40), .kh = 3, .kw = 3};
        const index_t width = r.between(1, 40);
        const modulated_tensors t = modulated_tensors::random(r, k.i, width);
        const dense_kernel kernel = dense_kernel::pack(k, r.floats(weight_count(k)));
        const conv2d layer(kernel, {.pad = 1}, {}, modulated_router(kernel, t.view()));
        const tensor<float> x({2, k.i, 9, 7});
        const auto context = r.floats(2 * width);
        auto plan = layer.plan(x.shape());
        tensor<float> y(plan.output_shape());
        const std::size_t before = allocations;
        layer.run(plan, x.view(), {context.data(), width}, y.view());
        const std::size_t made = allocations - before;
        if (made != 0) FAIL(made << " allocations");
    }
}

TEST_CASE("A run with a given kernel allocates nothing") {
    for (int i = 0; i < scaled(60); ++i) {
        rng r(438, static_cast<std::uint64_t>(i));
        const index_t k = r.between(1, 9), stride = r.between(1, 4);
        const conv_params params{.stride = stride, .pad = k / 2, .mode = padding_mode::circular};
        const runtime_kernel kernel =
            r.chance(0.5) ? runtime_kernel::shared(3, k) : runtime_kernel::dense({.o = 5, .i = 3, .kh = k, .kw = k});
        const auto check = [&](const auto& layer) {
            const tensor<float> x({2, 3, 12, 40});
            const auto kernels = r.floats(2 * layer.weights());
            auto plan = layer.plan(x.shape());
            tensor<float> y(plan.output_shape());
            const std::size_t before = allocations;
            layer.run(plan, x.view(), kernels, y.view());
            const std::size_t made = allocations - before;
            if (made != 0) FAIL(made << " allocations");
        };
        check(runtime_conv2d(kernel, params));
        check(basic_runtime_conv2d<backend::reference>(kernel, params));
    }
}

TEST_CASE("A run of a DCD layer allocates nothing in either form") {
    for (const shape4& in : {shape4{2, 128, 7, 7}, shape4{2, 64, 30, 31}}) {
        rng r(440, static_cast<std::uint64_t>(in.c));
        const kernel_shape k{.o = in.c, .i = in.c, .kh = 3, .kw = 3};
        auto t = dcd_tensors::random(r, k);
        t.bias.clear();
        const dcd_conv2d layer(dense_kernel::pack(k, r.floats(weight_count(k))), t.view(), {.pad = 1});
        const tensor<float> x(in);
        auto plan = layer.plan(in);
        tensor<float> y(in);
        const std::size_t before = allocations;
        layer.run(plan, x.view(), y.view());
        CHECK(allocations == before);
    }
}

TEST_CASE("A run of a layer with a kernel per position allocates nothing") {
    rng r(439, 0);
    const kernel_shape k{.o = 20, .i = 20, .kh = 3, .kw = 3};
    const x_volution volution(dense_kernel::pack(k, r.floats(weight_count(k))), 0.1F);
    const position_conv2d attention(dot_product_attention(20, 5));
    const given_position_conv2d given({.channels = 20, .groups = 5}, {.pad = 1});
    const tensor<float> x({2, 20, 9, 8}), weights({2, 45, 9, 8});
    tensor<float> y(x.shape());
    auto given_plan = given.plan(x.shape());
    auto plan = volution.plan(x.shape());
    auto attention_plan = attention.plan(x.shape());
    const std::size_t before = allocations;
    volution.run(plan, x.view(), y.view());
    attention.run(attention_plan, x.view(), y.view());
    given.run(given_plan, x.view(), weights.view(), y.view());
    const std::size_t made = allocations - before;
    CHECK(made == 0);
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

TEST_CASE("A run of a step that moves elements allocates nothing") {
    for_each_moving_step([](const operation& step, const std::vector<nd_shape>& shapes) {
        rng r(439, 0);
        std::vector<std::vector<float>> memory;
        std::vector<nd_view<const float>> in;
        for (const nd_shape& s : shapes) {
            memory.push_back(r.floats(element_count(s)));
            in.emplace_back(memory.back().data(), s, strides_in(s, channels_last(s.rank())));
        }
        const nd_shape out = step.output_shape(shapes);
        std::vector<float> y(static_cast<std::size_t>(element_count(out)));
        const auto state = step.plan(shapes, {});
        const operation_call call{.inputs = in, .output = row_major_view(y.data(), out)};
        const std::size_t before = allocations;
        step.run(*state, call);
        const std::size_t made = allocations - before;
        if (made != 0) FAIL(step.name() << ": " << made << " allocations");
    });
}

TEST_CASE("A run of an operation allocates nothing") {
    for_each_operation([](const char* name, const auto& op, const std::vector<nd_shape>& shapes) {
        rng r(438, 0);
        std::vector<std::vector<float>> memory;
        std::vector<nd_view<const float>> in;
        for (const nd_shape& s : shapes) memory.push_back(r.floats(element_count(s)));
        for (std::size_t i = 0; i < shapes.size(); ++i)
            in.emplace_back(memory[i].data(), shapes[i], strides_in(shapes[i], channels_last(shapes[i].rank())));
        const nd_shape out = op.output_shape(shapes, name);
        std::vector<float> y(static_cast<std::size_t>(element_count(out)));
        for (const axis_order& order : {row_major, channels_last(out.rank())}) {
            const std::size_t before = allocations;
            op.run(in, {y.data(), out, strides_in(out, order)}, executor_ref());
            const std::size_t made = allocations - before;
            if (made != 0) FAIL(name << ": " << made << " allocations");
        }
    });
}
