// The functions of network_functions.hpp against plain computations in double precision.
#include <kdna/nn/network_functions.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "support/conv_cases.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

using namespace kdna;
using kdna_test::check_error;
using kdna_test::rng;

namespace {

/// A value with its elements, row-major.
struct numbers_of_shape {
    nd_shape shape;
    std::vector<float> numbers;
    [[nodiscard]] double operator()(const axis_numbers& at) const {
        index_t i = 0;
        for (index_t axis = 0; axis < shape.rank(); ++axis) i = i * shape[axis] + at[static_cast<std::size_t>(axis)];
        return static_cast<double>(numbers[static_cast<std::size_t>(i)]);
    }
};

numbers_of_shape random_numbers(rng& r, const nd_shape& shape, double low = -1.0, double high = 1.0) {
    return {shape, r.floats(element_count(shape), low, high)};
}

using function_inputs = std::vector<numbers_of_shape>;
using function_under_test = std::function<network::value(network_builder&, const std::vector<network::value>&)>;
using plain_computation = std::function<double(const axis_numbers&)>;

/// Calls f(position) for every element of a value of that shape.
template <class F>
void for_each_position(const nd_shape& shape, const F& f) {
    axis_numbers at{};
    for (index_t i = 0; i < element_count(shape); ++i) {
        index_t rest = i;
        for (index_t axis = shape.rank(); axis-- > 0; rest /= shape[axis])
            at[static_cast<std::size_t>(axis)] = rest % shape[axis];
        f(at);
    }
}

/// The output of a network with one function; what the builder knew of it must be true. With `open`, the builder knows of the inputs
/// no more than their rank and axis 1.
numbers_of_shape output_of_function(const function_inputs& in, const function_under_test& f, bool open) {
    network_builder net;
    std::vector<network::value> values;
    std::vector<nd_shape> shapes;
    std::vector<nd_view<const float>> x;
    for (std::size_t i = 0; i < in.size(); ++i) {
        std::vector<index_t> extents(in[i].shape.extents().begin(), in[i].shape.extents().end());
        for (std::size_t axis = 0; axis < extents.size(); ++axis)
            if (open && axis != 1) extents[axis] = 0;
        values.push_back(net.input(concat("x", i), extents));
        shapes.push_back(in[i].shape);
        x.push_back(row_major_view<const float>(in[i].numbers.data(), in[i].shape));
    }
    const network::value y = f(net, values);
    const nd_shape known = net.known_shape(y);
    const network built = std::move(net).build(y);
    network_plan plan = built.plan(shapes);
    numbers_of_shape out{plan.output_shape(0), {}};
    INFO("known " << to_string(known) << ", is " << to_string(out.shape));
    CHECK((known.rank() == 0 || known.rank() == out.shape.rank()));
    for (index_t axis = 0; axis < known.rank(); ++axis) CHECK((known[axis] == 0 || known[axis] == out.shape[axis]));
    CHECK((y.channels == 0 || y.channels == out.shape[1]));
    out.numbers.resize(static_cast<std::size_t>(element_count(out.shape)));
    const nd_view<float> to = row_major_view(out.numbers.data(), out.shape);
    built.run(plan, x, {&to, 1});
    return out;
}

/// The function must have that shape and those elements, up to `bound` relative to 1 or to the element.
void check_function(const std::string& name, const function_inputs& in, const function_under_test& f,
                    const nd_shape& shape, const plain_computation& expected, double bound = 0.0) {
    for (const bool open : {false, true}) {
        INFO(name << (open ? ", of open extents" : ", of known extents"));
        const numbers_of_shape out = output_of_function(in, f, open);
        REQUIRE(out.shape == shape);
        double worst = 0.0;
        for_each_position(shape, [&](const axis_numbers& at) {
            const double e = expected(at);
            worst = std::max(worst, std::abs(out(at) - e) / std::max(1.0, std::abs(e)));
        });
        CHECK(worst <= bound);
    }
}

constexpr double few_roundings = 1e-6;

}  // namespace

