// Definitions of frequency_bands.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

#include <kdna/nn/frequency_bands.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI {
namespace detail {

/// Waves along one axis: 1, cos 1, sin 1, cos 2, sin 2, ... up to a frequency, at every place.
struct waves {
    index_t extent = 0, count = 0;
    std::vector<float> at{};  // [count][extent]
    std::vector<float> of{};  // the same, [extent][count]

    waves() = default;
    waves(index_t n, index_t highest)
        : extent(n), count(2 * highest + 1), at(static_cast<std::size_t>(n * count)), of(at.size()) {
        for (index_t k = 0; k < count; ++k)
            for (index_t i = 0; i < n; ++i) {
                const double turn = static_cast<double>((k + 1) / 2 * i % n) / static_cast<double>(n),
                             angle = 2.0 * std::numbers::pi * turn;
                const auto v = static_cast<float>(k % 2 == 1 || k == 0 ? std::cos(angle) : std::sin(angle));
                at[static_cast<std::size_t>(k * n + i)] = of[static_cast<std::size_t>(i * count + k)] = v;
            }
    }
};

/// Whether a band keeps the frequency at a place of an axis, by the nearest of a table of 64: `whole` of them, 64 or 33.
[[nodiscard]] inline bool keeps(index_t place, index_t extent, index_t whole, index_t band) {
    const float scale = static_cast<float>(whole) / static_cast<float>(extent);
    const index_t nearest = std::min(static_cast<index_t>(std::floor(static_cast<float>(place) * scale)), whole - 1),
                  frequency = whole == 64 && nearest >= 32 ? 64 - nearest : nearest;
    return static_cast<float>(frequency) / 64.0F < static_cast<float>(0.5 / static_cast<double>(band) + 1e-8);
}

/// Which frequencies one band keeps: of rows those of either sign, of columns those of the half spectrum.
struct band_mask {
    std::vector<bool> up{}, down{}, columns{};
    index_t highest_row = 0, highest_column = 0;
    /// Waves up to the highest.
    [[nodiscard]] index_t row_count() const noexcept { return 2 * highest_row + 1; }
    [[nodiscard]] index_t column_count() const noexcept { return 2 * highest_column + 1; }

    band_mask(index_t h, index_t w, index_t band)
        : up(static_cast<std::size_t>(h / 2 + 1)), down(up.size()), columns(static_cast<std::size_t>(w / 2 + 1)) {
        for (index_t i = 0; i < h; ++i) {
            if (!keeps(i, h, 64, band)) continue;
            const index_t f = i <= h / 2 ? i : h - i;
            (i <= h / 2 ? up : down)[static_cast<std::size_t>(f)] = true;
            highest_row = std::max(highest_row, f);
        }
        for (index_t f = 0; f < w / 2 + 1; ++f)
            if (keeps(f, w / 2 + 1, 33, band)) {
                columns[static_cast<std::size_t>(f)] = true;
                highest_column = std::max(highest_column, f);
            }
    }
};

/// `Rows` sums of `Vectors` vectors: y[r][i] = sum over k of table[r][k] * x[k][i].
template <int Rows, int Vectors>
KDNA_INLINE void sum_tile(const float* table, index_t table_row, const float* x, index_t x_row, index_t terms, float* y,
                          index_t y_row, index_t count) noexcept {
    simd::vec acc[Rows][Vectors];
    KDNA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v) acc[r][v] = simd::zero();
    }
    for (index_t k = 0; k < terms; ++k, x += x_row) {
        simd::vec from[Vectors];
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v)
            from[v] = Vectors == 1 ? simd::load_strided(x, 1, count) : simd::load(x + v * simd::lanes);
        KDNA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            const simd::vec factor = simd::broadcast(table[r * table_row + k]);
            KDNA_UNROLL
            for (int v = 0; v < Vectors; ++v) acc[r][v] = simd::multiply_add(factor, from[v], acc[r][v]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < Vectors; ++v) {
            if (Vectors == 1)
                simd::store_strided(y + r * y_row, acc[r][v], 1, count);
            else
                simd::store(y + r * y_row + v * simd::lanes, acc[r][v]);
        }
}

