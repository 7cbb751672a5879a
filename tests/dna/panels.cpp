// What every kernel source serves: panels, weights and storages, against formulas written from the raw tensors.
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <span>

#include <kdna/dna/fdconv.hpp>

#include "support/conv_cases.hpp"
#include "support/explanation.hpp"
#include "support/storages.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// Shares of what some rows are made of can be read (AddressSanitizer sees where they lie), do not overlap, and come to
/// something where there are many.
template <class Source>
void check_stored(const Source& source, index_t g, index_t p, const channel_range& range) {
    [[maybe_unused]] volatile std::byte touched{};
    if constexpr (requires { source.stored(g, p, range, index_t{0}, index_t{1}); })
        for (const index_t n : {1, 7, 64}) {
            std::map<const std::byte*, const std::byte*> shares;
            for (index_t i = 0; i < n; ++i) {
                const std::span<const std::byte> share = source.stored(g, p, range, i, n);
                if (share.empty()) continue;
                touched = share.front() ^ share.back();
                shares.emplace(share.data(), share.data() + share.size());
            }
            const std::byte* end = nullptr;
            for (const auto& [first, last] : shares) {
                if (end != nullptr && std::less<>()(first, end)) FAIL("shares of " << n << " overlap");
                end = last;
            }
            if (n == 64 && shares.empty()) FAIL("nothing to ask for");
        }
}

/// All panels of a source and all its weights are `expected` [O, I/groups, KH*KW] for these routed coefficients; missing
/// filters are zeros. The scratch is exactly as long as the source asks for, and holds NaN before.
template <class Source>
void check_source(const Source& source, const kernel_shape& k, const bounded_vector& expected,
                  const std::vector<float>& routed = {}) {
    REQUIRE(source.layout().shape() == k);
    REQUIRE(source.mixture_size() == static_cast<index_t>(routed.size()));
    const bool depthwise = k.groups == k.i && k.o == k.i && k.i > 1;
    const index_t groups = depthwise ? 1 : k.groups, filters = k.o / groups, channels = depthwise ? 1 : k.i / k.groups,
                  taps = k.kh * k.kw, vector = simd::lanes;
    REQUIRE(static_cast<index_t>(expected.size()) == k.o * channels * taps);
    // Exactly as long as what is needed, so that AddressSanitizer sees more.
    const auto size = static_cast<std::size_t>(source.scratch_floats());
    const std::unique_ptr<float[]> scratch(new float[size]), mixture(new float[routed.size()]);
    std::copy(routed.begin(), routed.end(), mixture.get());
    for (index_t g = 0; g < groups; ++g)
        for (index_t p = 0; p * 2 * vector < filters; ++p) {
            std::fill_n(scratch.get(), size, std::numeric_limits<float>::quiet_NaN());
            const float* panel = source.panel(g, p, mixture.get(), scratch.get());
            const index_t left = filters - p * 2 * vector, width = left <= vector ? vector : 2 * vector;
            for (index_t t = 0; t < taps; ++t)
                for (index_t c = 0; c < channels; ++c)
                    for (index_t f = 0; f < width; ++f) {
                        const float found = panel[(t * channels + c) * width + f];
                        if (f >= left) {
                            if (found != 0.0F) FAIL("panel " << p << " pads filter " << f << " with " << found);
                            continue;
                        }
                        const index_t o = g * filters + p * 2 * vector + f;
                        const bounded& w = expected[static_cast<std::size_t>((o * channels + c) * taps + t)];
                        if (!(std::abs(static_cast<double>(found) - w.value) <= w.error))
                            FAIL("panel " << g << ", " << p << ": weight " << o << ", " << c << ", " << t << " is "
                                          << found << ", not " << w.value << " +- " << w.error);
                        // In double; what is folded into float factors before may be off by a few of their roundings.
                        const double exact = source.weight(o, c, t, mixture.get());
                        if (!(std::abs(exact - w.value) <= 0.6 * w.error + 1e-12 * std::abs(w.value)))
                            FAIL("weight(" << o << ", " << c << ", " << t << ") is " << exact << ", not " << w.value);
                    }
            if constexpr (requires(const channel_range& some, float* to) {
                              source.assemble(0, 0, nullptr, some, to);
                          }) {
                // The same bits, and no others, in parts of any size: to[taps][channels of the part][width].
                for (index_t step = 1; step <= channels; step += 2)
                    for (index_t c = 0; c < channels; c += step) {
                        const channel_range range{c, std::min(step, channels - c)};
                        check_stored(source, g, p, range);
                        const index_t run = range.count * width;
                        const std::unique_ptr<float[]> part(new float[static_cast<std::size_t>(taps * run)]);
                        source.assemble(g, p, mixture.get(), range, part.get());
                        for (index_t t = 0; t < taps; ++t) {
                            const float *from = panel + (t * channels + c) * width, *made = part.get() + t * run;
                            if (!same_bits({from, from + run}, {made, made + run}))
                                FAIL("channels " << c << " + " << range.count << " of tap " << t);
                        }
                    }
            }
        }
}

