// The four networks, both forms: SIMD against double accumulation, batches against samples, threads against one.
#include "models/state_dicts.hpp"

#include <algorithm>
#include <cmath>

#include <kdna/backend/reference.hpp>
#include <kdna/models/load_on.hpp>

#include "support/executors.hpp"
#include "support/frames.hpp"

using namespace kdna;
using namespace kdna_test;
using models::arch;
using models::form;

namespace {

shape4 small_input(arch a) {
#ifdef __OPTIMIZE__
    switch (a) {
        case arch::resnet18: return {2, 3, 33, 31};
        case arch::resnet50: return {2, 3, 17, 20};
        default: return {2, 3, 33, 47};
    }
#else
    return {1, 3, 17, a == arch::resnet50 ? 9 : 19};
#endif
}

}  // namespace

TEST_CASE("Every network gives the logits of double precision", "[networks]") {
    for (const arch a : all_archs)
        for (const form f : {form::kernel_dna, form::plain}) {
            const auto keys = keys_of(a, f);
            const tensor<float> x = random_image(small_input(a), 600);
            const tensor<float> y = models::load(a, f, random_values(keys, 601))(x.view());
            const tensor<float> exact = models::load<backend::reference>(a, f, random_values(keys, 601))(x.view());
            REQUIRE(y.shape() == shape4{x.shape().n, 1000, 1, 1});
            double largest = 0.0, error = 0.0;
            for (std::size_t i = 0; i < y.span().size(); ++i) {
                const auto e = static_cast<double>(exact.span()[i]);
                largest = std::max(largest, std::abs(e));
                const double difference = std::abs(static_cast<double>(y.span()[i]) - e);
                error = difference <= error ? error : difference;
            }
            INFO(models::arch_names[static_cast<std::size_t>(a)] << (f == form::plain ? " plain" : "") << ": " << error
                                                                 << " of " << largest);
            CHECK(largest > 0.1);
            CHECK(largest < 1e6);
            CHECK(error > 0.0);
            CHECK(error <= 1e-5 * largest);
        }
}

TEST_CASE("A network's batch has the bits of its samples, on any number of threads", "[threads]") {
    for (const arch a : {arch::resnet18, arch::mobilenet_v2_1d2}) {
        const network net = models::load(a, form::kernel_dna, random_values(kernel_dna_keys(a), 602));
        const tensor<float> x = random_image({3, 3, 21, 34}, 603);
        const auto batch = values_of(net(x.view()));
        std::vector<float> singly;
        for (index_t n = 0; n < 3; ++n) {
            const auto one = values_of(net(x.view().samples(n, 1)));
            singly.insert(singly.end(), one.begin(), one.end());
        }
        CHECK(same_bits(batch, singly));
        shuffling_executor threads(3);
        CHECK(same_bits(batch, values_of(net(x.view(), {.executor = threads}))));
        tensor<float> nhwc(x.shape(), layout::nhwc);
        copy(x.view(), nhwc.view());
        CHECK(same_bits(batch, values_of(net(nhwc.view()))));
        CHECK(same_bits(batch, values_of(net(nhwc.view(), {.order = conv::input_order::nhwc}))));
    }
}

TEST_CASE("Every network explains its layers and gives the gates of its children") {
    const auto children = [](arch a) { return a == arch::resnet18 ? 6U : a == arch::resnet50 ? 4U : 10U; };
    for (const arch a : all_archs) {
        const network net = models::load(a, form::kernel_dna, random_values(kernel_dna_keys(a), 604));
        const tensor<float> x = random_image({2, 3, 16, 16}, 605);
        auto plan = net.plan(x.shape());
        tensor<float> y(plan.output_shape());
        net.run(plan, x.view(), y.view());
        for (index_t n = 0; n < 2; ++n) {
            const auto gates = plan.gates(n);
            CHECK(gates.size() == children(a));
            index_t count = 0, between = 0;
            for (const auto& g : gates)
                for (const float v : g.gate) {
                    if (!(v >= 0.0F && v <= 1.0F)) FAIL(g.name);
                    ++count;
                    between += v > 0.01F && v < 0.99F ? 1 : 0;
                }
            CHECK(between > count / 2);
        }
        const std::string text = plan.explain();
        for (const auto& g : plan.gates(0)) CHECK(text.find(g.name + ": (O ") != std::string::npos);
        const auto lines = std::count(text.begin(), text.end(), '\n');
        INFO(text);
        CHECK(lines > 20);
    }
}
