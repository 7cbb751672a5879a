// What the emulator counts of the traffic of programs, and that kdna's own move little more than they must.
#include <cstdio>
#include <string>

#include "cuda/device_layers.hpp"
#include "cuda/device_networks.hpp"
#include "cuda/emulated.hpp"

using namespace kdna;
using namespace kdna::cuda;
using namespace kdna_test;

namespace {

/// Every thread reads and writes one pack, `apart` bytes from its neighbour's, in shared and in device memory.
template <class T, int N>
struct strided_program {
    struct arguments {
        device_span<T> x{};
        int apart = 0;
    };
    struct registers {};
    static constexpr const char* name = "strided_program";
    static constexpr int threads = 32;
    static int shared_bytes(const arguments& a) { return threads * a.apart + 16; }

    template <class Block>
    static void run(Block& block, const arguments& a) {
        const auto at = [&](int thread) { return thread * a.apart; };
        block.parallel([&](int thread, registers&) {
            // Lanes that share an address would race.
            if (a.apart > 0 || thread == 0) block.store(thread, at(thread), pack<T, N>{});
        });
        block.sync();
        block.parallel([&](int thread, registers&) {
            block.template load<T, N>(thread, at(thread));
            a.x.template store<N>(at(thread) / static_cast<int>(sizeof(T)), {});
            a.x.template load<N>(at(thread) / static_cast<int>(sizeof(T)));
        });
    }
};

/// Wavefronts and sectors of 32 lanes that read N T each, `apart` bytes from one another.
template <class T, int N>
program_traffic traffic_at(int apart) {
    emulator device;
    const device_memory<emulator> x(device, 32 * apart + 16);
    device.measure(true);
    using program = strided_program<T, N>;
    device.launch<program>({1, 1, 1}, {x.template span<T>(0, x.bytes() / static_cast<index_t>(sizeof(T))), apart}, 0);
    return device.traffic().at("strided_program");
}

/// A layer without anything random: 3x3 or so, BatchNorm, perhaps a gate and a residual.
struct layer_case {
    index_t o, c, window;
    shape4 in;
    bool gate = false, residual = false;
    int multiprocessors = 1;  ///< few: large tiles
    index_t groups = 1, stride = 1, pad = -1;
};

conv_recipe recipe_of(const layer_case& l) {
    conv_recipe r;
    r.name = "layer";
    r.kernel.shape = {l.o, l.c, l.window, l.window, l.groups};
    r.kernel.copy_weights = [k = r.kernel.shape](std::span<float> to) {
        std::size_t next = 0;
        for (index_t o = 0; o < k.o; ++o)
            for (index_t c = 0; c < k.channels_per_group(); ++c)
                for (index_t t = 0; t < k.taps(); ++t)
                    to[next++] = static_cast<float>((o * 7 + c * 3 + t) % 17 - 8) / 16.0F;
    };
    r.params = {.stride = l.stride, .pad = l.pad < 0 ? l.window / 2 : l.pad};
    r.scale.assign(static_cast<std::size_t>(l.o), 0.5F);
    r.shift.assign(static_cast<std::size_t>(l.o), 0.25F);
    r.residual = l.residual;
    r.act = layer_activation(activation::relu, l.o, 0, r.name);
    if (!l.gate) return r;
    const auto dense = [](index_t inputs, index_t outputs, dense_function act) {
        dense_recipe d{{}, {}, inputs, outputs, act};
        d.w.assign(static_cast<std::size_t>(inputs * outputs), 0.01F);
        d.bias.assign(static_cast<std::size_t>(outputs), 0.5F);
        return d;
    };
    const index_t hidden = std::max<index_t>(l.c / 16, 4);
    r.router = {.hidden = dense(l.c, hidden, activation_kind::relu),
                .channel = dense(hidden, l.c, activation_kind::sigmoid)};
    return r;
}

/// What the program of that name moves when the layer runs.
program_traffic traffic_of(const layer_case& l, precision p, const std::string& program) {
    emulator device(l.multiprocessors, 5);
    tensor<float> x(l.in, layout::nhwc), residual;
    std::fill(x.span().begin(), x.span().end(), 1.0F);
    const conv_recipe r = recipe_of(l);
    if (l.residual) {
        residual = tensor<float>(output_shape(l.in, r.kernel.shape, r.params), layout::nhwc);
        std::fill(residual.span().begin(), residual.span().end(), 1.0F);
    }
    device.measure(true);
    run_on_device(device, r, {.numbers = p}, std::as_const(x).view(),
                  l.residual ? std::as_const(residual).view() : tensor_view<const float>{}, 0);
    return device.traffic().at(program);
}

void print(const std::string& what, const program_traffic& t) {
    std::printf("%-60s", what.c_str());
    for (const access_counts& c :
         {t.shared_loads, t.shared_stores, t.shared_copies, t.device_loads, t.device_stores, t.device_copies})
        if (c.accesses > 0)
            std::printf(" %9td/%-9td %5.2f", c.moved, c.least, c.waste());
        else
            std::printf(" %25s", "-");
    std::printf("\n");
}

}  // namespace

