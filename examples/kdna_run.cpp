// Runs a published network, in any of its forms, on an .npy input and writes the logits.
#include <algorithm>
#include <chrono>
#include <common/program.hpp>
#include <iostream>
#include <kdna/interop/eigen_thread_pool.hpp>
#include <kdna/models.hpp>
#include <vector>

namespace {

using namespace kdna;

struct arguments {
    std::string arch, form = "kernel_dna", weights, input, output;
    bool plain = false, explain = false;
    index_t threads = 1, repeat = 0;
};

double milliseconds(const network& net, network_plan& plan, const tensor_view<const float>& x,
                    const tensor_view<float>& y) {
    const auto start = std::chrono::steady_clock::now();
    net.run(plan, x, y);
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

int run(const arguments& a) {
    const std::string form = a.plain ? "plain" : a.form;
    load_report report;
    const network net = models::load(models::arch_of(a.arch), a.weights, models::form_of(form), report);
    const npy_array image = load_npy(a.input);
    if (image.shape.size() != 4)
        throw error(a.input, "float32 [N, C, H, W]", concat(image.shape.size(), " dimensions"));
    const auto x = nchw_view(image.data.data(), image.shape[0], image.shape[1], image.shape[2], image.shape[3]);

    eigen_thread_pool pool(a.threads);
    plan_options options;
    if (a.threads > 1) options.executor = pool;
    network_plan plan = net.plan(x.shape, options);
    if (a.explain)
        std::cout << to_string(report) << plan.explain() << "weights " << net.weight_bytes() / 1024
                  << " KiB in memory\n";

    tensor<float> logits(plan.output_shape());
    net.run(plan, x, logits.view());
    save_npy(a.output, {logits.shape().n, logits.shape().c}, logits.span());

    if (a.repeat > 0) {
        std::vector<double> times;
        for (index_t i = 0; i < a.repeat; ++i) times.push_back(milliseconds(net, plan, x, logits.view()));
        std::sort(times.begin(), times.end());
        std::cout << a.arch << " " << form << ", " << to_string(x.shape) << ", " << a.threads
                  << (a.threads == 1 ? " thread" : " threads") << ": min " << times.front() << " ms, median "
                  << times[times.size() / 2] << " ms of " << a.repeat << " runs\n";
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Runs a KernelDNA network, or the same in another form, on an image.", "kdna_run");
    arguments a;
    app.add_option("--arch", a.arch, "resnet18, resnet50, mobilenet_v2 or mobilenet_v2_1d2")->required();
    app.add_option("--weights", a.weights,
                   "state_dict as .safetensors (tools/export.py makes one), or the index of a sharded one")
        ->required();
    app.add_option("--input", a.input, ".npy, float32 [N, C, H, W]")->required();
    app.add_option("--output", a.output, ".npy to write, float32 [N, classes]")->required();
    auto* form = app.add_option("--form", a.form,
                                "kernel_dna (the default), plain, odconv, kernel_warehouse, dyconv or dcd; how many "
                                "kernels are mixed follows from the weights");
    app.add_flag("--plain", a.plain, "--form plain, torchvision's keys")->excludes(form);
    app.add_flag("--explain", a.explain, "print the plan");
    app.add_option("--threads", a.threads, "threads")->check(CLI::Range(index_t{1}, index_t{1024}));
    app.add_option("--repeat", a.repeat, "time this many further runs")
        ->check(CLI::Range(index_t{1}, index_t{1000000}));
    return examples::run_program(app, argc, argv, [&] { return run(a); });
}
