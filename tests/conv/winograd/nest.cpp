// Winograd, each variant on its own: every remainder of tiles, gate, spatial factor, residual, strides, samples; kernels that are
// stored, made panel by panel, or assembled; inputs that are not finite.
#include <algorithm>
#include <cmath>
#include <limits>

#include <kdna/backend/reference.hpp>
#include <kdna/conv/convolution.hpp>
#include <kdna/conv/winograd/algorithm.hpp>
#include <kdna/nn/conv2d.hpp>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/lanes.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// The same kernel as a source that makes its panels as they are asked for, whole.
struct made_kernel {
    using optional_members = members<>;
    dense_kernel of;
    [[nodiscard]] const panel_layout& layout() const noexcept { return of.layout(); }
    [[nodiscard]] static index_t mixture_size() noexcept { return 0; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }
    const float* panel(index_t group, index_t p, const float*, float* scratch) const noexcept {
        const float* from = of.panel(group, p, nullptr, nullptr);
        std::copy_n(from, layout().depth() * layout().width_of(p), scratch);
        return scratch;
    }
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float*) const {
        return of.weight(o, c, t, nullptr);
    }
    template <class F>
    void for_each_storage(F&& f) const {
        of.for_each_storage(f);
    }
};
/// And as one that makes some channels of a panel at a time.
struct assembled_kernel : made_kernel {
    using optional_members = members<member::assemble>;
    void assemble(index_t group, index_t p, const float*, const channel_range& channels, float* to) const noexcept {
        const index_t width = layout().width_of(p), all = layout().depth() / 9;
        for (index_t t = 0; t < 9; ++t, to += channels.count * width)
            std::copy_n(of.panel(group, p, nullptr, nullptr) + (t * all + channels.first) * width,
                        channels.count * width, to);
    }
};

struct winograd_case {
    index_t n, c, o, h, w;
    padding pad = 1;
    bool gate = true, spatial = true, residual = true;
    number_format format = number_format::float32;  ///< of the kernel that is kept transformed
    bool exact_kernel = false;                      ///< transformed for F(2x2) it has at most six bits
};

/// What F(m x m) and double accumulation make of the same input, [N][C][H][W] in the order of the tensors.
struct both_results {
    tensor<float> found, exact;
};

/// `spoil(x)` may change the input.
template <class Spoil>
both_results run_both(int m, const winograd_case& w, std::uint64_t stream, layout order, index_t threads,
                      const Spoil& spoil) {
    rng r(700, stream);
    const kernel_shape k{.o = w.o, .i = w.c, .kh = 3, .kw = 3};
    auto weights = r.floats(weight_count(k), -0.5, 0.5);
    const auto gates = r.floats(w.n * w.c, 0.1, 1.0);
    if (w.exact_kernel)
        for (float& v : weights) v = static_cast<float>(r.between(-4, 4)) * 0.125F;
    const auto spatial = r.floats(9, 0.3, 1.7);
    std::vector<float> scale = r.floats(w.o + panel_layout::width, 0.5, 1.5),
                       shift = r.floats(w.o + panel_layout::width);
    const made_kernel made{dense_kernel::pack(k, weights)};
    const assembled_kernel assembled{made};
    const source_ref kernel = r.pick({source_ref(made.of), source_ref(made), source_ref(assembled)});
    const conv_params params{.pad = w.pad};
    const shape4 in{w.n, w.c, w.h, w.w}, out = output_shape(in, k, params);
    tensor<float> x(in, order), residual(out, order), y(out, order), exact(out, order);
    for (float& v : x.span()) v = static_cast<float>(r.real(-2, 2));
    spoil(r, x);
    for (float& v : residual.span()) v = static_cast<float>(r.real(-2, 2));

    conv::problem q{.source = kernel, .params = params};
    if (w.spatial) q.static_spatial = spatial.data();
    q.channel_factor = w.gate;
    q.spatial_factor = w.spatial;
    // Kept transformed, or transformed as it is used: for all samples, or as if they had kernels of their own.
    if (r.chance(0.5)) q.transform_budget = std::numeric_limits<index_t>::max();
    q.routed_kernel = r.chance(0.3);
    q.prepared_format = w.format;
    if (w.format != number_format::float32 || w.exact_kernel) {
        q.transform_budget = std::numeric_limits<index_t>::max();
        q.routed_kernel = false;
    }
    // Planned by itself: it would not be offered for so few channels.
    conv::plan p = conv::winograd::make_plan(
        {.layer = q, .in = in, .out = out, .threads = threads, .where = "winograd test", .params = params, .map = in},
        m);
    p.by = &conv::winograd::functions;
    conv::prepare(q, p);
    buffer<std::byte> workspace(p.workspace_bytes);
    conv::call c{kernel, params, x.view(), y.view(), {}, {}, activation::none};
    if (w.residual) c.residual = residual.view();
    if (w.gate) c.factors.channel = {gates.data(), w.c};
    if (w.spatial) c.factors.spatial = {spatial.data(), 0};
    c.factors.scale = {scale.data(), 0};
    c.factors.shift = {shift.data(), 0};
    conv::run(p, c, workspace.data(), {});
    c.y = exact.view();
    const auto reference = backend::reference::make_plan(q, in, {}, 1, "winograd test");
    buffer<std::byte> of_reference(reference.workspace_bytes);
    backend::reference::run(reference, c, of_reference.data(), {});

    return {std::move(y), std::move(exact)};
}