/// Shapes with groups, depthwise, and channel counts that are no multiple of a vector.
kernel_shape random_shape(rng& r) {
    kernel_shape k;
    k.kh = r.pick<index_t>({1, 1, 3, 3, 5, 2});
    k.kw = r.chance(0.8) ? k.kh : r.between(1, 4);
    const auto count = [&] { return r.pick<index_t>({1, 3, 6, 7, 8, 12, 16, 17, 24, 31, 33, 40, 48, 65, 96}); };
    k.o = count();
    k.i = r.pick<index_t>({1, 2, 3, 4, 6, 8, 9, 12});
    if (r.chance(0.25)) {
        k.o = k.i = k.groups = count();
    } else if (r.chance(0.3)) {
        k.groups = r.between(2, 4);
        k.o *= k.groups;
        k.i *= k.groups;
    }
    return k;
}

number_format random_format(rng& r) {
    return r.pick({number_format::float32, number_format::float16, number_format::bfloat16});
}

std::size_t common(const std::set<const void*>& a, const std::set<const void*>& b) {
    return static_cast<std::size_t>(std::count_if(a.begin(), a.end(), [&](const void* p) { return b.contains(p); }));
}

}  // namespace

TEST_CASE("Panels of a dense kernel are its weights") {
    for (int i = 0; i < scaled(200); ++i) {
        rng r(360, static_cast<std::uint64_t>(i));
        const kernel_shape k = random_shape(r);
        const number_format format = random_format(r);
        const auto weights = rounded_to(format, r.floats(weight_count(k)));
        KDNA_TEST_CASE_INFO(i, concat(to_string(k), " as ", to_string(format)));
        check_source(dense_kernel::pack(k, weights, "kernel", format), k, exact(weights));
    }
}

TEST_CASE("Panels of a mixture are sums of its kernels, and so are biases") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(361, static_cast<std::uint64_t>(i));
        const kernel_shape k = random_shape(r);
        const index_t n = r.between(1, 9), size = weight_count(k);
        const number_format format = random_format(r);
        const auto weights = rounded_to(format, r.floats(n * size)), biases = r.floats(n * k.o), a = r.floats(n);
        const auto sum = [&](const std::vector<float>& parts, index_t count) {
            bounded_vector out;
            for (index_t w = 0; w < count; ++w) {
                bounded_sum s;
                for (index_t j = 0; j < n; ++j)
                    s.add({static_cast<double>(parts[static_cast<std::size_t>(j * count + w)]), 0.0},
                          {static_cast<double>(a[static_cast<std::size_t>(j)]), 0.0});
                out.push_back(s.result());
            }
            return out;
        };
        const auto source = mixture_kernel::pack(n, k, weights, biases, "kernel", format);
        KDNA_TEST_CASE_INFO(i, concat(n, " of ", to_string(k), " as ", to_string(format)));
        check_source(source, k, sum(weights, size), a);
        const auto bias = sum(biases, k.o);
        for (index_t o = 0; o < k.o; ++o) {
            const bounded& b = bias[static_cast<std::size_t>(o)];
            if (!(std::abs(static_cast<double>(source.bias(o, a.data())) - b.value) <= b.error)) FAIL("bias " << o);
        }
        CHECK(source.assembly_terms() == n);
    }
}

