// Definitions of norm.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>

#include <kdna/nn/ops/norm.hpp>
#include <kdna/nn/ops/sums.hpp>

namespace kdna::inline KDNA_ABI::ops {
namespace detail {

/// Elements that are worth a thread.
inline constexpr index_t norm_grain = 8192;

/// Throws kdna::error, naming `where`, unless a weight and a bias have `expected` numbers, each of them if it is there.
inline void require_affine(std::span<const float> weight, std::span<const float> bias, index_t expected,
                           std::string_view where) {
    for (const auto& numbers : {weight, bias})
        if (!numbers.empty() && static_cast<index_t>(numbers.size()) != expected)
            throw error(std::string(where), concat("weight and bias of ", expected, " elements"),
                        concat(numbers.size()));
}
inline void require_eps(float eps, std::string_view where) {
    if (!(eps >= 0.0F) || std::isinf(eps)) throw error(std::string(where), "eps >= 0", concat(eps));
}
/// Copies of the numbers, or the same number for all: of one element if neither weight nor bias is there.
inline std::vector<float> numbers_or(std::span<const float> numbers, float otherwise, std::size_t count) {
    if (numbers.empty()) return std::vector<float>(count, otherwise);
    return {numbers.begin(), numbers.end()};
}

/// The normalisation of one set of elements.
struct set_statistics {
    float mean, scale;
};
[[nodiscard]] inline float scale_of(double square_sum, index_t count, float eps) noexcept {
    return static_cast<float>(1.0 / std::sqrt(square_sum / static_cast<double>(count) + static_cast<double>(eps)));
}

/// Operands of the nests below: 0 is x, 1 is y, 2 the weight.
struct norm_call {
    const float* x;
    float* y;
    const float *weight, *bias;
    float eps;
};

/// Sum of term(x) over lines [first, last) of a set.
template <class Term>
[[nodiscard]] double lines_sum(const nest& set, const float* x, index_t first, index_t last,
                               const Term& term) noexcept {
    double sum = 0.0;
    const index_t row = set.rows().stride[0], column = set.columns().stride[0];
    set.blocks(first, last, 0, set.columns().extent,
               [&](const per_operand& at, index_t rows, index_t, index_t columns) {
                   sum += block_sum(x + at[0], rows, columns, row, column, term);
               });
    return sum;
}
inline void normalise_lines(const nest& set, const norm_call& c, const per_operand& start, index_t first, index_t last,
                            const set_statistics& s) noexcept {
    const per_operand row = set.rows().stride, column = set.columns().stride;
    set.blocks(first, last, 0, set.columns().extent,
               [&](const per_operand& at, index_t rows, index_t, index_t columns) {
                   for (index_t r = 0; r < rows; ++r) {
                       const index_t w = start[2] + at[2] + r * row[2];
                       affine_line(c.y + start[1] + at[1] + r * row[1], column[1], c.x + start[0] + at[0] + r * row[0],
                                   column[0], columns, s.mean, s.scale, c.weight + w, c.bias + w, column[2]);
                   }
               });
}

/// Normalises the nest `set` at every element of the nest `sets`: the mean first, then the squares of the distances from it.
inline void normalise(nest& sets, nest& set, const norm_call& c, const executor_ref& executor) noexcept {
    sets.arrange();
    set.arrange();
    const index_t count = set.elements(), lines = set.lines();
    const auto square = [](float mean) {
        const simd::vec m = simd::broadcast(mean);
        return [m](const simd::vec& v) { return (v - m) * (v - m); };
    };
    const auto value = [](const simd::vec& v) { return v; };
    // A set is cut into as many parts as its size says, whatever the number of threads, and the parts' sums are added in order.
    constexpr index_t most_parts = 64;
    const index_t parts =
        sets.elements() >= 16 ? 1 : std::clamp<index_t>(std::min(count / norm_grain, lines), 1, most_parts);
    const auto for_sets = [&](const auto& f) {
        const per_operand row = sets.rows().stride, column = sets.columns().stride;
        return [&f, row, column](const per_operand& at, index_t rows, index_t, index_t columns) {
            for (index_t r = 0; r < rows; ++r)
                for (index_t i = 0; i < columns; ++i) {
                    per_operand start = at;
                    for (std::size_t k = 0; k < start.size(); ++k) start[k] += r * row[k] + i * column[k];
                    f(start);
                }
        };
    };
    if (set.rank() == 1 && set.columns().stride[0] == 1 && parts == 1) {
        // A line of contiguous elements, such as the channels of a pixel.
        const per_operand first = set.start(), column = set.columns().stride;
        const auto one = [&](const per_operand& start) {
            const float* const x = c.x + start[0] + first[0];
            const double mean = line_sum(x, count, value) / static_cast<double>(count);
            const double squares = line_sum(x, count, square(static_cast<float>(mean)));
            const index_t w = start[2] + first[2];
            affine_line(c.y + start[1] + first[1], column[1], x, 1, count, static_cast<float>(mean),
                        scale_of(squares, count, c.eps), c.weight + w, c.bias + w, column[2]);
        };
        return sets.run(executor, std::max<index_t>(norm_grain / count, 1), for_sets(one), 1);
    }
    if (parts == 1) {
        const auto one = [&](const per_operand& start) {
            const float* const x = c.x + start[0];
            const double mean = lines_sum(set, x, 0, lines, value) / static_cast<double>(count);
            const double squares = lines_sum(set, x, 0, lines, square(static_cast<float>(mean)));
            normalise_lines(set, c, start, 0, lines, {static_cast<float>(mean), scale_of(squares, count, c.eps)});
        };
        return sets.run(executor, std::max<index_t>(norm_grain / count, 1), for_sets(one), 1);
    }
    const auto one = [&](const per_operand& start) {
        const float* const x = c.x + start[0];
        double sums[most_parts];
        const auto sum_of = [&](const auto& term) {
            executor.parallel_for(parts, [&](index_t part) {
                sums[part] = lines_sum(set, x, lines * part / parts, lines * (part + 1) / parts, term);
            });
            double sum = 0.0;
            for (index_t part = 0; part < parts; ++part) sum += sums[part];
            return sum;
        };
        const auto mean = static_cast<float>(sum_of(value) / static_cast<double>(count));
        const set_statistics s{mean, scale_of(sum_of(square(mean)), count, c.eps)};
        executor.parallel_for(parts, [&](index_t part) {
            normalise_lines(set, c, start, lines * part / parts, lines * (part + 1) / parts, s);
        });
    };
    sets.all(for_sets(one));
}

}  // namespace detail

KDNA_FUNC batch_norm::batch_norm(std::span<const float> weight, std::span<const float> bias,
                                 std::span<const float> mean, std::span<const float> var, float eps,
                                 std::string_view where, const activation& act)
    : act_(act, where) {
    const auto channels = static_cast<index_t>(mean.size());
    if (mean.empty()) throw error(std::string(where), "a mean of at least 1 channel", "0");
    if (var.size() != mean.size())
        throw error(std::string(where), concat("a variance of ", channels, " channels"), concat(var.size()));
    detail::require_affine(weight, bias, channels, where);
    for (std::size_t c = 0; c < mean.size(); ++c) {
        const double divisor = static_cast<double>(var[c]) + static_cast<double>(eps);
        if (!(divisor > 0.0))
            throw error(std::string(where), "variances that are positive with eps", concat(divisor, " of channel ", c));
        const double scale = (weight.empty() ? 1.0 : static_cast<double>(weight[c])) / std::sqrt(divisor);
        scale_.push_back(static_cast<float>(scale));
        shift_.push_back(static_cast<float>((bias.empty() ? 0.0 : static_cast<double>(bias[c])) -
                                            static_cast<double>(mean[c]) * scale));
    }
}

KDNA_FUNC nd_shape batch_norm::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, 2, most_axes, where);
    if (x[1] != static_cast<index_t>(scale_.size()))
        throw error(std::string(where), concat("an input of ", scale_.size(), " channels"), to_string(x));
    return act_.output_shape(in, where);
}

