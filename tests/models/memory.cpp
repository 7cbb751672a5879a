// A loaded KernelDNA network holds its parameters about once.
#include "support/counting_new.hpp"
// (first: it replaces operator new for the whole program)
#include "models/state_dicts.hpp"

#include "support/counting_resource.hpp"
#include "support/frames.hpp"
#include "support/number_formats.hpp"

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

TEST_CASE("Kernels in 16 bits are half of that, and the network is the one whose kernels are rounded so") {
    const auto tensors = [](const load_options& options) {
        state_dict out = random_values(kernel_dna_keys(arch::mobilenet_v2_1d2), 624);
        out.set_options(options);
        return out;
    };
    const network all = models::load(arch::mobilenet_v2_1d2, form::kernel_dna, tensors({}));
    const tensor<float> x = random_image({1, 3, 40, 40}, 625);
    for (const number_format format : {number_format::float16, number_format::bfloat16}) {
        const network half = models::load(arch::mobilenet_v2_1d2, form::kernel_dna, tensors({.storage = format}));
        const double share = static_cast<double>(half.weight_bytes()) / static_cast<double>(all.weight_bytes());
        INFO(to_string(format) << ": " << share << " of the bytes");
        CHECK(share > 0.5);
        CHECK(share < 0.56);  // routers, scales and shifts stay float32
        // The kernels are those of the file with everything of two axes and more rounded, but for routers, adapters and BatchNorm.
        state_dict rounded;
        state_dict rest = tensors({});
        for (const auto& [name, tensor] : rest.tensors()) {
            const bool kernel = tensor.shape().size() >= 2 && name.find(".se.") == std::string::npos &&
                                name.find("_attn") == std::string::npos && name.find("static_") == std::string::npos;
            const auto values = tensor.type() == dtype::f32 ? tensor.values<float>() : std::span<const float>();
            if (!kernel || values.empty()) continue;
            const std::vector<float> own = rounded_to(format, {values.begin(), values.end()});
            rounded.add(name, tensor_data::copy_of<float>(tensor.shape(), own));
        }
        for (const std::string& name : rounded.names()) static_cast<void>(rest.extract(name));
        for (const std::string& name : rest.names()) rounded.add(name, rest.extract(name));
        const network expected = models::load(arch::mobilenet_v2_1d2, form::kernel_dna, std::move(rounded));
        const tensor<float> found = half(x.view()), exact = expected(x.view());
        CHECK(error_of(values_of(found), values_of(exact)) <= 2e-5);
        CHECK(error_of(values_of(found), values_of(all(x.view()))) >= 1e-4);
    }
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
