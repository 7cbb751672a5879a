// The tensors of the dynamic convolutions as files have them, and what they say, written from the papers' formulas with
// bounded arithmetic (oracle.hpp). Nothing here looks at how the library packs, folds or assembles.
#pragma once

#include <cstdint>
#include <vector>

#include <kdna/dna/acdc.hpp>
#include <kdna/dna/dcd.hpp>
#include <kdna/dna/dyconv.hpp>
#include <kdna/dna/kernel_warehouse.hpp>
#include <kdna/dna/odconv.hpp>
#include <kdna/dna/sparse_kernel.hpp>

#include "support/oracle.hpp"

namespace kdna_test {

inline kdna::batch_norm view_of(const bn_tensors& bn) {
    return {.weight = bn.weight, .bias = bn.bias, .mean = bn.mean, .var = bn.var, .eps = bn.eps};
}

/// Means over windows of a grid, [C][grid][grid]: PyTorch's adaptive average pooling.
inline bounded_vector pooled(const kdna::tensor_view<const float>& x, index_t n, index_t grid) {
    bounded_vector out;
    for (index_t c = 0; c < x.shape.c; ++c)
        for (index_t i = 0; i < grid; ++i)
            for (index_t j = 0; j < grid; ++j) {
                const auto first = [&](index_t k, index_t extent) {
                    return static_cast<index_t>(
                        std::floor(static_cast<double>(k * extent) / static_cast<double>(grid)));
                };
                const auto last = [&](index_t k, index_t extent) {
                    return static_cast<index_t>(
                        std::ceil(static_cast<double>((k + 1) * extent) / static_cast<double>(grid)));
                };
                double sum = 0.0, magnitude = 0.0;
                index_t count = 0;
                for (index_t h = first(i, x.shape.h); h < last(i, x.shape.h); ++h)
                    for (index_t w = first(j, x.shape.w); w < last(j, x.shape.w); ++w, ++count) {
                        sum += static_cast<double>(x(n, c, h, w));
                        magnitude += std::abs(static_cast<double>(x(n, c, h, w)));
                    }
                const auto share = 1.0 / static_cast<double>(count);
                out.push_back(
                    {sum * share, unit_roundoff * static_cast<double>(x.shape.h + x.shape.w + 4) * magnitude * share});
            }
    return out;
}

/// A dense layer with weights of a size that keeps its outputs near one.
struct linear_tensors {
    std::vector<float> weight, bias;

    static linear_tensors random(rng& r, index_t outputs, index_t inputs, bool has_bias = true) {
        const double size = 2.0 / std::sqrt(static_cast<double>(inputs));
        linear_tensors out{r.floats(outputs * inputs, -size, size), {}};
        if (has_bias) out.bias = r.floats(outputs);
        return out;
    }
    [[nodiscard]] kdna::linear_weights view() const { return {.weight = weight, .bias = bias}; }
    [[nodiscard]] bounded_vector operator()(const bounded_vector& x) const { return dense(weight, bias, x); }
};

struct odconv_tensors {
    linear_tensors fc, channel, filter, spatial, kernel;
    bn_tensors bn;

    /// Heads as the method has them: none for the filters of depthwise kernels, for the taps of 1x1, for one kernel of n.
    static odconv_tensors random(rng& r, const kdna::kernel_shape& k, index_t n) {
        const index_t hidden = r.between(1, 9);
        odconv_tensors t;
        t.fc = linear_tensors::random(r, hidden, k.i, false);
        t.bn = bn_tensors::random(r, hidden);
        t.channel = linear_tensors::random(r, k.i, hidden);
        if (!k.depthwise()) t.filter = linear_tensors::random(r, k.o, hidden);
        if (k.taps() > 1) t.spatial = linear_tensors::random(r, k.taps(), hidden);
        if (n > 1) t.kernel = linear_tensors::random(r, n, hidden);
        return t;
    }
    [[nodiscard]] kdna::odconv_weights view() const {
        return {.fc = fc.weight,
                .bn = view_of(bn),
                .channel = channel.view(),
                .filter = filter.view(),
                .spatial = spatial.view(),
                .kernel = kernel.view()};
    }
    [[nodiscard]] factors operator()(const bounded_vector& mean) const {
        bounded_vector z = fc(mean);
        apply(z, bn);
        relu(z);
        const auto head = [&](const linear_tensors& t) {
            bounded_vector out = t.weight.empty() ? bounded_vector{} : t(z);
            sigmoid(out);
            return out;
        };
        factors f{.mixture = {}, .channel = head(channel), .filter = head(filter), .spatial = head(spatial)};
        if (!kernel.weight.empty()) {
            f.mixture = kernel(z);
            softmax(f.mixture);
        }
        return f;
    }
};

struct dyconv_tensors {
    linear_tensors fc1, fc2;