KDNA_FUNC void batch_norm::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    const nd_view<const float>& x = in.front();
    detail::nest n = detail::nest_over(y, x.stride, {0, 1, 0, 0, 0});
    n.arrange();
    const detail::per_operand row = n.rows().stride, column = n.columns().stride;
    n.run(executor, detail::norm_grain, [&](const detail::per_operand& at, index_t rows, index_t, index_t columns) {
        // As many rows as have the same channels and stay in L1, which are activated where they lie.
        constexpr index_t most_rows = 16, most_floats = 2048;
        const index_t width = std::min(columns, most_floats),
                      together = row[2] == 0 ? std::clamp<index_t>(most_floats / width, 1, most_rows) : 1;
        for (index_t first = 0; first < rows; first += together)
            for (index_t i = 0; i < columns; i += width) {
                const index_t count = std::min(together, rows - first), some = std::min(width, columns - i),
                              c = at[2] + first * row[2] + i * column[2];
                float* to[most_rows];
                for (index_t r = 0; r < count; ++r) {
                    to[r] = y.data + at[0] + (first + r) * row[0] + i * column[0];
                    detail::affine_line(to[r], column[0], x.data + at[1] + (first + r) * row[1] + i * column[1],
                                        column[1], some, 0.0F, 1.0F, scale_.data() + c, shift_.data() + c, column[2]);
                }
                act_.run_rows(to, count, column[0], some, c, column[2]);
            }
    });
}

