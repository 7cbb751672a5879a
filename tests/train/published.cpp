// The published networks, trained as they are deployed.
#include <cmath>

#include <kdna/models/zoo.hpp>
#include <kdna/train/train.hpp>

#include "models/state_dicts.hpp"
#include "support/errors.hpp"
#include "train/cases.hpp"

using namespace kdna;
using namespace kdna_test;

TEST_CASE("published networks can be trained", "[train][networks]") {
    struct published {
        models::arch arch;
        models::form form;
        key_list keys;
    };
    const published all[] = {
        {models::arch::resnet18, models::form::kernel_dna, kernel_dna_keys(models::arch::resnet18)},
        {models::arch::mobilenet_v2_1d2, models::form::kernel_dna, kernel_dna_keys(models::arch::mobilenet_v2_1d2)},
        {models::arch::mobilenet_v2_1d2, models::form::plain, plain_keys::of(models::arch::mobilenet_v2_1d2)}};
    const tensor<float> x = random_image({2, 3, 32, 32}, 1);
    const std::vector<int> labels{3, 999};
    for (const published& p : all) {
        INFO(models::arch_names[static_cast<std::size_t>(p.arch)]);
        train::network net = train::load(p.arch, p.form, random_values(p.keys, 1));
        CHECK(net.parameters().trained() * 10 < net.parameters().total());
        train::pass pass(net, x.shape());
        pass.forward(x.view());
        const tensor<float> y = models::load(p.arch, p.form, random_values(p.keys, 1))(x.view());
        CHECK(relative_error(values_of(pass.output()), values_of(y.view())) <= 1e-4);
        static_cast<void>(train::softmax_cross_entropy(pass.output(), labels, pass.output_gradient()));
        pass.backward();
        for (const train::parameter& q : net.parameters().all()) {
            if (!q.trained) continue;
            INFO(q.name);
            float largest = 0.0F;
            for (const float g : q.gradient.span()) largest = std::abs(g) <= largest ? largest : std::abs(g);
            CHECK((largest > 0.0F && std::isfinite(largest)));
        }
    }
    check_error(
        [] {
            return train::load(models::arch::resnet18, models::form::odconv,
                               random_values(read_keys("resnet18_odconv_1x"), 1));
        },
        "layer1.0.conv1", "a plain convolution, KernelDNA's parents and children", "another method");
}
