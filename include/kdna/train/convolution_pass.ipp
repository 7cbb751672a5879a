// Definitions of train/convolution_pass.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>

#include <kdna/nn/pool.hpp>
#include <kdna/train/convolution_pass.hpp>

namespace kdna::inline KDNA_ABI::train {

KDNA_FUNC convolution_pass::convolution_pass(const convolution& c, parameters& p, const shape4& in, bool backward,
                                             bool to_input, const executor_ref& executor)
    : layer_(&c),
      parameters_(&p),
      executor_(executor),
      backward_(backward),
      to_input_(backward && to_input),
      trains_spatial_(backward && p.trains(c.spatial)),
      trains_filter_(backward && p.trains(c.filter)),
      trains_norm_weight_(backward && c.bn && p.trains(c.bn->weight)),
      trains_gate_(backward && c.se && c.se->trained(p)),
      kernel_(p.trains(c.kernel->weight())) {
    const kernel_shape& k = c.kernel->shape();
    in_ = in;
    out_ = KDNA_ABI::output_shape(in, k, c.params, c.name);
    if (c.se) gate_.emplace(*c.se, p, in.n, panel_layout::width);
    const auto filters = static_cast<std::size_t>(k.o),
               padded = filters + static_cast<std::size_t>(panel_layout::width);
    if (c.spatial) spatial_.resize(static_cast<std::size_t>(k.taps()));
    scale_.resize(padded);
    shift_.resize(padded);
    const auto widest = static_cast<std::size_t>(std::max(k.o, k.i * k.taps())) + padded;
    ones_.assign(widest, 1.0F);
    zeros_.assign(widest, 0.0F);
    row_.resize(static_cast<std::size_t>(std::max(k.o, k.i)));
    filter_.resize(filters);
    sums_.resize(filters);
    products_.resize(filters);
    tap_sums_.resize(static_cast<std::size_t>(k.taps()));
    if (kernel_) kernel_sums_.resize(static_cast<std::size_t>(weight_count(k)));
    plan(in);
}

/// Plans both products, and what they and the loops here need for scratch.
KDNA_FUNC void convolution_pass::plan(const shape4& in) {
    shared_kernel& kernel = *layer_->kernel;
    const kernel_shape& k = kernel.shape();
    const index_t threads = executor_.concurrency();
    conv::problem q{.source = source_ref(kernel.packed()),
                    .params = layer_->params,
                    .channel_factor = layer_->se.has_value(),
                    .spatial_factor = !spatial_.empty()};
    if (kernel_) {
        own_kernel_.emplace(runtime_kernel::dense(k, layer_->name));
        q.source = source_ref(*own_kernel_);
        q.routed_kernel = q.equal_routes = true;
    }
    q.source.prepare();
    forward_ = conv::make_plan(q, in, conv::input_order::nhwc, threads, layer_->name);
    workspace_layout w;
    w.add<std::byte>(forward_.workspace_bytes);
    if (has_product() && !depthwise()) {
        const kernel_shape t = shared_kernel::transposed_shape(k);
        if (kernel_) own_transposed_.emplace(runtime_kernel::dense(t, layer_->name));
        conv::problem back{.source = kernel_ ? source_ref(*own_transposed_) : source_ref(kernel.transposed()),
                           .channel_factor = true,
                           .routed_kernel = kernel_,
                           .equal_routes = kernel_};
        back.source.prepare();
        transposed_ = conv::make_plan(back, {1, k.o, out_.h, out_.w}, conv::input_order::nhwc, threads, layer_->name);
        workspace_layout b;
        b.add<std::byte>(transposed_.workspace_bytes);
        product_at_ = b.add<float>(t.o * out_.h * out_.w);
        gated_at_ = b.add<float>(layer_->se ? k.i * in.h * in.w : 0);
        workspace_bytes_ = b.bytes();
    } else if (has_product()) {
        if (!kernel_) static_cast<void>(kernel.by_tap());
        workspace_layout b;
        gated_at_ = b.add<float>(layer_->se ? k.i * in.h * in.w : 0);
        workspace_bytes_ = b.bytes();
    }
    workspace_bytes_ = std::max(workspace_bytes_, w.bytes());
}

KDNA_FUNC index_t convolution_pass::own_bytes() const noexcept {
    const auto floats = spatial_.size() + scale_.size() + shift_.size() + ones_.size() + zeros_.size() + row_.size() +
                        turned_.size() + kernel_sums_.size() +
                        2 * (filter_.size() + sums_.size() + products_.size() + tap_sums_.size());
    return static_cast<index_t>(floats * sizeof(float)) + (gate_ ? gate_->bytes() : 0);
}

/// s and 1 + a_f, as the adapters are.
KDNA_FUNC void convolution_pass::take_factors() {
    const float *spatial = parameters_->values(layer_->spatial), *filter = parameters_->values(layer_->filter);
    for (std::size_t t = 0; t < spatial_.size(); ++t) spatial_[t] = 1.0F + spatial[t];
    for (std::size_t o = 0; o < filter_.size(); ++o)
        filter_[o] = filter == nullptr ? 1.0 : 1.0 + static_cast<double>(filter[o]);
}

/// The layer's own bias of filter o, 0 without one.
KDNA_FUNC double convolution_pass::bias_of(std::size_t o) const noexcept {
    const float* bias = parameters_->values(layer_->bias);
    return bias == nullptr ? 0.0 : static_cast<double>(bias[o]);
}

/// m and b.
KDNA_FUNC void convolution_pass::fold(const norm_view* bn) {
    for (std::size_t o = 0; o < filter_.size(); ++o) {
        const double own = bias_of(o), scale = bn == nullptr ? 1.0 : bn->scale(o);
        const double shift = bn == nullptr ? own : (own - bn->mean[o]) * scale + static_cast<double>(bn->bias[o]);
        scale_[o] = static_cast<float>(scale * filter_[o]);
        shift_[o] = static_cast<float>(shift);
    }
}

KDNA_FUNC void convolution_pass::forward(const tensor_view<const float>& x, const tensor_view<const float>& residual,
                                         float* z, const tensor_view<float>& y, std::byte* workspace, bool with_batch) {
    take_factors();
    if (gate_) {
        pool_samples(x, gate_->pooled(0), gate_->stride(), executor_);
        gate_->forward(with_batch ? &gate_statistics_ : nullptr);
    }
    norm_.clear();
    if (layer_->bn && !with_batch) norm_.emplace_back(*layer_->bn, *parameters_);
    const bool apart = reads_z() || with_batch;  // z, and what follows it in a pass of its own
    if (!reads_z()) z = y.data;
    factor_set f;
    if (kernel_) f.mixture = {parameters_->values(layer_->kernel->weight()), 0};
    if (gate_) f.channel = {gate_->of(0), gate_->stride()};
    if (!spatial_.empty()) f.spatial = {spatial_.data(), 0};
    if (!with_batch) fold(norm_.empty() ? nullptr : &norm_.front());
    f.scale = {apart ? ones_.data() : scale_.data(), 0};
    f.shift = {apart ? zeros_.data() : shift_.data(), 0};
    const tensor_view<float> to{z, y.shape, y.stride};
    conv::run(forward_,
              {.source = kernel_ ? source_ref(*own_kernel_) : source_ref(layer_->kernel->packed()),
               .params = layer_->params,
               .x = x,
               .y = to,
               .residual = apart ? tensor_view<const float>() : residual,
               .factors = f,
               .act = apart ? activation::none : layer_->act},
              workspace, executor_);
    if (!apart) return;
    if (with_batch) normalise_batch(z);
    finish(z, residual, y);
}

/// m and b by the mean and variance of (1 + a_f) * z + bias in this batch.
KDNA_FUNC void convolution_pass::normalise_batch(const float* z) {
    if (!layer_->bn) return fold(nullptr);
    const std::size_t filters = filter_.size();
    const index_t pixels = out_.n * out_.h * out_.w;
    std::vector<double> mean(filters), squares(filters);
    for (index_t p = 0; p < pixels; ++p)
        for (std::size_t o = 0; o < filters; ++o)
            mean[o] += static_cast<double>(z[p * out_.c + static_cast<index_t>(o)]);
    for (double& m : mean) m /= static_cast<double>(pixels);
    for (index_t p = 0; p < pixels; ++p)
        for (std::size_t o = 0; o < filters; ++o) {
            const double d = static_cast<double>(z[p * out_.c + static_cast<index_t>(o)]) - mean[o];
            squares[o] += d * d;
        }
    for (std::size_t o = 0; o < filters; ++o) {
        mean[o] = filter_[o] * mean[o] + bias_of(o);
        squares[o] *= filter_[o] * filter_[o];
    }
    statistics_.add(mean, squares, pixels);
    norm_.emplace_back(*layer_->bn, *parameters_, mean, squares, pixels);
    fold(&norm_.front());
}

/// y = act(m . z + b + residual). z and y may be the same memory.
KDNA_FUNC void convolution_pass::finish(const float* z, const tensor_view<const float>& residual,
                                        const tensor_view<float>& y) const {
    const clamp_range range = range_of(layer_->act);
    const index_t filters = out_.c;
    executor_.parallel_for(out_.n, [&](index_t n) {
        for (index_t p = 0; p < out_.h * out_.w; ++p) {
            const index_t at = (n * out_.h * out_.w + p) * filters;
            const float* r = residual.data == nullptr ? zeros_.data() : residual.data + at;
            for (index_t o = 0; o < filters; ++o) {
                const auto i = static_cast<std::size_t>(o);
                const float u = scale_[i] * z[at + o] + shift_[i] + r[o];
                y.data[at + o] = std::min(std::max(u, range.low), range.high);
            }
        }
    });
}

KDNA_FUNC void convolution_pass::adopt_statistics() {
    if (layer_->bn) statistics_.adopt(*layer_->bn, *parameters_);
    if (layer_->se) gate_statistics_.adopt(layer_->se->bn, *parameters_);
}

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
