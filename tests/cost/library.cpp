// The same through the facade of libkdna.
#include <vector>

#include <kdna/library.hpp>

float cost(const float* x) {
    const auto net = kdna::library::network::load("x.safetensors", "resnet18");
    auto plan = net.plan({1, 3, 224, 224});
    std::vector<float> y(1000);
    net.run(plan, kdna::library::nchw(x, {1, 3, 224, 224}), kdna::library::nchw(y.data(), {1, 1000, 1, 1}));
    return y.front();
}
