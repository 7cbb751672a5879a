// Runs a network on .npy inputs and writes its outputs: any network from a file of its own, or a published one by name.
#include <algorithm>
#include <chrono>
#include <common/program.hpp>
#include <iostream>
#include <kdna/core/thread_pool.hpp>
#include <kdna/io/machine_file.hpp>
#include <kdna/load.hpp>
#include <kdna/models.hpp>
#include <vector>

namespace {

using namespace kdna;

struct arguments {
    std::string model, arch, form = "kernel_dna", weights, machine;
    std::vector<std::string> inputs, outputs;
    bool plain = false, explain = false, winograd = true;
    load_options loading{};
    number_format transformed = number_format::float32;
    index_t threads = 1, repeat = 0;
};

/// "name=file" or "file": which input or output, and where it lies. Those without a name are counted.
struct port {
    std::string name, file;
};
std::vector<port> ports_of(const std::vector<std::string>& texts) {
    std::vector<port> out;
    for (const std::string& text : texts) {
        const auto equals = text.find('=');
        out.push_back(equals == std::string::npos ? port{"", text}
                                                  : port{text.substr(0, equals), text.substr(equals + 1)});
    }
    return out;
}

network load_network(const arguments& a) {
    if (!a.model.empty()) return load(a.model, a.loading);
    load_report report;
    network net = models::load(models::arch_of(a.arch), a.weights, models::form_of(a.plain ? "plain" : a.form), report,
                               a.loading);
    if (a.explain) std::cout << to_string(report);
    return net;
}

double milliseconds(const network& net, network_plan& plan, std::span<const nd_view<const float>> x,
                    std::span<const nd_view<float>> y) {
    const auto start = std::chrono::steady_clock::now();
    net.run(plan, x, y);
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

int run(const arguments& a) {
    const network net = load_network(a);
    const std::vector<port> inputs = ports_of(a.inputs), outputs = ports_of(a.outputs);
    if (static_cast<index_t>(inputs.size()) != net.input_count())
        throw error("--input", concat(net.input_count(), " of them"), concat(inputs.size()));

    std::vector<npy_array> images(inputs.size());
    std::vector<nd_shape> shapes(inputs.size());
    std::vector<nd_view<const float>> x(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const index_t at = inputs[i].name.empty() ? static_cast<index_t>(i) : net.input_named(inputs[i].name);
        const auto to = static_cast<std::size_t>(at);
        if (x[to].data != nullptr) throw error("--input", "every input once", concat(net.input_name(at), " twice"));
        images[to] = load_npy(inputs[i].file);
        shapes[to] = nd_shape(images[to].shape, inputs[i].file);
        if (const auto rank = net.input_extents(at).size(); images[to].shape.size() != rank)
            throw error(inputs[i].file, rank == 4 ? "an array [N, C, H, W]" : concat("an array of rank ", rank),
                        to_string(shapes[to]));
        x[to] = row_major_view<const float>(images[to].data.data(), shapes[to]);
    }

    thread_pool pool(a.threads);
    plan_options options;
    if (a.threads > 1) options.executor = pool;
    if (!a.winograd) options.transform_budget = 0;
    options.transformed_storage = a.transformed;
    if (!a.machine.empty()) options.target = find_machine(a.machine);
    network_plan plan = net.plan(shapes, options);
    if (a.explain) std::cout << plan.explain() << "weights " << net.weight_bytes() / 1024 << " KiB in memory\n";

    std::vector<std::vector<float>> results;
    std::vector<nd_view<float>> y;
    for (index_t i = 0; i < net.output_count(); ++i) {
        results.emplace_back(static_cast<std::size_t>(element_count(plan.output_shape(i))));
        y.push_back(row_major_view(results.back().data(), plan.output_shape(i)));
    }
    std::vector<index_t> wanted;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        wanted.push_back(outputs[i].name.empty() ? static_cast<index_t>(i) : net.output_named(outputs[i].name));
        if (wanted.back() >= net.output_count())
            throw error("--output", concat("at most ", net.output_count()), concat(outputs.size()));
    }
    net.run(plan, x, y);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const index_t from = wanted[i];
        const nd_shape shape = plan.output_shape(from);
        // A published network's logits are an image of single pixels.
        std::vector<index_t> extents(shape.extents().begin(), shape.extents().end());
        if (a.model.empty()) extents.resize(2);
        save_npy(outputs[i].file, extents, results[static_cast<std::size_t>(from)]);
    }

