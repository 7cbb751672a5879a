// One convolution with everything it may have, at random, run on a backend and judged by the oracle.
#pragma once

#include <string>
#include <vector>

#include <kdna/backend/reference.hpp>
#include <kdna/dna/condconv.hpp>
#include <kdna/dna/kernel_dna.hpp>
#include <kdna/nn/conv2d.hpp>

#include "support/frames.hpp"
#include "support/lanes.hpp"
#include "support/method_tensors.hpp"
#include "support/number_formats.hpp"
#include "support/oracle.hpp"

namespace kdna_test {

/// A router for tests: every factor is offset + slope * (one of the pooled channels), along any axes.
class linear_router {
public:
    using optional_members = kdna::members<>;

    linear_router() = default;
    linear_router(rng& r, index_t channels, const kdna::route_widths& widths)
        : channels_(channels),
          widths_(widths),
          offset_(r.floats(widths.total(), 0.3, 1.5)),
          slope_(r.floats(widths.total())) {}

    [[nodiscard]] index_t input_channels() const { return channels_; }
    [[nodiscard]] kdna::route_widths widths() const { return widths_; }
    [[nodiscard]] index_t scratch_floats() const { return channels_; }

    void operator()(const float* pooled, const kdna::route& out, float* scratch) const noexcept {
        for (index_t c = 0; c < channels_; ++c) scratch[c] = pooled[c];
        std::size_t next = 0;
        const auto write = [&](float* to, index_t count) {
            for (index_t i = 0; i < count; ++i, ++next)
                to[i] = offset_[next] + slope_[next] * scratch[static_cast<index_t>(next) % channels_];
        };
        write(out.mixture, widths_.mixture);
        write(out.channel, widths_.channel);
        write(out.filter, widths_.filter);
        write(out.spatial, widths_.spatial);
    }
    [[nodiscard]] factors expected(const bounded_vector& pooled) const {
        std::size_t next = 0;
        const auto take = [&](index_t count) {
            bounded_vector out;
            for (index_t i = 0; i < count; ++i, ++next) {
                const bounded& p = pooled[next % static_cast<std::size_t>(channels_)];
                const auto a = static_cast<double>(offset_[next]), b = static_cast<double>(slope_[next]);
                out.push_back({a + b * p.value,
                               std::abs(b) * p.error + 3.0 * unit_roundoff * (std::abs(a) + std::abs(b * p.value))});
            }
            return out;
        };
        factors f;
        f.mixture = take(widths_.mixture);
        f.channel = take(widths_.channel);
        f.filter = take(widths_.filter);
        f.spatial = take(widths_.spatial);
        return f;
    }

private:
    index_t channels_ = 0;
    kdna::route_widths widths_{};
    std::vector<float> offset_, slope_;
};
static_assert(kdna::router<linear_router>);

/// Source and router of a layer. plain: dense; gated: squeeze-excite; routed: linear_router; condconv, dyconv: a mixture
/// with the method's router; mixed: a mixture with linear_router; odconv: of one kernel; odconv_n: of several.
enum class method { plain, gated, routed, condconv, mixed, dyconv, odconv, odconv_n, warehouse, dcd, acdc, sparse };

/// Methods whose kernel is a mixture_kernel.
constexpr bool is_mixture(method m) {
    return m == method::condconv || m == method::mixed || m == method::dyconv || m == method::odconv_n;
}
/// Methods without a router, which may be transformed for Winograd.
constexpr bool is_static(method m) { return m == method::plain || m == method::acdc || m == method::sparse; }

struct conv_case {
    method kind = method::plain;
    kdna::kernel_shape kernel{};
    kdna::conv_params params{};
    kdna::shape4 in{};
    index_t mixture = 0;
    std::vector<float> weights{}, mixture_bias{}, bias{}, spatial{}, filter{};
    bn_tensors bn{};
    se_tensors se{};
    std::vector<float> routing_weight{}, routing_bias{};
    linear_router router{};
    odconv_tensors odconv{};
    dyconv_tensors dyconv{};
    warehouse_tensors warehouse{};
    dcd_tensors dcd{};
    acdc_tensors acdc{};
    sparse_tensors sparse{};
    bool residual = false, in_place = false;
    kept_activation act{};
    kdna::conv::input_order order = kdna::conv::input_order::any;
    bool may_transform = true;  ///< Winograd allowed
    placement x_at = placement::nchw, y_at = placement::nchw, residual_at = placement::nchw;
    index_t threads = 1;
    kdna::machine target = kdna::machine::host();  ///< that the plan is made for
    kdna::number_format storage = kdna::number_format::float32;

