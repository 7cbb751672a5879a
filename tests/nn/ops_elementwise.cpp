// Operations element by element against PyTorch's definitions in double.
#include <kdna/nn/ops/elementwise.hpp>

#include "support/activations.hpp"
#include "support/errors.hpp"
#include "support/nd_frames.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

double elementwise_binary(ops::binary_kind kind, double a, double b) {
    using k = ops::binary_kind;
    switch (kind) {
        case k::add: return a + b;
        case k::sub: return a - b;
        case k::mul: return a * b;
        case k::div: return a / b;
        case k::maximum: return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b);
        case k::minimum: return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b);
    }
    return NAN;
}

ops::binary_kind elementwise_any_binary(rng& r) { return static_cast<ops::binary_kind>(r.between(0, 5)); }

/// The element of v at an index into a shape it is broadcast to.
double elementwise_broadcast(const nd_view<const float>& v, const nd_shape& s, const axis_numbers& i) {
    axis_numbers j{};
    for (index_t a = 0; a < v.rank(); ++a)
        j[static_cast<std::size_t>(a)] = v.shape[a] == 1 ? 0 : i[static_cast<std::size_t>(a + s.rank() - v.rank())];
    return static_cast<double>(element(v, j));
}

/// Half a unit in the last place, and what is lost below the normal numbers.
double elementwise_rounding(double value) { return 0x1p-24 * std::abs(value) + 0x1p-149; }

}  // namespace

TEST_CASE("Two operands are broadcast as PyTorch broadcasts them") {
    for (int i = 0; i < scaled(2500); ++i) {
        rng r(900, static_cast<std::uint64_t>(i));
        const nd_shape full = any_nd_shape(r, r.between(1, 5));
        const auto part = [&] {
            std::vector<index_t> extents(full.extents().begin(), full.extents().end());
            for (index_t& e : extents)
                if (r.chance(0.3)) e = 1;
            if (r.chance(0.3)) extents.erase(extents.begin(), extents.begin() + r.between(0, full.rank() - 1));
            return nd_shape(extents);
        };
        const nd_shape s = r.chance(0.5) ? full : part(), t = r.chance(0.5) ? full : part();
        nd_frame a(r, s, r.chance(0.1) ? nd_placement::repeated : any_nd_placement(r)),
            b(r, t, r.chance(0.1) ? nd_placement::repeated : any_nd_placement(r));
        a.fill(r, -3.0, 3.0);
        b.fill(r, -3.0, 3.0);
        a.spoil(r, r.between(0, 1));
        b.spoil(r, r.between(0, 1));
        const ops::binary_kind kind = elementwise_any_binary(r);
        KDNA_TEST_CASE_INFO(i, concat("kind ", static_cast<int>(kind), " of ", to_string(s), " and ", to_string(t)));
        const nd_shape out = broadcast(s, t, "test");
        CHECK(ops::binary(kind).output_shape(std::vector{s, t}, "test") == out);
        bounded_result expected;
        for_each_index(out, [&](const axis_numbers& index) {
            const double v = elementwise_binary(kind, elementwise_broadcast(a.view(), out, index),
                                                elementwise_broadcast(b.view(), out, index));
            expected.push_back(v, elementwise_rounding(v));
        });
        check_result(result_of(ops::binary(kind), r, {a.view(), b.view()}), expected);
    }
}

TEST_CASE("A scalar is either operand") {
    for (int i = 0; i < scaled(600); ++i) {
        rng r(901, static_cast<std::uint64_t>(i));
        nd_frame x(r, any_nd_shape(r, r.between(1, 5)), any_nd_placement(r));
        x.fill(r, -3.0, 3.0);
        x.spoil(r, r.between(0, 1));
        const ops::binary_kind kind = elementwise_any_binary(r);
        const auto scalar = static_cast<float>(r.real(-2.0, 2.0));
        const bool first = r.chance(0.5);
        bounded_result expected;
        for (const float v : values_of(x.view())) {
            const double a = static_cast<double>(first ? scalar : v), b = static_cast<double>(first ? v : scalar);
            expected.push_back(elementwise_binary(kind, a, b), elementwise_rounding(elementwise_binary(kind, a, b)));
        }
        KDNA_TEST_CASE_INFO(i, concat("kind ", static_cast<int>(kind), " of ", to_string(x.view().shape)));
        check_result(result_of(ops::binary(kind, scalar, first), r, {x.view()}), expected);
    }
}

