// Layers on a device, the emulated or a real one, beside the formula in double.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include <kdna/cuda/layers/layer.hpp>
#include <kdna/cuda/layers/take_apart.hpp>

#include "support/call_kernels.hpp"
#include "support/conv_cases.hpp"

namespace kdna_test {

using kdna::cuda::precision;

/// Largest error, as a part of the largest output, that a precision may have.
constexpr double device_tolerance(precision p, method kind) {
    // DCD adds two kernels, either of which may be larger than what comes of them.
    if (p == precision::bf16 && kind == method::dcd) return 2e-2;
    return p == precision::f32 ? 1e-4 : p == precision::tf32 ? 4e-3 : 1e-2;
}

/// Values to a device in a layer's numbers, dense NHWC, and back.
template <class Device>
kdna::cuda::device_memory<Device> to_device(Device& device, const kdna::tensor_view<const float>& x, precision p,
                                            typename Device::stream s) {
    return kdna::cuda::with_number(p, [&]<class Number>(Number) {
        using T = typename Number::element;
        std::vector<T> values;
        for (index_t n = 0; n < x.shape.n; ++n)
            for (index_t h = 0; h < x.shape.h; ++h)
                for (index_t w = 0; w < x.shape.w; ++w)
                    for (index_t c = 0; c < x.shape.c; ++c) values.push_back(kdna::cuda::from_float<T>(x(n, c, h, w)));
        return kdna::cuda::uploaded<T>(device, values, s);
    });
}
template <class Device>
kdna::tensor<float> from_device(Device& device, const kdna::cuda::device_memory<Device>& m, const kdna::shape4& shape,
                                precision p, typename Device::stream s) {
    kdna::tensor<float> out(shape, kdna::layout::nhwc);
    kdna::cuda::with_number(p, [&]<class Number>(Number) {
        using T = typename Number::element;
        std::vector<T> values(out.span().size());
        device.download(values.data(), m.data(), static_cast<index_t>(values.size() * sizeof(T)), s);
        for (std::size_t i = 0; i < values.size(); ++i) out.span()[i] = kdna::cuda::to_float(values[i]);
    });
    return out;
}

/// What a layer gave on a device: its output, and the channel means that it took on the way, [N][O].
struct device_result {
    kdna::tensor<float> y;
    std::vector<float> means;
    std::string plan;
};

/// Runs a layer, which sums its input itself and takes the sums of its output.
template <class Device>
device_result run_on_device(Device& device, const kdna::cuda::conv_recipe& recipe,
                            const kdna::cuda::device_options& options, const kdna::tensor_view<const float>& x,
                            const kdna::tensor_view<const float>& residual, typename Device::stream s,
                            const call_kernels* kernels = nullptr) {
    using namespace kdna;
    using namespace kdna::cuda;
    kernel_store<Device> store;
    const device_conv<Device> layer(device, recipe, options, store, s);
    const bool each = kernels != nullptr && kernels->count > 1;
    const device_conv_plan p = layer.plan(x.shape, each ? given_kernels::each : given_kernels::one);
    const index_t element = bytes_of(options.numbers);
    const auto dx = to_device(device, x, options.numbers, s);
    const auto dr =
        residual.data != nullptr ? to_device(device, residual, options.numbers, s) : device_memory<Device>();
    const device_memory<Device> y(device, element_count(p.out) * element), scratch(device, p.scratch_bytes),
        sums(device, p.sums_floats() * 4);
    device_conv_call call{dx.data(), y.data(), dr.data()};
    call.y_sums = {sums.template span<float>(0, p.sums_floats()), p.out_rows, static_cast<int>(p.out.c)};
    call.scratch = static_cast<std::byte*>(scratch.data());
    device_memory<Device> given;
    if (kernels != nullptr) {
        given = uploaded<float>(device, kernels->values, s);
        call.kernels = device_view<const float>::from_device_pointer(
            static_cast<const float*>(given.data()), {kernels->count, kernels->source.mixture_size()}, layout::nchw);
    }
    layer.enqueue(p, call, s);

    device_result out{from_device(device, y, p.out, options.numbers, s), {}, p.text};
    const device_memory<Device> means(device, p.out.n * p.out.c * 4);
    using f32 = number<precision::f32>;
    const mean_arguments<float> a{call.y_sums, means.template span<float>(0, p.out.n * p.out.c),
                                  static_cast<int>(p.out.n), static_cast<int>(p.out.c)};
    device.template launch<mean_program<f32>>(elementwise_program::grid(a.y.size), a, s);
    out.means.resize(static_cast<std::size_t>(p.out.n * p.out.c));
    device.download(out.means.data(), means.data(), means.bytes(), s);
    return out;
}

/// Input and residual of a case, in numbers that every precision has exactly, so that only the device's own rounding is
/// judged.
struct call_tensors {
    kdna::tensor<float> x, residual{};