TEST_CASE("Values are concatenated along any axis", "[network_functions]") {
    rng r(970, 0);
    const auto a = random_numbers(r, {2, 3, 4, 5}), b = random_numbers(r, {2, 6, 4, 5});
    check_function(
        "channels", {a, b}, [](auto& net, auto& x) { return nn::concat(net, x); }, {2, 9, 4, 5},
        [&](axis_numbers at) {
            if (at[1] < 3) return a(at);
            at[1] -= 3;
            return b(at);
        });
    const auto c = random_numbers(r, {2, 3, 4, 2});
    check_function(
        "columns", {a, c, a}, [](auto& net, auto& x) { return nn::concat(net, x, -1, "wide"); }, {2, 3, 4, 12},
        [&](axis_numbers at) {
            if (at[3] >= 7) at[3] -= 7;
            if (at[3] < 5) return a(at);
            at[3] -= 5;
            return c(at);
        });
}

TEST_CASE("Values are cut along any axis", "[network_functions]") {
    rng r(970, 1);
    const auto x = random_numbers(r, {2, 7, 5, 9});
    check_function(
        "every other column", {x}, [](auto& net, auto& v) { return nn::slice(net, v[0], -1, 1, -1, 2); }, {2, 7, 5, 4},
        [&](axis_numbers at) {
            at[3] = 1 + 2 * at[3];
            return x(at);
        });
    check_function(
        "the last rows", {x}, [](auto& net, auto& v) { return nn::slice(net, v[0], 2, -2); }, {2, 7, 2, 9},
        [&](axis_numbers at) {
            at[2] += 3;
            return x(at);
        });
    check_function(
        "channels", {x}, [](auto& net, auto& v) { return nn::slice_channels(net, v[0], 2, 3); }, {2, 3, 5, 9},
        [&](axis_numbers at) {
            at[1] += 2;
            return x(at);
        });
    check_function(
        "a split, the other way round", {x},
        [](auto& net, auto& v) {
            const std::vector<network::value> parts = nn::split_channels(net, v[0], {2, 4, 1});
            return nn::concat(net, {parts[2], parts[1], parts[0]});
        },
        {2, 7, 5, 9},
        [&](axis_numbers at) {
            at[1] = at[1] == 0 ? 6 : at[1] < 5 ? at[1] + 1 : at[1] - 5;
            return x(at);
        });
}

TEST_CASE("Two values, or a value and a number, are combined element by element", "[network_functions]") {
    rng r(970, 2);
    const auto a = random_numbers(r, {2, 5, 3, 4}), b = random_numbers(r, {2, 5, 3, 4}, 0.5, 2.0),
               channels = random_numbers(r, {1, 5, 1, 1}, 0.5, 2.0), columns = random_numbers(r, {4}, 0.5, 2.0);
    const auto binary = [&](const std::string& name, const auto& step, const auto& combined) {
        const auto f = [&](auto& net, auto& v) { return step(net, v[0], v[1]); };
        check_function(
            name, {a, b}, f, a.shape, [&](auto& at) { return combined(a(at), b(at)); }, few_roundings);
        check_function(
            name + " of channels", {channels, a}, [&](auto& net, auto& v) { return step(net, v[1], v[0]); }, a.shape,
            [&](auto& at) {
                return combined(a(at), channels({0, at[1]}));
            },
            few_roundings);
        check_function(
            name + " of columns", {a, columns}, f, a.shape, [&](auto& at) { return combined(a(at), columns({at[3]})); },
            few_roundings);
        check_function(
            name + " of a constant", {a},
            [&](auto& net, auto& v) { return step(net, v[0], nn::constant(net, channels.shape, channels.numbers)); },
            a.shape,
            [&](auto& at) {
                return combined(a(at), channels({0, at[1]}));
            },
            few_roundings);
        check_function(
            name + " of a number", {a}, [&](auto& net, auto& v) { return step(net, v[0], 1.25F); }, a.shape,
            [&](auto& at) { return combined(a(at), 1.25); }, few_roundings);
    };
    binary(
        "add", [](auto& net, auto& x, auto y) { return nn::add(net, x, y); }, std::plus<double>());
    binary(
        "sub", [](auto& net, auto& x, auto y) { return nn::sub(net, x, y); }, std::minus<double>());
    binary(
        "mul", [](auto& net, auto& x, auto y) { return nn::mul(net, x, y); }, std::multiplies<double>());
    binary(
        "div", [](auto& net, auto& x, auto y) { return nn::div(net, x, y); }, std::divides<double>());
    check_function(
        "1 - x", {b}, [](auto& net, auto& v) { return nn::sub(net, 1.0F, v[0]); }, b.shape,
        [&](auto& at) { return 1.0 - b(at); }, few_roundings);
    check_function(
        "1 / x", {b}, [](auto& net, auto& v) { return nn::div(net, 1.0F, v[0]); }, b.shape,
        [&](auto& at) { return 1.0 / b(at); }, few_roundings);
    check_function(
        "x + x", {a}, [](auto& net, auto& v) { return nn::add(net, v[0], v[0]); }, a.shape,
        [&](auto& at) { return 2.0 * a(at); });
}