    /// Stores the kernels, or cells, in a format, which has to be able to hold them exactly: they become its numbers.
    void store_in(kdna::number_format format) {
        storage = format;
        weights = rounded_to(format, std::move(weights));
        warehouse.cells = rounded_to(format, std::move(warehouse.cells));
    }

    [[nodiscard]] std::string describe() const {
        const auto& [stride, pad, dilation, mode] = params;
        constexpr std::array<const char*, 12> kinds{"plain",  "gated",    "routed",    "condconv", "mixed", "dyconv",
                                                    "odconv", "odconv n", "warehouse", "dcd",      "acdc",  "sparse"};
        return kdna::concat(
            kinds[static_cast<std::size_t>(kind)], " ", to_string(kernel), " on ", to_string(in), " ", to_string(x_at),
            order == kdna::conv::input_order::nhwc ? " (promised)" : "", " to ", to_string(y_at), ", stride ", stride.h,
            "x", stride.w, ", pad ", pad.top, ",", pad.bottom, ",", pad.left, ",", pad.right,
            mode == kdna::padding_mode::circular ? " circular" : "", ", dilation ", dilation.h, "x", dilation.w,
            bias.empty() ? "" : ", bias", bn.empty() ? "" : ", bn",
            residual ? kdna::concat(", residual ", in_place ? "in place" : to_string(residual_at)) : std::string(),
            ", act ", to_string(act), spatial.empty() ? "" : ", spatial", filter.empty() ? "" : ", filter",
            ", mixture ", mixture, ", routed spatial ", router.widths().spatial, ", threads ", threads,
            may_transform ? "" : ", no transform",
            kind == method::warehouse ? to_string(warehouse.cell) : std::string(),
            kind == method::dcd ? kdna::concat(", grid ", dcd.grid, ", rank ", dcd.rank) : std::string(),
            kind == method::sparse ? kdna::concat(", ", sparse.bits, " bits") : std::string(), ", stored as ",
            to_string(storage), ", for ", to_string(target));
    }
};

/// Multiply-adds of one run of the case.
inline double cost_of(const conv_case& c) {
    const kdna::shape4 out = kdna::output_shape(c.in, c.kernel, c.params);
    return static_cast<double>(out.n * out.c * out.h * out.w) *
           static_cast<double>(c.kernel.channels_per_group() * c.kernel.taps());
}

/// Fills in all tensors of a case whose shapes are set.
inline void randomise_tensors(rng& r, conv_case& c) {
    const kdna::kernel_shape& k = c.kernel;
    const index_t copies = std::max<index_t>(c.mixture, 1), per_filter = k.channels_per_group() * k.taps();
    const double size = 3.0 / std::sqrt(static_cast<double>(per_filter));
    if (c.kind != method::warehouse && c.kind != method::acdc && c.kind != method::sparse)
        c.weights = r.floats(copies * k.o * per_filter, -size, size);
    if (r.chance(0.4)) c.bias = r.floats(k.o);
    if (r.chance(0.5)) c.bn = bn_tensors::random(r, k.o);
    if (k.taps() > 1 && r.chance(c.kind == method::plain ? 0.3 : 0.6)) c.spatial = r.floats(k.taps());
    if (r.chance(0.4) && c.kind != method::sparse) c.filter = r.floats(k.o);
    if (c.kind == method::gated) c.se = se_tensors::random(r, k.i, r.between(1, 9));
    if (c.kind == method::condconv) {
        c.routing_weight = r.floats(c.mixture * k.i, -2.0, 2.0);
        c.routing_bias = r.floats(c.mixture);
    }
    if (c.mixture > 0 && r.chance(0.5)) c.mixture_bias = r.floats(c.mixture * k.o);
    if (c.kind == method::routed || c.kind == method::mixed) {
        kdna::route_widths w{.mixture = c.kind == method::mixed ? c.mixture : 0};
        do {
            w.channel = r.chance(0.5) ? k.i : 0;
            w.filter = r.chance(0.5) ? k.o : 0;
            w.spatial = k.taps() > 1 && r.chance(0.5) ? k.taps() : 0;
        } while (w.total() == 0);
        c.router = linear_router(r, k.i, w);
    }
    if (c.kind == method::odconv || c.kind == method::odconv_n) c.odconv = odconv_tensors::random(r, k, c.mixture);
    if (c.kind == method::dyconv) c.dyconv = dyconv_tensors::random(r, k.i, c.mixture);
    if (c.kind == method::warehouse) c.warehouse = warehouse_tensors::random(r, k, r.pick<index_t>({1, 10, 60, 200}));
    if (c.kind == method::dcd) c.dcd = dcd_tensors::random(r, k);
    if (c.kind == method::acdc) c.acdc = acdc_tensors::random(r, k);
    if (c.kind == method::sparse) c.sparse = sparse_tensors::random(r, k, static_cast<int>(r.between(0, 9)));
}

/// Random kind-independent settings: layouts, epilogue, mixture size.
inline void randomise_call(rng& r, conv_case& c) {
    using p = placement;
    c.mixture = is_mixture(c.kind) ? r.between(c.kind == method::odconv_n ? 2 : 1, 4) : 0;
    const auto any_output = [&] {
        return r.pick({p::nchw, p::nhwc, p::padded_nchw, p::padded_nhwc, p::permuted, p::reversed});
    };
    c.x_at = r.chance(0.4) ? r.pick({p::nhwc, p::padded_nhwc}) : r.chance(0.1) ? p::broadcast : any_output();
    c.y_at = any_output();
    c.residual_at = r.chance(0.1) ? p::broadcast : any_output();
    if ((c.x_at == p::nhwc || c.x_at == p::padded_nhwc) && r.chance(0.7)) c.order = kdna::conv::input_order::nhwc;
    c.may_transform = r.chance(0.6);
    c.residual = r.chance(0.4);
    c.in_place = c.residual && r.chance(0.25);
    c.act = random_activation(r, c.kernel.o);
}

inline conv_case random_case(rng& r, method kind, double most_multiply_adds = 2.5e5) {
    conv_case c;
    do {
        c = {};
        c.kind = kind;
        kdna::kernel_shape& k = c.kernel;
        k.kh = r.chance(0.5) ? r.pick<index_t>({1, 3}) : r.between(1, 7);
        k.kw = r.chance(0.6) ? k.kh : r.between(1, 7);
        const auto channels = [&] {
            return r.pick<index_t>({1, 2, 3, 5, 7, 8, 9, 13, 16, lanes - 1, lanes, lanes + 1, 2 * lanes + 1, 33, 64});
        };
        k.i = channels();
        k.o = channels();
        if (r.chance(0.2)) {  // several groups
            k.groups = r.between(2, 5);
            k.i = k.groups * r.pick<index_t>({1, 2, 3, 7, 8, 9, lanes});
            k.o = k.groups * r.pick<index_t>({1, 2, 3, lanes - 1, lanes, lanes + 1, 2 * lanes + 1});
        } else if (r.chance(0.25)) {  // depthwise, or with a multiplier
            k.groups = k.i;
            k.o = k.i * (r.chance(0.6) ? 1 : r.between(2, 3));
        }
        if (kind == method::dcd) {  // needs one group and a centre tap
            k.groups = 1;
            k.kh |= 1;
            k.kw |= 1;
        }
        if (kind == method::sparse && k.taps() > 32) k.kh = k.kw = 5;
        c.params.stride = {r.pick<index_t>({1, 1, 1, 2, 3}), r.pick<index_t>({1, 1, 2, 3})};
        c.params.dilation = {r.pick<index_t>({1, 1, 1, 2, 3}), r.pick<index_t>({1, 1, 2, 3})};
        c.params.pad = {r.between(0, 3), r.between(0, 3), r.between(0, 3), r.between(0, 3)};
        if (r.chance(0.4)) c.params.pad = {k.kh / 2, k.kw / 2};
        const auto input = [&](index_t out, index_t stride, index_t reach, index_t pads) {
            return std::max<index_t>(1, (out - 1) * stride + reach - pads + r.between(0, stride - 1));
        };
        const auto& [stride, pad, dilation, mode] = c.params;
        const auto out_extent = [&] { return r.pick<index_t>({1, 2, 3, 5, 7, 7, 13, 14, 17}); };
        const index_t out_h = out_extent(), out_w = r.chance(0.5) ? out_h : out_extent();
        c.in = {r.pick<index_t>({1, 1, 2, 3}), k.i,
                input(out_h, stride.h, dilation.h * (k.kh - 1) + 1, pad.top + pad.bottom),
                input(out_w, stride.w, dilation.w * (k.kw - 1) + 1, pad.left + pad.right)};
        // Not more padding than map on any side.
        if (r.chance(0.2) && std::max(pad.top, pad.bottom) <= c.in.h && std::max(pad.left, pad.right) <= c.in.w)
            c.params.mode = kdna::padding_mode::circular;
    } while (cost_of(c) > most_multiply_adds);
    if (r.chance(is_static(kind) ? 0.02 : 0.03)) {  // worth Winograd, or panels transformed as they are used
        c.kernel = {.o = r.pick<index_t>({33, 64}), .i = r.pick<index_t>({48, 65}), .kh = 3, .kw = 3};
        c.params = {.pad = {r.between(0, 2), r.between(0, 2), r.between(0, 2), r.between(0, 2)}};
        if (r.chance(0.3)) c.params.mode = kdna::padding_mode::circular;
        c.in = {r.between(1, 2), c.kernel.i, r.between(7, 14), r.between(7, 14)};
    }
    randomise_call(r, c);
    randomise_tensors(r, c);
    return c;
}

inline kdna::squeeze_excite gate_of(const se_tensors& se) {
    return kdna::squeeze_excite({.fc1 = se.fc1, .bn = view_of(se.bn), .fc2 = se.fc2, .fc2_bias = se.fc2_bias});
}

/// The case as a layer.
template <method Kind, class Backend>
auto make_layer(const conv_case& c) {
    using namespace kdna;
    const static_adapter adapter{.spatial = c.spatial, .filter = c.filter};
    conv_options options{.bias = c.bias, .residual = c.residual, .act = c.act, .name = "layer"};
    if (!c.bn.empty()) options.bn = view_of(c.bn);
    if constexpr (is_mixture(Kind)) {
        auto kernel =
            adapt(mixture_kernel::pack(c.mixture, c.kernel, c.weights, c.mixture_bias, "layer", c.storage), adapter);
        if constexpr (Kind == method::condconv)
            return conv2d<mixture_kernel, condconv_router, Backend>(
                std::move(kernel), c.params, options, condconv_router(c.routing_weight, c.routing_bias, c.kernel.i));
        else if constexpr (Kind == method::dyconv)
            return conv2d<mixture_kernel, dyconv_router, Backend>(std::move(kernel), c.params, options,
                                                                  c.dyconv.router(c.kernel.i));
        else if constexpr (Kind == method::odconv_n)
            return conv2d<mixture_kernel, odconv_router, Backend>(std::move(kernel), c.params, options,
                                                                  odconv_router(c.odconv.view()));
        else
            return conv2d<mixture_kernel, linear_router, Backend>(std::move(kernel), c.params, options, c.router);
    } else if constexpr (Kind == method::warehouse) {
        return conv2d<warehouse_kernel, warehouse_router, Backend>(
            adapt(c.warehouse.kernel(c.kernel, c.storage), adapter), c.params, options, c.warehouse.router(c.kernel.i));
    } else if constexpr (Kind == method::acdc) {
        return conv2d<acdc_kernel, no_router, Backend>(adapt(c.acdc.kernel(c.kernel), adapter), c.params, options);
    } else if constexpr (Kind == method::sparse) {
        auto kernel = c.sparse.kernel(c.kernel).scaled(c.sparse.alpha);
        for (const float a : c.spatial) kernel.spatial_factors.push_back(1.0F + a);
        return conv2d<codebook_kernel, no_router, Backend>(std::move(kernel), c.params, options);
    } else if constexpr (Kind == method::dcd) {
        dcd_kernel kernel(dense_kernel::pack(c.kernel, c.weights, "layer", c.storage), c.dcd.view(), c.dcd.bias);
        return conv2d<dcd_kernel, dcd_router, Backend>(adapt(std::move(kernel), adapter), c.params, options,
                                                       c.dcd.router());
    } else {
        auto kernel = adapt(dense_kernel::pack(c.kernel, c.weights, "layer", c.storage), adapter);
        if constexpr (Kind == method::plain)
            return conv2d<dense_kernel, no_router, Backend>(std::move(kernel), c.params, options);
        else if constexpr (Kind == method::gated)
            return conv2d<dense_kernel, squeeze_excite, Backend>(std::move(kernel), c.params, options, gate_of(c.se));
        else if constexpr (Kind == method::odconv)
            return conv2d<dense_kernel, odconv_router, Backend>(std::move(kernel), c.params, options,
                                                                odconv_router(c.odconv.view()));
        else
            return conv2d<dense_kernel, linear_router, Backend>(std::move(kernel), c.params, options, c.router);
    }
}

/// The routed factors of every sample, in double.
inline std::vector<factors> routed_factors(const conv_case& c, const kdna::tensor_view<const float>& x) {
    std::vector<factors> out;
    if (c.kind == method::plain) return out;
    for (index_t n = 0; n < x.shape.n; ++n) {
        const bounded_vector mean = pooled(x, n);
        factors f;
        if (c.kind == method::gated) f.channel = c.se(mean);
        if (c.kind == method::condconv) {
            f.mixture = dense(c.routing_weight, c.routing_bias, mean);
            sigmoid(f.mixture);
        }
        if (c.kind == method::routed || c.kind == method::mixed) f = c.router.expected(mean);
        if (c.kind == method::odconv || c.kind == method::odconv_n) f = c.odconv(mean);
        if (c.kind == method::dyconv) f.mixture = c.dyconv(mean);
        if (c.kind == method::warehouse) f.kernel = c.warehouse.expand(c.kernel, c.warehouse(mean));
        if (c.kind == method::acdc) f.kernel = c.acdc.expand(c.kernel);
        if (c.kind == method::sparse) {
            f.kernel = c.sparse.expand(c.kernel);
            f.filter = exact(c.sparse.alpha);
        }
        if (c.kind == method::dcd) {
            const dcd_tensors::routed routed = c.dcd(pooled(x, n, c.dcd.grid));
            f.kernel = c.dcd.expand(c.kernel, c.weights, routed);
            f.bias = c.dcd.shift(routed);
        }
        out.push_back(std::move(f));
    }
    return out;
}

/// With these routed factors, one set for each sample.
inline expectation expected(const conv_case& c, const kdna::tensor_view<const float>& x,
                            const kdna::tensor_view<const float>& residual, const std::vector<factors>& routed) {
    convolution f{.kernel = c.kernel, .params = c.params, .weights = c.weights};
    f.mixture_bias = c.mixture_bias;
    f.bias = c.bias;
    f.spatial = c.spatial;
    f.filter = c.filter;
    f.bn = c.bn.empty() ? nullptr : &c.bn;
    f.act = c.act;
    return convolve(f, x, routed, residual);
}
inline expectation expected(const conv_case& c, const kdna::tensor_view<const float>& x,
                            const kdna::tensor_view<const float>& residual) {
    return expected(c, x, residual, routed_factors(c, x));
}

}  // namespace kdna_test