    static dyconv_tensors random(rng& r, index_t channels, index_t n) {
        const index_t hidden = channels / 4 + 1;
        return {linear_tensors::random(r, hidden, channels, false), linear_tensors::random(r, n, hidden)};
    }
    [[nodiscard]] kdna::dyconv_router router(index_t channels) const {
        return {fc1.weight, fc2.view(), channels, "attention"};
    }
    [[nodiscard]] bounded_vector operator()(const bounded_vector& mean) const {
        bounded_vector z = fc1(mean);
        relu(z);
        bounded_vector a = fc2(z);
        softmax(a);
        return a;
    }
};

/// One of the divisors of n.
inline index_t random_divisor(rng& r, index_t n) {
    index_t d = 1;
    do d = r.between(1, n);
    while (n % d != 0);
    return d;
}

struct warehouse_tensors {
    kdna::cell_shape cell;
    index_t combinations = 0;
    std::vector<float> cells;
    linear_tensors fc1, fc2, fc3;
    bn_tensors norm;
    std::vector<float> basis_bias;
    index_t local = 0, first_local = 0;

    static warehouse_tensors random(rng& r, const kdna::kernel_shape& k, const kdna::cell_shape& cell) {
        warehouse_tensors t;
        t.cell = cell;
        t.combinations = k.o / cell.o * (k.channels_per_group() / cell.c) * (k.taps() / cell.taps());
        const double size = 3.0 / std::sqrt(static_cast<double>(k.channels_per_group() * k.taps()));
        t.cells = r.floats(cell.n * cell.o * cell.c * cell.taps(), -size, size);
        const index_t hidden = r.between(1, 6);
        t.fc1 = linear_tensors::random(r, hidden, k.i, false);
        t.norm = bn_tensors::random(r, hidden);
        if (cell.n > 1 && r.chance(0.4)) {
            t.local = r.between(0, cell.n - 1);
            t.first_local = r.between(0, cell.n - t.local);
            const index_t basis = r.between(1, 3);
            t.fc2 = linear_tensors::random(r, t.combinations * (t.local + basis + 1), hidden, false);
            t.fc3 = linear_tensors::random(r, cell.n - t.local, basis, false);
            if (r.chance(0.8)) t.basis_bias = r.floats(t.combinations * (cell.n + 1));
        } else {
            t.fc2 = linear_tensors::random(r, t.combinations * (cell.n + 1), hidden, r.chance(0.8));
        }
        return t;
    }
    /// A cell that tiles the kernel, such that it is at most `most` combinations.
    static warehouse_tensors random(rng& r, const kdna::kernel_shape& k, index_t most = 60) {
        kdna::cell_shape cell;
        do {
            cell = {.n = r.between(1, 6),
                    .o = random_divisor(r, k.o),
                    .c = random_divisor(r, k.channels_per_group()),
                    .kh = r.chance(0.5) ? k.kh : random_divisor(r, k.kh),
                    .kw = r.chance(0.5) ? k.kw : random_divisor(r, k.kw)};
        } while (k.o / cell.o * (k.channels_per_group() / cell.c) * (k.taps() / cell.taps()) > most);
        return random(r, k, cell);
    }
    [[nodiscard]] kdna::warehouse_weights view() const {
        return {.fc1 = fc1.weight,
                .norm = view_of(norm),
                .fc2 = fc2.view(),
                .fc3 = fc3.weight,
                .basis_bias = basis_bias,
                .local = local,
                .first_local = first_local};
    }
    [[nodiscard]] kdna::warehouse_router router(index_t channels) const {
        return {view(), combinations, cell.n, channels, "attention"};
    }
    [[nodiscard]] kdna::warehouse_kernel kernel(const kdna::kernel_shape& k,
                                                kdna::number_format storage = kdna::number_format::float32) const {
        return {kdna::warehouse::pack(cell, cells, "warehouse", storage), k};
    }
    /// alpha [m, n].
    [[nodiscard]] bounded_vector operator()(const bounded_vector& mean) const {
        bounded_vector z = fc1(mean), alpha;
        apply(z, norm);
        relu(z);
        const bounded_vector u = fc2(z);
        const auto given = static_cast<std::ptrdiff_t>(u.size()) / combinations;
        for (index_t j = 0; j < combinations; ++j) {
            bounded_vector row(u.begin() + j * given, u.begin() + (j + 1) * given);
            if (!fc3.weight.empty()) {  // [local | basis | rest] to [others before | local | others after | rest]
                const bounded_vector own(row.begin(), row.begin() + local),
                    others = fc3(bounded_vector(row.begin() + local, row.end() - 1));
                const bounded rest = row.back();
                row.assign(others.begin(), others.begin() + first_local);
                row.insert(row.end(), own.begin(), own.end());
                row.insert(row.end(), others.begin() + first_local, others.end());
                row.push_back(rest);
                for (std::size_t i = 0; i < row.size() && !basis_bias.empty(); ++i) {
                    const auto b = static_cast<double>(basis_bias[static_cast<std::size_t>(j) * row.size() + i]);
                    row[i] = {row[i].value + b,
                              row[i].error + 2.0 * unit_roundoff * (std::abs(row[i].value + b) + std::abs(b))};
                }
            }
            normalise(row);
            alpha.insert(alpha.end(), row.begin(), row.end() - 1);
        }
        return alpha;
    }
    /// The kernel [O, I/groups, KH*KW]: combinations [gs, go, gi][o_e, c_e, taps] moved to [go, o_e][gi, c_e][gs, taps].
    [[nodiscard]] bounded_vector expand(const kdna::kernel_shape& k, const bounded_vector& alpha) const {
        const index_t go = k.o / cell.o, gi = k.channels_per_group() / cell.c, gs = k.taps() / cell.taps();
        bounded_vector out(static_cast<std::size_t>(k.o * k.channels_per_group() * k.taps()));
        for (index_t s = 0, j = 0; s < gs; ++s)
            for (index_t a = 0; a < go; ++a)
                for (index_t b = 0; b < gi; ++b, ++j)
                    for (index_t o = 0, element = 0; o < cell.o; ++o)
                        for (index_t c = 0; c < cell.c; ++c)
                            for (index_t t = 0; t < cell.taps(); ++t, ++element) {
                                bounded_sum sum;
                                for (index_t i = 0; i < cell.n; ++i)
                                    sum.add(alpha[static_cast<std::size_t>(j * cell.n + i)],
                                            {static_cast<double>(cells[static_cast<std::size_t>(
                                                 i * cell.o * cell.c * cell.taps() + element)]),
                                             0.0});
                                const index_t to =
                                    (((a * cell.o + o) * gi + b) * cell.c + c) * k.taps() + s * cell.taps() + t;
                                out[static_cast<std::size_t>(to)] = sum.result();
                            }
        return out;
    }
};

struct acdc_tensors {
    index_t filters = 0, channels = 0, atoms = 0;
    std::vector<float> a, d;

