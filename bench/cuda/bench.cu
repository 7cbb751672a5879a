// Layers and networks on a GPU, plain layers also by cuDNN:
//
//     cuda_bench [layers|networks] [--children] [--batch N,...] [--numbers f16,...] [--only TEXT]
//
// --children: of the layers only those of whose kernel a network has children.
//
// Prints one line a measurement, separated by tabs: what, form, batch, numbers, microseconds of a call (median), images a second
// (networks) or TFLOP/s (layers), largest error. Answers are checked first, against the CPU. Activations take turns in buffers that
// together are larger than L2; weights stay where they are, as in a network that serves.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <kdna/cuda/cuda.hpp>
#include <kdna/kdna.hpp>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#if defined(KDNA_CUDNN)
#include <kdna/cuda/cudnn.hpp>
#endif

#include "cuda/timing.hpp"
#include "support/layer_weights.hpp"
#include "support/networks.hpp"
#include "support/shapes.hpp"

namespace {

using namespace kdna;
using namespace kdna_bench;
using cuda::precision;

struct settings {
    bool layers = true, networks = true, only_children = false;
    std::vector<index_t> batches{1, 32, 128};
    std::vector<precision> numbers{precision::f32, precision::tf32, precision::f16, precision::bf16};
    std::string only{};
    [[nodiscard]] bool wants(const std::string& name) const { return name.find(only) != std::string::npos; }
};

double tolerance(precision p) { return p == precision::f32 ? 1e-4 : p == precision::bf16 ? 5e-2 : 1e-2; }

/// One sample of normal values, dense NHWC.
tensor<float> sample(const shape4& s, unsigned seed) {
    std::mt19937 generator(seed);
    tensor<float> x({1, s.c, s.h, s.w}, layout::nhwc);
    const auto values = normal_values(generator, x.size(), 0.0F, 1.0F);
    std::copy(values.begin(), values.end(), x.data());
    return x;
}

/// The sample, as often as the batch has it, in device numbers.
cuda::device_memory<cuda::gpu> repeated(cuda::gpu& device, const tensor<float>& x, index_t batch, precision p) {
    return cuda::with_number(p, [&]<class Number>(Number) {
        using T = typename Number::element;
        std::vector<T> values;
        values.reserve(static_cast<std::size_t>(batch * x.size()));
        for (index_t n = 0; n < batch; ++n)
            for (const float v : x.span()) values.push_back(cuda::from_float<T>(v));
        return cuda::uploaded<T>(device, values, {});
    });
}
/// The last sample of a batch, NHWC.
std::vector<float> last_sample(cuda::gpu& device, const void* y, const shape4& s, precision p) {
    return cuda::with_number(p, [&]<class Number>(Number) {
        using T = typename Number::element;
        std::vector<T> values(static_cast<std::size_t>(s.c * s.h * s.w));
        device.download(values.data(), static_cast<const T*>(y) + (s.n - 1) * s.c * s.h * s.w,
                        static_cast<index_t>(values.size() * sizeof(T)), {});
        std::vector<float> out;
        for (const T v : values) out.push_back(cuda::to_float(v));
        return out;
    });
}
double largest_error(std::span<const float> found, std::span<const float> right) {
    double largest = 0.0, error = 0.0;
    for (std::size_t i = 0; i < right.size(); ++i) {
        const double off = std::abs(static_cast<double>(found[i]) - static_cast<double>(right[i]));
        error = off <= error ? error : off;
        largest = std::max(largest, std::abs(static_cast<double>(right[i])));
    }
    return error / largest;
}

void report(const std::string& what, const std::string& form, index_t batch, precision p, double us, double rate,
            double error) {
    std::printf("%s\t%s\t%lld\t%s\t%.2f\t%.2f\t%.1e%s\n", what.c_str(), form.c_str(), static_cast<long long>(batch),
                std::string(cuda::to_string(p)).c_str(), us, rate, error, error <= tolerance(p) ? "" : "\tWRONG");
    std::fflush(stdout);
}

/// Activations of a layer, in turns.
struct turns {
    turns(cuda::gpu& device, const tensor<float>& x, const tensor<float>& residual, const shape4& in, const shape4& out,
          precision p) {
        const index_t element = cuda::bytes_of(p), in_bytes = element_count(in) * element,
                      out_bytes = element_count(out) * element;
        const index_t count = sets_beyond_l2(in_bytes + 2 * out_bytes);
        const auto first_x = repeated(device, x, in.n, p), first_residual = repeated(device, residual, in.n, p);
        for (index_t i = 0; i < count; ++i) {
            xs.emplace_back(device, in_bytes);
            residuals.emplace_back(device, out_bytes);
            ys.emplace_back(device, out_bytes);
            const auto copy_to = [](void* to, const void* from, index_t bytes) {
                cuda::check(cudaMemcpy(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice),
                            "cudaMemcpy");
            };
            copy_to(xs.back().data(), first_x.data(), in_bytes);
            copy_to(residuals.back().data(), first_residual.data(), out_bytes);
        }
    }
    std::vector<cuda::device_memory<cuda::gpu>> xs{}, residuals{}, ys{};
};

/// Measures one layer in one form. `sums`: takes the sums of its output; routed layers get those of their input, as in a network.
template <class Layer>
void measure_layer(cuda::gpu& device, const layer_shape& shape, const Layer& layer, const char* form, index_t batch,
                   precision p, bool sums) {
    cuda::kernel_store<cuda::gpu> store;
    const cuda::device_conv<cuda::gpu> on_device(device, cuda::take_apart(layer), {.numbers = p}, store, {});
    shape4 in = shape.input();
    in.n = batch;
    const cuda::device_conv_plan plan = on_device.plan(in);
    const tensor<float> x = sample(in, 1), residual = sample(plan.out, 2);
    turns t(device, x, residual, in, plan.out, p);
    const cuda::device_memory<cuda::gpu> scratch(device, plan.scratch_bytes), y_sums(device, plan.sums_floats() * 4);
    cuda::device_sums x_sums;
    cuda::device_memory<cuda::gpu> x_sums_memory;
    if (on_device.routed()) {
        const int pixels = static_cast<int>(in.h * in.w), rows = pixels * static_cast<int>(in.n);
        x_sums.rows = cuda::tile_rows::cut(pixels, rows, cuda::summing_rows);
        const index_t floats = cuda::device_conv_plan::floats_of(x_sums.rows, in);
        x_sums_memory = cuda::device_memory<cuda::gpu>(device, floats * 4);
        x_sums.values = x_sums_memory.span<float>(0, floats);
        x_sums.channels = static_cast<int>(in.c);
        cuda::with_number(p, [&]<class Number>(Number) {
            using T = typename Number::element;
            using program = cuda::channel_sums_program<Number>;
            device.launch<program>(
                program::grid(x_sums),
                {{static_cast<const T*>(t.xs[0].data()), static_cast<int>(element_count(in))}, x_sums}, {});
        });
    }
    const auto call = [&](index_t i) {
        const auto at = static_cast<std::size_t>(i) % t.xs.size();
        cuda::device_conv_call c{t.xs[at].data(), t.ys[at].data(), t.residuals[at].data(), x_sums};
        if (sums) c.y_sums = {y_sums.span<float>(0, plan.sums_floats()), plan.out_rows, static_cast<int>(plan.out.c)};
        c.scratch = static_cast<std::byte*>(scratch.data());
        on_device.enqueue(plan, c, {});
    };
    call(0);
    const tensor<float> right = layer(x.view(), residual.view());
    std::vector<float> nhwc;
    for (index_t h = 0; h < plan.out.h; ++h)
        for (index_t w = 0; w < plan.out.w; ++w)
            for (index_t c = 0; c < plan.out.c; ++c) nhwc.push_back(right(0, c, h, w));
    const double error = largest_error(last_sample(device, t.ys[0].data(), plan.out, p), nhwc);
    const double us = median_microseconds(call, {}), flop = 2 * shape.macs() * static_cast<double>(batch);
    report(shape.name(), form, batch, p, us, flop / us * 1e-6, error);
#if defined(KDNA_CUDNN)
    if (on_device.routed() || sums) return;
    static const cuda::cudnn_gpu library;
    const auto plain = on_device.as_plain(plan);
    const auto planned = plain ? library.plan_plain(*plain) : nullptr;
    if (planned == nullptr) return;
    const cuda::device_memory<cuda::gpu> library_scratch(device, planned->scratch_bytes());
    const auto library_call = [&](index_t i) {
        const auto at = static_cast<std::size_t>(i) % t.xs.size();
        cuda::device_conv_call c{t.xs[at].data(), t.ys[at].data(), t.residuals[at].data()};
        c.scratch = static_cast<std::byte*>(library_scratch.data());
        planned->run(on_device.plain_call(c), {});
    };
    library_call(0);
    const double library_error = largest_error(last_sample(device, t.ys[0].data(), plan.out, p), nhwc);
    const double library_us = median_microseconds(library_call, {});
    report(shape.name(), "plain, cuDNN", batch, p, library_us, flop / library_us * 1e-6, library_error);
#endif
}

void measure_layers(cuda::gpu& device, const settings& s) {
    const std::vector<std::string> networks(all_networks.begin(), all_networks.end());
    for (const layer_shape& shape : read_shapes(networks)) {
        if (!s.wants(shape.name())) continue;
        const layer_weights w(shape.kernel);
        const conv_options options{.bn = w.bn(shape.kernel.o), .residual = true, .act = activation::relu};
        const auto parent = parent_kernel::pack(shape.kernel, w.kernel);
        const conv2d<> plain(parent, shape.params(), options);
        const bool child = std::any_of(shape.occurrences.begin(), shape.occurrences.end(),
                                       [](const occurrence& o) { return o.children > 0; });
        if (s.only_children && !child) continue;
        for (const index_t batch : s.batches)
            for (const precision p : s.numbers) {
                measure_layer(device, shape, plain, "plain", batch, p, false);
                if (!child) continue;
                measure_layer(device, shape, plain, "plain, sums taken", batch, p, true);
                const conv2d<dense_kernel, squeeze_excite> gated(parent.child(w.adapter()), shape.params(), options,
                                                                 w.gate());
                measure_layer(device, shape, gated, "child", batch, p, false);
            }
    }
}

/// Measures one network in one precision.
template <class Device>
void measure_network(Device& device, const network& host, const std::string& name, const std::string& form,
                     const tensor<float>& x, std::span<const float> right, precision p,
                     const std::vector<index_t>& batches, cuda::stream_ref stream) {
    const cuda::basic_network<Device> net(host, device, {.numbers = p}, stream);
    for (const index_t batch : batches) {
        auto plan = net.plan({batch, 3, 224, 224});
        const index_t count = sets_beyond_l2(batch * x.size() * 4);
        std::vector<cuda::basic_device_tensor<float, Device>> xs;
        tensor<float> images({batch, 3, 224, 224}, layout::nhwc);
        for (index_t n = 0; n < batch; ++n) std::copy(x.span().begin(), x.span().end(), images.data() + n * x.size());
        for (index_t i = 0; i < count; ++i) {
            xs.emplace_back(device, images.shape());
            xs.back().upload(std::as_const(images).view(), stream);
        }
        cuda::basic_device_tensor<float, Device> y(device, plan.output_shape());
        const auto call = [&](index_t i) {
            net.run(plan, std::as_const(xs[static_cast<std::size_t>(i % count)]).view(), y.view(), stream);
        };
        call(0);
        const tensor<float> found = y.download(stream);
        const double error = largest_error(found.span().last(right.size()), right);
        const double us = median_microseconds(call, stream);
        report(name, form, batch, p, us, static_cast<double>(batch) / us * 1e6, error);
    }
}

void measure_networks(cuda::gpu& device, const settings& s) {
    cudaStream_t handle = nullptr;
    cuda::check(cudaStreamCreate(&handle), "cudaStreamCreate");
    const cuda::stream_ref stream{handle};
#if defined(KDNA_CUDNN)
    cuda::cudnn_gpu library(0);
#endif
    for (const models::arch a :
         {models::arch::resnet18, models::arch::resnet50, models::arch::mobilenet_v2, models::arch::mobilenet_v2_1d2})
        for (const models::form f : {models::form::kernel_dna, models::form::plain}) {
            const std::string name(name_of(a)), form = f == models::form::plain ? "plain" : "kernel_dna";
            if (!s.wants(name)) continue;
            const network host = random_network(a, f);
            const tensor<float> x = sample({1, 3, 224, 224}, 3), right = host(x.view());
            for (const precision p : s.numbers) {
                measure_network(device, host, name, form, x, right.span(), p, s.batches, stream);
#if defined(KDNA_CUDNN)
                measure_network(library, host, name, form + ", cuDNN", x, right.span(), p, s.batches, stream);
#endif
            }
        }
    static_cast<void>(cudaStreamDestroy(handle));
}

std::vector<std::string> parts_of(const std::string& list) {
    std::vector<std::string> out;
    std::istringstream in(list);
    for (std::string part; std::getline(in, part, ',');) out.push_back(part);
    return out;
}

settings read_arguments(int argc, char** argv) {
    settings s;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const auto value = [&]() -> std::string {
            if (i + 1 == argc) throw error(argument, "a value", "none");
            return argv[++i];
        };
        if (argument == "layers") {
            s.networks = false;
        } else if (argument == "networks") {
            s.layers = false;
        } else if (argument == "--children") {
            s.only_children = true;
        } else if (argument == "--only") {
            s.only = value();
        } else if (argument == "--batch") {
            s.batches.clear();
            for (const std::string& part : parts_of(value())) s.batches.push_back(std::stoll(part));
        } else if (argument == "--numbers") {
            s.numbers.clear();
            for (const std::string& part : parts_of(value())) {
                const auto found = std::find(cuda::precision_names.begin(), cuda::precision_names.end(), part);
                if (found == cuda::precision_names.end()) throw error("--numbers", "f32, tf32, f16 or bf16", part);
                s.numbers.push_back(static_cast<precision>(found - cuda::precision_names.begin()));
            }
        } else {
            throw error("arguments", "layers, networks, --children, --batch, --numbers or --only", argument);
        }
    }
    return s;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const settings s = read_arguments(argc, argv);
        if (cuda::device_count() == 0) {
            std::puts("skipped: there is no CUDA device");
            return 77;
        }
        cuda::gpu device(0);
        cudaDeviceProp properties{};
        cuda::check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
        std::printf("# %s, compute capability %d.%d, %d multiprocessors\n", properties.name, properties.major,
                    properties.minor, properties.multiProcessorCount);
        std::puts("# what\tform\tbatch\tnumbers\tmicroseconds\timages/s or TFLOP/s\tlargest error");
        if (s.layers) measure_layers(device, s);
        if (s.networks) measure_networks(device, s);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "cuda_bench: %s\n", e.what());
        return 2;
    }
    return 0;
}
