// FDConv's router against its formula, what it refuses, and a layer on the reference backend.
#include <kdna/dna/fdconv.hpp>

#include <cmath>

#include <kdna/nn/conv2d.hpp>

#include "support/errors.hpp"
#include "support/ones.hpp"
#include "support/random.hpp"
#include "support/run_case.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// Random tensors of a layer, and its formula in double.
struct fdconv_tensors {
    kernel_shape k;
    index_t n, hidden, reach;
    float scale, shift;
    std::vector<float> weights, local, fc, norm_weight, norm_bias, heads[4], biases[4];
    bn_tensors bn;

    fdconv_tensors(rng& r, const kernel_shape& shape, index_t kernels, index_t taps_over_channels)
        : k(shape), n(kernels), hidden(r.between(1, 20)), reach(taps_over_channels) {
        scale = static_cast<float>(r.real(0.3, 1.2));
        shift = static_cast<float>(r.real(-0.6, 0.6));
        weights = r.floats(n * weight_count(k));
        local = r.floats(k.o * k.taps() * reach);
        fc = r.floats(hidden * k.i);
        norm_weight = r.floats(k.i);
        norm_bias = r.floats(k.i);
        bn = bn_tensors::random(r, hidden);
        const index_t outputs[] = {k.i, k.o, k.taps(), n};
        for (std::size_t i = 0; i < 4; ++i) {
            heads[i] = r.floats(outputs[i] * hidden);
            biases[i] = r.floats(outputs[i]);
        }
    }
    [[nodiscard]] fdconv_kernel kernel() const { return {mixture_kernel::pack(n, k, weights), local}; }
    [[nodiscard]] fdconv_weights view() const {
        const auto head = [&](std::size_t i) { return linear_weights{heads[i], biases[i]}; };
        return {.fc = fc,
                .bn = view_of(bn),
                .scale = scale,
                .shift = shift,
                .channel = head(0),
                .filter = head(1),
                .spatial = head(2),
                .kernel = head(3),
                .norm_weight = norm_weight,
                .norm_bias = norm_bias};
    }
    /// Coefficients of a sample as fdconv_coefficients has them, and then the filters' factors.
    [[nodiscard]] std::vector<double> operator()(const std::vector<float>& pooled) const {
        std::vector<double> z, out;
        const auto at = [](const std::vector<float>& v, index_t i) {
            return static_cast<double>(v[static_cast<std::size_t>(i)]);
        };
        for (index_t j = 0; j < hidden; ++j) {
            double sum = 0.0;
            for (index_t c = 0; c < k.i; ++c) sum += at(fc, j * k.i + c) * at(pooled, c);
            const auto unit = static_cast<std::size_t>(j);
            sum = std::max(sum * bn.scale(unit) + bn.shift(unit), 0.0);
            z.push_back(static_cast<double>(scale) * sum * sum + static_cast<double>(shift));
        }
        const auto head = [&](std::size_t i, double divisor) {
            for (index_t o = 0; o < static_cast<index_t>(biases[i].size()); ++o) {
                double sum = at(biases[i], o);
                for (index_t j = 0; j < hidden; ++j)
                    sum += at(heads[i], o * hidden + j) * z[static_cast<std::size_t>(j)];
                out.push_back(2.0 / divisor / (1.0 + std::exp(-sum)));
            }
        };
        head(3, static_cast<double>(n));
        head(0, 1.0);
        head(2, 1.0);
        if (reach > 0) {
            double mean = 0.0, variance = 0.0;
            for (const float v : pooled) mean += static_cast<double>(v) / static_cast<double>(k.i);
            for (const float v : pooled)
                variance += std::pow(static_cast<double>(v) - mean, 2) / static_cast<double>(k.i);
            out.insert(out.end(), static_cast<std::size_t>(reach / 2), 0.0);
            for (index_t c = 0; c < k.i; ++c)
                out.push_back((at(pooled, c) - mean) / std::sqrt(variance + 1e-5) * at(norm_weight, c) +
                              at(norm_bias, c));
            out.insert(out.end(), static_cast<std::size_t>(reach / 2), 0.0);
        }
        head(1, 1.0);
        return out;
    }
};

}  // namespace

TEST_CASE("FDConv's router: heads on StarReLU, and means after a layer norm") {
    for (int i = 0; i < scaled(200); ++i) {
        rng r(377, static_cast<std::uint64_t>(i));
        const kernel_shape k{.o = r.between(1, 40), .i = r.between(2, 50), .kh = 3, .kw = r.pick<index_t>({1, 3})};
        const fdconv_tensors tensors(r, k, r.between(1, 6), r.pick<index_t>({0, 1, 3, 5}));
        const fdconv_kernel kernel = tensors.kernel();
        const fdconv_router router(tensors.view(), kernel);
        CHECK(router.widths() == route_widths{.mixture = kernel.mixture_size(), .filter = k.o});
        const auto pooled = r.floats(k.i, -2.0, 2.0);
        const std::vector<double> expected = tensors(pooled);
        std::vector<float> found(static_cast<std::size_t>(router.widths().total()), NAN),
            z(static_cast<std::size_t>(router.scratch_floats()));
        router(pooled.data(), {.mixture = found.data(), .filter = found.data() + kernel.mixture_size()}, z.data());
        REQUIRE(found.size() == expected.size());
        KDNA_TEST_CASE_INFO(i, to_string(k));
        for (std::size_t j = 0; j < found.size(); ++j)
            if (!(std::abs(static_cast<double>(found[j]) - expected[j]) <= 3e-5 * (1.0 + std::abs(expected[j]))))
                FAIL("coefficient " << j << " is " << found[j] << ", not " << expected[j]);
    }
}

