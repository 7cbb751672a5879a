// Layers on a device, the emulated or a real one, beside the formula in double.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include <kdna/cuda/layer.hpp>

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
                            const kdna::tensor_view<const float>& residual, typename Device::stream s) {
    using namespace kdna;
    using namespace kdna::cuda;
    kernel_store<Device> store;
    const device_conv<Device> layer(device, recipe, options, store, s);
    const device_conv_plan p = layer.plan(x.shape);
    const index_t element = bytes_of(options.numbers);
    const auto dx = to_device(device, x, options.numbers, s);
    const auto dr =
        residual.data != nullptr ? to_device(device, residual, options.numbers, s) : device_memory<Device>();
    const device_memory<Device> y(device, element_count(p.out) * element), scratch(device, p.scratch_bytes),
        sums(device, p.sums_floats() * 4);
    device_conv_call call{dx.data(), y.data(), dr.data()};
    call.y_sums = {sums.template span<float>(0, p.sums_floats()), p.out_rows, static_cast<int>(p.out.c)};
    call.scratch = static_cast<std::byte*>(scratch.data());
    layer.enqueue(p, call, s);

    device_result out{from_device(device, y, p.out, options.numbers, s), {}, p.text};
    const device_memory<Device> means(device, p.out.n * p.out.c * 4);
    using f32 = number<precision::f32>;
    const mean_arguments<float> a{call.y_sums, means.template span<float>(0, p.out.n * p.out.c)};
    device.template launch<mean_kernel<f32>>(elementwise_kernel::grid(a.y.size), a, s);
    out.means.resize(static_cast<std::size_t>(p.out.n * p.out.c));
    device.download(out.means.data(), means.data(), means.bytes(), s);
    return out;
}

/// Runs a case of the CPU's tests and judges output and means.
template <method Kind, class Device>
void check_case(Device& device, const conv_case& c, rng& r, const kdna::cuda::device_options& options,
                typename Device::stream s) {
    using namespace kdna;
    tensor<float> x(c.in, layout::nhwc), residual;
    const auto fill = [&](tensor<float>& t) {
        // Numbers that every precision has exactly, so that only the device's own rounding is judged.
        for (float& v : t.span()) v = static_cast<float>(std::round(r.real(-64, 64)) / 32);
    };
    fill(x);
    if (c.residual) {
        residual = tensor<float>(output_shape(c.in, c.kernel, c.params), layout::nhwc);
        fill(residual);
    }
    const tensor_view<const float> x_view = std::as_const(x).view(),
                                   residual_view =
                                       c.residual ? std::as_const(residual).view() : tensor_view<const float>{};
    const expectation e = expected(c, x_view, residual_view);
    const auto recipe = cuda::take_apart(make_layer<Kind, backend::reference>(c));
    const device_result found = run_on_device(device, recipe, options, x_view, residual_view, s);
    REQUIRE(found.y.shape() == e.shape);

    // Sums have the size of one. Where an activation cuts most of them off, a part of what is left says nothing.
    double largest = 1.0, error = 0.0;
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
    CHECK(error <= device_tolerance(options.numbers, Kind) * largest);
    CHECK(means_error <= 1e-5 * largest);
}

}  // namespace kdna_test