both_results run_both(int m, const winograd_case& w, std::uint64_t stream, layout order = layout::nhwc) {
    return run_both(m, w, stream, order, 1, [](rng&, tensor<float>&) {});
}

/// Largest error of F(m x m) relative to the largest output, against double accumulation.
double error_of(int m, const winograd_case& w, std::uint64_t stream, layout order = layout::nhwc, index_t threads = 1) {
    const both_results b = run_both(m, w, stream, order, threads, [](rng&, tensor<float>&) {});
    double worst = 0.0, largest = 0.0;
    for (index_t i = 0; i < b.found.size(); ++i) {
        const auto e = static_cast<double>(b.exact.data()[i]), d = std::abs(static_cast<double>(b.found.data()[i]) - e);
        worst = d <= worst ? worst : d;
        largest = std::max(largest, std::abs(e));
    }
    return worst / largest;
}

/// The bound grows with the square root of the channels, as rounding errors do, and with the transforms' own factor.
double bound(int m, index_t channels) {
    return (m == 2 ? 8.0 : m == 4 ? 24.0 : 120.0) * std::sqrt(static_cast<double>(channels)) * 6e-8;
}

}  // namespace

TEST_CASE("Winograd agrees with double accumulation for every remainder of tiles") {
    std::uint64_t stream = 0;
    for (const int m : {2, 4, 6})
        for (index_t h = 1; h <= 13; ++h)
            for (const index_t w : {1, 2, 4, 5, 7, 14, 20})
                for (const layout order : {layout::nhwc, layout::nchw}) {
                    const winograd_case c{
                        1, lanes + 3, lanes + 1, h, w, 1, stream % 2 == 0, stream % 3 == 0, stream % 5 != 0};
                    INFO("F(" << m << "x" << m << ") on " << h << "x" << w << ", stream " << stream);
                    CHECK(error_of(m, c, stream++, order) <= bound(m, c.c));
                }
}

TEST_CASE("Winograd agrees for every padding, several samples, panels and blocks") {
    std::uint64_t stream = 1000;
    for (const int m : {2, 4, 6}) {
        for (const padding& pad : {padding(0), padding(2), padding(0, 1, 2, 3), padding(3, 0, 1, 0)})
            CHECK(error_of(m, {2, lanes, 2 * lanes, 8, 7, pad}, stream++) <= bound(m, lanes));
        for (const index_t o : {index_t{1}, lanes - 1, lanes, 2 * lanes, 2 * lanes + 1, 5 * lanes})
            CHECK(error_of(m, {3, 5, o, 6, 7}, stream++) <= bound(m, 5));
        // Blocks that end in the middle of a sample, and more threads than blocks.
        if (scaled(100) >= 10) {  // minutes where the processor is emulated
            CHECK(error_of(m, {5, 200, 33, 12, 13}, stream++) <= bound(m, 200));
            CHECK(error_of(m, {1, 64, 64, 28, 28}, stream++) <= bound(m, 64));
        }
        CHECK(error_of(m, {1, 16, 70, 5, 5}, stream++, layout::nhwc, 4) <= bound(m, 16));
    }
}

