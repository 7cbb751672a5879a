// Kernel sources: mixtures, and one of the user's own.
#include "support/errors.hpp"
#include "support/explanation.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;
using kdna_test::frame;

namespace {

/// A source as a user would write one: W[o, c, t] = u[o] * v[c, t], assembled one panel at a time.
class rank_one_kernel {
public:
    using optional_members = members<>;

    rank_one_kernel(const kernel_shape& k, std::vector<float> u, std::vector<float> v)
        : layout_(k), u_(std::move(u)), v_(std::move(v)) {}

    [[nodiscard]] const panel_layout& layout() const noexcept { return layout_; }
    [[nodiscard]] static index_t mixture_size() noexcept { return 0; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout_.panel_floats(); }
    [[nodiscard]] const float* panel(index_t, index_t p, const float*, float* scratch) const noexcept {
        const index_t width = layout_.width_of(p);
        for (index_t t = 0; t < layout_.shape().taps(); ++t)
            for (index_t c = 0; c < layout_.shape().i; ++c)
                for (index_t f = 0; f < width; ++f)
                    scratch[(t * layout_.shape().i + c) * width + f] =
                        f < layout_.filters_of(p)
                            ? static_cast<float>(weight(p * panel_layout::width + f, c, t, nullptr))
                            : 0.0F;
        return scratch;
    }
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float*) const noexcept {
        return double(u_[static_cast<std::size_t>(o)]) *
               double(v_[static_cast<std::size_t>(c * layout_.shape().taps() + t)]);
    }
    template <class F>
    void for_each_storage(F&& f) const {
        f(static_cast<const void*>(u_.data()), static_cast<index_t>(4 * (u_.size() + v_.size())));
    }

private:
    panel_layout layout_;
    std::vector<float> u_, v_;
};
static_assert(kernel_source<rank_one_kernel>);

/// Routes fixed mixture weights.
struct fixed_mixture {
    using optional_members = members<>;

    std::vector<float> values;
    index_t channels;
    [[nodiscard]] index_t input_channels() const { return channels; }
    [[nodiscard]] route_widths widths() const { return {.mixture = static_cast<index_t>(values.size())}; }
    [[nodiscard]] static index_t scratch_floats() { return 0; }
    void operator()(const float*, const route& out, float*) const noexcept {
        std::copy(values.begin(), values.end(), out.mixture);
    }
};

}  // namespace

TEST_CASE("A kernel source of the user's own runs with every factor") {
    for (int i = 0; i < scaled(200); ++i) {
        rng r(330, static_cast<std::uint64_t>(i));
        conv_case c;
        c.kind = method::gated;
        c.kernel = {.o = r.between(1, 40), .i = r.between(1, 20), .kh = 3, .kw = r.between(1, 3)};
        c.params = {.pad = 1};
        c.in = {2, c.kernel.i, 5, 6};
        randomise_tensors(r, c);
        const auto u = r.floats(c.kernel.o), v = r.floats(c.kernel.i * c.kernel.taps());
        for (std::size_t o = 0; o < u.size(); ++o)
            for (std::size_t j = 0; j < v.size(); ++j) c.weights[o * v.size() + j] = u[o] * v[j];
        const static_adapter adapter{.spatial = c.spatial, .filter = c.filter};
        conv_options options{.bias = c.bias};
        if (!c.bn.empty()) options.bn = view_of(c.bn);
        const conv2d layer(adapt(rank_one_kernel(c.kernel, u, v), adapter), c.params, options, gate_of(c.se));
        frame x(r, c.in, placement::nhwc);
        x.fill(r);
        const expectation e = expected(c, x.view(), {});
        KDNA_TEST_CASE_INFO(i, c.describe());
        const double worst =
            worst_error(values_of(layer(x.view())), e.value, e.float_tolerance, kdna_test::explanation_of(layer, c.in));
        if (!(worst <= 1.0)) FAIL("error of " << worst << " tolerances");
    }
}

