// Layers with a kernel per position, and X-volution, against their formulas.
#include <kdna/nn/given_position_conv2d.hpp>
#include <kdna/nn/x_volution.hpp>

#include "support/counting_resource.hpp"
#include "support/errors.hpp"
#include "support/explanation.hpp"
#include "support/run_case.hpp"

#include <kdna/nn/network_builder.hpp>

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

/// A kernel for tests: the first channel of each group at the centre, and the position, choose the weights.
struct steered_kernel {
    index_t c = 1, g = 1;
    extent2 size = 3;
    std::vector<float> slope{};  // [groups][taps]

    [[nodiscard]] index_t channels() const { return c; }
    [[nodiscard]] index_t groups() const { return g; }
    [[nodiscard]] extent2 window() const { return size; }
    [[nodiscard]] static float offset(index_t n, index_t h, index_t w) {
        return static_cast<float>((3 * n + 5 * h + 7 * w) % 8) * 0.125F;  // exact; x0 may lie in the padding
    }
    void operator()(const neighbourhood& at, float* weights) const noexcept {
        const index_t taps = size.h * size.w;
        for (index_t i = 0; i < g * taps; ++i)
            weights[i] = slope[static_cast<std::size_t>(i)] * at.centre[i / taps * (c / g)] + offset(at.n, at.h, at.w);
    }
};
static_assert(position_kernel<steered_kernel>);

struct position_case {
    shape4 in{}, out{};
    extent2 window = 3;
    conv_params params{};
    index_t groups = 1;
    std::vector<float> bias{};
    bn_tensors bn{};
    bool residual = false, in_place = false;
    kept_activation act{};
    placement x_at = placement::nchw, y_at = placement::nchw, residual_at = placement::nchw;
    conv::input_order order = conv::input_order::any;
    index_t threads = 1;

    position_case(rng& r, bool many) {
        groups = many ? r.between(1, 4) : 1;
        const index_t each =
            r.pick<index_t>({1, 2, 3, 7, lanes - 1, lanes, lanes + 1, 2 * lanes + 3, 4 * lanes, 5 * lanes + 1});
        in = {r.between(1, 3), groups * each, r.between(1, 8), r.between(1, 8)};
        window = {2 * r.between(0, 2) + 1, 2 * r.between(0, 2) + 1};
        same_size();
        if (r.chance(0.5)) {  // x0 may lie in the padding
            params.stride = {r.between(1, 2), r.between(1, 3)};
            params.dilation = {r.between(1, 2), r.between(1, 2)};
            params.pad = {r.between(0, 4), r.between(0, 4), r.between(0, 4), r.between(0, 4)};
            const auto room = [](index_t reach, index_t extent, index_t before, index_t& after) {
                after = std::max(after, reach - extent - before);
            };
            room((window.h - 1) * params.dilation.h + 1, in.h, params.pad.top, params.pad.bottom);
            room((window.w - 1) * params.dilation.w + 1, in.w, params.pad.left, params.pad.right);
            out = output_shape(in, kernel(), params);
        }
        if (r.chance(0.5)) bias = r.floats(in.c);
        if (r.chance(0.6)) bn = bn_tensors::random(r, in.c);
        residual = r.chance(0.5);
        in_place = residual && r.chance(0.3);
        act = random_activation(r, in.c);
        using p = placement;
        const auto any = [&] {
            return r.pick({p::nchw, p::nhwc, p::padded_nchw, p::padded_nhwc, p::permuted, p::reversed});
        };
        x_at = any();
        y_at = any();
        residual_at = any();
        if ((x_at == p::nhwc || x_at == p::padded_nhwc) && r.chance(0.5)) order = conv::input_order::nhwc;
        threads = r.between(1, 4);
    }
    /// Stride 1 and half the window around the map.
    void same_size() {
        params = {.pad = {window.h / 2, window.w / 2}};
        out = in;
    }
    [[nodiscard]] kernel_shape kernel() const { return {.o = in.c, .i = in.c, .kh = window.h, .kw = window.w}; }
    [[nodiscard]] std::string describe() const {
        return concat(to_string(in), " to ", to_string(out), ", ", window.h, "x", window.w, ", stride ",
                      params.stride.h, "x", params.stride.w, ", dilation ", params.dilation.h, "x", params.dilation.w,
                      ", pad ", params.pad.top, ",", params.pad.left, ", groups ", groups, ", ", to_string(x_at),
                      " to ", to_string(y_at), ", threads ", threads, bn.empty() ? "" : ", bn",
                      residual ? ", residual" : "", in_place ? " in place" : "", ", ", to_string(act));
    }
    [[nodiscard]] conv_options options() const {
        conv_options o{.bias = bias, .residual = residual, .act = act, .name = "layer"};
        if (!bn.empty()) o.bn = view_of(bn);
        return o;
    }
};