TEST_CASE("Functions of one value", "[network_functions]") {
    rng r(970, 3);
    const auto x = random_numbers(r, {2, 5, 3, 4}, -2.0, 2.0);
    const auto slopes = r.floats(5);
    check_function(
        "clamp", {x}, [](auto& net, auto& v) { return nn::unary(net, v[0], ops::unary::clamp(-0.5F, 1.0F)); }, x.shape,
        [&](auto& at) { return std::clamp(x(at), -0.5, 1.0); });
    check_function(
        "relu", {x}, [](auto& net, auto& v) { return nn::activate(net, v[0], activation::relu); }, x.shape,
        [&](auto& at) { return std::max(x(at), 0.0); });
    check_function(
        "prelu", {x}, [&](auto& net, auto& v) { return nn::activate(net, v[0], activation::prelu(slopes)); }, x.shape,
        [&](auto& at) {
            return x(at) > 0 ? x(at) : static_cast<double>(slopes[static_cast<std::size_t>(at[1])]) * x(at);
        },
        few_roundings);
}

TEST_CASE("Images are resized to a size, by a factor, and to the size of another image", "[network_functions]") {
    rng r(970, 4);
    const auto x = random_numbers(r, {2, 3, 4, 5}), like = random_numbers(r, {2, 1, 9, 7});
    const auto nearest = [&](index_t rows, index_t columns) {
        return [&x, rows, columns](axis_numbers at) {
            at[2] = at[2] * 4 / rows;
            at[3] = at[3] * 5 / columns;
            return x(at);
        };
    };
    const auto bilinear = [&](index_t rows, index_t columns, bool corners) {
        return [&x, rows, columns, corners](axis_numbers at) {
            const auto source = [&](index_t i, index_t in, index_t out) {
                const double n = static_cast<double>(in), m = static_cast<double>(out), k = static_cast<double>(i);
                return corners ? k * (n - 1) / (m - 1) : std::clamp((k + 0.5) * n / m - 0.5, 0.0, n - 1);
            };
            const double row = source(at[2], 4, rows), column = source(at[3], 5, columns);
            double sum = 0.0;
            for (index_t h = 0; h < 4; ++h)
                for (index_t w = 0; w < 5; ++w)
                    sum += std::max(0.0, 1 - std::abs(row - static_cast<double>(h))) *
                           std::max(0.0, 1 - std::abs(column - static_cast<double>(w))) * x({at[0], at[1], h, w});
            return sum;
        };
    };
    check_function(
        "to", {x},
        [](auto& net, auto& v) {
            return nn::resize_to(net, v[0], {8, 3});
        },
        {2, 3, 8, 3}, nearest(8, 3));
    check_function(
        "to, corners", {x},
        [](auto& net, auto& v) {
            return nn::resize_to(net, v[0], {7, 9}, nn::resize_mode::bilinear, true);
        },
        {2, 3, 7, 9}, bilinear(7, 9, true), 4e-6);
    check_function(
        "by 2", {x}, [](auto& net, auto& v) { return nn::resize_by(net, v[0], 2); }, {2, 3, 8, 10}, nearest(8, 10));
    check_function(
        "by 2 and 4", {x},
        [](auto& net, auto& v) {
            return nn::resize_by(net, v[0], {2.0, 4.0}, nn::resize_mode::bilinear);
        },
        {2, 3, 8, 20}, bilinear(8, 20, false), 4e-6);
    check_function(
        "like", {x, like},
        [](auto& net, auto& v) { return nn::resize_like(net, v[0], v[1], nn::resize_mode::bilinear); }, {2, 3, 9, 7},
        bilinear(9, 7, false), 4e-6);
}