    static acdc_tensors random(rng& r, const kdna::kernel_shape& k) {
        acdc_tensors t{r.chance(0.4) ? k.o : random_divisor(r, k.o),
                       r.chance(0.4) ? k.channels_per_group() : random_divisor(r, k.channels_per_group()),
                       r.between(1, 7),
                       {},
                       {}};
        const double size = 3.0 / std::sqrt(static_cast<double>(k.channels_per_group() * k.taps()));
        t.a = r.floats(t.filters * t.channels * t.atoms, -size, size);
        t.d = r.floats(t.atoms * k.taps());
        return t;
    }
    [[nodiscard]] kdna::shared_coefficients coefficients() const {
        return kdna::shared_coefficients::pack(filters, channels, atoms, a);
    }
    [[nodiscard]] kdna::acdc_kernel kernel(const kdna::kernel_shape& k) const { return {coefficients(), k, d}; }
    [[nodiscard]] bounded_vector expand(const kdna::kernel_shape& k) const {
        bounded_vector out;
        for (index_t o = 0; o < k.o; ++o)
            for (index_t c = 0; c < k.channels_per_group(); ++c)
                for (index_t t = 0; t < k.taps(); ++t) {
                    bounded_sum sum;
                    for (index_t m = 0; m < atoms; ++m)
                        sum.add({static_cast<double>(
                                     a[static_cast<std::size_t>((o % filters * channels + c % channels) * atoms + m)]),
                                 0.0},
                                {static_cast<double>(d[static_cast<std::size_t>(m * k.taps() + t)]), 0.0});
                    out.push_back(sum.result());
                }
        return out;
    }
};

struct sparse_tensors {
    int bits = 0;
    std::vector<float> codebook, alpha;
    std::vector<index_t> index;  ///< [O, I/groups]

