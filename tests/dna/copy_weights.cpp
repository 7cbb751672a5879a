// Sources write what they store in PyTorch's order, bit for bit as they were made of it, packed by then or not.
#include <cstring>
#include <vector>

#include <kdna/dna/acdc.hpp>
#include <kdna/dna/cells.hpp>
#include <kdna/dna/mixture.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/dna/sparse_kernel.hpp>

#include "support/catch.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

template <class Stored>
std::vector<float> copied(const Stored& stored, std::size_t count) {
    std::vector<float> out(count, -77.0F);
    copy_weights(stored, out);
    return out;
}
bool equal_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
/// Kernels and depthwise kernels, with full panels, partly filled ones, and several groups.
kernel_shape random_kernel(rng& r) {
    const index_t groups = r.between(1, 3), kh = r.between(1, 3), kw = r.between(1, 3);
    if (r.chance(0.25)) {
        const index_t channels = r.between(2, 70);
        return {.o = channels, .i = channels, .kh = kh, .kw = kw, .groups = channels};
    }
    return {.o = groups * r.between(1, 70), .i = groups * r.between(1, 5), .kh = kh, .kw = kw, .groups = groups};
}

/// A source that says nothing of copies, as a user may write one.
struct counting_kernel {
    explicit counting_kernel(const kernel_shape& k) : layout_(k) {}
    [[nodiscard]] const panel_layout& layout() const noexcept { return layout_; }
    [[nodiscard]] static double weight(index_t o, index_t c, index_t t, const float*) {
        return static_cast<double>(100 * o + 10 * c + t);
    }
    panel_layout layout_;
};

}  // namespace

TEST_CASE("Dense kernels and mixtures write the weights that they were made of") {
    for (std::uint64_t i = 0; i < 40; ++i) {
        rng r(980, i);
        const kernel_shape k = random_kernel(r);
        const std::vector<float> one = r.floats(k.o * k.channels_per_group() * k.taps(), -2, 2);
        const auto dense = dense_kernel::pack(k, one);
        CHECK(equal_bits(copied(dense, one.size()), one));
        dense.prepare();
        CHECK(equal_bits(copied(dense, one.size()), one));
        const index_t n = r.between(1, 4);
        const std::vector<float> many = r.floats(n * static_cast<index_t>(one.size()), -2, 2);
        const auto mixture = mixture_kernel::pack(n, k, many);
        CHECK(equal_bits(copied(mixture, many.size()), many));
        mixture.prepare();
        CHECK(equal_bits(copied(mixture, many.size()), many));
    }
}

TEST_CASE("A bank writes the cells that it was made of") {
    for (std::uint64_t i = 0; i < 20; ++i) {
        rng r(981, i);
        const cell_shape cell{.n = r.between(1, 6),
                              .o = r.between(1, 40),
                              .c = r.between(1, 5),
                              .kh = r.between(1, 3),
                              .kw = r.between(1, 3)};
        const std::vector<float> w = r.floats(cell.n * cell.o * cell.c * cell.taps(), -2, 2);
        const auto cells = cell_bank::pack(cell, w);
        CHECK(equal_bits(copied(cells, w.size()), w));
        cells.prepare();
        CHECK(equal_bits(copied(cells, w.size()), w));
    }
}

TEST_CASE("Static sources without stored weights of their own write those that the formula gives") {
    rng r(982, 0);
    const kernel_shape k{.o = 8, .i = 6, .kh = 3, .kw = 3};
    const acdc_kernel acdc(shared_coefficients::pack(8, 6, 2, r.floats(8 * 6 * 2, -1, 1)), k, r.floats(2 * 9, -1, 1));
    const std::vector<float> codebook{1, -1, 1, 1, 1, 1, -1, -1, 1, -1, -1, -1, -1, -1, 1, 1, 1, -1};
    const auto sparse =
        codebook_kernel::pack({.o = 3, .i = 2, .kh = 3, .kw = 3}, codebook, std::vector<std::uint8_t>{0x2a});
    const auto check = [](const auto& source) {
        const kernel_shape& s = source.layout().shape();
        const std::vector<float> found =
            copied(source, static_cast<std::size_t>(s.o * s.channels_per_group() * s.taps()));
        std::size_t next = 0;
        for (index_t o = 0; o < s.o; ++o)
            for (index_t c = 0; c < s.channels_per_group(); ++c)
                for (index_t t = 0; t < s.taps(); ++t)
                    CHECK(found[next++] == static_cast<float>(source.weight(o, c, t, nullptr)));
    };
    check(acdc);
    check(sparse);
    check(counting_kernel({.o = 2, .i = 3, .kh = 2, .kw = 1}));
}