TEST_CASE("Infinities and NaN reach the outputs whose windows they are in, and no others") {
    constexpr float inf = std::numeric_limits<float>::infinity();
    std::uint64_t stream = 3000;
    for (const int m : {2, 4, 6})
        for (int i = 0; i < scaled(40); ++i, ++stream) {
            rng shape(702, stream);
            const winograd_case c{shape.between(1, 2),  shape.between(3, 2 * lanes), shape.between(1, 3 * lanes),
                                  shape.between(1, 15), shape.between(1, 15),        1,
                                  shape.chance(0.5),    shape.chance(0.5),           shape.chance(0.5)};
            const both_results b =
                run_both(m, c, stream, shape.pick({layout::nhwc, layout::nchw}), 1, [&](rng& r, tensor<float>& x) {
                    for (index_t k = r.between(1, 3); k > 0; --k)
                        x(r.between(0, c.n - 1), r.between(0, c.c - 1), r.between(0, c.h - 1), r.between(0, c.w - 1)) =
                            r.pick({inf, -inf, std::numeric_limits<float>::quiet_NaN(), 1e38F});
                });
            INFO("F(" << m << "x" << m << "), stream " << stream);
            double largest = 0.0;
            for (const float v : b.exact.span())
                if (std::isfinite(v)) largest = std::max(largest, std::abs(static_cast<double>(v)));
            for (index_t k = 0; k < b.found.size(); ++k) {
                const auto found = static_cast<double>(b.found.data()[k]),
                           exact = static_cast<double>(b.exact.data()[k]);
                const bool same = std::isnan(exact)   ? std::isnan(found)
                                  : std::isinf(exact) ? found == exact
                                                      : std::abs(found - exact) <= bound(m, c.c) * largest;
                if (!same) FAIL("element " << k << " is " << found << " instead of " << exact);
            }
        }
}

TEST_CASE("A kernel kept transformed in 16 bits gives the same bits where these can hold it") {
    // Taps are multiples of 1/8 up to 1/2, and F(2x2) makes a quarter of the sum of nine of them at most: multiples of 1/32 up to 36/32,
    // which are six bits.
    for (std::uint64_t stream = 4000; stream < 4000 + static_cast<std::uint64_t>(scaled(40)); ++stream) {
        rng shape(703, stream);
        winograd_case c{shape.between(1, 3),
                        shape.between(3, 3 * lanes),
                        shape.between(1, 5 * lanes),
                        shape.between(1, 15),
                        shape.between(1, 15),
                        1,
                        shape.chance(0.5),
                        false,
                        shape.chance(0.5)};
        c.exact_kernel = true;
        const both_results all = run_both(2, c, stream);
        for (const number_format format : {number_format::float16, number_format::bfloat16}) {
            c.format = format;
            const both_results half = run_both(2, c, stream);
            INFO("stream " << stream << ", " << to_string(format));
            CHECK(std::equal(all.found.span().begin(), all.found.span().end(), half.found.span().begin()));
        }
    }
}

TEST_CASE("A kernel kept transformed in 16 bits is off by the rounding of that, in every variant") {
    std::uint64_t stream = 5000;
    for (const int m : {2, 4, 6})
        for (const number_format format : {number_format::float16, number_format::bfloat16}) {
            const double rounding = format == number_format::float16 ? 0x1p-11 : 0x1p-8;
            winograd_case c{1, 2 * lanes, 2 * lanes + 1, 13, 11};
            c.format = format;
            double most = 0.0;
            for (int i = 0; i < 4; ++i) most = std::max(most, error_of(m, c, stream++));
            INFO("F(" << m << "x" << m << ") " << to_string(format) << ": " << most / rounding);
            // Of independent roundings of all positions and channels some cancel: the sum is off by about as much as one of them,
            // times the transforms' own factor, as in bound().
            CHECK(most <= (m == 2 ? 4.0 : m == 4 ? 12.0 : 60.0) * rounding);
            CHECK(most >= 0.02 * rounding);
        }
}