TEST_CASE("Panels of an FDConv kernel are mixtures with a factor of every channel, tap and weight") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(376, static_cast<std::uint64_t>(i));
        kernel_shape k = random_shape(r);
        k.groups = 1;
        if (r.chance(0.5)) k.i = r.between(1, 40);
        const index_t n = r.between(1, 6), size = weight_count(k), taps = k.taps(),
                      reach = r.pick<index_t>({0, 1, 3, 5, 7});
        const auto weights = r.floats(n * size), local = r.floats(k.o * taps * reach, -0.7, 0.7);
        const fdconv_kernel source(mixture_kernel::pack(n, k, weights), local);
        const fdconv_coefficients& at = source.coefficients();
        const auto a = r.floats(at.count());
        const auto value = [&](index_t j) { return static_cast<double>(a[static_cast<std::size_t>(j)]); };
        bounded_vector expected;
        for (index_t o = 0; o < k.o; ++o)
            for (index_t c = 0; c < k.i; ++c)
                for (index_t t = 0; t < taps; ++t) {
                    bounded_sum s;
                    for (index_t j = 0; j < n; ++j)
                        s.add({static_cast<double>(
                                   weights[static_cast<std::size_t>(j * size + (o * k.i + c) * taps + t)]),
                               0.0},
                              {value(j), 0.0});
                    double logit = 0.0, magnitude = 0.0;
                    for (index_t j = 0; j < reach; ++j) {
                        const double term =
                            static_cast<double>(local[static_cast<std::size_t>((o * taps + t) * reach + j)]) *
                            value(at.means_at() + c + j);
                        logit += term;
                        magnitude += std::abs(term);
                    }
                    const double factor = reach > 0 ? 2.0 / (1.0 + std::exp(-logit)) : 1.0,
                                 scale = value(n + c) * value(n + k.i + t) * factor;
                    const bounded sum = s.result();
                    expected.push_back({sum.value * scale, std::abs(scale) * sum.error +
                                                               unit_roundoff * std::abs(sum.value * scale) *
                                                                   (8.0 + static_cast<double>(reach) * magnitude) +
                                                               1e-37});
                }
        KDNA_TEST_CASE_INFO(i, concat(n, " of ", to_string(k), ", ", reach, " taps over channels"));
        check_source(source, k, expected, a);
    }
}

TEST_CASE("Panels of a warehouse kernel are its cells, wherever they begin in a panel") {
    const auto check = [](rng& r, const kernel_shape& k, warehouse_tensors tensors) {
        const number_format format = random_format(r);
        tensors.cells = rounded_to(format, std::move(tensors.cells));
        const auto alpha = r.floats(tensors.combinations * tensors.cell.n);
        const auto source = tensors.kernel(k, format);
        INFO(to_string(k) << " as " << to_string(format) << " from " << to_string(tensors.cell));
        CHECK(source.combinations() == tensors.combinations);
        check_source(source, k, tensors.expand(k, exact(alpha)), alpha);
    };
    for (int i = 0; i < scaled(500); ++i) {
        rng r(362, static_cast<std::uint64_t>(i));
        const kernel_shape k = random_shape(r);
        KDNA_TEST_CASE_INFO(i, to_string(k));
        check(r, k, warehouse_tensors::random(r, k, 5000));
    }
    // Filters of a cell that are no multiple of a vector, nor a divisor; several go and gi; cells of k x k and of one tap.
    rng r(363, 0);
    for (const index_t filters : {1, 6, 8, 24, 40, 48, 96})
        for (const index_t go : {1, 2, 5})
            for (const index_t channels : {1, 3})
                for (const index_t gi : {1, 4})
                    for (const index_t taps : {1, 3})
                        for (const index_t groups : {index_t{1}, go}) {
                            const kernel_shape k{
                                .o = filters * go, .i = channels * gi * groups, .kh = 3, .kw = 3, .groups = groups};
                            check(
                                r, k,
                                warehouse_tensors::random(
                                    r, k, {.n = r.between(1, 4), .o = filters, .c = channels, .kh = taps, .kw = taps}));
                        }
}

TEST_CASE("Panels of an ACDC kernel are coefficients times atoms, in blocks too") {
    int blocks = 0;
    for (int i = 0; i < scaled(400); ++i) {
        rng r(364, static_cast<std::uint64_t>(i));
        const kernel_shape k = random_shape(r);
        const auto tensors = acdc_tensors::random(r, k);
        blocks += tensors.filters < k.o || tensors.channels < k.channels_per_group() ? 1 : 0;
        KDNA_TEST_CASE_INFO(i, concat(to_string(k), ", A ", tensors.filters, " x ", tensors.channels));
        const auto source = tensors.kernel(k);
        check_source(source, k, tensors.expand(k));
        CHECK(source.assembly_terms() == tensors.atoms);
    }
    CHECK(blocks > scaled(400) / 4);
}