/// `weight(n, o, h, w, add)` adds the neighbours of x0 = (h, w), each with its factor and how far off that may be.
template <class Weight>
expectation expected_of(const position_case& c, const tensor_view<const float>& x,
                        const tensor_view<const float>& residual, double terms, const Weight& weight) {
    expectation e{c.out, {}, {}, {}};
    const auto& [stride, pad, dilation, mode] = c.params;
    for (index_t n = 0; n < c.out.n; ++n)
        for (index_t o = 0; o < c.out.c; ++o)
            for (index_t h = 0; h < c.out.h; ++h)
                for (index_t w = 0; w < c.out.w; ++w) {
                    const auto channel = static_cast<std::size_t>(o);
                    double sum = 0.0, error = 0.0;
                    const index_t x0_h = h * stride.h - pad.top + c.window.h / 2 * dilation.h,
                                  x0_w = w * stride.w - pad.left + c.window.w / 2 * dilation.w;
                    weight(n, o, x0_h, x0_w, [&](const bounded& factor, index_t from, index_t ih, index_t iw) {
                        if (ih < 0 || ih >= c.in.h || iw < 0 || iw >= c.in.w) return;
                        const auto v = static_cast<double>(x(n, from, ih, iw));
                        sum += factor.value * v;
                        error += factor.error * std::abs(v) + terms * unit_roundoff * std::abs(factor.value * v);
                    });
                    const double m = c.bn.empty() ? 1.0 : c.bn.scale(channel);
                    const double b = (c.bn.empty() ? 0.0 : c.bn.shift(channel)) +
                                     (c.bias.empty() ? 0.0 : m * static_cast<double>(c.bias[channel]));
                    const double added = residual.data == nullptr ? 0.0 : static_cast<double>(residual(n, o, h, w));
                    const double y = m * sum + b + added;
                    const auto [value, tolerance] =
                        c.act(channel, y,
                              1.01 * std::abs(m) * error +
                                  8.0 * unit_roundoff * (std::abs(m * sum) + std::abs(b) + std::abs(added)) + 1e-37);
                    e.value.push_back(value);
                    e.float_tolerance.push_back(tolerance);
                }
    return e;
}

/// Runs the case with one thread and with several, which must give the same bits, and judges it.
template <class Layer>
void check_runs(rng& r, const position_case& c, const Layer& layer, const frame& x, const frame& residual,
                const expectation& e, bool may_transform = true) {
    const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
    std::vector<float> alone;
    for (const index_t threads : {index_t{1}, c.threads}) {
        shuffling_executor workers(threads, r.bits());
        frame y(r, c.out, c.in_place ? c.residual_at : c.y_at);
        if (c.in_place) y.assign(residual.view());
        auto plan = layer.plan(c.in, {.executor = workers,
                                      .order = c.order,
                                      .transform_budget = may_transform ? std::numeric_limits<index_t>::max() : 0});
        const auto to = y.view();
        layer.run(plan, x.view(), to, c.in_place ? tensor_view<const float>(to) : added);
        INFO(plan.explain());
        if (!y.guards_intact() || !x.guards_intact() || !residual.guards_intact()) FAIL("wrote outside its output");
        const double worst = worst_error(values_of(y.view()), e.value, e.float_tolerance, plan.explain());
        if (!(worst <= 1.0)) FAIL("error of " << worst << " tolerances");
        if (threads == 1)
            alone = values_of(y.view());
        else if (!same_bits(alone, values_of(y.view())))
            FAIL("other bits on " << threads << " threads");
    }
}

/// Calls f(tap, row, column) for the window around (h, w).
template <class F>
void each_neighbour(const position_case& c, index_t h, index_t w, F&& f) {
    const extent2& window = c.window;
    for (index_t i = 0; i < window.h; ++i)
        for (index_t j = 0; j < window.w; ++j)
            f(i * window.w + j, h + (i - window.h / 2) * c.params.dilation.h,
              w + (j - window.w / 2) * c.params.dilation.w);
}

/// An element, or 0 outside of the map.
double padded_at(const tensor_view<const float>& x, index_t n, index_t c, index_t h, index_t w) {
    const bool inside = h >= 0 && h < x.shape.h && w >= 0 && w < x.shape.w;
    return inside ? static_cast<double>(x(n, c, h, w)) : 0.0;
}

