// Steps that run in bands: the schedule, and the bits of networks.
#include "nn/networks.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/random_machine.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

// Plays a schedule for the last step's rows [first, last) on buffers that hold row numbers; empty if every step finds the
// rows it reads.
std::string play(const std::vector<banded_step>& steps, const band_schedule& s, index_t first, index_t last) {
    constexpr index_t nothing = -1;
    std::vector<std::vector<index_t>> buffers;
    for (std::size_t i = 0; i + 1 < steps.size(); ++i)
        buffers.emplace_back(static_cast<std::size_t>(s.buffer_rows[i]), nothing);
    std::vector<index_t> done(steps.size(), nothing);
    for (const band_action& a : s.actions) {
        const std::string where = concat("step ", a.step, " rows ", a.rows.first, " + ", a.rows.count, ": ");
        const banded_step& step = steps[a.step];
        if (done[a.step] == nothing) done[a.step] = a.rows.first;
        if (a.rows.first != done[a.step]) return where + "not the next rows";
        if (a.rows.first % step.bands.multiple != 0) return where + "not a multiple";
        done[a.step] += a.rows.count;
        if (done[a.step] % step.bands.multiple != 0 && done[a.step] != step.out_rows) return where + "not a multiple";
        if (a.step + 1 == steps.size() && a.rows.first < first) return where + "before the part";
        if (a.step > 0) {
            const auto& x = buffers[a.step - 1];
            const row_window& w = step.bands.window;
            for (index_t row = w.input_begin(a.rows.first, step.in_rows);
                 row < w.input_end(a.rows.first + a.rows.count, step.in_rows); ++row) {
                const index_t at = row - a.rows.x_first;
                if (at < 0 || at >= static_cast<index_t>(x.size()) || x[static_cast<std::size_t>(at)] != row)
                    return where + concat("input row ", row, " is not there");
            }
        }
        if (a.step + 1 == steps.size()) continue;
        auto& y = buffers[a.step];
        std::vector<index_t> kept(y.begin() + a.kept_from, y.begin() + a.kept_from + a.kept);
        std::copy(kept.begin(), kept.end(), y.begin());
        for (index_t row = a.rows.first; row < a.rows.first + a.rows.count; ++row) {
            const index_t at = row - a.rows.y_first;
            if (at < 0 || at >= static_cast<index_t>(y.size())) return where + "past its buffer";
            y[static_cast<std::size_t>(at)] = row;
        }
    }
    return done.back() == last ? "" : "rows are missing";
}

}  // namespace

TEST_CASE("A schedule of bands makes every row once and finds the rows it reads") {
    for (int i = 0; i < scaled(2000); ++i) {
        rng r(470, static_cast<std::uint64_t>(i));
        std::vector<banded_step> steps;
        index_t rows = r.between(1, 120);
        for (index_t n = r.between(2, 6); n > 0; --n) {
            row_window w{r.between(1, std::min<index_t>(7, rows)), r.between(1, 3), 0};
            w.pad_top = r.between(0, w.extent - 1);
            const index_t pad_bottom = r.between(0, w.extent - 1),
                          out = (rows + w.pad_top + pad_bottom - w.extent) / w.stride + 1;
            steps.push_back({{r.pick<index_t>({1, 1, 2, 7}), w}, rows, out, 100});
            rows = out;
        }
        const index_t band = r.between(1, 20);
        const band_schedule s = schedule_bands(steps, band, 0, rows);
        KDNA_TEST_CASE_INFO(i, concat(steps.size(), " steps, bands of ", band));
        if (const std::string problem = play(steps, s, 0, rows); !problem.empty()) FAIL(problem);
        index_t bytes = 0;
        for (std::size_t k = 0; k + 1 < steps.size(); ++k) bytes += s.buffer_rows[k] * 100;
        REQUIRE(s.bytes == bytes);

        const index_t threads = r.between(1, 5), m = steps.back().bands.multiple, budget = r.between(0, 20000);
        const auto parts = schedule_parts(steps, threads, budget);
        REQUIRE(static_cast<index_t>(parts.size()) == std::min(threads, (rows + m - 1) / m));
        index_t next = 0;
        for (const band_schedule& part : parts) {
            index_t end = next;
            for (const band_action& a : part.actions)
                if (a.step + 1 == steps.size()) end = a.rows.first + a.rows.count;
            if (const std::string problem = play(steps, part, next, end); !problem.empty()) FAIL(problem);
            next = end;
        }
        REQUIRE(next == rows);
    }
}