KDNA_FUNC layer_norm::layer_norm(const nd_shape& shape, std::span<const float> weight, std::span<const float> bias,
                                 float eps, std::string_view where)
    : shape_(shape), affine_(!weight.empty() || !bias.empty()), eps_(eps) {
    const index_t count = element_count(shape, where);
    detail::require_affine(weight, bias, count, where);
    detail::require_eps(eps, where);
    weight_ = detail::numbers_or(weight, 1.0F, affine_ ? static_cast<std::size_t>(count) : 1);
    bias_ = detail::numbers_or(bias, 0.0F, affine_ ? static_cast<std::size_t>(count) : 1);
}

KDNA_FUNC nd_shape layer_norm::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, 1, most_axes, where);
    bool fits = x.rank() >= shape_.rank();
    for (index_t i = 1; fits && i <= shape_.rank(); ++i) fits = x[x.rank() - i] == shape_[shape_.rank() - i];
    if (!fits)
        throw error(std::string(where), concat("an input whose last extents are ", to_string(shape_)), to_string(x));
    return x;
}

KDNA_FUNC void layer_norm::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    const nd_view<const float>& x = in.front();
    const axis_numbers weight = affine_ ? strides_in(shape_, row_major) : axis_numbers{};
    detail::nest sets, set;
    const index_t outer = x.rank() - shape_.rank();
    for (index_t i = 0; i < x.rank(); ++i) {
        const auto k = static_cast<std::size_t>(i);
        if (i < outer)
            sets.add(x.shape[i], {x.stride[k], y.stride[k], 0});
        else
            set.add(x.shape[i], {x.stride[k], y.stride[k], weight[static_cast<std::size_t>(i - outer)]});
    }
    detail::normalise(sets, set, {x.data, y.data, weight_.data(), bias_.data(), eps_}, executor);
}

KDNA_FUNC group_norm::group_norm(index_t groups, std::span<const float> weight, std::span<const float> bias, float eps,
                                 std::string_view where)
    : groups_(groups), affine_(!weight.empty() || !bias.empty()), eps_(eps) {
    if (groups < 1) throw error(std::string(where), "groups >= 1", concat(groups));
    const std::size_t channels = std::max(weight.size(), bias.size());
    detail::require_affine(weight, bias, static_cast<index_t>(channels), where);
    if (static_cast<index_t>(channels) % groups != 0)
        throw error(std::string(where), concat("channels that are a multiple of the ", groups, " groups"),
                    concat(channels));
    detail::require_eps(eps, where);
    weight_ = detail::numbers_or(weight, 1.0F, affine_ ? channels : 1);
    bias_ = detail::numbers_or(bias, 0.0F, affine_ ? channels : 1);
}

KDNA_FUNC nd_shape group_norm::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, 2, most_axes, where);
    if (affine_ && x[1] != static_cast<index_t>(weight_.size()))
        throw error(std::string(where), concat("an input of ", weight_.size(), " channels"), to_string(x));
    if (x[1] % groups_ != 0)
        throw error(std::string(where), concat("channels that are a multiple of the ", groups_, " groups"),
                    to_string(x));
    return x;
}

KDNA_FUNC void group_norm::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    const nd_view<const float>& x = in.front();
    const index_t each = x.shape[1] / groups_;
    // Wide groups have lines that are worth a sum of their own, which can be shared out over threads.
    const bool narrow = each < simd::lanes || (each <= 64 && x.shape[0] * x.shape[1] >= 256);
    if (narrow && x.rank() > 2 && x.stride[1] == 1 && y.stride[1] == 1) return run_narrow_groups(x, y, executor);
    detail::nest sets, set;
    for (index_t i = 0; i < x.rank(); ++i) {
        const index_t s = x.stride[static_cast<std::size_t>(i)], t = y.stride[static_cast<std::size_t>(i)];
        if (i == 0) {
            sets.add(x.shape[0], {s, t, 0});
        } else if (i == 1) {
            sets.add(groups_, {each * s, each * t, affine_ ? each : 0});
            set.add(each, {s, t, affine_ ? 1 : 0});
        } else {
            set.add(x.shape[i], {s, t, 0});
        }
    }
    detail::normalise(sets, set, {x.data, y.data, weight_.data(), bias_.data(), eps_}, executor);
}