TEST_CASE("A mixture of one kernel is that kernel, bit by bit") {
    for (int i = 0; i < scaled(100); ++i) {
        rng r(331, static_cast<std::uint64_t>(i));
        kernel_shape k{.o = r.between(1, 40), .i = r.between(1, 20), .kh = 3, .kw = 3};
        if (r.chance(0.3)) k.o = k.groups = k.i;
        const auto all = r.floats(3 * weight_count(k));
        const auto mixture = mixture_kernel::pack(3, k, all);
        frame x(r, {1, k.i, 5, 5}, placement::nhwc);
        x.fill(r);
        for (std::size_t one = 0; one < 3; ++one) {
            std::vector<float> weights(3, 0.0F);
            weights[one] = 1.0F;
            const auto size = static_cast<std::size_t>(weight_count(k));
            const conv2d alone(dense_kernel::pack(k, std::span(all).subspan(one * size, size)), {.pad = 1});
            const conv2d mixed(mixture, {.pad = 1}, {}, fixed_mixture{weights, k.i});
            KDNA_TEST_CASE_INFO(i, to_string(k));
            // A mixture is never transformed for Winograd.
            if (!same_bits(values_of(alone(x.view(), {}, {.transform_budget = 0})), values_of(mixed(x.view()))))
                FAIL("kernel " << one);
        }
    }
}

TEST_CASE("The mixture weights of every sample can be read after a run") {
    rng r(332, 0);
    conv_case c = random_case(r, method::condconv);
    const auto layer = make_layer<method::condconv, backend::cpu>(c);
    frame x(r, c.in, placement::nchw), y(r, layer.output_shape(c.in), placement::nchw);
    x.fill(r);
    y.fill(r);
    auto plan = layer.plan(c.in);
    layer.run(plan, x.view(), y.view(), c.residual ? y.view() : tensor_view<float>{});
    const auto routed = routed_factors(c, x.view());
    for (index_t n = 0; n < c.in.n; ++n) {
        REQUIRE(plan.mixture(n).size() == static_cast<std::size_t>(c.mixture));
        CHECK(plan.gate(n).empty());
        for (std::size_t i = 0; i < plan.mixture(n).size(); ++i) {
            const bounded& b = routed[static_cast<std::size_t>(n)].mixture[i];
            CHECK(std::abs(static_cast<double>(plan.mixture(n)[i]) - b.value) <= b.error);
        }
    }
}

TEST_CASE("Mixtures keep their kernels once, however many layers use them") {
    rng r(333, 0);
    const kernel_shape k{.o = 8, .i = 8, .kh = 3, .kw = 3};
    const auto mixture = mixture_kernel::pack(4, k, r.floats(4 * weight_count(k)), r.floats(32));
    const mixture_kernel copy = mixture;
    std::vector<const void*> a, b;
    mixture.for_each_storage([&](const void* p, index_t bytes) {
        a.push_back(p);
        CHECK(bytes >= 4 * 4 * (weight_count(k) + 8));
    });
    copy.for_each_storage([&](const void* p, index_t) { b.push_back(p); });
    CHECK(a.size() == 1);
    CHECK(a == b);
    CHECK(mixture.mixture_size() == 4);
    CHECK(mixture.has_bias());
}

TEST_CASE("A mixture names what does not fit") {
    const std::vector<float> values(100);
    const auto first = [&](std::size_t n) { return std::span(values).first(n); };
    const kernel_shape k{.o = 4, .i = 2, .kh = 3, .kw = 1};
    check_error([&] { return mixture_kernel::pack(0, k, {}); }, "mixture_kernel", "at least one kernel", "0");
    check_error([&] { return mixture_kernel::pack(-3, k, {}); }, "mixture_kernel", "at least one kernel", "-3");
    check_error([&] { return mixture_kernel::pack(3, k, first(71), {}, "cc"); }, "cc", "3 x 24 weights", "71");
    check_error([&] { return mixture_kernel::pack(3, k, first(72), first(4), "cc"); }, "cc bias", "3 x 4 values", "4");
    check_error([&] { return mixture_kernel::pack(index_t{1} << 60, k, first(72), {}, "cc"); }, "cc", "fits in 64 bits",
                "");
    check_error([&] { return mixture_kernel::pack(1, {.o = 4, .i = 3, .groups = 2}, first(72)); }, "mixture_kernel",
                "groups", "groups 2");
}