TEST_CASE("Images are pooled", "[network_functions]") {
    rng r(970, 5);
    const auto x = random_numbers(r, {2, 3, 7, 8});
    constexpr double lowest = -std::numeric_limits<double>::infinity();
    const auto largest = [&](const axis_numbers& at, index_t window, index_t stride, index_t pad) {
        double found = lowest;
        for (index_t h = at[2] * stride - pad; h < at[2] * stride - pad + window; ++h)
            for (index_t w = at[3] * stride - pad; w < at[3] * stride - pad + window; ++w)
                if (h >= 0 && h < 7 && w >= 0 && w < 8) found = std::max(found, x({at[0], at[1], h, w}));
        return found;
    };
    check_function(
        "max", {x}, [](auto& net, auto& v) { return nn::max_pool(net, v[0], {.window = 3, .stride = 2, .pad = 1}); },
        {2, 3, 4, 4}, [&](auto& at) { return largest(at, 3, 2, 1); });
    check_function(
        "max, rounded up", {x},
        [](auto& net, auto& v) { return nn::max_pool(net, v[0], {.window = 2, .stride = 2, .ceil_mode = true}); },
        {2, 3, 4, 4}, [&](auto& at) { return largest(at, 2, 2, 0); });
    const auto mean = [&](const axis_numbers& at, bool count_padding) {
        double sum = 0.0, pixels = 0.0;
        for (index_t h = at[2] * 2 - 1; h < at[2] * 2 + 2; ++h)
            for (index_t w = at[3] * 2 - 1; w < at[3] * 2 + 2; ++w)
                if (h >= 0 && h < 7 && w >= 0 && w < 8) {
                    sum += x({at[0], at[1], h, w});
                    ++pixels;
                }
        return sum / (count_padding ? 9.0 : pixels);
    };
    for (const bool count_padding : {true, false})
        check_function(
            "average", {x},
            [&](auto& net, auto& v) {
                return nn::avg_pool(net, v[0], {.window = 3, .stride = 2, .pad = 1}, count_padding);
            },
            {2, 3, 4, 4}, [&](auto& at) { return mean(at, count_padding); }, few_roundings);
    const auto adaptive = [&](const axis_numbers& at, index_t size, bool average) {
        double sum = 0.0, pixels = 0.0, found = lowest;
        for (index_t h = at[2] * 7 / size; h < ((at[2] + 1) * 7 + size - 1) / size; ++h)
            for (index_t w = at[3] * 8 / size; w < ((at[3] + 1) * 8 + size - 1) / size; ++w, ++pixels) {
                sum += x({at[0], at[1], h, w});
                found = std::max(found, x({at[0], at[1], h, w}));
            }
        return average ? sum / pixels : found;
    };
    for (const index_t size : {1, 3}) {
        check_function(
            "adaptive average", {x}, [&](auto& net, auto& v) { return nn::adaptive_avg_pool(net, v[0], size); },
            {2, 3, size, size}, [&](auto& at) { return adaptive(at, size, true); }, few_roundings);
        check_function(
            "adaptive maximum", {x}, [&](auto& net, auto& v) { return nn::adaptive_max_pool(net, v[0], size); },
            {2, 3, size, size}, [&](auto& at) { return adaptive(at, size, false); });
    }
}