KDNA_FUNC void group_norm::run_narrow_groups(const nd_view<const float>& x, const nd_view<float>& y,
                                             const executor_ref& executor) const noexcept {
    using simd::lanes, simd::vec;
    constexpr index_t most = 64;
    const index_t channels = x.shape[1], each = channels / groups_, together = most / each,
                  units = (groups_ + together - 1) / together;
    detail::nest pixels;
    for (index_t i = 2; i < x.rank(); ++i) {
        const auto k = static_cast<std::size_t>(i);
        pixels.add(x.shape[i], {x.stride[k], y.stride[k], 0});
    }
    pixels.arrange();
    const index_t count = pixels.elements() * each;
    const detail::per_operand row = pixels.rows().stride, column = pixels.columns().stride;
    executor.parallel_for(x.shape[0] * units, [&](index_t task) {
        const index_t n = task / units, first = task % units * together * each,
                      width = std::min(together * each, channels - first), vectors = (width + lanes - 1) / lanes,
                      in_last = width - (vectors - 1) * lanes;
        const float* const from = x.data + n * x.stride[0] + first;
        float* const to = y.data + n * y.stride[0] + first;
        alignas(64) float mean[most], scale[most], shift[most];
        double sums[most];
        // Calls f(vector of channels, lanes of it, offsets, pixels) for runs of a few pixels.
        const auto runs = [&](const auto& f) {
            pixels.all([&](const detail::per_operand& at, index_t rows, index_t, index_t columns) {
                for (index_t r = 0; r < rows; ++r)
                    for (index_t i = 0; i < columns; i += detail::float_additions)
                        for (index_t v = 0; v < vectors; ++v)
                            f(v, v + 1 < vectors ? lanes : in_last,
                              from + at[0] + r * row[0] + i * column[0] + v * lanes,
                              to + at[1] + r * row[1] + i * column[1] + v * lanes,
                              std::min(columns - i, detail::float_additions));
            });
        };
        // The sums of a group to each of its channels.
        const auto sum_groups = [&](const auto& term) {
            std::fill_n(sums, most, 0.0);
            runs([&](index_t v, index_t some, const float* p, const float*, index_t pixel_count) {
                vec all = simd::zero();
                if (some == lanes) {
                    for (index_t i = 0; i < pixel_count; ++i) all = all + term(v, simd::load(p + i * column[0]));
                } else {
                    const simd::lane_mask mask = simd::first_lanes(some);
                    for (index_t i = 0; i < pixel_count; ++i)
                        all = all + term(v, simd::load_masked(p + i * column[0], mask));
                }
                alignas(64) float lane[lanes];
                simd::store(lane, all);
                for (index_t i = 0; i < some; ++i) sums[v * lanes + i] += static_cast<double>(lane[i]);
            });
            for (index_t g = 0; g < width; g += each) {
                double sum = 0.0;
                for (index_t c = g; c < g + each; ++c) sum += sums[c];
                std::fill_n(sums + g, each, sum);
            }
        };
        std::fill_n(mean, most, 0.0F);
        std::fill_n(scale, most, 0.0F);
        std::fill_n(shift, most, 0.0F);
        sum_groups([](index_t, const vec& value) { return value; });
        for (index_t c = 0; c < width; ++c) mean[c] = static_cast<float>(sums[c] / static_cast<double>(count));
        sum_groups([&](index_t v, const vec& value) {
            const vec d = value - simd::load(mean + v * lanes);
            return d * d;
        });
        for (index_t c = 0; c < width; ++c) {
            scale[c] =
                detail::scale_of(sums[c], count, eps_) * weight_[static_cast<std::size_t>(affine_ ? first + c : 0)];
            shift[c] = bias_[static_cast<std::size_t>(affine_ ? first + c : 0)];
        }
        runs([&](index_t v, index_t some, const float* p, float* q, index_t pixel_count) {
            const vec m = simd::load(mean + v * lanes), s = simd::load(scale + v * lanes),
                      b = simd::load(shift + v * lanes);
            if (some == lanes) {
                for (index_t i = 0; i < pixel_count; ++i)
                    simd::store(q + i * column[1], simd::multiply_add(simd::load(p + i * column[0]) - m, s, b));
                return;
            }
            const simd::lane_mask mask = simd::first_lanes(some);
            for (index_t i = 0; i < pixel_count; ++i)
                simd::store_masked(q + i * column[1],
                                   simd::multiply_add(simd::load_masked(p + i * column[0], mask) - m, s, b), mask);
        });
    });
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