    static sparse_tensors random(rng& r, const kdna::kernel_shape& k, int bits) {
        sparse_tensors t{bits, {}, r.floats(k.o, 0.1, 0.6), {}};
        const index_t n = index_t{1} << bits;
        for (index_t i = 0; i < n * k.taps(); ++i) t.codebook.push_back(r.chance(0.5) ? 1.0F : -1.0F);
        for (index_t i = 0; i < k.o * k.channels_per_group(); ++i) t.index.push_back(r.between(0, n - 1));
        return t;
    }
    /// The indices one after another, lowest bit first.
    [[nodiscard]] std::vector<std::uint8_t> packed() const {
        std::vector<bool> all;
        for (const index_t i : index)
            for (int b = 0; b < bits; ++b) all.push_back((i >> b) % 2 != 0);
        std::vector<std::uint8_t> out((all.size() + 7) / 8);
        for (std::size_t i = 0; i < all.size(); ++i)
            if (all[i]) out[i / 8] = static_cast<std::uint8_t>(out[i / 8] + (1 << (i % 8)));
        return out;
    }
    [[nodiscard]] kdna::codebook_kernel kernel(const kdna::kernel_shape& k) const {
        return kdna::codebook_kernel::pack(k, codebook, packed());
    }
    [[nodiscard]] bounded_vector expand(const kdna::kernel_shape& k) const {
        bounded_vector out;
        for (const index_t i : index)
            for (index_t t = 0; t < k.taps(); ++t)
                out.push_back({static_cast<double>(codebook[static_cast<std::size_t>(i * k.taps() + t)]), 0.0});
        return out;
    }
};

struct dcd_tensors {
    index_t channels = 0, filters = 0, rank = 0, grid = 1;
    linear_tensors squeeze, gate, phi, scale;
    std::vector<float> q, p, bias;  ///< bias: of W0, or empty
    bn_tensors bn1, bn2;

    static dcd_tensors random(rng& r, const kdna::kernel_shape& k) {
        dcd_tensors t;
        t.channels = k.i;
        t.filters = k.o;
        t.rank = r.between(1, 6);
        t.grid = r.pick<index_t>({1, 1, 2, 2, 3});
        const index_t hidden = r.between(1, 7);
        t.squeeze = linear_tensors::random(r, hidden, k.i * t.grid * t.grid, false);
        t.gate = linear_tensors::random(r, hidden, hidden, false);
        t.phi = linear_tensors::random(r, t.rank * t.rank, hidden, false);
        t.scale = linear_tensors::random(r, k.o, hidden, false);
        const double in = 2.0 / std::sqrt(static_cast<double>(k.i)), out = 1.0 / std::sqrt(static_cast<double>(t.rank));
        t.q = r.floats(t.rank * k.i, -in, in);
        t.p = r.floats(k.o * t.rank, -out, out);
        t.bn1 = bn_tensors::random(r, t.rank);
        t.bn2 = bn_tensors::random(r, t.rank);
        if (r.chance(0.3)) t.bias = r.floats(k.o);
        return t;
    }
    [[nodiscard]] kdna::dcd_weights view() const {
        return {.squeeze = squeeze.weight,
                .gate = gate.weight,
                .phi = phi.weight,
                .scale = scale.weight,
                .q = q,
                .p = p,
                .bn1 = view_of(bn1),
                .bn2 = view_of(bn2),
                .grid = grid};
    }
    [[nodiscard]] kdna::dcd_router router() const { return {view(), channels}; }