TEST_CASE("Operations on elements may write over an input") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(902, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(2, 5));
        nd_frame x(r, s, any_nd_placement(r)), b(r, s, any_nd_placement(r));
        x.fill(r);
        b.fill(r);
        const std::vector<nd_view<const float>> in{x.view(), b.view()}, back{b.view(), x.view()}, one{x.view()};
        const auto check_in_place = [&](const auto& op, const auto& inputs) {
            const std::vector<float> apart = result_of(op, r, inputs);
            op.run(inputs, x.view(), executor_ref());
            CHECK(apart == values_of(x.view()));
            CHECK(x.guards_intact());
        };
        KDNA_TEST_CASE_INFO(i, to_string(s));
        check_in_place(ops::binary(ops::binary_kind::sub), in);
        check_in_place(ops::binary(ops::binary_kind::sub), back);
        check_in_place(ops::binary(ops::binary_kind::mul, 0.5F), one);
        check_in_place(ops::unary(ops::unary_kind::exp), one);
        check_in_place(ops::activate(activation::gelu), one);
        const std::vector<float> slopes = r.floats(s[1]);
        check_in_place(ops::activate(activation::prelu(slopes)), one);
    }
}

TEST_CASE("Functions of one operand are those of the C library, to a few units in the last place") {
    using k = ops::unary_kind;
    struct function {
        ops::unary op;
        double (*exact)(double);
        double ulps, low, high;
    };
    const function functions[] = {
        {ops::unary(k::abs), [](double x) { return std::abs(x); }, 0, -5, 5},
        {ops::unary(k::neg), [](double x) { return -x; }, 0, -5, 5},
        {ops::unary(k::exp), [](double x) { return std::exp(x); }, 2, -20, 20},
        {ops::unary(k::log), [](double x) { return std::log(x); }, 2, -1, 30},
        {ops::unary(k::log), [](double x) { return std::log(x); }, 2, 0.5, 1.5},
        {ops::unary(k::sqrt), [](double x) { return std::sqrt(x); }, 0.5, -1, 30},
        {ops::unary(k::rsqrt), [](double x) { return 1.0 / std::sqrt(x); }, 1.5, -1, 30},
        {ops::unary::pow(1.0F), [](double x) { return x; }, 0, -3, 3},
        {ops::unary::pow(2.0F), [](double x) { return x * x; }, 0.5, -3, 3},
        {ops::unary::pow(3.0F), [](double x) { return x * x * x; }, 1.5, -3, 3},
        {ops::unary::pow(0.5F), [](double x) { return std::sqrt(x); }, 0.5, -1, 3},
        {ops::unary::pow(-0.5F), [](double x) { return 1.0 / std::sqrt(x); }, 1.5, 0.1, 3},
        {ops::unary::pow(-1.0F), [](double x) { return 1.0 / x; }, 0.5, -3, 3},
        {ops::unary::pow(-2.0F), [](double x) { return 1.0 / (x * x); }, 1.5, -3, 3},
        {ops::unary::pow(0.0F), [](double) { return 1.0; }, 0, -3, 3},
        {ops::unary::pow(2.5F), [](double x) { return std::pow(x, 2.5); }, 1.0, -0.5, 3},
        {ops::unary::clamp(-0.5F, 1.0F), [](double x) { return std::isnan(x) ? x : std::min(std::max(x, -0.5), 1.0); },
         0, -3, 3},
        {ops::unary::clamp(2.0F, 1.0F), [](double x) { return std::isnan(x) ? x : 1.0; }, 0, -3, 3},
    };
    for (int i = 0; i < scaled(2000); ++i) {
        rng r(903, static_cast<std::uint64_t>(i));
        const auto which = static_cast<std::size_t>(r.between(0, static_cast<index_t>(std::size(functions)) - 1));
        const function& f = functions[which];
        nd_frame x(r, any_nd_shape(r, r.between(1, 5)), any_nd_placement(r));
        x.fill(r, f.low, f.high);
        x.spoil(r, r.between(0, 2));
        if (r.chance(0.3)) *x.view().data = 0.0F;
        KDNA_TEST_CASE_INFO(i, concat("function ", which, " of ", to_string(x.view().shape)));
        bounded_result expected;
        for (const float v : values_of(x.view())) {
            const double e = f.exact(static_cast<double>(v));
            // The largest power of two that is not more than the value, times 2^-23, is a unit in its last place.
            expected.push_back(e, f.ulps * std::abs(e) * 0x1p-23 + (f.ulps > 0 ? 0x1p-126 : 0));
        }
        check_result(result_of(f.op, r, {x.view()}), expected);
    }
}

