// Shapes of tensors and kernels, convolution parameters, and the output extent they imply.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI {

/// Extents of an activation: batch N, channels C, rows H, columns W. Says nothing about the order in memory.
struct shape4 {
    index_t n = 1, c = 1, h = 1, w = 1;
    friend constexpr bool operator==(const shape4&, const shape4&) = default;
};

/// A pair of row and column values (stride, dilation, window). A single number means both.
struct extent2 {
    index_t h, w;
    // Implicit, here and in padding: `.stride = 2` is the point.
    constexpr extent2(index_t both) : h(both), w(both) {}  // NOLINT(google-explicit-constructor)
    constexpr extent2(index_t rows, index_t columns) : h(rows), w(columns) {}
    friend constexpr bool operator==(const extent2&, const extent2&) = default;
};

/// Padding, each side on its own. One number: all sides. Two: rows (top and bottom), columns (left and right).
struct padding {
    index_t top, bottom, left, right;
    // NOLINTNEXTLINE(google-explicit-constructor)
    constexpr padding(index_t all) : top(all), bottom(all), left(all), right(all) {}
    constexpr padding(index_t rows, index_t columns) : top(rows), bottom(rows), left(columns), right(columns) {}
    constexpr padding(index_t t, index_t b, index_t l, index_t r) : top(t), bottom(b), left(l), right(r) {}
    friend constexpr bool operator==(const padding&, const padding&) = default;
};

/// A convolution kernel: O filters over I input channels in `groups` groups. Dense weights are [O, I/groups, KH, KW].
struct kernel_shape {
    index_t o = 1, i = 1, kh = 1, kw = 1, groups = 1;

    [[nodiscard]] constexpr index_t taps() const noexcept { return kh * kw; }
    [[nodiscard]] constexpr index_t channels_per_group() const noexcept { return i / groups; }
    [[nodiscard]] constexpr index_t filters_per_group() const noexcept { return o / groups; }
    /// One filter per input channel, each on its own channel.
    [[nodiscard]] constexpr bool depthwise() const noexcept { return groups == i && o == i && i > 1; }
    friend constexpr bool operator==(const kernel_shape&, const kernel_shape&) = default;
};

/// What lies in the padding: zeros, or the map again, as if it were wound around a torus (PyTorch's 'zeros' and 'circular').
enum class padding_mode { zeros, circular };

/// How a kernel moves over its input.
struct conv_params {
    extent2 stride = 1;
    padding pad = 0;
    extent2 dilation = 1;
    padding_mode mode = padding_mode::zeros;
    friend constexpr bool operator==(const conv_params&, const conv_params&) = default;
};

[[nodiscard]] inline std::string to_string(const shape4& s) {
    return concat("(N ", s.n, ", C ", s.c, ", H ", s.h, ", W ", s.w, ")");
}

[[nodiscard]] inline std::string to_string(const kernel_shape& k) {
    return concat("(O ", k.o, ", I ", k.i, ", ", k.kh, "x", k.kw,
                  k.groups == 1 ? std::string() : concat(", groups ", k.groups), ")");
}

/// Number of elements; throws kdna::error if an extent is not positive or the product does not fit.
[[nodiscard]] inline index_t element_count(const shape4& s, std::string_view where = "shape") {
    if (s.n < 1 || s.c < 1 || s.h < 1 || s.w < 1) throw error(std::string(where), "extents >= 1", to_string(s));
    return checked_mul(checked_mul(s.n, s.c, where), checked_mul(s.h, s.w, where), where);
}

/// Number of dense weights O * I/groups * KH * KW; throws kdna::error if the shape is not a kernel's.
[[nodiscard]] inline index_t weight_count(const kernel_shape& k, std::string_view where = "kernel") {
    if (k.o < 1 || k.i < 1 || k.kh < 1 || k.kw < 1 || k.groups < 1)
        throw error(std::string(where), "extents and groups >= 1", to_string(k));
    if (k.i % k.groups != 0 || k.o % k.groups != 0)
        throw error(std::string(where), "groups that divide the input and output channels", to_string(k));
    return checked_mul(checked_mul(k.o, k.channels_per_group(), where), checked_mul(k.kh, k.kw, where), where);
}

/// Output extent along one axis: floor((in + before + after - dilation * (k - 1) - 1) / stride) + 1.
[[nodiscard]] inline index_t output_extent(index_t in, index_t k, index_t stride, index_t before, index_t after,
                                           index_t dilation, std::string_view where) {
    if (in < 1 || k < 1) throw error(std::string(where), "extents >= 1", concat("input ", in, ", window ", k));
    if (stride < 1 || dilation < 1)
        throw error(std::string(where), "stride and dilation >= 1", concat("stride ", stride, ", dilation ", dilation));
    const index_t padded = checked_add(in, checked_add(before, after, where), where);
    const index_t reach = checked_add(checked_mul(dilation, k - 1, where), 1, where);
    if (padded < reach)
        throw error(std::string(where), concat("an input of at least ", reach, " with its padding"), concat(padded));
    return (padded - reach) / stride + 1;
}

/// Shape of the output of a convolution of `in` with kernel `k`; throws kdna::error where there is none, and where circular
/// padding would wind a side more than once around the map.
[[nodiscard]] inline shape4 output_shape(const shape4& in, const kernel_shape& k, const conv_params& p,
                                         std::string_view where = "conv2d") {
    static_cast<void>(element_count(in, where));
    static_cast<void>(weight_count(k, where));
    if (in.c != k.i) throw error(std::string(where), concat("an input of ", k.i, " channels"), to_string(in));
    if (p.mode == padding_mode::circular &&
        (std::max(p.pad.top, p.pad.bottom) > in.h || std::max(p.pad.left, p.pad.right) > in.w))
        throw error(std::string(where),
                    concat("circular padding of at most ", in.h, " rows and ", in.w, " columns, the map's own"),
                    concat(p.pad.top, ", ", p.pad.bottom, ", ", p.pad.left, ", ", p.pad.right));
    const shape4 out{in.n, k.o, output_extent(in.h, k.kh, p.stride.h, p.pad.top, p.pad.bottom, p.dilation.h, where),
                     output_extent(in.w, k.kw, p.stride.w, p.pad.left, p.pad.right, p.dilation.w, where)};
    static_cast<void>(element_count(out, where));
    return out;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
