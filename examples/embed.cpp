// kdna inside a program that has its own images, threads and memory. Checks what it claims: 0 if all of it holds.
#include <algorithm>
#include <array>
#include <atomic>
#include <iostream>
#include <kdna/interop/eigen.hpp>
#include <kdna/kdna.hpp>
#include <kdna/nn/network_builder.hpp>
#include <memory_resource>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace kdna;

/// Stands for trained weights: the same numbers on every machine, between -scale and scale.
class made_up {
public:
    std::vector<float> operator()(index_t count, float scale) {
        std::vector<float> out(static_cast<std::size_t>(count));
        for (float& v : out) v = scale * (static_cast<float>(engine_() >> 8) / static_cast<float>(1 << 23) - 1.0F);
        return out;
    }

private:
    std::mt19937 engine_{2503};
};

constexpr index_t channels = 16, hidden = 4, classes = 5, rows = 48, columns = 64;

/// A stem, a child that shares the kernel of the layer behind it, that layer, and a classifier.
network make_network() {
    made_up weights;
    const auto stem = parent_kernel::pack({.o = channels, .i = 3, .kh = 3, .kw = 3}, weights(channels * 27, 0.3F));
    const auto parent =
        parent_kernel::pack({.o = channels, .i = channels, .kh = 3, .kw = 3}, weights(channels * channels * 9, 0.1F));
    const auto last = dense_kernel::pack({.o = classes, .i = channels}, weights(classes * channels, 1.0F));
    const std::vector<float> one(hidden, 1.0F), zero(hidden, 0.0F);
    const squeeze_excite gate({.fc1 = weights(hidden * channels, 1.0F),
                               .bn = {.weight = one, .bias = weights(hidden, 1.0F), .mean = zero, .var = one},
                               .fc2 = weights(channels * hidden, 1.0F),
                               .fc2_bias = weights(channels, 1.0F)});

    network_builder net;
    auto x = net.add(conv2d(stem, {.stride = 2, .pad = 1}, {.act = activation::relu, .name = "stem"}), net.input(3));
    const auto identity = x;
    const auto child = parent.child({.spatial = weights(9, 0.5F), .filter = weights(channels, 0.5F)});
    x = net.add(conv2d(child, {.pad = 1}, {.act = activation::relu, .name = "child"}, gate), x);
    x = net.add(conv2d(parent, {.pad = 1}, {.residual = true, .act = activation::relu, .name = "parent"}), x, identity);
    x = net.add_linear(conv2d(last, {}, {.bias = weights(classes, 1.0F), .name = "fc"}), net.add_global_average(x));
    return std::move(net).build(x);
}

/// Your threads: anything with these two functions. This one starts threads for every call, to be short; a real program
/// hands over the pool it has, or takes kdna::thread_pool.
struct our_threads {
    index_t count;
    [[nodiscard]] index_t concurrency() const { return count; }
    template <class F>
    void parallel_for(index_t n, const F& f) const {
        std::atomic<index_t> next{0};
        const auto work = [&] {
            for (index_t i; (i = next++) < n;) f(i);
        };
        std::vector<std::jthread> helpers;
        for (index_t i = 1; i < std::min(count, n); ++i) helpers.emplace_back(work);
        work();
    }
};

/// Your memory: any std::pmr resource. This one counts.
class our_memory : public std::pmr::memory_resource {
public:
    std::size_t bytes = 0, calls = 0;

private:
    void* do_allocate(std::size_t size, std::size_t align) override {
        bytes += size;
        ++calls;
        return std::pmr::new_delete_resource()->allocate(size, align);
    }
    void do_deallocate(void* p, std::size_t size, std::size_t align) override {
        bytes -= size;
        std::pmr::new_delete_resource()->deallocate(p, size, align);
    }
    [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

using scores = std::array<float, classes>;

scores run(const network& net, network_plan& plan, const tensor_view<const float>& image) {
    scores out{};
    net.run(plan, image, nchw_view(out.data(), 1, classes, 1, 1));
    return out;
}

bool all_hold = true;
void check(bool holds, const char* claim) {
    std::cout << (holds ? "  yes: " : "  NO:  ") << claim << "\n";
    all_hold = all_hold && holds;
}

/// The camera's frames: 480 rows of 640 interleaved RGB pixels, each row followed by some bytes nobody asked for.
struct camera {
    static constexpr index_t height = 480, width = 640, pitch = width * 3 + 16;
    std::vector<float> memory = made_up{}(height * pitch, 1.0F);
    [[nodiscard]] tensor_view<const float> frame() const {
        return {memory.data(), {1, 3, height, width}, {.n = height * pitch, .c = 1, .h = pitch, .w = 3}};
    }
};

}  // namespace

int main() try {
    const network net = make_network();
    std::cout << "a network of " << net.weight_bytes() << " bytes of weights\n";
    network_plan plan = net.plan({1, 3, rows, columns});
    std::cout << plan.explain() << "\nimages:\n";

    // A window of a larger frame is a view: an address and four strides. Nothing is copied.
    const camera cam;
    const tensor_view<const float> window = cam.frame().crop(100, 200, rows, columns);
    const scores expected = run(net, plan, window);
    tensor<float> copied({1, 3, rows, columns});
    copy(window, copied.view());
    check(run(net, plan, copied.view()) == expected, "a window of a frame gives what a dense copy of it gives");

    // An Eigen tensor, indexed (n, h, w, c) here and column-major, as Eigen does by default.
    Eigen::Tensor<float, 4> eigen(1, rows, columns, 3);
    copy(window, view_of(eigen, layout::nhwc));
    check(run(net, plan, view_of(eigen, layout::nhwc)) == expected,
          "so does an Eigen::Tensor, whatever its storage order");

    std::cout << "threads and memory:\n";
    our_threads threads{3};
    our_memory memory;
    {
        network_plan ours = net.plan({1, 3, rows, columns}, {.executor = threads, .memory = &memory});
        const std::size_t calls = memory.calls;
        const auto held = static_cast<std::size_t>(ours.arena_bytes() + ours.workspace_bytes());
        check(run(net, ours, window) == expected, "three threads give what one gives, bit for bit");
        std::cout << "       the plan took " << memory.bytes << " bytes in " << calls << " pieces from the resource\n";
        check(memory.bytes >= held, "activations and scratch come from the resource");
        check(memory.calls == calls, "a run takes nothing from it");
    }
    check(memory.bytes == 0, "everything goes back with the plan");

    // One network serves many threads as it is; what a run writes to is its plan, so each thread has one.
    std::array<scores, 4> alone{}, together{};
    const auto window_of = [&](std::size_t i) {
        return cam.frame().crop(10, 100 * static_cast<index_t>(i), rows, columns);
    };
    for (std::size_t i = 0; i < alone.size(); ++i) alone[i] = run(net, plan, window_of(i));
    {
        std::vector<std::jthread> workers;
        for (std::size_t i = 0; i < together.size(); ++i)
            workers.emplace_back([&, i] {
                network_plan mine = net.plan({1, 3, rows, columns});
                for (int again = 0; again < 20; ++again) together[i] = run(net, mine, window_of(i));
            });
    }
    check(together == alone, "four threads on one network, each with its plan, do not disturb each other");
    return all_hold ? 0 : 1;
} catch (const error& e) {
    std::cerr << "embed: " << e.what() << "\n";
    return 2;
}