TEST_CASE("Images are padded", "[network_functions]") {
    rng r(970, 6);
    const auto x = random_numbers(r, {2, 3, 4, 5});
    const auto inside = [](index_t i, index_t size, nn::pad_mode mode) {
        if (mode == nn::pad_mode::reflect) return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
        if (mode == nn::pad_mode::replicate) return std::clamp<index_t>(i, 0, size - 1);
        return mode == nn::pad_mode::circular ? (i + size) % size : i;
    };
    for (const auto mode :
         {nn::pad_mode::constant, nn::pad_mode::reflect, nn::pad_mode::replicate, nn::pad_mode::circular})
        check_function(
            concat("pad mode ", static_cast<int>(mode)), {x},
            [&](auto& net, auto& v) {
                return nn::pad(net, v[0], {1, 2, 3, 0}, mode, 0.5F);
            },
            {2, 3, 7, 8},
            [&](axis_numbers at) {
                at[2] = inside(at[2] - 1, 4, mode);
                at[3] = inside(at[3] - 3, 5, mode);
                return at[2] < 0 || at[2] >= 4 || at[3] < 0 || at[3] >= 5 ? 0.5 : x(at);
            });
}

TEST_CASE("Channels and pixels are shuffled", "[network_functions]") {
    rng r(970, 7);
    const auto x = random_numbers(r, {2, 12, 4, 6});
    check_function(
        "pixel_shuffle", {x}, [](auto& net, auto& v) { return nn::pixel_shuffle(net, v[0], 2); }, {2, 3, 8, 12},
        [&](auto& at) {
            return x({at[0], at[1] * 4 + at[2] % 2 * 2 + at[3] % 2, at[2] / 2, at[3] / 2});
        });
    check_function(
        "pixel_unshuffle", {x}, [](auto& net, auto& v) { return nn::pixel_unshuffle(net, v[0], 2); }, {2, 48, 2, 3},
        [&](auto& at) {
            return x({at[0], at[1] / 4, at[2] * 2 + at[1] % 4 / 2, at[3] * 2 + at[1] % 2});
        });
    check_function(
        "channel_shuffle", {x}, [](auto& net, auto& v) { return nn::channel_shuffle(net, v[0], 3); }, x.shape,
        [&](auto& at) {
            return x({at[0], at[1] % 3 * 4 + at[1] / 3, at[2], at[3]});
        });
}

