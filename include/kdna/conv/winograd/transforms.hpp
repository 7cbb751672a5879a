// Winograd's minimal filtering F(MxM, 3x3): the transforms.
//
//     y = A^T [ (G w G^T) .* (B^T x B) ] A        (Lavin and Gray, arXiv 1509.09308, section 4)
//
// x is a tile of (M+2) x (M+2) inputs, y one of M x M outputs, and .* becomes (M+2)^2 matrix products over the
// channels. A gate g[c] commutes with B and is applied to the input tile. A spatial factor s[t] does not commute with
// G, so a child that is run by Winograd has a transformed kernel of its own. m[o], b[o], residual and activation follow
// A as everywhere.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>

#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd {

/// The one-dimensional transforms, applied along columns and then rows. Each works on `M + 2` values a fixed distance
/// apart.
template <int M>
struct transform;

/// Interpolation at 0, 1, -1, infinity: all coefficients of B and A are 0 and +-1, so it is as accurate as direct
/// summation.
template <>
struct transform<2> {
    static constexpr int outputs = 2, inputs = 4;
    static constexpr std::array<std::array<double, 3>, 4> g{{{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}}};

    static KDNA_INLINE void input(const simd::vec* d, int stride, simd::vec* v, int v_stride) noexcept {
        v[0 * v_stride] = d[0 * stride] - d[2 * stride];
        v[1 * v_stride] = d[1 * stride] + d[2 * stride];
        v[2 * v_stride] = d[2 * stride] - d[1 * stride];
        v[3 * v_stride] = d[3 * stride] - d[1 * stride];
    }
    static KDNA_INLINE void output(const simd::vec* m, int stride, simd::vec* y, int y_stride) noexcept {
        const simd::vec sum = m[1 * stride] + m[2 * stride], difference = m[1 * stride] - m[2 * stride];
        y[0 * y_stride] = m[0 * stride] + sum;
        y[1 * y_stride] = difference + m[3 * stride];
    }
};

/// Interpolation at 0, +-a, +-b, infinity with a = sqrt(1/2), b = sqrt(2). The textbook's points 0, +-1, +-2 cost the
/// same and have four times the error: 1.2e-5 of the largest output against 2.9e-6 at 256 channels (direct: 1.6e-6).
template <>
struct transform<4> {
    static constexpr int outputs = 4, inputs = 6;
    static constexpr double a = 0.70710678118654752440, b = 1.41421356237309504880;
    static constexpr std::array<std::array<double, 3>, 6> g{{{1, 0, 0},
                                                             {-1 / 1.5, -a / 1.5, -a* a / 1.5},
                                                             {-1 / 1.5, a / 1.5, -a* a / 1.5},
                                                             {1 / 6.0, b / 6.0, b* b / 6.0},
                                                             {1 / 6.0, -b / 6.0, b* b / 6.0},
                                                             {0, 0, 1}}};

    static KDNA_INLINE void input(const simd::vec* d, int stride, simd::vec* v, int v_stride) noexcept {
        using simd::multiply_add;
        const simd::vec d0 = d[0 * stride], d1 = d[1 * stride], d2 = d[2 * stride], d3 = d[3 * stride],
                        d4 = d[4 * stride], d5 = d[5 * stride];
        const simd::vec a_squared(-0.5F), b_squared(-2.0F), both(-2.5F);  // negated; a^2 b^2 = 1
        const simd::vec even_a = multiply_add(b_squared, d2, d4),
                        odd_a = simd::vec(static_cast<float>(a)) * multiply_add(b_squared, d1, d3);
        const simd::vec even_b = multiply_add(a_squared, d2, d4),
                        odd_b = simd::vec(static_cast<float>(b)) * multiply_add(a_squared, d1, d3);
        v[0 * v_stride] = multiply_add(both, d2, d0 + d4);
        v[1 * v_stride] = even_a + odd_a;
        v[2 * v_stride] = even_a - odd_a;
        v[3 * v_stride] = even_b + odd_b;
        v[4 * v_stride] = even_b - odd_b;
        v[5 * v_stride] = multiply_add(both, d3, d1 + d5);
    }
    static KDNA_INLINE void output(const simd::vec* m, int stride, simd::vec* y, int y_stride) noexcept {
        using simd::multiply_add;
        const simd::vec s12 = m[1 * stride] + m[2 * stride], d12 = m[1 * stride] - m[2 * stride];
        const simd::vec s34 = m[3 * stride] + m[4 * stride], d34 = m[3 * stride] - m[4 * stride];
        const simd::vec va(static_cast<float>(a)), vb(static_cast<float>(b));
        y[0 * y_stride] = m[0 * stride] + s12 + s34;
        y[1 * y_stride] = multiply_add(va, d12, vb * d34);
        y[2 * y_stride] = multiply_add(simd::vec(0.5F), s12, s34 + s34);
        y[3 * y_stride] = multiply_add(simd::vec(static_cast<float>(a * a * a)), d12,
                                       multiply_add(simd::vec(static_cast<float>(b * b * b)), d34, m[5 * stride]));
    }
};

