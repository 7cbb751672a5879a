// Plans a device layer for an input shape: tiles, the way of the input into shared memory, chunks of samples, and the
// scratch.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <string>
#include <utility>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/layers/layer_description.hpp>
#include <kdna/cuda/layers/layer_plan.hpp>
#include <kdna/cuda/programs/depthwise.hpp>
#include <kdna/cuda/programs/pooling.hpp>

namespace kdna::inline KDNA_ABI::cuda {

namespace detail {

/// Makes one plan.
class layer_planner {
public:
    layer_planner(const layer_description& layer, int multiprocessors)
        : layer_(&layer), multiprocessors_(std::max(multiprocessors, 1)) {}

    [[nodiscard]] device_conv_plan plan(const shape4& in, given_kernels given, const conv_pixels& pixels_of) {
        device_conv_plan p;
        in_ = pixels_of.in;
        p.in = in;
        p.out = output_shape(in, kernel(), recipe().params, name());
        static_cast<void>(checked_elements({in.n, layer_->in_channels(), in.h, in.w}, name()));
        static_cast<void>(checked_elements(p.out, name()));
        plan_geometry(p);
        plan_pixels(p, pixels_of);
        p.depthwise = kernel().depthwise();
        p.wide_channels = whole_loads(16);
        plan_kernels(p, given);
        const int pixels = p.geometry.out_pixels, slice = p.own_kernels ? pixels : pixels * known_int(in.n);
        if (p.depthwise) {
            p.rows = p.out_rows = tile_rows::cut(pixels, slice, finishing_rows);
        } else {
            p.input = path_of_input();
            plan_tiles(p, pixels, slice);
        }
        plan_routes(p);
        plan_scratch(p);
        p.text = explain(p);
        return p;
    }

private:
    [[nodiscard]] const conv_recipe& recipe() const noexcept { return layer_->recipe(); }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return layer_->kernel(); }
    [[nodiscard]] const std::string& name() const noexcept { return layer_->name(); }
    [[nodiscard]] index_t element_bytes() const noexcept { return bytes_of(layer_->numbers()); }
    /// Elements of depth in a stage of the product.
    [[nodiscard]] index_t stage_depth() const noexcept { return row_bytes / element_bytes(); }

    void plan_geometry(device_conv_plan& p) const {
        const kernel_shape& k = kernel();
        const conv_params& m = recipe().params;
        const auto extent = [&](index_t v) { return checked_int(v, name()); };
        // Coordinates are added up in 32 bits, far from the rows that are not there (convolution_program::start).
        for (const index_t v :
             {k.kh * m.dilation.h, k.kw * m.dilation.w, m.pad.top, m.pad.left, m.pad.bottom, m.pad.right})
            if (v > 1 << 24) throw error(name(), "windows and padding below 2^24 on a device", concat(v));
        const bool circular = m.mode == padding_mode::circular;
        if (circular && std::max(p.in.h, p.in.w) > 1 << 24)
            throw error(name(), "maps below 2^24 where padding is circular on a device", to_string(p.in));
        const int group_channels = extent(layer_->group_channels()), stage = known_int(stage_depth());
        p.geometry = {.in_h = extent(p.in.h),
                      .in_w = extent(p.in.w),
                      .out_w = extent(p.out.w),
                      .kh = extent(k.kh),
                      .kw = extent(k.kw),
                      .stride_h = extent(m.stride.h),
                      .stride_w = extent(m.stride.w),
                      .pad_top = extent(m.pad.top),
                      .pad_left = extent(m.pad.left),
                      .dilation_h = extent(m.dilation.h),
                      .dilation_w = extent(m.dilation.w),
                      .channels = extent(layer_->in_channels()),
                      .group_channels = group_channels,
                      .group_filters = extent(k.filters_per_group()),
                      .out_pixels = extent(p.out.h * p.out.w),
                      .circular = circular};
        const int taps = stage / group_channels;
        p.geometry.stage_step = {taps / p.geometry.kw, taps % p.geometry.kw, stage % group_channels};
    }