TEST_CASE("Values are normalised", "[network_functions]") {
    rng r(970, 8);
    const auto x = random_numbers(r, {2, 6, 3, 4});
    const auto weight = r.floats(6, 0.5, 1.5), bias = r.floats(6), mean = r.floats(6), var = r.floats(6, 0.5, 1.5);
    const auto of = [](const std::vector<float>& v, index_t i) {
        return static_cast<double>(v[static_cast<std::size_t>(i)]);
    };
    check_function(
        "batch_norm", {x},
        [&](auto& net, auto& v) {
            return nn::batch_norm(net, v[0], {.weight = weight, .bias = bias, .mean = mean, .var = var, .eps = 1e-3});
        },
        x.shape,
        [&](auto& at) {
            return (x(at) - of(mean, at[1])) / std::sqrt(of(var, at[1]) + 1e-3) * of(weight, at[1]) + of(bias, at[1]);
        },
        4e-6);
    /// x normalised by the mean and variance of those elements around it which `near` names.
    const auto normalised = [&](const axis_numbers& at, double eps, const auto& near) {
        double sum = 0.0, squares = 0.0, count = 0.0;
        for_each_position(x.shape, [&](const axis_numbers& other) {
            if (other[0] != at[0] || !near(at, other)) return;
            sum += x(other);
            squares += x(other) * x(other);
            ++count;
        });
        const double m = sum / count;
        return (x(at) - m) / std::sqrt(squares / count - m * m + eps);
    };
    const auto same_pixel = [](auto& a, auto& b) { return a[2] == b[2] && a[3] == b[3]; };
    check_function(
        "layer_norm_channels", {x},
        [&](auto& net, auto& v) {
            return nn::layer_norm_channels(net, v[0], {weight, bias, 1e-3F});
        },
        x.shape, [&](auto& at) { return normalised(at, 1e-3, same_pixel) * of(weight, at[1]) + of(bias, at[1]); },
        4e-6);
    check_function(
        "layer_norm_channels, no weights", {x}, [&](auto& net, auto& v) { return nn::layer_norm_channels(net, v[0]); },
        x.shape, [&](auto& at) { return normalised(at, 1e-5, same_pixel); }, 4e-6);
    const auto gamma = r.floats(4, 0.5, 1.5);
    check_function(
        "layer_norm", {x}, [&](auto& net, auto& v) { return nn::layer_norm(net, v[0], {.weight = gamma}); }, x.shape,
        [&](auto& at) {
            return normalised(at, 1e-5, [](auto& a, auto& b) { return a[1] == b[1] && a[2] == b[2]; }) *
                   of(gamma, at[3]);
        },
        2e-5);
    check_function(
        "group_norm", {x},
        [&](auto& net, auto& v) {
            return nn::group_norm(net, v[0], 3, {weight, bias, 1e-3F});
        },
        x.shape,
        [&](auto& at) {
            return normalised(at, 1e-3, [](auto& a, auto& b) { return a[1] / 2 == b[1] / 2; }) * of(weight, at[1]) +
                   of(bias, at[1]);
        },
        4e-6);
}

TEST_CASE("Softmax, and means and sums over axes", "[network_functions]") {
    rng r(970, 9);
    const auto x = random_numbers(r, {2, 5, 3, 4});
    for (const index_t axis : {1, 3})
        check_function(
            "softmax", {x}, [&](auto& net, auto& v) { return nn::softmax(net, v[0], axis == 3 ? -1 : axis); }, x.shape,
            [&](axis_numbers at) {
                const auto a = static_cast<std::size_t>(axis);
                const double own = std::exp(x(at));
                double sum = 0.0;
                for (at[a] = 0; at[a] < x.shape[axis]; ++at[a]) sum += std::exp(x(at));
                return own / sum;
            },
            few_roundings);
    const auto over_pixels = [&](auto& at, double divisor) {
        double sum = 0.0;
        for (index_t h = 0; h < 3; ++h)
            for (index_t w = 0; w < 4; ++w) sum += x({at[0], at[1], h, w});
        return sum / divisor;
    };
    check_function(
        "mean", {x},
        [](auto& net, auto& v) {
            return nn::mean(net, v[0], {-1, 2});
        },
        {2, 5}, [&](auto& at) { return over_pixels(at, 12.0); }, few_roundings);
    check_function(
        "mean, kept", {x},
        [](auto& net, auto& v) {
            return nn::mean(net, v[0], {2, 3}, true);
        },
        {2, 5, 1, 1}, [&](auto& at) { return over_pixels(at, 12.0); }, few_roundings);
    check_function(
        "sum", {x}, [](auto& net, auto& v) { return nn::reduce(net, nn::reduce_kind::sum, v[0], {1}, true); },
        {2, 1, 3, 4},
        [&](auto& at) {
            double sum = 0.0;
            for (index_t c = 0; c < 5; ++c) sum += x({at[0], c, at[2], at[3]});
            return sum;
        },
        few_roundings);
}