    if (a.repeat > 0) {
        std::vector<double> times;
        for (index_t i = 0; i < a.repeat; ++i) times.push_back(milliseconds(net, plan, x, y));
        std::sort(times.begin(), times.end());
        std::cout << (a.model.empty() ? concat(a.arch, " ", a.plain ? "plain" : a.form) : a.model) << ", "
                  << to_string(shapes.front()) << ", " << a.threads << (a.threads == 1 ? " thread" : " threads")
                  << ": min " << times.front() << " ms, median " << times[times.size() / 2] << " ms of " << a.repeat
                  << " runs\n";
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Runs a network on .npy inputs and writes its outputs.", "kdna_run");
    arguments a;
    auto* model = app.add_option("--model", a.model,
                                 "a network file, .safetensors (tools/export.py makes one of any PyTorch CNN)");
    auto* arch =
        app.add_option("--arch", a.arch, "a published network: resnet18, resnet50, mobilenet_v2 or mobilenet_v2_1d2")
            ->excludes(model);
    app.add_option("--weights", a.weights, "its state_dict as .safetensors")->needs(arch);
    app.add_option(
        "--overlay", a.loading.overlay,
        "a second .safetensors file, whose tensors take the place of those of the same names: trained adapters");
    app.add_option("--input", a.inputs, "[name=]X.npy, float32, one for each input; without names in their order");
    app.add_option("--output", a.outputs, "[name=]Y.npy to write, float32; those that are not named are not written");
    auto* form =
        app.add_option(
               "--form", a.form,
               "of a published network: kernel_dna (the default), plain, odconv, kernel_warehouse, dyconv or dcd; "
               "how many kernels are mixed follows from the weights")
            ->needs(arch);
    app.add_flag("--plain", a.plain, "--form plain, torchvision's keys")->excludes(form)->needs(arch);
    app.add_flag("--explain", a.explain, "print the plan");
    app.add_option("--threads", a.threads, "threads")->check(CLI::Range(index_t{1}, index_t{1024}));
    app.add_option("--repeat", a.repeat, "time this many further runs")
        ->check(CLI::Range(index_t{1}, index_t{1000000}));
    app.add_option("--winograd", a.winograd, "on (the default) or off")
        ->transform(CLI::CheckedTransformer(std::map<std::string, bool>{{"on", true}, {"off", false}}));
    app.add_option_function<std::string>(
           "--storage", [&](const std::string& name) { a.loading.storage = storage_named(name); },
           "of kernels in memory: float32 (the default), float16, bfloat16, or file: as the file has them")
        ->check(CLI::IsMember({"float32", "float16", "bfloat16", "file"}));
    app.add_option_function<std::string>(
           "--transformed", [&](const std::string& name) { a.transformed = *storage_named(name); },
           "storage of kernels that are kept transformed for Winograd: float32 (the default), float16 or bfloat16")
        ->check(CLI::IsMember({"float32", "float16", "bfloat16"}));
    app.add_option(
        "--machine", a.machine,
        "plan for this machine, e.g. zen3, or one that kdna_calibrate wrote to a .json, instead of this one");
    return examples::run_program(app, argc, argv, [&] {
        if (a.model.empty() && (a.arch.empty() || a.weights.empty()))
            throw error("arguments", "--model, or --arch and --weights", "neither");
        if (a.inputs.empty() || a.outputs.empty())
            throw error("arguments", "--input and --output", a.inputs.empty() ? "no --input" : "no --output");
        return run(a);
    });
}