TEST_CASE("A kernel kept transformed in 16 bits takes half the memory, beside the others, and must be in its range") {
    rng r(704, 0);
    const kernel_shape k{.o = 64, .i = 64, .kh = 3, .kw = 3};
    const conv2d layer(dense_kernel::pack(k, r.floats(weight_count(k))), {.pad = 1}, {.name = "block.conv1"});
    const auto all = layer.plan({1, 64, 14, 14}),
               half = layer.plan({1, 64, 14, 14}, {.transformed_storage = number_format::bfloat16}),
               other = layer.plan({1, 64, 14, 14}, {.transformed_storage = number_format::float16});
    CHECK(half.transformed_bytes() == all.transformed_bytes() / 2);
    CHECK(other.transformed_bytes() == all.transformed_bytes() / 2);
    CHECK(half.explain().find("KiB of bfloat16,") != std::string::npos);
    index_t bytes = 0;
    layer.for_each_storage([&](const void*, index_t size) { bytes += size; });
    CHECK(bytes >= weight_count(k) * 4 + 2 * all.transformed_bytes());
    // What would not be kept as float32 is where it takes half as much.
    const auto sixes = layer.plan({1, 64, 72, 72}, {.transformed_storage = number_format::float16});
    CHECK(sixes.explain().find("F(6x6)") == std::string::npos);
    const auto budget = layer.plan({1, 64, 14, 14}, {.transform_budget = half.transformed_bytes(),
                                                     .transformed_storage = number_format::bfloat16});
    CHECK(budget.transformed_bytes() == half.transformed_bytes());

    const conv2d large(dense_kernel::pack(k, std::vector<float>(static_cast<std::size_t>(weight_count(k)), 60000.0F)),
                       {.pad = 1}, {.name = "block.conv2"});
    check_error(
        [&] {
            static_cast<void>(large.plan({1, 64, 14, 14}, {.transformed_storage = number_format::float16}));
        },
        "block.conv2, winograd F(4x4) float16", "within the range of float16", "");
    static_cast<void>(large.plan({1, 64, 14, 14}, {.transformed_storage = number_format::bfloat16}));
}

TEST_CASE("A plan spends no more on transformed kernels than it may") {
    rng r(701, 0);
    const kernel_shape k{.o = 64, .i = 64, .kh = 3, .kw = 3};
    const conv2d layer(dense_kernel::pack(k, r.floats(weight_count(k))), {.pad = 1});
    const auto storage = [&] {
        index_t bytes = 0;
        layer.for_each_storage([&](const void*, index_t size) { bytes += size; });
        return bytes;
    };
    const index_t shared = storage();
    const auto shared_plan = layer.plan({1, 64, 28, 28}, {.transform_budget = 0});
    CHECK(shared_plan.explain().find("winograd") == std::string::npos);
    CHECK(shared_plan.transformed_bytes() == 0);
    CHECK(storage() == shared);

    const auto first = layer.plan({1, 64, 14, 14}), second = layer.plan({1, 64, 16, 16});
    CHECK(first.explain().find("winograd F(4x4)") != std::string::npos);
    CHECK(first.transformed_bytes() == 36 * 64 * 64 * 4);
    CHECK(storage() == shared + first.transformed_bytes());  // one copy for both plans
    const auto sixes = layer.plan({1, 64, 72, 72});  // 6 divides it, 144 tiles: F(6x6) needs 21 % fewer products
    CHECK(sixes.explain().find("winograd F(6x6)") != std::string::npos);
    CHECK(sixes.transformed_bytes() == 64 * 64 * 64 * 4);
    CHECK(storage() == shared + first.transformed_bytes() + sixes.transformed_bytes());
    // What is not affordable is transformed as it is used, and nothing is kept.
    const auto four = layer.plan({1, 64, 72, 72}, {.transform_budget = 36 * 64 * 64 * 4});
    CHECK(four.transformed_bytes() <= 36 * 64 * 64 * 4);
    const auto none = layer.plan({1, 64, 28, 28}, {.transform_budget = 1});
    CHECK(none.explain().find("panels transformed as they are used") != std::string::npos);
    CHECK(none.transformed_bytes() == 0);
    CHECK(storage() == shared + first.transformed_bytes() + sixes.transformed_bytes());
}