TEST_CASE("Values take other shapes", "[network_functions]") {
    rng r(970, 10);
    const auto x = random_numbers(r, {2, 6, 3, 4});
    check_function(
        "flatten", {x}, [](auto& net, auto& v) { return nn::flatten(net, v[0]); }, {2, 72},
        [&](auto& at) {
            return x({at[0], at[1] / 12, at[1] / 4 % 3, at[1] % 4});
        });
    check_function(
        "flatten of pixels", {x}, [](auto& net, auto& v) { return nn::flatten(net, v[0], 2); }, {2, 6, 12},
        [&](auto& at) {
            return x({at[0], at[1], at[2] / 4, at[2] % 4});
        });
    check_function(
        "reshape", {x},
        [](auto& net, auto& v) {
            return nn::reshape(net, v[0], {extent::dim(0, 0), 2, -1, extent::dim(0, 2), extent::dim(0, 3)});
        },
        {2, 2, 3, 3, 4},
        [&](auto& at) {
            return x({at[0], at[1] * 3 + at[2], at[3], at[4]});
        });
    check_function(
        "permute", {x},
        [](auto& net, auto& v) {
            return nn::permute(net, v[0], {0, 3, 1, 2});
        },
        {2, 4, 6, 3},
        [&](auto& at) {
            return x({at[0], at[2], at[3], at[1]});
        });
}

TEST_CASE("Transposed convolutions and fully connected layers", "[network_functions]") {
    rng r(970, 11);
    const auto x = random_numbers(r, {2, 4, 3, 5}), weights = random_numbers(r, {4, 6, 2, 2});
    const auto bias = r.floats(6);
    check_function(
        "conv_transpose2d", {x},
        [&](auto& net, auto& v) {
            return nn::conv_transpose2d(net, v[0], weights.shape, weights.numbers, {.stride = 2}, {.bias = bias});
        },
        {2, 6, 6, 10},
        [&](auto& at) {
            double sum = static_cast<double>(bias[static_cast<std::size_t>(at[1])]);
            for (index_t c = 0; c < 4; ++c)
                sum += x({at[0], c, at[2] / 2, at[3] / 2}) * weights({c, at[1], at[2] % 2, at[3] % 2});
            return sum;
        },
        few_roundings);

    const auto matrix = random_numbers(r, {6, 5});
    const conv2d layer(dense_kernel::pack({.o = 6, .i = 5}, matrix.numbers), {}, {.bias = bias, .name = "fc"});
    const auto linear = [&](network_builder& net, const std::vector<network::value>& v) {
        return nn::linear(net, v[0], layer);
    };
    const auto check = [&](const numbers_of_shape& in) {
        nd_shape out = in.shape;
        const index_t last = in.shape.rank() - 1;
        out[last] = 6;
        check_function(
            "linear", {in}, linear, out,
            [&](axis_numbers at) {
                index_t& c = at[static_cast<std::size_t>(last)];
                const index_t o = c;
                double sum = static_cast<double>(bias[static_cast<std::size_t>(o)]);
                for (c = 0; c < 5; ++c) sum += in(at)*matrix({o, c});
                return sum;
            },
            few_roundings);
    };
    check(random_numbers(r, {3, 5}));
    check(random_numbers(r, {2, 7, 5}));
    check(random_numbers(r, {2, 3, 4, 5}));
}

TEST_CASE("Products of matrices", "[network_functions]") {
    rng r(970, 12);
    const auto a = random_numbers(r, {2, 3, 4, 5}), b = random_numbers(r, {2, 3, 5, 6}), c = random_numbers(r, {5, 7});
    const auto product = [](auto& net, auto& v) { return nn::matmul(net, v[0], v[1]); };
    check_function(
        "matmul", {a, b}, product, {2, 3, 4, 6},
        [&](auto& at) {
            double sum = 0.0;
            for (index_t k = 0; k < 5; ++k) sum += a({at[0], at[1], at[2], k}) * b({at[0], at[1], k, at[3]});
            return sum;
        },
        few_roundings);
    check_function(
        "matmul of one matrix", {a, c}, product, {2, 3, 4, 7},
        [&](auto& at) {
            double sum = 0.0;
            for (index_t k = 0; k < 5; ++k) sum += a({at[0], at[1], at[2], k}) * c({k, at[3]});
            return sum;
        },
        few_roundings);
}
