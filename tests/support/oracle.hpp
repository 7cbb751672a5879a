// A convolution written from the formula, in double, over dense PyTorch-ordered weights, with the rounding error that a
// float implementation may have. Independent of the library's packing, folding and routers.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include <kdna/core/shape.hpp>
#include <kdna/tensor/view.hpp>

#include "support/activations.hpp"
#include "support/random.hpp"

namespace kdna_test {

inline constexpr double unit_roundoff = 0x1p-24;

/// A factor and how far a float computation of it may be off.
struct bounded {
    double value = 1.0, error = 0.0;
};
using bounded_vector = std::vector<bounded>;

inline bounded_vector exact(std::span<const float> values) {
    bounded_vector out;
    for (const float v : values) out.push_back({static_cast<double>(v), 0.0});
    return out;
}

/// Mean over H and W per channel.
inline bounded_vector pooled(const kdna::tensor_view<const float>& x, index_t n) {
    bounded_vector out;
    const auto count = static_cast<double>(x.shape.h * x.shape.w);
    for (index_t c = 0; c < x.shape.c; ++c) {
        double sum = 0.0, magnitude = 0.0;
        for (index_t h = 0; h < x.shape.h; ++h)
            for (index_t w = 0; w < x.shape.w; ++w) {
                sum += static_cast<double>(x(n, c, h, w));
                magnitude += std::abs(static_cast<double>(x(n, c, h, w)));
            }
        out.push_back({sum / count, unit_roundoff * static_cast<double>(x.shape.w + 4) * magnitude / count});
    }
    return out;
}

/// W x + b, W [outputs, inputs].
inline bounded_vector dense(std::span<const float> weight, std::span<const float> bias, const bounded_vector& x) {
    const std::size_t inputs = x.size(), outputs = weight.size() / inputs;
    bounded_vector out(outputs);
    for (std::size_t o = 0; o < outputs; ++o) {
        double sum = bias.empty() ? 0.0 : static_cast<double>(bias[o]), magnitude = std::abs(sum), error = 0.0;
        for (std::size_t i = 0; i < inputs; ++i) {
            const auto w = static_cast<double>(weight[o * inputs + i]);
            sum += w * x[i].value;
            magnitude += std::abs(w * x[i].value);
            error += std::abs(w) * x[i].error;
        }
        out[o] = {sum, error + unit_roundoff * static_cast<double>(inputs + 4) * magnitude};
    }
    return out;
}

inline void relu(bounded_vector& v) {
    for (bounded& x : v) x.value = std::max(x.value, 0.0);
}
inline void sigmoid(bounded_vector& v) {
    for (bounded& x : v) x = {1.0 / (1.0 + std::exp(-x.value)), 0.25 * x.error + 4.0 * unit_roundoff};
}

/// min(max(x + 3, 0), 6) / 3.
inline void hard_sigmoid(bounded_vector& v) {
    for (bounded& x : v) {
        const double value = std::clamp(x.value + 3.0, 0.0, 6.0) / 3.0;
        x = {value, x.error / 3.0 + 3.0 * unit_roundoff * value};
    }
}
/// exp(x_i) / sum of exp(x_j).
inline void softmax(bounded_vector& v) {
    double largest = -INFINITY, sum = 0.0;
    for (const bounded& x : v) largest = std::max(largest, x.value);
    for (const bounded& x : v) sum += std::exp(x.value - largest);
    // An error e of a logit is a factor of exp(e) of its term; a rounded difference is such an error too.
    const auto logit_error = [&](const bounded& x) { return x.error + unit_roundoff * (largest - x.value); };
    double mean_error = 0.0;
    for (const bounded& x : v) {
        const double share = std::exp(x.value - largest) / sum;
        if (share > 0.0) mean_error += share * std::expm1(logit_error(x));
    }
    const double rounding = unit_roundoff * (static_cast<double>(v.size()) + 8.0);
    for (bounded& x : v) {
        const double share = std::exp(x.value - largest) / sum, own = share > 0.0 ? logit_error(x) : 0.0;
        x = {share, 1.01 * share * (std::expm1(own) + mean_error + rounding) + 1e-37};
    }
}
/// x_i / (sum of |x_j| + 1e-3).
inline void normalise(bounded_vector& v) {
    double sum = 1e-3, error = 0.0;
    for (const bounded& x : v) {
        sum += std::abs(x.value);
        error += x.error;
    }
    error += unit_roundoff * static_cast<double>(v.size() + 2) * sum;
    for (bounded& x : v)
        x = {x.value / sum, (x.error + std::abs(x.value / sum) * error) / (sum - error) +
                                2.0 * unit_roundoff * std::abs(x.value / sum)};
}

/// Sums of products of bounded numbers as a float computation would make them, in any order.
class bounded_sum {
public:
    void add(const bounded& a, const bounded& b) {
        value_ += a.value * b.value;
        magnitude_ += std::abs(a.value * b.value);
        error_ += std::abs(a.value) * b.error + std::abs(b.value) * a.error + a.error * b.error;
        ++terms_;
    }
    [[nodiscard]] bounded result() const {
        return {value_, error_ + unit_roundoff * static_cast<double>(terms_ + 1) * magnitude_};
    }

private:
    double value_ = 0.0, magnitude_ = 0.0, error_ = 0.0;
    int terms_ = 0;
};

/// BatchNorm's parameters as a file has them.
struct bn_tensors {
    std::vector<float> weight, bias, mean, var;
    double eps = 1e-5;