TEST_CASE("The emulator counts wavefronts and sectors of accesses whose counts are known") {
    const auto shared = [](const program_traffic& t) {
        CHECK(t.shared_loads.accesses == 1);
        return std::pair(t.shared_loads.moved, t.shared_loads.least);
    };
    const auto device = [](const program_traffic& t) {
        CHECK(t.device_loads.moved == t.device_stores.moved);
        return std::pair(t.device_loads.moved, t.device_loads.least);
    };
    using counts = std::pair<index_t, index_t>;
    // Words: neighbours, every other, all in one bank, all the same.
    CHECK(shared(traffic_at<float, 1>(4)) == counts(1, 1));
    CHECK(shared(traffic_at<float, 1>(8)) == counts(2, 1));
    CHECK(shared(traffic_at<float, 1>(12)) == counts(1, 1));
    CHECK(shared(traffic_at<float, 1>(128)) == counts(32, 1));
    CHECK(shared(traffic_at<float, 1>(0)) == counts(1, 1));
    // Two halves of a word are one.
    CHECK(shared(traffic_at<half, 1>(2)) == counts(1, 1));
    // Halves of a warp, then quarters.
    CHECK(shared(traffic_at<float, 2>(8)) == counts(2, 2));
    CHECK(shared(traffic_at<float, 2>(64)) == counts(16, 2));
    CHECK(shared(traffic_at<float, 4>(16)) == counts(4, 4));
    CHECK(shared(traffic_at<float, 4>(32)) == counts(8, 4));
    CHECK(shared(traffic_at<half, 8>(80)) == counts(4, 4));
    CHECK(shared(traffic_at<half, 8>(64)) == counts(16, 4));
    // Sectors: neighbours, one each, all the same, every other pack.
    CHECK(device(traffic_at<float, 1>(4)) == counts(4, 4));
    CHECK(device(traffic_at<float, 1>(32)) == counts(32, 4));
    CHECK(device(traffic_at<float, 1>(0)) == counts(1, 1));
    CHECK(device(traffic_at<half, 1>(2)) == counts(2, 2));
    CHECK(device(traffic_at<half, 8>(32)) == counts(32, 16));
    CHECK(traffic_at<half, 8>(16).device_loads.bytes == 512);
    CHECK(traffic_at<half, 8>(16).shared_stores.bytes == 512);
}

namespace {

/// No bank conflicts; what is written and copied to the sector, loads within `loads` of it.
void check_traffic(const std::string& what, const program_traffic& t, double loads) {
    INFO(what);
    for (const access_counts& c : {t.shared_loads, t.shared_stores, t.shared_copies, t.device_stores, t.device_copies})
        CHECK(c.moved == c.least);
    CHECK(t.shared_loads.accesses > 0);
    CHECK(t.device_stores.accesses > 0);
    CHECK(t.device_loads.waste() <= loads);
}

/// Maps and channels in whole tiles; without padding, where lanes would skip loads and be combined with others.
constexpr layer_case whole_tiles{.o = 128, .c = 128, .window = 3, .in = {2, 128, 10, 18}, .residual = true, .pad = 0};

}  // namespace

TEST_CASE("Convolutions have no bank conflicts and move whole sectors, by every staging, tile and precision",
          "[traffic]") {
    for (const precision p : device_precisions)
        for (const int multiprocessors : {1, 4}) {
            layer_case l = whole_tiles;
            l.multiprocessors = multiprocessors;
            const std::string what = concat(to_string(p), ", ", multiprocessors);
            const program_traffic plain = traffic_of(l, p, "convolution_program");
            // Of factors, a lane has eight floats for its eight halves: two loads, each of every other 16 bytes.
            check_traffic(what, plain, bytes_of(p) == 2 ? 1.25 : 1.0);
            CHECK(plain.device_copies.accesses == plain.shared_copies.accesses);
            l.gate = true;
            check_traffic(what + ", gated", traffic_of(l, p, "convolution_program"), bytes_of(p) == 2 ? 1.35 : 1.0);
            l.multiprocessors = 100;
            check_traffic(what + ", parts", traffic_of(l, p, "convolution_finish_program"), 1.25);
            // C / groups no multiple of 16 bytes: copies of 8, or element by element.
            for (const index_t channels : {12, 10, 5}) {
                const layer_case odd{.o = 128, .c = channels, .window = 3, .in = {1, channels, 18, 18}, .pad = 0};
                const program_traffic t = traffic_of(odd, p, "convolution_program");
                for (const access_counts& c : {t.shared_loads, t.shared_stores, t.shared_copies, t.device_stores})
                    CHECK(c.moved == c.least);
            }
        }
}