/// f * <x0, xi>, and its error.
bounded attention_weight(const tensor_view<const float>& x, double f, index_t n, index_t h, index_t w, index_t ih,
                         index_t iw) {
    double sum = 0.0, size = 0.0;
    for (index_t c = 0; c < x.shape.c; ++c) {
        const double term = padded_at(x, n, c, h, w) * padded_at(x, n, c, ih, iw);
        sum += term;
        size += std::abs(term);
    }
    const auto terms = static_cast<double>(x.shape.c);
    return {f * sum, unit_roundoff * std::abs(f) * size * (std::min(terms, 8.0 * std::sqrt(terms)) + 4.0)};
}

/// A layer with the weights of its calls, as check_runs takes it.
struct with_weights {
    const given_position_conv2d* layer;
    nd_view<const float> weights;
    [[nodiscard]] position_plan plan(const shape4& in, const plan_options& options) const {
        return layer->plan(in, options);
    }
    void run(position_plan& p, const tensor_view<const float>& x, const tensor_view<float>& y,
             const tensor_view<const float>& residual) const noexcept {
        layer->run(p, x, weights, y, residual);
    }
};

}  // namespace

TEST_CASE("Random kernels per position agree with the formula", "[threads]") {
    for (int i = 0; i < scaled(800); ++i) {
        rng r(650, static_cast<std::uint64_t>(i));
        const position_case c(r, true);
        const index_t taps = c.window.h * c.window.w;
        const steered_kernel kernel{c.in.c, c.groups, c.window, r.floats(c.groups * taps)};
        const position_conv2d layer(kernel, c.params, c.options());
        frame x(r, c.in, c.x_at), residual(r, c.out, c.residual_at);
        x.fill(r);
        residual.fill(r);
        const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
        const index_t each = c.in.c / c.groups;
        const expectation e = expected_of(
            c, x.view(), added, static_cast<double>(taps) + 2.0,
            [&](index_t n, index_t o, index_t h, index_t w, const auto& add) {
                each_neighbour(c, h, w, [&](index_t tap, index_t ih, index_t iw) {
                    const double product = static_cast<double>(
                                               kernel.slope[static_cast<std::size_t>(o / each * taps + tap)]) *
                                           padded_at(x.view(), n, o / each * each, h, w),
                                 offset = static_cast<double>(steered_kernel::offset(n, h, w));
                    add(bounded{product + offset, 2.0 * unit_roundoff * (std::abs(product) + std::abs(offset))}, o, ih,
                        iw);
                });
            });
        KDNA_TEST_CASE_INFO(i, c.describe());
        check_runs(r, c, layer, x, residual, e);
    }
}

TEST_CASE("Random kernels per position that come with the call agree with the formula", "[threads]") {
    int shared[2] = {0, 0};
    for (int i = 0; i < scaled(800); ++i) {
        rng r(656, static_cast<std::uint64_t>(i));
        position_case c(r, true);
        const bool interleaved = r.chance(0.6);
        if (interleaved && r.chance(0.5)) c.groups = c.in.c / c.groups;  // many groups of few channels
        ++shared[interleaved ? 1 : 0];
        const index_t taps = c.window.h * c.window.w, groups = c.groups, each = c.in.c / groups;
        const given_position_conv2d layer(
            {.channels = c.in.c,
             .groups = groups,
             .window = c.window,
             .sharing = interleaved ? weight_sharing::interleaved : weight_sharing::neighbours},
            c.params, c.options());
        frame x(r, c.in, c.x_at), residual(r, c.out, c.residual_at);
        x.fill(r);
        residual.fill(r);
        // Channels last, as a network has them, or row-major; of rank 4, or 5.
        frame kernels(r, {c.out.n, groups * taps, c.out.h, c.out.w},
                      r.pick({placement::nhwc, placement::nchw, placement::permuted}));
        kernels.fill(r);
        const tensor_view<const float> k = kernels.view();
        nd_view<const float> weights = k;
        if (r.chance(0.5))
            weights = {k.data,
                       {c.out.n, groups, taps, c.out.h, c.out.w},
                       {k.stride.n, k.stride.c * taps, k.stride.c, k.stride.h, k.stride.w}};
        const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
        const auto& [stride, pad, dilation, mode] = c.params;
        const padding before = pad;
        const extent2 step = stride, apart = dilation;
        const expectation e =
            expected_of(c, x.view(), added, static_cast<double>(taps) + 2.0,
                        [&](index_t n, index_t o, index_t h, index_t w, const auto& add) {
                            const index_t g = interleaved ? o % groups : o / each,
                                          y_h = (h + before.top - c.window.h / 2 * apart.h) / step.h,
                                          y_w = (w + before.left - c.window.w / 2 * apart.w) / step.w;
                            each_neighbour(c, h, w, [&](index_t tap, index_t ih, index_t iw) {
                                add(bounded{static_cast<double>(k(n, g * taps + tap, y_h, y_w)), 0.0}, o, ih, iw);
                            });
                        });
        KDNA_TEST_CASE_INFO(i, concat(c.describe(), interleaved ? ", interleaved" : ""));
        check_runs(r, c, with_weights{&layer, weights}, x, residual, e);
    }
    CHECK(shared[0] > 0);
    CHECK(shared[1] > 0);
}

