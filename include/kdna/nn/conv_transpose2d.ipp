// Definitions of nn/conv_transpose2d.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <numeric>

#include <kdna/core/arithmetic.hpp>
#include <kdna/nn/conv_transpose2d.hpp>

namespace kdna::inline KDNA_ABI {

/// The convolution that makes one phase of the output, for one input shape.
struct conv_transpose2d_operation::piece {
    conv2d<> layer;
    conv_plan<backend::cpu> plan;
    index_t row, column;      // of the output, the first
    index_t x_row, x_column;  // of the input, the first that the convolution sees
    shape4 x, y;              // what it sees, and makes
};

struct conv_transpose2d_operation::state final : operation_state {
    [[nodiscard]] index_t workspace_bytes() const noexcept override {
        index_t bytes = 0;
        for (const piece& p : pieces) bytes = std::max(bytes, p.plan.workspace_bytes());
        return bytes;
    }
    void use_workspace(std::byte* memory) noexcept override {
        for (piece& p : pieces) conv2d<>::use_workspace(p.plan, memory);
    }
    [[nodiscard]] index_t transformed_bytes() const noexcept override {
        index_t bytes = 0;
        for (const piece& p : pieces) bytes += p.plan.transformed_bytes();
        return bytes;
    }
    [[nodiscard]] std::string explain() const override { return text; }
    std::vector<piece> pieces;
    std::string text;
};

KDNA_FUNC conv_transpose2d_operation::phase conv_transpose2d_operation::phase_of(index_t remainder, index_t kernel,
                                                                                 index_t stride, index_t pad,
                                                                                 index_t dilation) {
    // Tap k reaches a row with that remainder if (remainder + pad - k * dilation) is a multiple of the stride.
    phase out;
    const index_t common = std::gcd(stride, dilation);
    out.step = stride / common;
    out.dilation = dilation / common;
    index_t first = 0;
    while (first < kernel && (remainder + pad - first * dilation) % stride != 0) ++first;
    if (first >= kernel) return out;
    out.first_tap = first;
    out.taps = (kernel - first + out.step - 1) / out.step;
    // The last tap reads the lowest row. The division is exact.
    out.offset = (remainder + pad - (first + (out.taps - 1) * out.step) * dilation) / stride;
    return out;
}

/// Those of all remainders.
KDNA_FUNC std::vector<conv_transpose2d_operation::phase> conv_transpose2d_operation::phases_of(index_t kernel,
                                                                                               index_t stride,
                                                                                               index_t pad,
                                                                                               index_t dilation) {
    std::vector<phase> out;
    for (index_t r = 0; r < stride; ++r) out.push_back(phase_of(r, kernel, stride, pad, dilation));
    return out;
}

/// The taps of a phase as the kernel of a convolution, the last tap first: [O, C / groups, rows.taps, columns.taps].
KDNA_FUNC dense_kernel conv_transpose2d_operation::kernel_of(const phase& rows, const phase& columns,
                                                             std::span<const float> weights) const {
    const kernel_shape k{.o = kernel_.o, .i = kernel_.i, .kh = rows.taps, .kw = columns.taps, .groups = kernel_.groups};
    std::vector<float> taps(static_cast<std::size_t>(weight_count(k, name_)));
    const index_t filters = k.filters_per_group(), channels = k.channels_per_group();
    std::size_t next = 0;
    for (index_t o = 0; o < k.o; ++o)
        for (index_t c = 0; c < channels; ++c)
            for (index_t i = rows.taps; i-- > 0;)
                for (index_t j = columns.taps; j-- > 0;) {
                    const index_t in = o / filters * channels + c, kh = rows.first_tap + i * rows.step,
                                  kw = columns.first_tap + j * columns.step;
                    taps[next++] = weights[static_cast<std::size_t>(
                        ((in * filters + o % filters) * kernel_.kh + kh) * kernel_.kw + kw)];
                }
    return dense_kernel::pack(k, taps, name_);
}

KDNA_FUNC conv_transpose2d_operation::conv_transpose2d_operation(std::span<const index_t> weight_shape,
                                                                 std::span<const float> weights,
                                                                 const conv_transpose_params& params,
                                                                 const conv_options& options)
    : name_(options.name), residual_(options.residual), params_(params) {
    if (weight_shape.size() != 4)
        throw error(name_, "a weight [C, O / groups, KH, KW]", concat("rank ", weight_shape.size()));
    const auto& [stride, pad, more, dilation, groups] = params_;
    const auto small = [&](std::string_view what, const extent2& e, index_t least) {
        if (e.h < least || e.w < least || e.h > 65536 || e.w > 65536)
            throw error(name_, concat(what, " from ", least, " to 65536"), concat(e.h, "x", e.w));
    };
    small("strides", stride, 1);
    small("padding", pad, 0);
    small("output padding", more, 0);
    small("dilation", dilation, 1);
    if (groups < 1) throw error(name_, "groups >= 1", concat(groups));
    if (more.h >= std::max(stride.h, dilation.h) || more.w >= std::max(stride.w, dilation.w))
        throw error(name_, "output padding less than the stride or the dilation", concat(more.h, "x", more.w));
    kernel_ = {.o = checked_mul(weight_shape[1], groups, name_),
               .i = weight_shape[0],
               .kh = weight_shape[2],
               .kw = weight_shape[3],
               .groups = groups};
    const index_t count = weight_count(kernel_, name_);
    if (count != static_cast<index_t>(weights.size()))
        throw error(name_, concat(count, " weights"), concat(weights.size()));
    small("a kernel", {kernel_.kh, kernel_.kw}, 1);
    if (stride.h * stride.w > most_phases)
        throw error(name_, concat("strides whose product is at most ", most_phases), concat(stride.h, "x", stride.w));
    const std::vector<phase> all_rows = phases_of(kernel_.kh, stride.h, pad.h, dilation.h),
                             all_columns = phases_of(kernel_.kw, stride.w, pad.w, dilation.w);
    for (const phase& rows : all_rows)
        for (const phase& columns : all_columns) {
            kernels_.emplace_back();
            if (rows.taps > 0 && columns.taps > 0) kernels_.back() = kernel_of(rows, columns, weights);
        }
    const scale_shift folded = fold(options.bn, {}, options.bias, kernel_.o, name_);
    scale_.assign(folded.scale.begin(), folded.scale.end());
    shift_.assign(folded.shift.begin(), folded.shift.end());
    act_ = options.act.kind;
    act_number_ = options.act.number;
    act_channels_.assign(options.act.of_channel.begin(), options.act.of_channel.end());
}

KDNA_FUNC nd_shape conv_transpose2d_operation::output_shape(std::span<const nd_shape> in) const {
    const nd_shape& x = in.front();
    if (x.rank() != 4) throw error(name_, "an image [N, C, H, W]", to_string(x));
    if (x[1] != kernel_.i) throw error(name_, concat("an input of ", kernel_.i, " channels"), to_string(x));
    const auto extent = [&](index_t size, index_t stride, index_t pad, index_t more, index_t dilation, index_t kernel) {
        const index_t reach =
            checked_add(checked_mul(size - 1, stride, name_), checked_mul(dilation, kernel - 1, name_), name_);
        const index_t out = checked_add(reach, more + 1, name_) - 2 * pad;
        if (out < 1) throw error(name_, "an input from which padding leaves something", to_string(x));
        return out;
    };
    const auto& [stride, pad, more, dilation, groups] = params_;
    const nd_shape y{x[0], kernel_.o, extent(x[2], stride.h, pad.h, more.h, dilation.h, kernel_.kh),
                     extent(x[3], stride.w, pad.w, more.w, dilation.w, kernel_.kw)};
    if (residual_ && in[1] != y) throw error(concat(name_, " residual"), to_string(y), to_string(in[1]));
    return y;
}

KDNA_FUNC std::unique_ptr<operation_state> conv_transpose2d_operation::plan(std::span<const nd_shape> in,
                                                                            const plan_options& options) const {
    const nd_shape out = output_shape(in);
    const nd_shape& x = in.front();
    const extent2 &stride = params_.stride, &pad = params_.pad, &dilation = params_.dilation;
    auto planned = std::make_unique<state>();
    planned->text = concat(name_, ": transposed ", to_string(kernel_), " on ", to_string(image_shape(x, name_)));
    plan_options inner = options;
    inner.channel_means = false;
    /// One axis of a piece: what it sees of the input, and how it is padded.
    struct window {
        index_t first, count, before, after;
    };
    const auto window_of = [](const phase& p, index_t size, index_t rows) {
        window w{std::max<index_t>(p.offset, 0), 0, std::max<index_t>(-p.offset, 0), 0};
        // Row q of the phase reads input rows offset + q ... offset + q + reach.
        const index_t reach = (p.taps - 1) * p.dilation, end = p.offset + rows + reach;
        w.first = std::min(w.first, size);
        w.count = std::clamp<index_t>(end - w.first, 0, size - w.first);
        w.after = std::max<index_t>(end - size, 0);
        return w;
    };
    const std::vector<float> mean(scale_.size(), 0.0F), variance(scale_.size(), 1.0F);
    const batch_norm affine{.weight = scale_, .bias = shift_, .mean = mean, .var = variance, .eps = 0.0};
    const std::vector<phase> all_rows = phases_of(kernel_.kh, stride.h, pad.h, dilation.h),
                             all_columns = phases_of(kernel_.kw, stride.w, pad.w, dilation.w);
    std::optional<dense_kernel> zeros;
    const auto nothing = [&] {
        const kernel_shape k{.o = kernel_.o, .i = kernel_.i, .kh = 1, .kw = 1, .groups = kernel_.groups};
        if (!zeros)
            zeros = dense_kernel::pack(k, std::vector<float>(static_cast<std::size_t>(weight_count(k, name_)), 0.0F),
                                       name_);
        return *zeros;
    };
    for (index_t r = 0; r < std::min(stride.h, out[2]); ++r)
        for (index_t c = 0; c < std::min(stride.w, out[3]); ++c) {
            const phase &rows = all_rows[static_cast<std::size_t>(r)],
                        &columns = all_columns[static_cast<std::size_t>(c)];
            const index_t height = (out[2] - r + stride.h - 1) / stride.h,
                          width = (out[3] - c + stride.w - 1) / stride.w;
            const std::optional<dense_kernel>& kernel = kernels_[static_cast<std::size_t>(r * stride.w + c)];
            const window h = window_of(rows, x[2], height), w = window_of(columns, x[3], width);
            // Where no tap reaches the input, a 1x1 convolution with weights of zero leaves what follows.
            const bool reached = kernel && h.count > 0 && w.count > 0;
            const conv_options epilogue{
                .bn = affine, .residual = residual_, .act = {act_, act_number_, act_channels_}, .name = name_};
            conv_params moves;
            shape4 sees{x[0], x[1], h.count, w.count};
            if (reached) {
                moves.pad = {h.before, h.after, w.before, w.after};
                moves.dilation = {rows.dilation, columns.dilation};
            } else {
                sees.h = sees.w = 1;
                moves.pad = {0, height - 1, 0, width - 1};
            }
            conv2d<> layer(reached ? *kernel : nothing(), moves, epilogue);
            conv_plan<backend::cpu> p = layer.plan_without_workspace(sees, inner);
            planned->text += concat(planned->pieces.empty() ? "; " : " | ", p.explain());
            planned->pieces.push_back({std::move(layer),
                                       std::move(p),
                                       r,
                                       c,
                                       reached ? h.first : 0,
                                       reached ? w.first : 0,
                                       sees,
                                       {x[0], kernel_.o, height, width}});
        }
    return planned;
}

KDNA_FUNC void conv_transpose2d_operation::run(operation_state& s, const operation_call& c) const noexcept {
    const tensor_view<const float> x = c.x(), residual = c.residual();
    const tensor_view<float> y = c.y();
    for (piece& p : static_cast<state&>(s).pieces) {
        const auto of_piece = [&](const auto& v) {
            auto out = v;
            out.data = v.at(0, 0, p.row, p.column);
            out.shape = p.y;
            out.stride.h *= params_.stride.h;
            out.stride.w *= params_.stride.w;
            return out;
        };
        tensor_view<const float> sees = x;
        sees.data = x.at(0, 0, p.x_row, p.x_column);
        sees.shape = p.x;
        p.layer.run(p.plan, sees, of_piece(y), residual_ ? of_piece(residual) : residual);
    }
}

KDNA_FUNC void conv_transpose2d_operation::for_each_storage(const storage_visitor& f) const {
    for (const std::optional<dense_kernel>& k : kernels_)
        if (k) k->for_each_storage(f);
    f(scale_.data(), static_cast<index_t>((2 * scale_.size() + act_channels_.size()) * sizeof(float)));
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
