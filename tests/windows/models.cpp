// All that does not need another library, instantiated as a user would.
#include <kdna/models.hpp>

kdna::tensor<float> use(const kdna::tensor_view<const float>& image) {
    const auto net = kdna::models::load(kdna::models::arch::resnet18, "net.safetensors");
    return net(image);
}