TEST_CASE("Panels of a codebook kernel are its codewords, whatever the bits of an index") {
    for (int i = 0; i < scaled(400); ++i) {
        rng r(365, static_cast<std::uint64_t>(i));
        const kernel_shape k = random_shape(r);
        const auto tensors = sparse_tensors::random(r, k, i % 11);  // 0 ... 10
        KDNA_TEST_CASE_INFO(i, concat(to_string(k), ", ", tensors.bits, " bits"));
        check_source(tensors.kernel(k), k, tensors.expand(k));
    }
    // The largest: 16 bits, 32 taps.
    rng r(366, 0);
    const kernel_shape k{.o = 5, .i = 3, .kh = 4, .kw = 8};
    const auto tensors = sparse_tensors::random(r, k, 16);
    check_source(tensors.kernel(k), k, tensors.expand(k));
}

TEST_CASE("Panels of a DCD kernel are scaled weights and a low-rank part on the centre tap") {
    for (int i = 0; i < scaled(400); ++i) {
        rng r(367, static_cast<std::uint64_t>(i));
        kernel_shape k = random_shape(r);
        k.groups = 1;
        k.kh |= 1;
        k.kw |= 1;
        const auto tensors = dcd_tensors::random(r, k);
        const number_format format = random_format(r);
        const auto w0 = rounded_to(format, r.floats(weight_count(k)));
        const index_t l = tensors.rank;
        const auto lambda = r.floats(k.o, 0.0, 2.0), t = r.floats(l * l), u = r.floats(l);
        const dcd_route_layout at{k.o, l};
        std::vector<float> routed(static_cast<std::size_t>(at.size()), 0.0F);
        std::copy(lambda.begin(), lambda.end(), routed.begin());
        std::copy(u.begin(), u.end(), routed.begin() + at.shift_at());
        for (index_t a = 0; a < l; ++a)
            for (index_t b = 0; b < l; ++b)
                routed[static_cast<std::size_t>(at.core_at() + b * l + a)] = t[static_cast<std::size_t>(a * l + b)];
        const dcd_tensors::routed given{exact(lambda), exact(t), exact(u)};
        const dcd_kernel source(dense_kernel::pack(k, w0, "w0", format), tensors.view(), tensors.bias);
        KDNA_TEST_CASE_INFO(i, concat(to_string(k), ", rank ", l, " as ", to_string(format)));
        check_source(source, k, tensors.expand(k, w0, given), routed);
        const auto bias = tensors.shift(given);
        for (index_t o = 0; o < k.o; ++o) {
            const bounded& b = bias[static_cast<std::size_t>(o)];
            if (!(std::abs(static_cast<double>(source.bias(o, routed.data())) - b.value) <= b.error))
                FAIL("bias " << o);
        }
    }
}