    struct routed {
        bounded_vector lambda, t, u;  ///< [O]; BN2.scale Phi + I [L, L]; T BN1.shift + BN2.shift [L]
    };
    [[nodiscard]] routed operator()(const bounded_vector& pooled) const {
        bounded_vector h = squeeze(pooled), g = gate(h);
        hard_sigmoid(g);
        for (std::size_t i = 0; i < h.size(); ++i) {
            bounded_sum product;
            product.add(h[i], g[i]);
            h[i] = product.result();
        }
        routed out{scale(h), phi(h), {}};
        hard_sigmoid(out.lambda);
        const auto l = static_cast<std::size_t>(rank);
        for (std::size_t i = 0; i < l; ++i) {
            const double s = bn2.scale(i);
            bounded u{bn1.shift(i) + bn2.shift(i),
                      4.0 * unit_roundoff * (std::abs(bn1.shift(i)) + std::abs(bn2.shift(i)))};
            for (std::size_t j = 0; j < l; ++j) {
                bounded& t = out.t[i * l + j];
                const bounded scaled{s * t.value, std::abs(s) * t.error + 4.0 * unit_roundoff * std::abs(s * t.value)};
                u.value += scaled.value * bn1.shift(j);
                u.error += scaled.error * std::abs(bn1.shift(j)) +
                           static_cast<double>(l + 4) * unit_roundoff * std::abs(scaled.value * bn1.shift(j));
                const double one = i == j ? 1.0 : 0.0;
                t = {scaled.value + one, scaled.error + 2.0 * unit_roundoff * (std::abs(scaled.value) + one)};
            }
            out.u.push_back(u);
        }
        return out;
    }
    /// lambda W0, and P T BN1.scale Q on the centre tap; w0 [O, C, KH, KW].
    [[nodiscard]] bounded_vector expand(const kdna::kernel_shape& k, std::span<const float> w0, const routed& r) const {
        bounded_vector out = exact(w0);
        const auto at = [](index_t i) { return static_cast<std::size_t>(i); };
        const auto given = [](float v, double factor = 1.0) {
            const double value = factor * static_cast<double>(v);
            return bounded{value, factor == 1.0 ? 0.0 : 2.0 * unit_roundoff * std::abs(value)};
        };
        for (index_t o = 0; o < k.o; ++o)
            for (index_t c = 0; c < k.i; ++c)
                for (index_t tap = 0; tap < k.taps(); ++tap) {
                    bounded& w = out[at((o * k.i + c) * k.taps() + tap)];
                    bounded_sum sum;
                    sum.add(w, r.lambda[at(o)]);
                    for (index_t j = 0; j < rank && tap == k.taps() / 2; ++j) {
                        bounded_sum middle;  // (P T)[o, j]
                        for (index_t i = 0; i < rank; ++i)
                            middle.add(given(p[at(o * rank + i)]), r.t[at(i * rank + j)]);
                        sum.add(middle.result(), given(q[at(j * k.i + c)], bn1.scale(at(j))));
                    }
                    w = sum.result();
                }
        return out;
    }
    /// P u + lambda bias [O].
    [[nodiscard]] bounded_vector shift(const routed& r) const {
        bounded_vector out;
        for (index_t o = 0; o < filters; ++o) {
            bounded_sum sum;
            for (index_t i = 0; i < rank; ++i)
                sum.add({static_cast<double>(p[static_cast<std::size_t>(o * rank + i)]), 0.0},
                        r.u[static_cast<std::size_t>(i)]);
            if (!bias.empty())
                sum.add({static_cast<double>(bias[static_cast<std::size_t>(o)]), 0.0},
                        r.lambda[static_cast<std::size_t>(o)]);
            out.push_back(sum.result());
        }
        return out;
    }
};

}  // namespace kdna_test