TEST_CASE("Networks have the bits in bands that their layers have one by one, on any number of threads") {
    for (int i = 0; i < scaled(6); ++i) {
        rng r(471, static_cast<std::uint64_t>(i));
        const auto kernel = [&](kernel_shape k) { return dense_kernel::pack(k, r.floats(weight_count(k), -0.3, 0.3)); };
        const auto bn16 = bn_tensors::random(r, 16), bn32 = bn_tensors::random(r, 32);
        machine target = machine::named("zen4");
        if (i % 2 == 1) {
            target = random_machine(r);
            target.l2_bytes = std::min(target.l2_bytes, machine::named("zen4").l2_bytes);
        }
        twin_builder<backend::cpu> b(3, target);
        const index_t extent = r.pick<index_t>({3, 7});
        index_t v =
            b.convolution(conv2d(kernel({.o = 16, .i = 3, .kh = extent, .kw = extent}),
                                 {.stride = 2, .pad = extent / 2}, {.bn = view_of(bn16), .act = activation::silu}),
                          0);
        v = b.convolution(conv2d(kernel({.o = 16, .i = 16, .kh = 3, .kw = 3, .groups = 16}), {.pad = 1},
                                 {.act = activation::hard_swish}),
                          v);
        const auto slopes = r.floats(32);
        v = b.convolution(
            conv2d(kernel({.o = 32, .i = 16}), {}, {.bn = view_of(bn32), .act = activation::prelu(slopes)}), v);
        if (r.chance(0.5)) v = b.convolution(conv2d(kernel({.o = 16, .i = 32, .kh = 3, .kw = 3}), {.pad = {2, 1}}), v);
        const index_t channels = r.chance(0.5) ? b.channels(v) : 0;
        if (channels > 0)
            v = b.convolution(conv2d(kernel({.o = channels, .i = channels, .kh = 5, .kw = 5, .groups = channels}),
                                     {.stride = 2, .pad = 2}),
                              v);
        v = b.pool(max_pool2d(3, 2, 1), v);
        v = b.average(v);
        const twin_networks twins = std::move(b).build();

        const shape4 in{r.between(1, 2), 3, r.between(220, 300), r.between(200, 260)};
        frame x(r, in, r.pick({placement::nchw, placement::nhwc}));
        x.fill(r);
        const auto expected = twins.one_by_one(x.view());
        for (index_t threads = 1; threads <= 3; ++threads) {
            shuffling_executor workers(threads, r.bits());
            auto plan = twins.network->plan(in, {.executor = workers, .target = target});
            tensor<float> y(plan.output_shape());
            KDNA_TEST_CASE_INFO(i, concat(threads, " threads\n", plan.explain()));
            REQUIRE(plan.explain().find("in bands") != std::string::npos);
            for (int again = 0; again < 2; ++again) twins.network->run(plan, x.view(), y.view());
            if (!same_bits(values_of(y.view()), expected)) FAIL("other bits");
            // Layer by layer, 48 channels of a quarter of the image are alive at once.
            if (threads == 1 && plan.transformed_bytes() == 0)  // Winograd does not run in bands
                CHECK(plan.arena_bytes() < 48 * in.h / 2 * in.w / 2 * 4);
        }
    }
}

TEST_CASE("Steps in bands keep their algorithm when they are planned again for several threads") {
    // Timed by itself, the second convolution may well be faster with Winograd, which cannot run in bands.
    rng r(472, 0);
    const auto kernel = [&](kernel_shape k) { return dense_kernel::pack(k, r.floats(weight_count(k), -0.2, 0.2)); };
    const machine target = machine::named("zen4");
    twin_builder<backend::cpu> b(3, target);
    index_t v = b.convolution(conv2d(kernel({.o = 32, .i = 3, .kh = 3, .kw = 3}), {.stride = 2, .pad = 1}), 0);
    v = b.convolution(conv2d(kernel({.o = 16, .i = 32, .kh = 3, .kw = 3}), {.pad = 1}), v);
    v = b.convolution(conv2d(kernel({.o = 32, .i = 16}), {}), v);
    v = b.convolution(conv2d(kernel({.o = 32, .i = 32, .kh = 3, .kw = 3, .groups = 32}), {.stride = 2, .pad = 1}), v);
    const twin_networks twins = std::move(b).build();
    frame x(r, {1, 3, 224, 224}, placement::nhwc);
    x.fill(r);
    const auto expected = twins.one_by_one(x.view());
    for (const bool autotune : {false, true}) {
        shuffling_executor workers(3, r.bits());
        auto plan =
            twins.network->plan({1, 3, 224, 224}, {.executor = workers, .target = target, .autotune = autotune});
        INFO(plan.explain());
        REQUIRE(plan.explain().find("in bands") != std::string::npos);
        tensor<float> y(plan.output_shape());
        twins.network->run(plan, x.view(), y.view());
        const auto found = values_of(y.view());
        double worst = 0.0, largest = 0.0;
        for (std::size_t i = 0; i < found.size(); ++i) {
            worst = std::max(worst, std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])));
            largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
        }
        CHECK(worst <= 1e-4 * largest);
    }
}