TEST_CASE("A DCD layer is what the paper computes on activations") {
    for (int i = 0; i < scaled(100); ++i) {
        rng r(368, static_cast<std::uint64_t>(i));
        conv_case c;
        c.kind = method::dcd;
        c.kernel = {.o = r.between(1, 20), .i = r.between(1, 12), .kh = r.pick<index_t>({1, 3, 5}), .kw = 1};
        c.kernel.kw = c.kernel.kh;
        c.params = {.stride = r.between(1, 2), .pad = c.kernel.kh / 2};
        c.in = {2, c.kernel.i, r.between(1, 8), r.between(1, 8)};
        randomise_tensors(r, c);
        c.bn = {};
        c.bias = c.spatial = c.filter = c.dcd.bias = {};
        tensor<float> x(c.in);
        for (float& v : x.span()) v = static_cast<float>(r.real(-1.0, 1.0));
        const auto layer = make_layer<method::dcd, backend::cpu>(c);
        const tensor<float> y = layer(x.view());
        const auto tolerance = expected(c, x.view(), {}).float_tolerance;
        const convolution plain{.kernel = c.kernel, .params = c.params, .weights = c.weights};
        const auto w0 = convolve(plain, x.view());
        const auto at = [](index_t j) { return static_cast<std::size_t>(j); };
        const dcd_tensors& d = c.dcd;
        std::vector<double> value;
        for (index_t n = 0; n < 2; ++n) {
            // lambda and Phi from the pooled input, then q = BN1(Q x), BN2(Phi q) + q, P (...) + lambda (W0 x).
            bounded_vector h = d.squeeze(pooled(x.view(), n, d.grid)), g = d.gate(h);
            hard_sigmoid(g);
            for (std::size_t j = 0; j < h.size(); ++j) h[j].value *= g[j].value;
            bounded_vector lambda = d.scale(h);
            hard_sigmoid(lambda);
            const bounded_vector phi = d.phi(h);
            for (index_t o = 0; o < c.kernel.o; ++o)
                for (index_t yh = 0; yh < y.shape().h; ++yh)
                    for (index_t yw = 0; yw < y.shape().w; ++yw) {
                        std::vector<double> q;
                        for (index_t j = 0; j < d.rank; ++j) {
                            double sum = 0.0;
                            for (index_t ch = 0; ch < c.kernel.i; ++ch)
                                sum += double(d.q[at(j * c.kernel.i + ch)]) *
                                       double(x(n, ch, yh * c.params.stride.h, yw * c.params.stride.w));
                            q.push_back(d.bn1.scale(at(j)) * sum + d.bn1.shift(at(j)));
                        }
                        double out = lambda[at(o)].value * w0.value[value.size()];
                        for (index_t a = 0; a < d.rank; ++a) {
                            double sum = 0.0;
                            for (index_t b = 0; b < d.rank; ++b) sum += phi[at(a * d.rank + b)].value * q[at(b)];
                            out += double(d.p[at(o * d.rank + a)]) *
                                   (d.bn2.scale(at(a)) * sum + d.bn2.shift(at(a)) + q[at(a)]);
                        }
                        value.push_back(c.act == activation::none ? out : std::max(out, 0.0));
                    }
        }
        KDNA_TEST_CASE_INFO(i, c.describe());
        const double worst = worst_error(values_of(y.view()), value, tolerance, kdna_test::explanation_of(layer, c.in));
        if (!(worst <= 1.0)) FAIL("error of " << worst << " tolerances");
    }
}

TEST_CASE("Layers that share a warehouse, coefficients, a codebook or a parent keep them once") {
    rng r(369, 0);
    const kernel_shape small{.o = 16, .i = 8, .kh = 3, .kw = 3}, large{.o = 32, .i = 16, .kh = 3, .kw = 3};
    const cell_shape cell{.n = 3, .o = 8, .c = 8, .kh = 3, .kw = 3};
    const auto one = warehouse_tensors::random(r, small, cell), two = warehouse_tensors::random(r, large, cell);
    const warehouse cells = warehouse::pack(cell, one.cells);
    const conv2d a(warehouse_kernel(cells, small), {.pad = 1}, {}, one.router(8));
    const conv2d b(warehouse_kernel(cells, large), {.pad = 1}, {}, two.router(16));
    const conv2d copy = a;
    CHECK(common(storages(a), storages(b)) == 1);
    CHECK(common(storages(cells), storages(b)) == 1);
    CHECK(common(storages(warehouse_kernel(cells, small)), storages(copy)) == 1);
    a.for_each_storage([&](const void* p, index_t bytes) {
        if (storages(cells).contains(p)) CHECK(bytes >= 4 * 3 * 8 * 8 * 9);
    });

    const auto coefficients = shared_coefficients::pack(16, 8, 5, r.floats(16 * 8 * 5));
    const acdc_kernel first(coefficients, small, r.floats(45)), second(coefficients, large, r.floats(45));
    const acdc_kernel again = first;
    CHECK(storages(first).size() == 2);  // coefficients and atoms
    CHECK(common(storages(first), storages(second)) == 1);
    CHECK(storages(first) == storages(again));
    CHECK(common(storages(coefficients.cells()), storages(second)) == 1);

    const auto codebook = sparse_tensors::random(r, small, 4);
    const codebook_kernel code = codebook.kernel(small), other = code;
    CHECK(storages(code) == storages(other));
    CHECK(common(storages(code), storages(conv2d(code.scaled(codebook.alpha), {.pad = 1}))) == 1);

    const auto w0 = dense_kernel::pack(small, r.floats(weight_count(small)));
    const auto d1 = dcd_tensors::random(r, small), d2 = dcd_tensors::random(r, small);
    const dcd_kernel x(w0, d1.view()), y(w0, d2.view()), z = x;
    CHECK(storages(x).size() == 2);
    CHECK(common(storages(x), storages(y)) == 1);
    CHECK(common(storages(w0), storages(y)) == 1);
    CHECK(storages(x) == storages(z));
}
