// One parent kernel and one child on raw float buffers.
#include <iostream>
#include <kdna/kdna.hpp>
#include <vector>

int main() {
    using namespace kdna;
    constexpr index_t C = 64, H = 14, W = 14, hidden = C / 4;
    // Stand-ins for weights of your own; PyTorch's order, [O, I, KH, KW] for the kernel.
    const std::vector<float> weights(C * C * 9, 0.002F), spatial(9, 0.1F), filter(C, -0.2F);
    const std::vector<float> fc1(hidden * C, 0.01F), fc2(C * hidden, -0.02F), fc2_bias(C, 0.5F);
    const std::vector<float> gamma(C, 1.5F), beta(C, 0.1F), mean(C, 0.2F), var(C, 0.8F);
    const std::vector<float> se_gamma(hidden, 1.0F), se_beta(hidden, 0.1F), se_mean(hidden), se_var(hidden, 1.0F);
    const batch_norm bn{.weight = gamma, .bias = beta, .mean = mean, .var = var};

    // The kernel is packed once. The parent's own layer and every child use this one copy.
    const auto parent = parent_kernel::pack({.o = C, .i = C, .kh = 3, .kw = 3}, weights);
    const conv2d plain(parent, {.pad = 1}, {.bn = bn, .act = activation::relu, .name = "plain"});

    // A child owns 9 + C numbers and a gate. Here it also adds the parent's output as its residual.
    const squeeze_excite gate({.fc1 = fc1,
                               .bn = {.weight = se_gamma, .bias = se_beta, .mean = se_mean, .var = se_var},
                               .fc2 = fc2,
                               .fc2_bias = fc2_bias});
    const conv2d child(parent.child({.spatial = spatial, .filter = filter}), {.pad = 1},
                       {.bn = bn, .residual = true, .act = activation::relu, .name = "child"}, gate);

    // Everything that can fail or allocate happens in the constructors and in plan(); run() does neither.
    auto plain_plan = plain.plan({.n = 1, .c = C, .h = H, .w = W});
    auto child_plan = child.plan({.n = 1, .c = C, .h = H, .w = W});
    std::cout << plain_plan.explain() << "\n" << child_plan.explain() << "\n";

    std::vector<float> x(C * H * W, 1.0F), y(C * H * W), z(C * H * W);
    plain.run(plain_plan, nchw_view(x.data(), 1, C, H, W), nchw_view(y.data(), 1, C, H, W));
    child.run(child_plan, nchw_view(y.data(), 1, C, H, W), nchw_view(z.data(), 1, C, H, W),
              nchw_view(y.data(), 1, C, H, W));
    std::cout << "plain " << y[0] << ", child " << z[0] << ", gate of channel 0: " << child_plan.gate(0)[0] << "\n";
}