TEST_CASE("The other programs have no bank conflicts and move whole sectors", "[traffic]") {
    for (const precision p : device_precisions) {
        layer_case l = whole_tiles;
        l.gate = true;
        const std::string what(to_string(p));
        check_traffic(what, traffic_of(l, p, "channel_sums_program"), 1.0);
        l.groups = l.o;
        check_traffic(what, traffic_of(l, p, "depthwise_program"), bytes_of(p) == 2 ? 1.15 : 1.0);
    }
    // A router of few and of many outputs.
    for (const index_t channels : {64, 1024})
        check_traffic("",
                      traffic_of({.o = 64, .c = channels, .window = 1, .in = {2, channels, 8, 8}, .gate = true},
                                 precision::f16, "router_program"),
                      1.0);
}

TEST_CASE("An image comes in by whole sectors, and the first layer reads it by asynchronous copies", "[traffic]") {
    network_builder b;
    const auto x = b.input(3);
    const std::vector<float> w(64 * 3 * 49, 0.1F);
    const network host =
        std::move(b).build(b.add(conv2d<>(dense_kernel::pack({64, 3, 7, 7}, w), {.stride = 2, .pad = 3}), x));
    for (const precision p : device_precisions) {
        emulator device(4);
        const basic_network<emulator> net(host, device, {.numbers = p});
        auto plan = net.plan({1, 3, 64, 64});
        basic_device_tensor<float, emulator> image(device, plan.input_shape(), layout::nchw),
            y(device, plan.output_shape());
        const tensor<float> images = random_images(plan.input_shape(), 923);
        image.upload(images.view(), 0);
        device.measure(true);
        net.run(plan, std::as_const(image).view(), y.view(), 0);
        const program_traffic &in = device.traffic().at("fours_program"),
                              &conv = device.traffic().at("convolution_program");
        CHECK(in.device_loads.waste() == 1.0);
        CHECK(in.device_stores.waste() == 1.0);
        CHECK(in.device_loads.bytes == 3 * 64 * 64 * 4);
        CHECK(in.device_stores.bytes == 4 * 64 * 64 * bytes_of(p));
        // Nothing but factors of the epilogue.
        CHECK(conv.device_loads.bytes <= 128 * 1024);
        CHECK(conv.device_copies.accesses > 0);
        for (const access_counts& c : {conv.shared_loads, conv.shared_stores, conv.shared_copies})
            CHECK(c.waste() == 1.0);
    }
}

TEST_CASE("What programs move, printed", "[.print]") {
    std::printf("%-60s %25s %25s %25s %25s %25s %25s\n", "moved/least", "shared loads", "stores", "copies",
                "device loads", "stores", "copies");
    for (const precision p : device_precisions)
        for (const int multiprocessors : {1, 4})
            for (const bool gate : {false, true}) {
                const layer_case l{.o = 128,
                                   .c = 128,
                                   .window = 3,
                                   .in = {2, 128, 8, 16},
                                   .gate = gate,
                                   .residual = true,
                                   .multiprocessors = multiprocessors};
                print(concat("conv ", to_string(p), multiprocessors == 1 ? " large" : " small", gate ? " gated" : ""),
                      traffic_of(l, p, "convolution_program"));
            }
    for (const precision p : {precision::f32, precision::f16}) {
        const std::string name(to_string(p));
        const layer_case l{.o = 128, .c = 128, .window = 3, .in = {2, 128, 8, 16}, .gate = true};
        print("router_program", traffic_of(l, p, "router_program"));
        print("channel_sums_program " + name, traffic_of(l, p, "channel_sums_program"));
        layer_case d = l;
        d.groups = 128;
        print("depthwise_program " + name, traffic_of(d, p, "depthwise_program"));
        layer_case s = l;
        s.gate = false;
        s.multiprocessors = 100;
        print("convolution_finish_program " + name, traffic_of(s, p, "convolution_finish_program"));
        print("convolution_program in parts " + name, traffic_of(s, p, "convolution_program"));
        const layer_case stem{.o = 64, .c = 3, .window = 7, .in = {1, 3, 64, 64}, .stride = 2};
        print("stem " + name, traffic_of(stem, p, "convolution_program"));
        emulator device(20);
        for (const arch a : {arch::resnet18, arch::mobilenet_v2}) {
            const network host = models::load(a, form::kernel_dna, random_values(keys_of(a, form::kernel_dna), 921));
            const basic_network<emulator> net(host, device, {.numbers = p});
            device.measure(true);
            auto plan = net.plan({2, 3, 64, 64}, {.graph = false});
            basic_device_tensor<float, emulator> x(device, plan.input_shape(), layout::nchw),
                y(device, plan.output_shape(), layout::nchw);
            const tensor<float> images = random_images(plan.input_shape(), 922);
            x.upload(images.view(), 0);
            net.run(plan, std::as_const(x).view(), y.view(), 0);
            std::printf("%s %s\n", std::string(models::arch_names[static_cast<std::size_t>(a)]).c_str(), name.c_str());
            for (const auto& [program, t] : device.traffic()) print("  " + program, t);
        }
    }
}