/// The same for any number of rows and of contiguous elements.
inline void sum_rows(index_t rows, const float* table, index_t table_row, const float* x, index_t x_row, index_t terms,
                     float* y, index_t y_row, index_t count) noexcept {
    constexpr int tall = simd::registers >= 32 ? 8 : 4;
    for (index_t i = 0; i < count;) {
        const bool two = count - i >= 2 * simd::lanes;
        const index_t some = two ? 2 * simd::lanes : std::min(simd::lanes, count - i);
        index_t r = 0;
        const auto tiles = [&]<int Rows>() {
            for (; r + Rows <= rows; r += Rows)
                (two ? sum_tile<Rows, 2> : sum_tile<Rows, 1>)(table + r * table_row, table_row, x + i, x_row, terms,
                                                              y + r * y_row + i, y_row, some);
        };
        tiles.template operator()<tall>();
        tiles.template operator()<2>();
        tiles.template operator()<1>();
        i += some;
    }
}

/// y = factor * x + sum, or without a sum where it is null, for contiguous elements.
inline void weigh(float factor, const float* x, const float* sum, float* y, index_t count) noexcept {
    const simd::vec own(factor);
    for (index_t i = 0; i < count; i += simd::lanes) {
        const index_t some = std::min(simd::lanes, count - i);
        const simd::vec v = simd::load_strided(x + i, 1, some);
        simd::store_strided(y + i,
                            sum == nullptr ? own * v : simd::multiply_add(own, v, simd::load_strided(sum + i, 1, some)),
                            1, some);
    }
}

/// The tables and the memory of frequency_bands for one shape.
struct band_state final : operation_state {
    band_state(const shape4& in, const std::vector<index_t>& bands, const plan_options& options, std::string words)
        : shape(in), executor(options.executor), text(std::move(words)), stages(options.order == input_order::any) {
        index_t row = 0, column = 0;
        for (const index_t band : bands) {
            masks.emplace_back(in.h, in.w, band);
            row = std::max(row, masks.back().highest_row);
            column = std::max(column, masks.back().highest_column);
        }
        rows = waves(in.h, row);
        columns = waves(in.w, column);
        threads = std::max<index_t>(executor.concurrency(), 1);
        workspace_layout all;
        const auto add = [&](index_t floats) { return all.add<float>(floats); };
        image_at = add(stages ? in.h * in.w * in.c : 0);
        lines_at = add(in.h * columns.count * in.c);
        spectrum_at = add(rows.count * columns.count * in.c);
        index_t band_columns = 0;
        for (const band_mask& m : masks) {
            band_at.push_back(add(m.row_count() * m.column_count() * in.c));
            band_columns += m.column_count();
        }
        thread_floats = (2 * in.w + some_rows * band_columns) * in.c;
        partial_at = add(threads * thread_floats);
        bytes = all.bytes();
    }
    static constexpr index_t some_rows = 8;
    [[nodiscard]] index_t workspace_bytes() const noexcept override { return bytes; }
    void use_workspace(std::byte* memory) noexcept override { workspace = memory; }
    [[nodiscard]] std::string explain() const override { return text; }
    [[nodiscard]] float* at(index_t offset) const noexcept { return at_offset<float>(workspace, offset); }
    /// Calls f(first, last, thread) for parts of `count`.
    template <class F>
    void share(index_t count, const F& f) const noexcept {
        executor.parallel_for(threads, [&](index_t t) { f(count * t / threads, count * (t + 1) / threads, t); });
    }
    KDNA_FUNC void transform(const tensor_view<const float>& x, index_t n) const noexcept;
    KDNA_FUNC void select(std::size_t band) const noexcept;
    KDNA_FUNC void compose(const tensor_view<const float>& x, const tensor_view<const float>& maps,
                           const tensor_view<float>& y, index_t n) const noexcept;

    shape4 shape;
    executor_ref executor;
    std::string text;
    bool stages;
    std::vector<band_mask> masks{};
    waves rows{}, columns{};
    index_t threads = 1, bytes = 0, image_at = 0, lines_at = 0, spectrum_at = 0, partial_at = 0,
            thread_floats = 0;  // low and sum [W][C], and parts of bands
    std::vector<index_t> band_at{};
    std::byte* workspace = nullptr;
};