TEST_CASE("An FDConv layer agrees with the reference backend, which multiplies its weights out") {
    for (int i = 0; i < scaled(60); ++i) {
        rng r(378, static_cast<std::uint64_t>(i));
        const kernel_shape k{.o = r.between(1, 70), .i = r.between(1, 40), .kh = 3, .kw = 3};
        const fdconv_tensors tensors(r, k, r.between(1, 4), r.pick<index_t>({0, 3, 5}));
        const conv_params params{.stride = r.between(1, 2), .pad = 1};
        const conv_options options{.act = activation::relu, .name = "layer"};
        const fdconv_router router(tensors.view(), tensors.kernel());
        const conv2d<fdconv_kernel, fdconv_router> fast(tensors.kernel(), params, options, router);
        const conv2d<fdconv_kernel, fdconv_router, backend::reference> slow(tensors.kernel(), params, options, router);
        kdna_test::frame x(r, {r.between(1, 3), k.i, r.between(3, 14), r.between(3, 14)}, placement::nchw);
        x.fill(r);
        const tensor<float> y = fast(x.view()), e = slow(x.view());
        float largest = 0.0F, worst = 0.0F;
        for (index_t j = 0; j < y.size(); ++j) {
            largest = std::max(largest, std::abs(e.data()[j]));
            worst = std::max(worst, std::abs(e.data()[j] - y.data()[j]));
        }
        KDNA_TEST_CASE_INFO(i, to_string(k));
        if (!(worst <= 2e-5F * largest + 1e-6F)) FAIL("off by " << worst << " of " << largest);
    }
}

TEST_CASE("FDConv names the tensor that does not fit") {
    const kernel_shape k{.o = 4, .i = 6, .kh = 3, .kw = 3};
    const auto kernels = mixture_kernel::pack(2, k, ones(2 * weight_count(k)));
    check_error([&] { return fdconv_kernel(kernels, ones(2 * 36), "f"); }, "f local", "36 x K weights, K odd", "72");
    check_error([&] { return fdconv_kernel(kernels, ones(35), "f"); }, "f local", "36 x K weights, K odd", "35");
    const kernel_shape grouped{.o = 4, .i = 6, .kh = 3, .kw = 3, .groups = 2};
    check_error([&] { return fdconv_kernel(mixture_kernel::pack(1, grouped, ones(108)), {}, "f"); }, "f", "one group",
                "");
    check_error([&] { return fdconv_kernel(mixture_kernel::pack(2, k, ones(2 * weight_count(k)), ones(8)), {}, "f"); },
                "f", "without a bias", "one");
    const fdconv_kernel kernel(kernels, ones(3 * 36));
    const fdconv_weights good{.fc = ones(12),
                              .bn = bn_of_ones(2),
                              .channel = {ones(12), ones(6)},
                              .filter = {ones(8), ones(4)},
                              .spatial = {ones(18), ones(9)},
                              .kernel = {ones(4), ones(2)}};
    const auto with = [&](const std::function<void(fdconv_weights&)>& change) {
        fdconv_weights w = good;
        change(w);
        return [w, &kernel] { return fdconv_router(w, kernel, "f"); };
    };
    CHECK_NOTHROW(with([](fdconv_weights&) {})());
    check_error(with([](fdconv_weights& w) { w.fc = ones(11); }), "f.fc", "multiple of 6", "11");
    check_error(with([](fdconv_weights& w) { w.channel = {ones(10), ones(5)}; }), "f.channel_fc", "6 outputs", "5");
    check_error(with([](fdconv_weights& w) { w.filter = {ones(10), ones(5)}; }), "f.filter_fc", "4 outputs", "5");
    check_error(with([](fdconv_weights& w) { w.spatial = {ones(8), ones(4)}; }), "f.spatial_fc", "9 outputs", "4");
    check_error(with([](fdconv_weights& w) { w.kernel = {ones(6), ones(3)}; }), "f.kernel_fc", "2 outputs", "3");
    check_error(with([](fdconv_weights& w) { w.filter.bias = ones(3); }), "f.filter_fc.bias", "4 values", "3");
    check_error(with([](fdconv_weights& w) { w.norm_weight = ones(5); }), "f.norm", "6 values", "5");
}
