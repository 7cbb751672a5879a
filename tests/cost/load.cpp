// A source file that loads a published network and calls it.
#include <kdna/models.hpp>

float cost(const float* x) {
    const auto net = kdna::models::load(kdna::models::arch::resnet18, "x.safetensors");
    return net(kdna::nchw_view(x, 1, 3, 224, 224))(0, 0, 0, 0);
}