TEST_CASE("Kernels per position are a value of a network, and what does not fit is rejected by name") {
    rng r(657, 0);
    const kernel_shape head{.o = 36, .i = 8};
    const conv2d maker(dense_kernel::pack(head, r.floats(weight_count(head))), {}, {.name = "maker"});
    const given_position_weights shape{.channels = 8, .groups = 4, .window = 3, .sharing = weight_sharing::interleaved};
    const given_position_conv2d layer(shape, {.pad = 1}, {.residual = true, .act = activation::relu, .name = "p"});
    network_builder builder;
    const auto x = builder.input(8);
    const auto w = builder.add(maker, x);
    check_error(
        [&] {
            builder.add(std::make_unique<given_position_operation>(layer), {x, w}, 8);
        },
        "p inputs", "3", "2");
    const network net =
        std::move(builder).build(builder.add(std::make_unique<given_position_operation>(layer), {x, w, x}, 8));
    frame image(r, {2, 8, 6, 5}, placement::nchw);
    image.fill(r);
    const tensor<float> weights = maker(image.view());
    tensor<float> y({2, 8, 6, 5});
    auto plan = layer.plan({2, 8, 6, 5});
    const nd_view<const float> given = std::as_const(weights).view();
    layer.run(plan, image.view(), given, y.view(), image.view());
    const tensor<float> mine = net(image.view());
    CHECK(same_bits(values_of(mine.view()), values_of(y.view())));
    CHECK(net.plan({2, 8, 6, 5}).explain().find("4 groups of interleaved channels") != std::string::npos);

    const auto checked = [&](const nd_shape& s) { return [&, s] { layer.check_weights(s, {2, 8, 6, 5}); }; };
    CHECK_NOTHROW(checked({2, 36, 6, 5})());
    CHECK_NOTHROW(checked({2, 4, 9, 6, 5})());
    check_error(checked({2, 9, 4, 6, 5}), "p weights", "[2, 4, 9, 6, 5] or [2, 36, 6, 5]", "[2, 9, 4, 6, 5]");
    check_error(checked({1, 36, 6, 5}), "p weights", "[2, 36, 6, 5]", "[1, 36, 6, 5]");
    check_error([&] { layer.check(plan, image.view(), nd_view<const float>{}, y.view(), image.view()); }, "p weights",
                "memory", "a null pointer");
    check_error([&] { layer.check(plan, image.view(), given, y.view()); }, "p residual", "a view of memory",
                "a null pointer");
    check_error([] { return given_position_conv2d({.channels = 8, .groups = 3}, {}, {.name = "p"}); }, "p",
                "groups that divide the channels", "8 channels, 3 groups");
    check_error(
        [] {
            return given_position_conv2d({.channels = 8, .groups = 4, .window = {3, 2}}, {}, {.name = "p"});
        },
        "p", "an odd window", "3x2");
}

