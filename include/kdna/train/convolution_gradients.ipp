// Definitions of train/convolution_pass.hpp: the way back.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/train/convolution_pass.hpp>

namespace kdna::inline KDNA_ABI::train {

KDNA_FUNC void convolution_pass::backward(const gradients& g, std::byte* workspace) {
    through_activation(g);
    sum_filters(g);
    if (kernel_ && has_product()) {
        const kernel_shape& k = layer_->kernel->shape();
        turned_.resize(static_cast<std::size_t>(weight_count(k)));
        (depthwise() ? shared_kernel::order_by_tap : shared_kernel::transpose)(
            k, parameters_->values(layer_->kernel->weight()), turned_.data());
    }
    std::fill(tap_sums_.begin(), tap_sums_.end(), 0.0);
    std::fill(kernel_sums_.begin(), kernel_sums_.end(), 0.0F);
    if (has_product() || kernel_)
        for (index_t n = 0; n < in_.n; ++n) back_through_sample(g, n, workspace);
    if (kernel_) add_kernel_sums();
    if (float* to = parameters_->gradient(layer_->spatial); to != nullptr)
        for (std::size_t t = 0; t < tap_sums_.size(); ++t) to[t] += static_cast<float>(tap_sums_[t]);
}

/// u: the gradient of y where the activation lets it through; and to the residual.
KDNA_FUNC void convolution_pass::through_activation(const gradients& g) const {
    const clamp_range range = range_of(layer_->act);
    const index_t each = out_.h * out_.w * out_.c;
    executor_.parallel_for(out_.n, [&](index_t n) {
        float* u = g.of_y + n * each;
        if (reads_y()) {
            const float* y = g.y.data + n * each;
            for (index_t i = 0; i < each; ++i) u[i] = y[i] > range.low && y[i] < range.high ? u[i] : 0.0F;
        }
        if (g.of_residual != nullptr)
            for (index_t i = 0; i < each; ++i) g.of_residual[n * each + i] += u[i];
    });
}

/// Sums of u and of u . z over all pixels, a row in float32 and rows in double, and what follows from them.
KDNA_FUNC void convolution_pass::sum_filters(const gradients& g) {
    const std::size_t filters = filter_.size();
    std::fill(sums_.begin(), sums_.end(), 0.0);
    std::fill(products_.begin(), products_.end(), 0.0);
    std::vector<float> sum(filters), product(filters);
    for (index_t row = 0; row < out_.n * out_.h; ++row) {
        std::fill(sum.begin(), sum.end(), 0.0F);
        std::fill(product.begin(), product.end(), 0.0F);
        for (index_t p = row * out_.w; p < (row + 1) * out_.w; ++p) {
            const float* u = g.of_y + p * out_.c;
            for (std::size_t o = 0; o < filters; ++o) sum[o] += u[o];
            if (!reads_z()) continue;
            const float* z = g.z + p * out_.c;
            for (std::size_t o = 0; o < filters; ++o) product[o] += u[o] * z[o];
        }
        for (std::size_t o = 0; o < filters; ++o) {
            sums_[o] += static_cast<double>(sum[o]);
            products_[o] += static_cast<double>(product[o]);
        }
    }
    float *filter_to = parameters_->gradient(layer_->filter), *bias_to = parameters_->gradient(layer_->bias);
    const norm_view* bn = norm_.empty() ? nullptr : &norm_.front();
    float *weight_to = layer_->bn ? parameters_->gradient(layer_->bn->weight) : nullptr,
          *shift_to = layer_->bn ? parameters_->gradient(layer_->bn->bias) : nullptr;
    const auto add = [](float* to, std::size_t o, double value) {
        if (to != nullptr) to[o] += static_cast<float>(value);
    };
    for (std::size_t o = 0; o < filters; ++o) {
        const double scale = bn == nullptr ? 1.0 : bn->scale(o);
        add(filter_to, o, scale * products_[o]);
        add(bias_to, o, scale * sums_[o]);
        if (bn == nullptr) continue;
        add(weight_to, o, bn->inverse[o] * (filter_[o] * products_[o] + (bias_of(o) - bn->mean[o]) * sums_[o]));
        add(shift_to, o, sums_[o]);
    }
}

KDNA_FUNC void convolution_pass::back_through_sample(const gradients& g, index_t n, std::byte* workspace) {
    const kernel_shape& k = layer_->kernel->shape();
    const index_t inputs = in_.c * in_.h * in_.w, outputs = out_.c * out_.h * out_.w;
    const float *x = g.x.data + n * inputs, *u = g.of_y + n * outputs;
    float* of_x = to_input_ ? g.of_x + n * inputs : nullptr;
    if (kernel_) sum_kernel(x, u, n);
    if (!has_product()) return;
    float* to = of_x;
    if (gate_) {
        to = at_offset<float>(workspace, gated_at_);
        std::fill_n(to, inputs, 0.0F);
    }
    if (depthwise()) {
        scatter(x, u, nullptr, n, to);
    } else if (k.taps() == 1 && layer_->params == conv_params{} && !gate_) {
        multiply_transposed(u, to, to, workspace);  // one tap on every pixel: q is what is added
    } else {
        auto* q = at_offset<float>(workspace, product_at_);
        multiply_transposed(u, q, nullptr, workspace);
        scatter(x, u, q, n, to);
    }
    if (gate_) back_through_gate(x, n, to, of_x);
}

/// q = W transposed times m . u, for one sample, plus `onto` unless that is null.
KDNA_FUNC void convolution_pass::multiply_transposed(const float* u, float* q, float* onto, std::byte* workspace) {
    const shape4 from{1, out_.c, out_.h, out_.w}, to = transposed_.out;
    factor_set f;
    if (kernel_) f.mixture = {turned_.data(), 0};
    f.channel = {scale_.data(), 0};
    f.scale = {ones_.data(), 0};
    f.shift = {zeros_.data(), 0};
    const tensor_view<float> y = make_view(q, to, layout::nhwc);
    conv::run(transposed_,
              {.source = kernel_ ? source_ref(*own_transposed_) : source_ref(layer_->kernel->transposed()),
               .params = {},
               .x = make_view(u, from, layout::nhwc),
               .y = y,
               .residual = onto == nullptr ? tensor_view<const float>() : tensor_view<const float>(y),
               .factors = f,
               .act = activation::none},
              workspace, executor_);
}

/// Calls f(output pixel, input pixel, tap) for every tap that lies on the map.
template <class F>
void convolution_pass::for_each_window(const F& f) const {
    const kernel_shape& k = layer_->kernel->shape();
    const conv_params& p = layer_->params;
    for (index_t h = 0; h < out_.h; ++h)
        for (index_t w = 0; w < out_.w; ++w)
            for (index_t i = 0; i < k.kh; ++i) {
                const index_t row = h * p.stride.h - p.pad.top + i * p.dilation.h;
                if (row < 0 || row >= in_.h) continue;
                for (index_t j = 0; j < k.kw; ++j) {
                    const index_t column = w * p.stride.w - p.pad.left + j * p.dilation.w;
                    if (column < 0 || column >= in_.w) continue;
                    f(h * out_.w + w, row * in_.w + column, i * k.kw + j);
                }
            }
}

/// Adds s[t] q[t,c,p] to the pixels that the taps lie on, and what the taps themselves get. q null: a depthwise kernel, whose q is a
/// product of two numbers.
KDNA_FUNC void convolution_pass::scatter(const float* x, const float* u, const float* q, index_t n, float* to) {
    const kernel_shape& k = layer_->kernel->shape();
    const index_t channels = k.channels_per_group(), groups = q == nullptr ? 1 : k.groups,
                  width = q == nullptr ? k.i : channels, taps = k.taps();
    const float* weights = q != nullptr ? nullptr : kernel_ ? turned_.data() : layer_->kernel->by_tap().data();
    const float* gates = gate_ ? gate_->of(n) : ones_.data();
    for_each_window([&](index_t out, index_t in, index_t t) {
        const float s = spatial_.empty() ? 1.0F : spatial_[static_cast<std::size_t>(t)];
        for (index_t g = 0; g < groups; ++g) {
            const float* from = row_.data();
            if (q != nullptr)
                from = q + (out * groups * taps + g * taps + t) * channels;
            else
                for (index_t c = 0; c < width; ++c)
                    row_[static_cast<std::size_t>(c)] =
                        weights[t * k.o + c] * scale_[static_cast<std::size_t>(c)] * u[out * k.o + c];
            const index_t first = g * width;
            if (trains_spatial_) {
                constexpr index_t lanes = 16;
                float sums[lanes] = {};
                const float *xs = x + in * in_.c + first, *gs = gates + first;
                index_t c = 0;
                for (; c + lanes <= width; c += lanes)
                    for (index_t i = 0; i < lanes; ++i) sums[i] += from[c + i] * (gs[c + i] * xs[c + i]);
                for (; c < width; ++c) sums[0] += from[c] * (gs[c] * xs[c]);
                for (const float part : sums) tap_sums_[static_cast<std::size_t>(t)] += static_cast<double>(part);
            }
            if (to == nullptr) continue;
            float* at = to + in * in_.c + first;
            for (index_t c = 0; c < width; ++c) at[c] += s * from[c];
        }
    });
}

/// From the gradient of g . x to those of the gate and of x.
KDNA_FUNC void convolution_pass::back_through_gate(const float* x, index_t n, float* of_product, float* of_x) {
    const index_t pixels = in_.h * in_.w, channels = in_.c;
    const float* g = gate_->of(n);
    std::vector<double> of_gate(static_cast<std::size_t>(channels));
    for (index_t h = 0; h < in_.h; ++h) {
        std::fill(row_.begin(), row_.end(), 0.0F);
        for (index_t p = h * in_.w; p < (h + 1) * in_.w; ++p)
            for (index_t c = 0; c < channels; ++c)
                row_[static_cast<std::size_t>(c)] += x[p * channels + c] * of_product[p * channels + c];
        for (std::size_t c = 0; c < of_gate.size(); ++c) of_gate[c] += static_cast<double>(row_[c]);
    }
    gate_->backward(n, of_gate);
    if (of_x == nullptr) return;
    for (std::size_t c = 0; c < of_gate.size(); ++c)
        row_[c] = static_cast<float>(of_gate[c] / static_cast<double>(pixels));
    for (index_t p = 0; p < pixels; ++p)
        for (index_t c = 0; c < channels; ++c)
            of_x[p * channels + c] += g[c] * of_product[p * channels + c] + row_[static_cast<std::size_t>(c)];
}

/// The gradient of a kernel that is trained, s[t] m[o] u[o,p] g[c] x[c,p+t], summed over the pixels of a sample: [O][tap][I/groups].
KDNA_FUNC void convolution_pass::sum_kernel(const float* x, const float* u, index_t n) {
    const kernel_shape& k = layer_->kernel->shape();
    const index_t channels = k.channels_per_group(), filters = k.filters_per_group(), taps = k.taps();
    const float* gates = gate_ ? gate_->of(n) : ones_.data();
    for_each_window([&](index_t out, index_t in, index_t t) {
        const float s = spatial_.empty() ? 1.0F : spatial_[static_cast<std::size_t>(t)];
        for (index_t c = 0; c < k.i; ++c) row_[static_cast<std::size_t>(c)] = s * gates[c] * x[in * k.i + c];
        for (index_t o = 0; o < k.o; ++o) {
            const float w = scale_[static_cast<std::size_t>(o)] * u[out * k.o + o];
            if (w == 0.0F) continue;
            const float* from = row_.data() + o / filters * channels;
            float* to = kernel_sums_.data() + (o * taps + t) * channels;
            for (index_t c = 0; c < channels; ++c) to[c] += w * from[c];
        }
    });
}

KDNA_FUNC void convolution_pass::add_kernel_sums() {
    const kernel_shape& k = layer_->kernel->shape();
    const index_t channels = k.channels_per_group(), taps = k.taps();
    float* to = parameters_->gradient(layer_->kernel->weight());
    for (index_t o = 0; o < k.o; ++o)
        for (index_t c = 0; c < channels; ++c)
            for (index_t t = 0; t < taps; ++t)
                to[(o * channels + c) * taps + t] +=
                    kernel_sums_[static_cast<std::size_t>((o * taps + t) * channels + c)];
}

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