    static bn_tensors random(rng& r, index_t channels) {
        bn_tensors out{r.floats(channels, 0.5, 1.5), r.floats(channels), r.floats(channels, -0.5, 0.5),
                       r.floats(channels, 0.5, 2.0)};
        for (float& w : out.weight) w = r.chance(0.2) ? -w : w;
        return out;
    }
    [[nodiscard]] bool empty() const { return weight.empty(); }
    [[nodiscard]] double scale(std::size_t c) const {
        return static_cast<double>(weight[c]) / std::sqrt(static_cast<double>(var[c]) + eps);
    }
    [[nodiscard]] double shift(std::size_t c) const {
        return static_cast<double>(bias[c]) - static_cast<double>(mean[c]) * scale(c);
    }
};

/// BN(v), folded into what made v.
inline void apply(bounded_vector& v, const bn_tensors& bn) {
    for (std::size_t i = 0; i < v.size(); ++i) {
        const double value = v[i].value * bn.scale(i) + bn.shift(i);
        const double error = std::abs(bn.scale(i)) * v[i].error;
        v[i] = {value, error + 4.0 * unit_roundoff * (std::abs(value) + std::abs(bn.shift(i)))};
    }
}

/// A gate's parameters as a file has them.
struct se_tensors {
    std::vector<float> fc1, fc2, fc2_bias;
    bn_tensors bn;

    static se_tensors random(rng& r, index_t channels, index_t hidden) {
        const double one = 2.0 / std::sqrt(static_cast<double>(channels)),
                     two = 2.0 / std::sqrt(static_cast<double>(hidden));
        return {r.floats(hidden * channels, -one, one), r.floats(channels * hidden, -two, two), r.floats(channels),
                bn_tensors::random(r, hidden)};
    }
    [[nodiscard]] bounded_vector operator()(const bounded_vector& input) const {
        bounded_vector hidden = dense(fc1, {}, input);
        apply(hidden, bn);
        relu(hidden);
        bounded_vector gate = dense(fc2, fc2_bias, hidden);
        sigmoid(gate);
        return gate;
    }
};

/// The factors of one sample; empty: ones.
struct factors {
    bounded_vector mixture, channel, filter, spatial;
    bounded_vector kernel{};  ///< instead of `weights` and `mixture`: the sample's own [O, I/groups, KH, KW]
    bounded_vector bias{};    ///< the sample's own [O], before BatchNorm
};

/// Everything the formula needs. Spans are dense and in PyTorch's order; empty ones are absent.
struct convolution {
    kdna::kernel_shape kernel;
    kdna::conv_params params;
    std::span<const float> weights;         ///< [n,] O, I/groups, KH, KW; not read if the factors have a kernel
    std::span<const float> mixture_bias{};  ///< [n,] O
    std::span<const float> bias{};
    std::span<const float> spatial{};  ///< a_sp
    std::span<const float> filter{};   ///< a_f
    const bn_tensors* bn = nullptr;
    kept_activation act{};
};

/// What must come out, in NCHW order, and how far off float and double accumulation may be.
struct expectation {
    kdna::shape4 shape;
    std::vector<double> value, float_tolerance, double_tolerance;
    double largest_argument = 0.0;  ///< of an activation that is no clamp, whose values may be smaller by far
};

namespace detail {

inline double factor_of(const bounded_vector& v, std::size_t i) { return v.empty() ? 1.0 : v[i].value; }
inline double error_of(const bounded_vector& v, std::size_t i) { return v.empty() ? 0.0 : v[i].error; }
inline double one_plus(std::span<const float> a, std::size_t i) {
    return a.empty() ? 1.0 : 1.0 + static_cast<double>(a[i]);
}

/// One filter's weights [KH * KW][I/groups] with all factors on them but m, and the error of those factors.
inline bounded_vector modulated_filter(const convolution& c, const factors& f, index_t o) {
    const auto taps = static_cast<std::size_t>(c.kernel.taps()),
               channels = static_cast<std::size_t>(c.kernel.channels_per_group());
    const auto first = static_cast<std::size_t>(o / c.kernel.filters_per_group()) * channels;
    const std::size_t kernel_size = static_cast<std::size_t>(c.kernel.o) * channels * taps;
    bounded_vector out(channels * taps);
    for (std::size_t ch = 0; ch < channels; ++ch)
        for (std::size_t t = 0; t < taps; ++t) {
            const std::size_t at = (static_cast<std::size_t>(o) * channels + ch) * taps + t;
            double w = factor_of(f.kernel, at), w_error = error_of(f.kernel, at), w_magnitude = 0.0;
            if (f.kernel.empty()) w = 0.0;
            for (std::size_t i = 0; f.kernel.empty() && i < std::max<std::size_t>(f.mixture.size(), 1); ++i) {
                const auto part = static_cast<double>(c.weights[i * kernel_size + at]);
                w += factor_of(f.mixture, i) * part;
                w_magnitude += std::abs(factor_of(f.mixture, i) * part);
                w_error += error_of(f.mixture, i) * std::abs(part);
            }
            if (!f.mixture.empty()) w_error += unit_roundoff * static_cast<double>(f.mixture.size() + 1) * w_magnitude;
            const double s = one_plus(c.spatial, t) * factor_of(f.spatial, t), g = factor_of(f.channel, first + ch);
            const double s_error = std::abs(one_plus(c.spatial, t)) * error_of(f.spatial, t);
            const double g_error = error_of(f.channel, first + ch);
            out[t * channels + ch] = {
                w * s * g, w_error * std::abs(s * g) + std::abs(w) * (s_error * std::abs(g) + std::abs(s) * g_error)};
        }
    return out;
}

/// The sums over channels that an output value is made of, in four parts each, which compilers turn into vectors.
struct channel_sums {
    static constexpr std::size_t parts = 4;
    double value[parts] = {}, magnitude[parts] = {}, error[parts] = {};