    call_tensors(rng& r, const conv_case& c) : x(c.in, kdna::layout::nhwc) {
        const auto fill = [&](kdna::tensor<float>& t) {
            for (float& v : t.span()) v = static_cast<float>(std::round(r.real(-64, 64)) / 32);
        };
        fill(x);
        if (!c.residual) return;
        residual = kdna::tensor<float>(output_shape(c.in, c.kernel, c.params), kdna::layout::nhwc);
        fill(residual);
    }
    [[nodiscard]] kdna::tensor_view<const float> x_view() const { return x.view(); }
    [[nodiscard]] kdna::tensor_view<const float> residual_view() const {
        return residual.size() > 0 ? residual.view() : kdna::tensor_view<const float>{};
    }
};

/// Judges output and means.
inline void check_result(const device_result& found, const expectation& e, double tolerance) {
    REQUIRE(found.y.shape() == e.shape);

    // Sums have the size of one. Where an activation cuts most of them off, a part of what is left says nothing.
    double largest = std::max(1.0, e.largest_argument), error = 0.0;
    std::size_t i = 0;
    std::vector<double> means;
    for (index_t n = 0; n < e.shape.n; ++n)
        for (index_t o = 0; o < e.shape.c; ++o) {
            double sum = 0.0;
            for (index_t h = 0; h < e.shape.h; ++h)
                for (index_t w = 0; w < e.shape.w; ++w, ++i) {
                    const double value = static_cast<double>(found.y(n, o, h, w)), off = std::abs(value - e.value[i]);
                    largest = std::max(largest, std::abs(e.value[i]));
                    error = off <= error ? error : off;  // NaN counts
                    sum += value;
                }
            means.push_back(sum / static_cast<double>(e.shape.h * e.shape.w));
        }
    double means_error = 0.0;
    for (i = 0; i < means.size(); ++i) {
        const double off = std::abs(static_cast<double>(found.means[i]) - means[i]);
        means_error = off <= means_error ? means_error : off;
    }
    INFO(found.plan << ": off by " << error << " of " << largest << ", means by " << means_error);
    CHECK(error <= tolerance * largest);
    CHECK(means_error <= 1e-5 * largest);
}

/// Runs a case of the CPU's tests.
template <method Kind, class Device>
void check_case(Device& device, const conv_case& c, rng& r, const kdna::cuda::device_options& options,
                typename Device::stream s) {
    const call_tensors t(r, c);
    const auto recipe = kdna::cuda::take_apart(make_layer<Kind, kdna::backend::reference>(c));
    check_result(run_on_device(device, recipe, options, t.x_view(), t.residual_view(), s),
                 expected(c, t.x_view(), t.residual_view()), device_tolerance(options.numbers, Kind));
}
/// Runs a plain case, its filters as many as its channels, with an attention beside it, and no adapter.
template <class Device>
void check_x_volution(Device& device, conv_case c, rng& r, const kdna::cuda::device_options& options,
                      typename Device::stream s) {
    using namespace kdna;
    c.spatial.clear();
    c.filter.clear();
    const auto factor = static_cast<float>(r.real(0.3, 1.0) / static_cast<double>(c.kernel.i));
    conv_options o{.bias = c.bias, .residual = c.residual, .act = c.act, .name = "layer"};
    if (!c.bn.empty()) o.bn = view_of(c.bn);
    const call_tensors t(r, c);
    const auto x = t.x_view(), residual = t.residual_view();
    // To the formula, what the attention gives is the convolution's residual.
    tensor<float> added(output_shape(c.in, c.kernel, c.params), layout::nhwc);
    const auto at = [&](index_t n, index_t k, index_t h, index_t w) {
        const bool inside = h >= 0 && h < c.in.h && w >= 0 && w < c.in.w;
        return inside ? static_cast<double>(x(n, k, h, w)) : 0.0;
    };
    const auto& [stride, pad, dilation, mode] = c.params;
    for (index_t n = 0; n < c.in.n; ++n)
        for (index_t h = 0; h < added.shape().h; ++h)
            for (index_t w = 0; w < added.shape().w; ++w) {
                const index_t top = h * stride.h - pad.top, left = w * stride.w - pad.left;
                std::vector<double> sum(static_cast<std::size_t>(c.in.c), 0.0);
                for (index_t i = 0; i < c.kernel.kh; ++i)
                    for (index_t j = 0; j < c.kernel.kw; ++j) {
                        double weight = 0.0;
                        const index_t ih = top + i * dilation.h, iw = left + j * dilation.w;
                        for (index_t k = 0; k < c.in.c; ++k)
                            weight +=
                                at(n, k, top + c.kernel.kh / 2 * dilation.h, left + c.kernel.kw / 2 * dilation.w) *
                                at(n, k, ih, iw);
                        for (index_t k = 0; k < c.in.c; ++k)
                            sum[static_cast<std::size_t>(k)] += static_cast<double>(factor) * weight * at(n, k, ih, iw);
                    }
                for (index_t k = 0; k < c.in.c; ++k) {
                    const auto channel = static_cast<std::size_t>(k);
                    added(n, k, h, w) =
                        static_cast<float>(sum[channel] * (c.bn.empty() ? 1.0 : c.bn.scale(channel)) +
                                           (c.residual ? static_cast<double>(residual(n, k, h, w)) : 0.0));
                }
            }
    const auto recipe = cuda::take_apart(x_volution(dense_kernel::pack(c.kernel, c.weights), factor, c.params, o));
    check_result(run_on_device(device, recipe, options, x, residual, s), expected(c, x, std::as_const(added).view()),
                 device_tolerance(options.numbers, method::plain));
}
/// Runs a plain case with kernels that come with the call, and no adapter.
template <class Device>
void check_given_kernels(Device& device, conv_case c, rng& r, const kdna::cuda::device_options& options,
                         typename Device::stream s) {
    using namespace kdna;
    c.spatial.clear();
    c.filter.clear();
    const call_kernels kernels = call_kernels::random(r, c.kernel, c.in.n);
    conv_options o{.bias = c.bias, .residual = c.residual, .act = c.act, .name = "layer"};
    if (!c.bn.empty()) o.bn = view_of(c.bn);
    const call_tensors t(r, c);
    const auto recipe = cuda::take_apart(basic_runtime_conv2d<backend::reference>(kernels.source, c.params, o));
    const device_result found = run_on_device(device, recipe, options, t.x_view(), t.residual_view(), s, &kernels);
    // Sample by sample, as the formula has one kernel.
    const shape4 out = found.y.shape();
    expectation e{out, {}, {}, {}};
    for (index_t n = 0; n < c.in.n; ++n) {
        const auto size = static_cast<std::ptrdiff_t>(kernels.dense.size()) / kernels.count,
                   begin = (kernels.count > 1 ? n : 0) * size;
        c.weights.assign(kernels.dense.begin() + begin, kernels.dense.begin() + begin + size);
        const auto sample = [&](tensor_view<const float> v) {
            if (v.data == nullptr) return v;
            v.data = v.at(n, 0, 0, 0);
            v.shape.n = 1;
            return v;
        };
        const expectation one = expected(c, sample(t.x_view()), sample(t.residual_view()));
        e.value.insert(e.value.end(), one.value.begin(), one.value.end());
        e.largest_argument = std::max(e.largest_argument, one.largest_argument);
    }
    check_result(found, e, device_tolerance(options.numbers, method::plain));
}

}  // namespace kdna_test