TEST_CASE("Activations are those of the list, with slopes for the channels of axis 1") {
    for (int i = 0; i < scaled(2000); ++i) {
        rng r(904, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(2, 5));
        const auto all = all_activation_kinds();
        const kept_activation act(r, all[static_cast<std::size_t>(r.between(0, activation_kinds - 1))],
                                  r.chance(0.2) ? 1 : s[1]);
        nd_frame x(r, s, r.chance(0.1) ? nd_placement::repeated : any_nd_placement(r));
        x.fill(r, -4.0, 4.0);
        KDNA_TEST_CASE_INFO(i, concat(to_string(act), " of ", to_string(s)));
        bounded_result expected;
        for_each_index(s, [&](const axis_numbers& index) {
            const auto [value, error] = act(act.of_channel.size() > 1 ? static_cast<std::size_t>(index[1]) : 0,
                                            static_cast<double>(element(x.view(), index)), 0.0);
            expected.push_back(value, error);
        });
        const ops::activate op{activation(act)};
        CHECK(op.act() == activation(act));
        check_result(result_of(op, r, {x.view()}), expected);
    }
}

TEST_CASE("Operations on elements refuse what does not fit, by name") {
    const nd_shape a{2, 3, 4}, b{2, 3, 5};
    const ops::binary add(ops::binary_kind::add);
    check_error(
        [&] {
            return add.output_shape(std::vector{a, b}, "block.add");
        },
        "block.add", "can be broadcast", "[2, 3, 4] and [2, 3, 5]");
    check_error([&] { return add.output_shape(std::vector{a}, "block.add"); }, "block.add", "2 inputs", "1");
    check_error(
        [&] {
            return ops::binary(ops::binary_kind::add, 1.0F).output_shape(std::vector{a, b}, "block.add");
        },
        "block.add", "1 input", "2");
    constexpr index_t big = index_t{1} << 40;
    check_error(
        [&] {
            return add.output_shape(std::vector{nd_shape{big, 1}, nd_shape{1, big}}, "big");
        },
        "big", "fits in 64 bits", "");
    check_error(
        [&] {
            return add.output_shape(std::vector{nd_shape{0, 1}, nd_shape{1, 2}}, "none");
        },
        "none", "extents >= 1", "[0, 1]");
    check_error([] { return ops::unary(ops::unary_kind::pow, "x.pow"); }, "x.pow", "without parameters", "pow");
    check_error([] { return ops::unary::clamp(NAN, 1.0F, "x.clamp"); }, "x.clamp", "numbers", "nan");
    const std::vector<float> slopes(3, 0.5F);
    check_error(
        [&] {
            return ops::activate(activation{activation_kind::relu, 0.0F, slopes}, "act");
        },
        "act relu", "no parameters of channels", "3");
    check_error(
        [&] {
            return ops::activate(activation{activation_kind::prelu, 0.0F, {}}, "act");
        },
        "act prelu", "parameters of channels", "0");
    const ops::activate prelu(activation::prelu(slopes), "act");
    CHECK(prelu.output_shape(std::vector{a}, "act") == a);
    check_error([&] { return prelu.output_shape(std::vector{nd_shape{3, 4}}, "act"); }, "act", "3 channels", "[3, 4]");
    check_error([&] { return prelu.output_shape(std::vector{nd_shape{3}}, "act"); }, "act", "3 channels", "[3]");
}