/// Products of sample n with the waves of columns, [H][columns][C], and then with those of rows, [rows][columns][C].
KDNA_FUNC void band_state::transform(const tensor_view<const float>& x, index_t n) const noexcept {
    float *const lines = at(lines_at), *const spectrum = at(spectrum_at);
    const index_t c = shape.c, line = columns.count * c;
    share(shape.h, [&](index_t first, index_t last, index_t) {
        for (index_t h = first; h < last; ++h)
            sum_rows(columns.count, columns.at.data(), shape.w, x.at(n, 0, h, 0), x.stride.w, shape.w, lines + h * line,
                     c, c);
    });
    share((line + 63) / 64, [&](index_t first, index_t last, index_t) {
        const index_t i = first * 64, count = std::min(last * 64, line) - i;
        if (count > 0)
            sum_rows(rows.count, rows.at.data(), shape.h, lines + i, line, shape.h, spectrum + i, line, count);
    });
}

/// The coefficients of a band's waves. For a frequency p of rows and f of columns, with the products cc, cs, sc, ss of x and
/// cosines and sines of both, what +p gives is (cc - ss) cos(A + B) + (sc + cs) sin(A + B), and -p (cc + ss) cos(A - B) +
/// (sc - cs) sin(A - B), both twice where the other half of the spectrum has f as well.
KDNA_FUNC void band_state::select(std::size_t band) const noexcept {
    const band_mask& m = masks[band];
    const index_t c = shape.c, column_count = m.column_count();
    const float* const spectrum = at(spectrum_at);
    float* const to = at(band_at[band]);
    std::fill_n(to, m.row_count() * column_count * c, 0.0F);
    const double area = static_cast<double>(shape.h) * static_cast<double>(shape.w);
    for (index_t p = 0; p <= m.highest_row; ++p)
        for (index_t f = 0; f <= m.highest_column; ++f) {
            const bool up = m.up[static_cast<std::size_t>(p)], down = m.down[static_cast<std::size_t>(p)],
                       alone = f == 0 || 2 * f == shape.w;
            if (!m.columns[static_cast<std::size_t>(f)] || !(up || down)) continue;
            const simd::vec weight(static_cast<float>((alone ? 1.0 : 2.0) / area));
            // Of cosines (0) and sines (1); there is no sine of frequency 0: it is read as zeros, and not written.
            const auto place = [&](index_t r, index_t s, index_t width) {
                return ((p == 0 ? 0 : 2 * p - 1 + r) * width + (f == 0 ? 0 : 2 * f - 1 + s)) * c;
            };
            const auto there = [&](index_t r, index_t s) { return (p > 0 || r == 0) && (f > 0 || s == 0); };
            for (index_t i = 0; i < c; i += simd::lanes) {
                const index_t count = std::min(simd::lanes, c - i);
                const auto in = [&](index_t r, index_t s) {
                    return there(r, s)
                               ? simd::load_strided(spectrum + place(r, s, columns.count) + i, 1, count) * weight
                               : simd::zero();
                };
                const auto out = [&](index_t r, index_t s, const simd::vec& v) {
                    if (there(r, s)) simd::store_strided(to + place(r, s, column_count) + i, v, 1, count);
                };
                const simd::vec none = simd::zero(), cc = in(0, 0), cs = in(0, 1), sc = in(1, 0), ss = in(1, 1),
                                plus = up ? cc - ss : none, plus_sine = up ? sc + cs : none,
                                minus = down ? cc + ss : none, minus_sine = down ? sc - cs : none;
                out(0, 0, plus + minus);
                out(1, 1, minus - plus);
                out(1, 0, plus_sine + minus_sine);
                out(0, 1, plus_sine - minus_sine);
            }
        }
}

