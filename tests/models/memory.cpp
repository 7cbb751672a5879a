// A loaded KernelDNA network holds its parameters about once.
#include "support/counting_new.hpp"
// (first: it replaces operator new for the whole program)
#include "models/state_dicts.hpp"

#include "support/counting_resource.hpp"

using namespace kdna;
using namespace kdna_test;
using models::arch;
using models::form;

namespace {

constexpr double published_parameters = 9'240'798;  // KernelDNA resnet18, as published
constexpr double expanded = 9'240'798 + 8'847'360;  // if every child had its own kernel

}  // namespace

TEST_CASE("A KernelDNA resnet18 holds its parameters about once") {
    const std::size_t before = live_bytes;
    const network net =
        models::load(arch::resnet18, form::kernel_dna, random_values(kernel_dna_keys(arch::resnet18), 620));
    const auto measured = static_cast<double>(live_bytes - before);
    const auto counted = static_cast<double>(net.weight_bytes());
    INFO("weight_bytes() " << counted << ", measured " << measured << ", parameters " << 4 * published_parameters);
    CHECK(counted <= 1.02 * 4 * published_parameters);
    CHECK(counted >= 0.99 * 4 * published_parameters);
    CHECK(measured <= 1.05 * 4 * published_parameters);
    CHECK(measured < 0.6 * 4 * expanded);
}

TEST_CASE("A plan that may not transform kernels adds none to the weights") {
    const network net =
        models::load(arch::resnet18, form::kernel_dna, random_values(kernel_dna_keys(arch::resnet18), 621));
    counting_resource memory;
    const std::size_t before = live_bytes;
    const auto plan = net.plan({1, 3, 64, 64}, {.memory = &memory, .transform_budget = 0});
    CHECK(plan.transformed_bytes() == 0);
    INFO("plan " << live_bytes - before << ", of that " << memory.live_bytes << " from the caller's resource");
    CHECK(static_cast<double>(live_bytes - before) < 4 * published_parameters / 4);
    CHECK(memory.live_bytes >= static_cast<std::size_t>(plan.arena_bytes() + plan.workspace_bytes()));
}

TEST_CASE("Transformed kernels are counted, kept once, and stay within the budget") {
    const auto load = [] {
        return models::load(arch::resnet18, form::kernel_dna, random_values(kernel_dna_keys(arch::resnet18), 623));
    };
    const network small = load(), net = load();
    static_cast<void>(net.plan({1, 3, 64, 64}, {.transform_budget = 0}));  // packs
    const index_t shared = net.weight_bytes(), budget = 8 << 20;
    const auto limited = small.plan({1, 3, 64, 64}, {.transform_budget = budget});
    CHECK(limited.transformed_bytes() > 0);
    CHECK(limited.transformed_bytes() <= budget);
    CHECK(small.weight_bytes() == shared + limited.transformed_bytes());
    const auto first = net.plan({1, 3, 64, 64}), second = net.plan({2, 3, 64, 64});
    CHECK(first.transformed_bytes() > limited.transformed_bytes());
    CHECK(first.transformed_bytes() == second.transformed_bytes());
    CHECK(net.weight_bytes() == shared + first.transformed_bytes());
}

TEST_CASE("A run of a published network allocates nothing") {
    for (const arch a : {arch::resnet18, arch::mobilenet_v2_1d2}) {
        const network net = models::load(a, form::kernel_dna, random_values(kernel_dna_keys(a), 622));
        const tensor<float> x({2, 3, 32, 32});
        auto plan = net.plan(x.shape());
        tensor<float> y(plan.output_shape());
        const std::size_t before = allocations;
        net.run(plan, x.view(), y.view());
        CHECK(allocations - before == 0);
    }
}