TEST_CASE("Random X-volutions agree with the formula", "[threads]") {
    int transformed = 0;
    for (int i = 0; i < scaled(500); ++i) {
        rng r(651, static_cast<std::uint64_t>(i));
        position_case c(r, false);
        if (i % 10 == 0) {  // worth Winograd
            c.in = {1, 64, r.between(9, 14), r.between(9, 14)};
            c.window = 3;
            c.same_size();
            c.bias.clear();
            c.act = activation::relu;
            c.bn = bn_tensors::random(r, 64);
            c.act = random_activation(r, 64);
        }
        const kernel_shape k = c.kernel();
        const double size = 2.0 / std::sqrt(static_cast<double>(k.i * k.taps()));
        const std::vector<float> weights = r.floats(weight_count(k), -size, size);
        const auto factor = static_cast<float>(r.real(-1.0, 1.0) / static_cast<double>(k.i));
        const x_volution layer(dense_kernel::pack(k, weights), factor, c.params, c.options());
        frame x(r, c.in, c.x_at), residual(r, c.out, c.residual_at);
        x.fill(r);
        residual.fill(r);
        const tensor_view<const float> added = c.residual ? residual.view() : tensor_view<float>{};
        const auto terms = static_cast<double>(k.i * k.taps());
        const expectation e = expected_of(
            c, x.view(), added, std::min(terms, 8.0 * std::sqrt(terms)) + 10.0,
            [&](index_t n, index_t o, index_t h, index_t w, const auto& add) {
                each_neighbour(c, h, w, [&](index_t tap, index_t ih, index_t iw) {
                    add(attention_weight(x.view(), static_cast<double>(factor), n, h, w, ih, iw), o, ih, iw);
                    for (index_t in = 0; in < k.i; ++in)
                        add(bounded{static_cast<double>(
                                        weights[static_cast<std::size_t>((o * k.i + in) * k.taps() + tap)]),
                                    0.0},
                            in, ih, iw);
                });
            });
        KDNA_TEST_CASE_INFO(i, c.describe());
        check_runs(r, c, layer, x, residual, e, i % 3 != 0);
        if (kdna_test::explanation_of(layer, c.in).find(": winograd") != std::string::npos) ++transformed;
    }
    CHECK(transformed > 0);
}

TEST_CASE("An X-volution without attention is the convolution, to the last bit but the sign of zero") {
    rng r(652, 0);
    const kernel_shape k{.o = 20, .i = 20, .kh = 3, .kw = 3};
    const auto kernel = dense_kernel::pack(k, r.floats(weight_count(k)));
    const bn_tensors bn = bn_tensors::random(r, 20);
    const conv_options options{.bn = view_of(bn), .act = activation::relu};
    frame x(r, {2, 20, 9, 7}, placement::nchw);
    x.fill(r);
    CHECK(values_of(x_volution(kernel, 0.0F, options)(x.view())) ==
          values_of(conv2d(kernel, {.pad = 1}, options)(x.view())));
}

TEST_CASE("An X-volution with a residual is a step of a network, and its residual an input of the step") {
    rng r(654, 0);
    const kernel_shape k{.o = 8, .i = 8, .kh = 3, .kw = 3};
    const conv2d stem(dense_kernel::pack(k, r.floats(weight_count(k))), {.pad = 1}, {.act = activation::relu});
    const x_volution volution(dense_kernel::pack(k, r.floats(weight_count(k), -0.2, 0.2)), 0.05F,
                              {.residual = true, .act = activation::relu, .name = "x"});
    network_builder builder;
    const auto in = builder.input(8);
    const auto h = builder.add(stem, in);
    check_error([&] { builder.add(volution, h); }, "x residual", "one", "none");
    check_error([&] { builder.add(std::make_unique<layer_operation<x_volution>>(volution), h, 8); }, "x inputs", "2",
                "1");
    const network net = std::move(builder).build(builder.add(volution, h, in));
    frame x(r, {2, 8, 7, 5}, placement::nhwc);
    x.fill(r);
    const auto mine = net(x.view());
    const auto a = stem(x.view());
    CHECK(same_bits(values_of(volution(a.view(), x.view())), values_of(mine)));
}

TEST_CASE("Position layers are steps of a network") {
    rng r(653, 0);
    const kernel_shape first{.o = 12, .i = 3, .kh = 3, .kw = 3}, k{.o = 12, .i = 12, .kh = 3, .kw = 3};
    const conv2d stem(dense_kernel::pack(first, r.floats(weight_count(first))), {.pad = 1}, {.act = activation::relu});
    const x_volution volution(dense_kernel::pack(k, r.floats(weight_count(k), -0.2, 0.2)), 0.05F, {.name = "x"});
    const position_conv2d attention(dot_product_attention(12, 5, 0.01F), {.act = activation::relu, .name = "a"});
    network_builder builder;
    auto v = builder.add(stem, builder.input(3));
    v = builder.add(volution, v);
    v = builder.add(attention, v);
    const network net = std::move(builder).build(v);
    frame x(r, {2, 3, 9, 8}, placement::nchw);
    x.fill(r);
    tensor<float> a({2, 12, 9, 8}, layout::nhwc), b({2, 12, 9, 8}, layout::nhwc), y({2, 12, 9, 8});
    auto stem_plan = stem.plan({2, 3, 9, 8});
    stem.run(stem_plan, x.view(), a.view());
    auto volution_plan = volution.plan(a.shape(), {.order = input_order::nhwc});
    volution.run(volution_plan, a.view(), b.view());
    auto attention_plan = attention.plan(b.shape(), {.order = input_order::nhwc});
    attention.run(attention_plan, b.view(), y.view());
    auto plan = net.plan({2, 3, 9, 8});
    tensor<float> out(plan.output_shape());
    net.run(plan, x.view(), out.view());
    CHECK(same_bits(values_of(y.view()), values_of(out.view())));
    CHECK(plan.explain().find("attention as its residual") != std::string::npos);
}