/// Sample n of y, some rows at a time: each band from its waves, and its maps.
KDNA_FUNC void band_state::compose(const tensor_view<const float>& x, const tensor_view<const float>& maps,
                                   const tensor_view<float>& y, index_t n) const noexcept {
    const index_t c = shape.c, w = shape.w;
    const auto count = static_cast<index_t>(masks.size());
    const auto map = [&](index_t i, index_t row, index_t column) {
        return i < maps.shape.c ? maps(n, i, row, column) : 1.0F;
    };
    share((shape.h + some_rows - 1) / some_rows, [&](index_t first, index_t last, index_t thread) {
        float *const low = at(partial_at) + thread * thread_floats, *const sum = low + w * c,
                     *const parts = sum + w * c;
        for (index_t top = first * some_rows; top < std::min(last * some_rows, shape.h); top += some_rows) {
            const index_t height = std::min(some_rows, shape.h - top);
            float* part = parts;  // of each band [some_rows][its columns][C]
            for (index_t b = 0; b < count; ++b) {
                const band_mask& m = masks[static_cast<std::size_t>(b)];
                const index_t line = m.column_count() * c;
                sum_rows(height, rows.of.data() + top * rows.count, rows.count,
                         at(band_at[static_cast<std::size_t>(b)]), line, m.row_count(), part, line, line);
                part += some_rows * line;
            }
            for (index_t r = 0; r < height; ++r) {
                const index_t h = top + r;
                for (index_t v = 0; v < w; ++v) weigh(map(0, h, v), x.at(n, 0, h, v), nullptr, sum + v * c, c);
                part = parts;
                for (index_t b = 0; b < count; ++b) {
                    const band_mask& m = masks[static_cast<std::size_t>(b)];
                    const index_t line = m.column_count() * c;
                    sum_rows(w, columns.of.data(), columns.count, part + r * line, c, m.column_count(), low, c, c);
                    for (index_t v = 0; v < w; ++v)
                        weigh(map(b + 1, h, v) - map(b, h, v), low + v * c, sum + v * c, sum + v * c, c);
                    part += some_rows * line;
                }
                for (index_t v = 0; v < w; ++v)
                    for (index_t i = 0; i < c; i += simd::lanes) {
                        const index_t some = std::min(simd::lanes, c - i);
                        simd::store_strided(y.at(n, i, h, v), simd::load_strided(sum + v * c + i, 1, some), y.stride.c,
                                            some);
                    }
            }
        }
    });
}

}  // namespace detail

KDNA_FUNC_COLD frequency_bands::frequency_bands(std::vector<index_t> bands, std::string name)
    : bands_(std::move(bands)), name_(std::move(name)) {
    if (bands_.empty() || bands_.size() > 64) throw error(name_, "1 to 64 bands", concat(bands_.size()));
    for (const index_t band : bands_)
        if (band < 1 || band > 1024) throw error(name_, "bands from 1 to 1024", concat(band));
}

KDNA_FUNC_COLD nd_shape frequency_bands::output_shape(std::span<const nd_shape> in) const {
    const shape4 x = image_shape(in[0], name_), maps = image_shape(in[1], concat(name_, " maps"));
    const auto count = static_cast<index_t>(bands_.size());
    if (maps.n != x.n || maps.h != x.h || maps.w != x.w || (maps.c != count && maps.c != count + 1))
        throw error(concat(name_, " maps"), concat("[", x.n, ", ", count, " or ", count + 1, ", ", x.h, ", ", x.w, "]"),
                    to_string(maps));
    if (x.h > 4096 || x.w > 4096) throw error(name_, "at most 4096 rows and columns", to_string(x));
    return in[0];
}

KDNA_FUNC_COLD std::unique_ptr<operation_state> frequency_bands::plan(std::span<const nd_shape> in,
                                                                      const plan_options& options) const {
    const shape4 x = image_shape(output_shape(in), name_);
    static_cast<void>(element_count(x, name_));
    return std::make_unique<detail::band_state>(
        x, bands_, options, concat(name_, ": ", bands_.size(), " bands of frequencies of ", to_string(x)));
}

KDNA_FUNC void frequency_bands::run(operation_state& s, const operation_call& c) const noexcept {
    const auto& own = static_cast<const detail::band_state&>(s);
    tensor_view<const float> x = c.x();
    for (index_t n = 0; n < x.shape.n; ++n) {
        tensor_view<const float> image = x.samples(n, 1);
        if (image.stride.c != 1 && image.shape.c > 1) {
            float* const to = own.at(own.image_at);
            for (index_t h = 0; h < x.shape.h; ++h)
                for (index_t w = 0; w < x.shape.w; ++w)
                    for (index_t i = 0; i < x.shape.c; ++i) to[(h * x.shape.w + w) * x.shape.c + i] = image(0, i, h, w);
            image = {to, image.shape, {0, 1, x.shape.w * x.shape.c, x.shape.c}};
        }
        own.transform(image, 0);
        for (std::size_t b = 0; b < bands_.size(); ++b) own.select(b);
        own.compose(image, c.image(1).samples(n, 1), c.y().samples(n, 1), 0);
    }
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