/// Interpolation at 0, +-1/2, +-1, +-2, infinity. Its largest error is six times that of F(4x4) (docs/numerics.md). A
/// search over all +-a, +-b, +-c found nothing better than noise: the points that space the errors best, 0.55, 1, 1.8,
/// have coefficients that float rounds, and these have none.
template <>
struct transform<6> {
    static constexpr int outputs = 6, inputs = 8;
    static constexpr std::array<std::array<double, 3>, 8> g{{{-1, 0, 0},
                                                             {16 / 22.5, 8 / 22.5, 4 / 22.5},
                                                             {16 / 22.5, -8 / 22.5, 4 / 22.5},
                                                             {-1 / 4.5, -1 / 4.5, -1 / 4.5},
                                                             {-1 / 4.5, 1 / 4.5, -1 / 4.5},
                                                             {1 / 90.0, 2 / 90.0, 4 / 90.0},
                                                             {1 / 90.0, -2 / 90.0, 4 / 90.0},
                                                             {0, 0, 1}}};

    static KDNA_INLINE void input(const simd::vec* d, int stride, simd::vec* v, int v_stride) noexcept {
        using simd::multiply_add;
        const simd::vec d1 = d[1 * stride], d2 = d[2 * stride], d3 = d[3 * stride], d4 = d[4 * stride],
                        d5 = d[5 * stride], d6 = d[6 * stride];
        // The polynomial of the point a is x (x + a) (x^2 - b^2) (x^2 - c^2): an even part and a times an odd part.
        const simd::vec all(5.25F), sum_a(-5.0F), product_a(4.0F), sum_b(-4.25F), sum_c(-1.25F), product_c(0.25F);
        const simd::vec even_a = multiply_add(product_a, d2, multiply_add(sum_a, d4, d6)),
                        odd_a = multiply_add(product_a, d1, multiply_add(sum_a, d3, d5));
        const simd::vec even_b = multiply_add(sum_b, d4, d2 + d6), odd_b = multiply_add(sum_b, d3, d1 + d5);
        const simd::vec even_c = multiply_add(product_c, d2, multiply_add(sum_c, d4, d6)),
                        odd_c = multiply_add(product_c, d1, multiply_add(sum_c, d3, d5));
        v[0 * v_stride] = multiply_add(all, d2 - d4, d6 - d[0 * stride]);
        v[1 * v_stride] = multiply_add(simd::vec(0.5F), odd_a, even_a);
        v[2 * v_stride] = multiply_add(simd::vec(-0.5F), odd_a, even_a);
        v[3 * v_stride] = even_b + odd_b;
        v[4 * v_stride] = even_b - odd_b;
        v[5 * v_stride] = multiply_add(simd::vec(2.0F), odd_c, even_c);
        v[6 * v_stride] = multiply_add(simd::vec(-2.0F), odd_c, even_c);
        v[7 * v_stride] = multiply_add(all, d3 - d5, d[7 * stride] - d1);
    }
    static KDNA_INLINE void output(const simd::vec* m, int stride, simd::vec* y, int y_stride) noexcept {
        using simd::multiply_add;
        const simd::vec sa = m[1 * stride] + m[2 * stride], da = m[1 * stride] - m[2 * stride];
        const simd::vec sb = m[3 * stride] + m[4 * stride], db = m[3 * stride] - m[4 * stride];
        const simd::vec sc = m[5 * stride] + m[6 * stride], dc = m[5 * stride] - m[6 * stride];
        const auto sum = [](float low, const simd::vec& a, const simd::vec& b, float high, const simd::vec& c) {
            return multiply_add(simd::vec(low), a, multiply_add(simd::vec(high), c, b));
        };
        y[0 * y_stride] = (m[0 * stride] + sa) + (sb + sc);
        y[1 * y_stride] = sum(0.5F, da, db, 2.0F, dc);
        y[2 * y_stride] = sum(0.25F, sa, sb, 4.0F, sc);
        y[3 * y_stride] = sum(0.125F, da, db, 8.0F, dc);
        y[4 * y_stride] = sum(0.0625F, sa, sb, 16.0F, sc);
        y[5 * y_stride] = sum(0.03125F, da, db + m[7 * stride], 32.0F, dc);
    }
};

/// G along one axis of a kernel: `d` three weights, `v` M + 2 values, each a fixed distance apart. Rows of G are 0 and
/// infinity at the ends, and between them pairs of +a and -a, which share their even part.
template <int M>
KDNA_INLINE void transform_taps(const simd::vec* d, int stride, simd::vec* v, int v_stride) noexcept {
    constexpr auto& g = transform<M>::g;
    constexpr auto at = [](std::size_t i, std::size_t j) { return static_cast<float>(g[i][j]); };
    const simd::vec d0 = d[0], d1 = d[stride], d2 = d[2 * stride];
    v[0] = at(0, 0) == 1.0F ? d0 : simd::vec(at(0, 0)) * d0;
    KDNA_UNROLL
    for (int i = 1; i < M + 1; i += 2) {
        const auto row = static_cast<std::size_t>(i);
        const simd::vec even = simd::multiply_add(simd::vec(at(row, 2)), d2, simd::vec(at(row, 0)) * d0);
        v[i * v_stride] = simd::multiply_add(simd::vec(at(row, 1)), d1, even);
        v[(i + 1) * v_stride] = simd::multiply_add(simd::vec(-at(row, 1)), d1, even);
    }
    v[(M + 1) * v_stride] = d2;
}

/// G of F(m x m), [m + 2][3].
[[nodiscard]] inline const std::array<double, 3>* weight_transform(int m) noexcept {
    return m == 2 ? transform<2>::g.data() : m == 4 ? transform<4>::g.data() : transform<6>::g.data();
}

}  // namespace kdna::inline KDNA_ABI::conv::winograd

#include <kdna/core/macros_pop.hpp>
