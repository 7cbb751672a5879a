// The same layers and networks on the CPU and on a GPU: `gpu [ARCHITECTURE FILE.safetensors]`.
//
// Only the backend's name differs. The functions below are templates for showing that; an application names the one it wants.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <kdna/cuda/cuda.hpp>
#include <kdna/models.hpp>
#include <vector>

namespace {

using namespace kdna;

/// A parent's own layer and a child of it, which adds the parent's output as its residual.
template <class Backend>
tensor<float> parent_and_child(const tensor_view<const float>& x) {
    constexpr index_t C = 64, hidden = C / 4;
    // Stand-ins for weights of your own.
    const std::vector<float> weights(C * C * 9, 0.002F), spatial(9, 0.1F), filter(C, -0.2F);
    const std::vector<float> fc1(hidden * C, 0.01F), fc2(C * hidden, -0.02F), fc2_bias(C, 0.5F);
    const std::vector<float> ones(C, 1.0F), zeros(C);
    const batch_norm bn{.weight = ones, .bias = zeros, .mean = zeros, .var = ones};
    const auto first = [](const std::vector<float>& v) { return std::span(v).first(hidden); };
    const squeeze_excite gate(
        {.fc1 = fc1,
         .bn = {.weight = first(ones), .bias = first(zeros), .mean = first(zeros), .var = first(ones)},
         .fc2 = fc2,
         .fc2_bias = fc2_bias});

    // On a GPU the kernel is uploaded once, too: the child finds its parent's copy there.
    const auto parent = parent_kernel::pack({.o = C, .i = C, .kh = 3, .kw = 3}, weights);
    const conv2d<dense_kernel, no_router, Backend> plain(parent, {.pad = 1}, {.bn = bn, .act = activation::relu});
    const conv2d<dense_kernel, squeeze_excite, Backend> child(
        parent.child({.spatial = spatial, .filter = filter}), {.pad = 1},
        {.bn = bn, .residual = true, .act = activation::relu}, gate);
    const tensor<float> y = plain(x);
    return child(y.view(), y.view());
}

double largest_difference(const tensor<float>& a, const tensor<float>& b) {
    double largest = 0.0;
    for (index_t i = 0; i < a.size(); ++i)
        largest = std::max(largest, std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i])));
    return largest;
}

/// A published network in half precision, as a server would run it: planned once, in a stream of its own, inputs and outputs in
/// device memory.
void run_network(models::arch arch, const char* file) {
    const shape4 images{8, 3, 224, 224};
    const tensor<float> x(images);
    const cuda::context half({.numbers = cuda::precision::f16});
    const auto net = models::load<backend::cuda>(arch, file, models::form::kernel_dna, half);
    auto plan = net.plan(images);
    std::fputs(plan.explain().c_str(), stdout);

    cudaStream_t handle = nullptr;
    cuda::check(cudaStreamCreate(&handle), "cudaStreamCreate");
    const cuda::stream_ref stream{handle};
    cuda::device_tensor<float> input(half.device(), images), output(half.device(), plan.output_shape());
    input.upload(x.view(), stream);
    net.run(plan, std::as_const(input).view(), output.view(), stream);
    const tensor<float> found = output.download(stream);  // waits
    cuda::check(cudaStreamDestroy(handle), "cudaStreamDestroy");

    const tensor<float> expected = models::load<backend::cpu>(arch, file)(x.view());
    std::printf("GPU and CPU differ by %.2g\n", largest_difference(found, expected));
}

}  // namespace

int main(int argc, char** argv) {
    if (cuda::device_count() == 0) {
        std::puts("skipped: there is no CUDA device");
        return 77;
    }
    try {
        tensor<float> x({1, 64, 14, 14});
        std::fill(x.span().begin(), x.span().end(), 1.0F);
        const double difference =
            largest_difference(parent_and_child<backend::cuda>(x.view()), parent_and_child<backend::cpu>(x.view()));
        std::printf("parent and child on GPU and CPU differ by %.2g\n", difference);
        if (argc == 3) run_network(models::arch_of(argv[1]), argv[2]);
        return difference <= 1e-4 ? 0 : 1;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "gpu: %s\n", e.what());
        return 2;
    }
}