    void add(const bounded* weights, const double* x, std::size_t channels) {
        std::size_t ch = 0;
        for (; ch + parts <= channels; ch += parts)
            for (std::size_t i = 0; i < parts; ++i) add(i, weights[ch + i], x[ch + i]);
        for (; ch < channels; ++ch) add(0, weights[ch], x[ch]);
    }
    static double total(const double (&of)[parts]) { return (of[0] + of[1]) + (of[2] + of[3]); }

private:
    void add(std::size_t part, const bounded& weight, double x) {
        const double product = weight.value * x;
        value[part] += product;
        magnitude[part] += std::abs(product);
        error[part] += weight.error * std::abs(x);
    }
};

/// x as doubles [N][H][W][C].
inline std::vector<double> channels_last(const kdna::tensor_view<const float>& x) {
    std::vector<double> out;
    out.reserve(static_cast<std::size_t>(x.shape.n * x.shape.c * x.shape.h * x.shape.w));
    for (index_t n = 0; n < x.shape.n; ++n)
        for (index_t h = 0; h < x.shape.h; ++h)
            for (index_t w = 0; w < x.shape.w; ++w)
                for (index_t c = 0; c < x.shape.c; ++c) out.push_back(static_cast<double>(x(n, c, h, w)));
    return out;
}

}  // namespace detail

/// y = act( BN( m * conv(x) + bias ) + residual ), `routed` [N] or empty.
inline expectation convolve(const convolution& c, const kdna::tensor_view<const float>& x,
                            const std::vector<factors>& routed = {},
                            const kdna::tensor_view<const float>& residual = {}) {
    const kdna::kernel_shape& k = c.kernel;
    const auto extent = [](index_t in, index_t before, index_t after, index_t window, index_t dilation,
                           index_t stride) { return (in + before + after - dilation * (window - 1) - 1) / stride + 1; };
    const auto& [stride, pad, dilation, mode] = c.params;
    expectation e{{x.shape.n, k.o, extent(x.shape.h, pad.top, pad.bottom, k.kh, dilation.h, stride.h),
                   extent(x.shape.w, pad.left, pad.right, k.kw, dilation.w, stride.w)},
                  {},
                  {},
                  {}};
    const index_t channels = k.i / k.groups;
    // Rounding errors are random walks in practice: 8 standard deviations, where the worst case is larger than that.
    const auto terms = static_cast<double>(channels * k.kh * k.kw);
    const double growth = std::min(terms, 8.0 * std::sqrt(terms)) + 10.0, u = unit_roundoff;
    const factors none;
    const std::vector<double> input = detail::channels_last(x);
    for (index_t n = 0; n < e.shape.n; ++n)
        for (index_t o = 0; o < k.o; ++o) {
            const factors& f = routed.empty() ? none : routed[static_cast<std::size_t>(n)];
            const auto filter = static_cast<std::size_t>(o);
            const bounded_vector weights = detail::modulated_filter(c, f, o);
            const index_t first = o / (k.o / k.groups) * channels;
            const double bn_scale = c.bn == nullptr ? 1.0 : c.bn->scale(filter),
                         bn_shift = c.bn == nullptr ? 0.0 : c.bn->shift(filter);
            const double fixed = bn_scale * detail::one_plus(c.filter, filter),
                         m = fixed * detail::factor_of(f.filter, filter);
            double shift = bn_shift + (c.bias.empty() ? 0.0 : bn_scale * static_cast<double>(c.bias[filter]));
            double shift_error = 4.0 * u * std::abs(shift);
            if (!c.mixture_bias.empty())
                for (std::size_t i = 0; i < f.mixture.size(); ++i) {
                    const double part =
                        bn_scale * static_cast<double>(c.mixture_bias[i * static_cast<std::size_t>(k.o) + filter]);
                    shift += f.mixture[i].value * part;
                    shift_error += std::abs(part) * (f.mixture[i].error + 12.0 * u * std::abs(f.mixture[i].value));
                }
            if (!f.bias.empty()) {
                shift += bn_scale * f.bias[filter].value;
                shift_error += std::abs(bn_scale) * (f.bias[filter].error + 8.0 * u * std::abs(f.bias[filter].value));
            }
            for (index_t h = 0; h < e.shape.h; ++h)
                for (index_t w = 0; w < e.shape.w; ++w) {
                    detail::channel_sums sums;
                    for (index_t i = 0; i < k.kh; ++i)
                        for (index_t j = 0; j < k.kw; ++j) {
                            index_t ih = h * stride.h - pad.top + i * dilation.h,
                                    iw = w * stride.w - pad.left + j * dilation.w;
                            if (mode == kdna::padding_mode::circular) {
                                ih = ((ih % x.shape.h) + x.shape.h) % x.shape.h;
                                iw = ((iw % x.shape.w) + x.shape.w) % x.shape.w;
                            }
                            if (ih < 0 || ih >= x.shape.h || iw < 0 || iw >= x.shape.w) continue;
                            sums.add(weights.data() + (i * k.kw + j) * channels,
                                     input.data() + ((n * x.shape.h + ih) * x.shape.w + iw) * x.shape.c + first,
                                     static_cast<std::size_t>(channels));
                        }
                    const double sum = detail::channel_sums::total(sums.value),
                                 magnitude = detail::channel_sums::total(sums.magnitude),
                                 factor_error = detail::channel_sums::total(sums.error);
                    const double r = residual.data == nullptr ? 0.0 : static_cast<double>(residual(n, o, h, w));
                    const double y = m * sum + shift + r;
                    const double shared =
                        1.01 * (std::abs(m) * factor_error +
                                std::abs(fixed) * detail::error_of(f.filter, filter) * std::abs(sum)) +
                        shift_error + 4.0 * u * (std::abs(m * sum) + std::abs(shift) + std::abs(r)) + 1e-37;
                    e.value.push_back(c.act(filter, y, 0.0).first);
                    if (!kdna::is_clamp(c.act.kind)) e.largest_argument = std::max(e.largest_argument, std::abs(y));
                    e.float_tolerance.push_back(c.act(filter, y, shared + std::abs(m) * growth * u * magnitude).second);
                    e.double_tolerance.push_back(c.act(filter, y, shared + std::abs(m) * 4.0 * u * magnitude).second);
                }
        }
    return e;
}

/// Every value must be as near as its bound says.
inline void check_bounds(const std::vector<float>& found, const bounded_vector& expected) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i)
        if (!(std::abs(static_cast<double>(found[i]) - expected[i].value) <= expected[i].error))
            FAIL("value " << i << ": " << found[i] << " instead of " << expected[i].value);
}

/// The largest error in units of its tolerance: at most 1 for a right result, infinity where something is NaN.
inline double worst_error(const std::vector<float>& found, const std::vector<double>& value,
                          const std::vector<double>& tolerance) {
    if (found.size() != value.size()) return INFINITY;
    double worst = 0.0;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const double ratio = std::abs(static_cast<double>(found[i]) - value[i]) / tolerance[i];
        worst = ratio <= worst ? worst : std::isnan(ratio) ? INFINITY : ratio;
    }
    return worst;
}
/// Likewise, of a layer whose plan explains itself so. Winograd mixes the outputs of a tile: an error is bounded by the largest
/// sum of terms around it, not by its own.
inline double worst_error(const std::vector<float>& found, const std::vector<double>& value,
                          std::vector<double> tolerance, std::string_view explained) {
    if (!tolerance.empty() && explained.find(": winograd") != std::string_view::npos)
        tolerance.assign(tolerance.size(), *std::max_element(tolerance.begin(), tolerance.end()));
    return worst_error(found, value, tolerance);
}

}  // namespace kdna_test