    /// How far the pixels of the tensors lie apart.
    void plan_pixels(device_conv_plan& p, const conv_pixels& pixels_of) const {
        const auto distance = [&](const pixel_row& row, index_t channels, const shape4& s) {
            const index_t d = row.distance == 0 ? channels : row.distance;
            if (d < channels) throw error(name(), concat("pixels at least ", channels, " elements apart"), concat(d));
            static_cast<void>(checked_int(checked_mul(s.n * s.h * s.w, d, name()), name()));
            return known_int(d);
        };
        p.geometry.pixel = distance(pixels_of.in, layer_->in_channels(), p.in);
        p.out_pixel = distance(pixels_of.out, p.out.c, p.out);
        p.residual_pixel = distance(pixels_of.residual, p.out.c, p.out);
        p.whole_rows = p.out.c * element_bytes() % 16 == 0;
        for (const index_t v :
             {index_t{p.out_pixel}, pixels_of.out.offset, index_t{p.residual_pixel}, pixels_of.residual.offset})
            p.whole_rows = p.whole_rows && v * element_bytes() % 16 == 0;
    }

    /// Whether every sample has a kernel of its own, and how many of them are assembled at a time.
    void plan_kernels(device_conv_plan& p, given_kernels given) const {
        const index_t size = layer_->layout().size;
        const kernel_form form = recipe().kernel.form;
        p.chunk = known_int(p.in.n);
        p.own_kernels =
            form != kernel_form::stored && (form != kernel_form::given || (given == given_kernels::each && p.in.n > 1));
        if (p.own_kernels) {
            const index_t bytes = checked_mul(size, element_bytes(), name());
            p.chunk = known_int(std::clamp<index_t>(layer_->options().assembly_budget / bytes, 1, p.in.n));
            p.assembly_elements = checked_mul(p.chunk, size, name());
            static_cast<void>(checked_int(p.assembly_elements, name()));
        } else if (form == kernel_form::given) {
            p.assembly_elements = size;
        }
    }

    /// Whether the channels of a pixel, and of a group in it, are whole loads of `bytes`.
    [[nodiscard]] bool whole_loads(index_t bytes) const noexcept {
        const auto whole = [&](index_t elements) { return elements * element_bytes() % bytes == 0; };
        const bool groups = kernel().depthwise() || whole(layer_->group_channels());
        return groups && whole(layer_->in_channels()) && whole(in_.distance) && whole(in_.offset);
    }
    [[nodiscard]] input_path path_of_input() const noexcept {
        if (layer_->has_input_factors()) return whole_loads(16) ? input_path::vectors : input_path::elements;
        return whole_loads(16) ? input_path::copies : whole_loads(8) ? input_path::short_copies : input_path::elements;
    }

    /// The large tile where it gives every multiprocessor a block; the depth in parts where even small ones do not.
    void plan_tiles(device_conv_plan& p, int pixels, int slice) const {
        const auto blocks = [&](int rows, int columns) {
            return (slice == pixels ? p.chunk : 1) * ((slice - 1) / rows + 1) *
                   ((p.geometry.group_filters - 1) / columns + 1) * kernel().groups;
        };
        p.large = p.geometry.group_filters > small_tile::columns &&
                  blocks(large_tile::rows, large_tile::columns) >= multiprocessors_;
        p.rows = tile_rows::cut(pixels, slice, p.large ? large_tile::rows : small_tile::rows);
        p.out_rows = p.rows;
        const index_t stages = layer_->layout().filter_stride / stage_depth();
        const index_t few = blocks(small_tile::rows, small_tile::columns);
        // Samples with kernels of their own take turns in one scratch and have few rows each: not worth parts of the
        // depth.
        if (p.large || p.own_kernels || few >= multiprocessors_) return;
        // A part has at least eight stages, so that it is worth its way through memory.
        p.depth_parts =
            known_int(std::clamp<index_t>(std::min<index_t>(2 * multiprocessors_ / few, stages / 8), 1, 16));
        if (p.depth_parts > 1) {
            p.out_rows = tile_rows::cut(pixels, slice, finishing_rows);
            p.parts_floats = checked_mul(p.depth_parts, element_count(p.out, name()), name());
            static_cast<void>(checked_int(p.parts_floats, name()));
        }
    }

