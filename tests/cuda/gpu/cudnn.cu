// Networks whose plain layers cuDNN runs.
#include <array>
#include <kdna/cuda/cudnn.hpp>

#include "cuda/device_networks.hpp"
#include "cuda/gpu/device.hpp"

using namespace kdna;
using namespace kdna_test;

TEST_CASE("Networks with cuDNN's plain layers give the CPU's logits") {
    cuda::cudnn_gpu device;
    const test_stream stream;
    const std::array precisions{precision::tf32, precision::f16, precision::bf16};
    for (const arch a : all_archs)
        for (const form f : {form::kernel_dna, form::plain})
            check_network(device, a, f, keys_of(a, f), {4, 3, 96, 96}, precisions, stream.ref());
    const network host = models::load(arch::resnet18, form::plain, random_values(plain_keys::of(arch::resnet18), 950));
    const cuda::basic_network net(host, device, {.numbers = precision::f16});
    CHECK(net.plan({8, 3, 224, 224}).explain().find("cuDNN") != std::string::npos);
}

TEST_CASE("Plans with cuDNN's plain layers share a network in several streams, and repeat their bits") {
    cuda::cudnn_gpu device;
    const test_stream a, b;
    check_plans(device, a.ref(), b.ref());
}