TEST_CASE("The memory of position layers comes from the caller's resource") {
    rng r(654, 0);
    const kernel_shape k{.o = 12, .i = 12, .kh = 3, .kw = 3};
    const x_volution layer(dense_kernel::pack(k, r.floats(weight_count(k))), 0.05F);
    counting_resource memory;
    {
        const auto plan = layer.plan({1, 12, 9, 8}, {.memory = &memory});
        CHECK(memory.live_bytes >= static_cast<std::size_t>(plan.workspace_bytes()));
    }
    CHECK(memory.live_bytes == 0);
}

TEST_CASE("Position layers reject what does not fit, by name") {
    rng r(655, 0);
    const auto packed = [&](const kernel_shape& k) { return dense_kernel::pack(k, r.floats(weight_count(k))); };
    check_error([&] { return x_volution(packed({.o = 6, .i = 4, .kh = 3, .kw = 3}), 1.0F, {.name = "xv"}); }, "xv",
                "as many filters as channels", "(O 6, I 4, 3x3)");
    check_error([&] { return x_volution(packed({.o = 4, .i = 4, .kh = 2, .kw = 3}), 1.0F, {.name = "xv"}); }, "xv",
                "an odd window", "2x3");
    check_error(
        [] {
            return position_conv2d(steered_kernel{4, 3, 3, {}}, {.name = "p"});
        },
        "p", "groups that divide the channels", "4 channels, 3 groups");
    check_error(
        [] {
            return position_conv2d(steered_kernel{4, 2, {3, 4}, {}}, {.name = "p"});
        },
        "p", "an odd window", "3x4");
    check_error(
        [] {
            return position_conv2d(dot_product_attention(4, 3), {.pad = 1, .mode = padding_mode::circular},
                                   {.name = "p"});
        },
        "p", "padding with zeros", "circular");
    const position_conv2d wide(dot_product_attention(4, 5), {.pad = 1}, {.name = "p"});
    check_error([&] { return wide.plan({1, 4, 2, 6}); }, "p", "at least 5", "4");
    const std::vector<float> three(3, 1.0F);
    check_error([&] { return position_conv2d(dot_product_attention(4, 3), {.bias = three, .name = "p"}); }, "p bias",
                "4 values", "3");
    const position_conv2d layer(dot_product_attention(4, 3), {.residual = true, .name = "p"});
    check_error([&] { return layer.plan({1, 3, 5, 5}); }, "p", "an input of 4 channels", "C 3");
    const auto plan = layer.plan({1, 4, 5, 6}), nhwc = layer.plan({1, 4, 5, 6}, {.order = input_order::nhwc});
    tensor<float> x({1, 4, 5, 6}), y({1, 4, 5, 6}), other({1, 4, 5, 5});
    check_error([&] { layer.check(plan, other.view(), y.view(), x.view()); }, "p input", "W 6", "W 5");
    check_error([&] { layer.check(plan, x.view(), other.view(), x.view()); }, "p output", "W 6", "W 5");
    check_error([&] { layer.check(plan, x.view(), y.view()); }, "p residual", "a view of memory", "a null pointer");
    check_error([&] { layer.check(nhwc, x.view(), y.view(), x.view()); }, "p input", "contiguous channels",
                "channel stride 30");
    check_error(
        [&] {
            layer.check(layer.plan_without_workspace({1, 4, 5, 6}), x.view(), y.view(), x.view());
        },
        "p", "a plan with a workspace", "without");
    const position_conv2d twin(dot_product_attention(4, 3), {.residual = true, .name = "twin"});
    check_error([&] { twin.check(plan, x.view(), y.view(), x.view()); }, "twin", "a plan of this layer", "another");
    CHECK_NOTHROW(layer.check(plan, x.view(), y.view(), x.view()));
}