    void plan_routes(device_conv_plan& p) const {
        int floats = 0;
        const auto reserve = [&](index_t count) {
            return std::exchange(floats, checked_int((floats + count + 3) / 4 * 4, name()));
        };
        const router_recipe& r = recipe().router;
        p.mixture_at = reserve(r.mixture.values());
        p.kernel_filter_at = reserve(r.kernel_filter.values());
        p.channel_at = reserve(r.channel.outputs);
        p.spatial_at = reserve(r.spatial.outputs);
        p.scale_at = reserve(r.filter.outputs);
        p.shift_at = reserve(layer_->mixes_bias() ? kernel().o : 0);
        p.route_floats = floats;
        static_cast<void>(checked_int(p.in.n * floats, name()));
    }

    void plan_scratch(device_conv_plan& p) const {
        device_layout scratch;
        p.routes_at = scratch.add(p.in.n * p.route_floats, sizeof(float));
        p.parts_at = scratch.add(p.parts_floats, sizeof(float));
        p.attended_at = scratch.add(recipe().attention ? element_count(p.out) : 0, element_bytes());
        p.assembly_at = scratch.add(p.assembly_elements, element_bytes());
        if (layer_->reads_sums()) {
            const int pixels = checked_int(p.in.h * p.in.w, name());
            p.pooled_rows = tile_rows::cut(pixels, checked_int(p.in.n * pixels, name()), summing_rows);
            p.sums_at = scratch.add(device_conv_plan::floats_of(p.pooled_rows, p.in), sizeof(float));
        } else if (layer_->routed()) {
            const index_t means = checked_mul(p.in.n, layer_->router_inputs(), name());
            static_cast<void>(checked_int(means, name()));
            p.window_means_at = scratch.add(means, sizeof(float));
        }
        p.scratch_bytes = scratch.bytes();
    }

    [[nodiscard]] std::string explain(const device_conv_plan& p) const {
        const kernel_recipe& k = recipe().kernel;
        std::string text = plan_heading(name(), kernel(), p.in, layer_->numbers());
        if (p.depthwise) {
            text += concat("depthwise, ", p.wide_channels ? 16 / element_bytes() : 1, " channels a thread");
        } else {
            text += concat("implicit product, tiles ", p.rows.tile, " x ",
                           p.large ? large_tile::columns : small_tile::columns, ", input by ", to_string(p.input));
            if (layer_->in_channels() != p.in.c) text += concat(", ", layer_->in_channels(), " channels stored");
            if (p.depth_parts > 1) text += concat(", depth in ", p.depth_parts, " parts");
        }
        if (recipe().router.channel.outputs > 0) text += ", gate on the input";
        if (layer_->has_spatial_factor())
            text += p.depthwise ? ", spatial factor per tap" : ", spatial factor on the input per tap";
        if (recipe().attention) text += ", attention as its residual";
        if (k.form == kernel_form::given) text += ", kernels that come with the call";
        if (p.own_kernels) text += concat(", kernels of ", p.chunk, " samples at a time");
        if (k.form == kernel_form::decomposed) text += concat(", each with a low-rank part of rank ", k.rank());
        if (k.cell) text += concat(", each of ", k.combinations(), " combinations of ", to_string(*k.cell));
        if (p.scratch_bytes > 0) text += concat(", scratch ", ceil_div(p.scratch_bytes, 1024), " KiB");
        return text;
    }

    const layer_description* layer_;
    int multiprocessors_;
    pixel_row in_{};
};

}  // namespace detail

/// Decides how a layer runs on inputs of shape `in` on a device with `multiprocessors`; `given` is for layers whose
/// kernels come with each call. Throws kdna::error, naming the layer, where it cannot.
[[nodiscard]] inline device_conv_plan plan_layer(const layer_description& layer, const shape4& in, given_kernels given,
                                                 const conv_pixels& pixels_of, int multiprocessors) {
    return detail::layer_planner(layer, multiprocessors).plan(in, given, pixels_of);
}

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
