// A convolution layer on a device: its weights there, the plan for an input shape, and the launches of a call.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <kdna/cuda/device/vendor_library.hpp>
#include <kdna/cuda/layers/kernel_store.hpp>
#include <kdna/cuda/layers/layer_description.hpp>
#include <kdna/cuda/layers/layer_factors.hpp>
#include <kdna/cuda/layers/layer_plan.hpp>
#include <kdna/cuda/layers/planning.hpp>
#include <kdna/cuda/layers/routing.hpp>
#include <kdna/cuda/layers/sample_kernels.hpp>
#include <kdna/cuda/programs/attention.hpp>
#include <kdna/cuda/programs/convolution.hpp>
#include <kdna/cuda/programs/depthwise.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// One convolution layer of a device. Immutable once made; a call's memory is the caller's.
template <device_api Device>
class device_conv {
public:
    /// `in_channels`: of a pixel of the input as it is stored, where that is more than the kernel has; the others are
    /// zeros. Throws kdna::error, naming the layer, where a device cannot run it.
    device_conv(Device& device, conv_recipe recipe, const device_options& options, kernel_store<Device>& store,
                typename Device::stream s, index_t in_channels = 0)
        : device_(&device),
          layer_(std::move(recipe), options, in_channels),
          kernel_(layer_.recipe().kernel.form == kernel_form::given
                      ? nullptr
                      : store.get(device, layer_.recipe().kernel, layer_.group_channels(), options.numbers, s, name())),
          factors_(device, layer_, s) {}

    [[nodiscard]] const std::string& name() const noexcept { return layer_.name(); }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return layer_.kernel(); }
    [[nodiscard]] bool takes_residual() const noexcept { return layer_.recipe().residual; }
    /// Whether factors are computed from the input.
    [[nodiscard]] bool routed() const noexcept { return layer_.routed(); }
    /// Whether it reads the sums of its input's channels.
    [[nodiscard]] bool reads_sums() const noexcept { return layer_.reads_sums(); }
    /// Calls f(address, bytes) for every block of device memory that the layer keeps: its kernel or its stage's
    /// warehouse, which layers share and which comes up in each of them with the same address; and what is its own,
    /// factors and router.
    template <class F>
    void for_each_storage(F&& f) const {
        if (kernel_ != nullptr) f(static_cast<const void*>(kernel_->memory.data()), kernel_->memory.bytes());
        f(static_cast<const void*>(factors_.memory().data()), factors_.memory().bytes());
    }

    /// Decides how to run on inputs of shape `in`, tensors with pixels as `pixels_of` says; `given` is for layers whose kernels
    /// come with each call. Throws kdna::error.
    [[nodiscard]] device_conv_plan plan(const shape4& in, given_kernels given = given_kernels::one,
                                        const conv_pixels& pixels_of = {}) const {
        return plan_layer(layer_, in, given, pixels_of, device_->multiprocessors());
    }

    /// The layer as a library would run it; nothing where it has factors of its own, or its filters or its tensors are not
    /// dense in memory.
    [[nodiscard]] std::optional<plain_convolution> as_plain(const device_conv_plan& p) const {
        const kernel_shape& k = kernel();
        const conv_recipe& r = layer_.recipe();
        if (layer_.routed() || r.attention || r.kernel.form != kernel_form::stored || !r.spatial.empty() ||
            k.depthwise() || layer_.in_channels() != k.i || p.geometry.circular || !is_clamp(r.act.value().kind) ||
            layer_.layout().filter_stride != k.taps() * k.channels_per_group() || p.geometry.pixel != k.i ||
            p.out_pixel != k.o || p.residual_pixel != k.o)
            return std::nullopt;
        return plain_convolution{layer_.numbers(), p.in, p.out, k, r.params, r.residual, range_of(r.act.value().kind)};
    }
    [[nodiscard]] plain_convolution_call plain_call(const device_conv_call& c) const {
        return {c.x, kernel_->memory.data(), c.y, c.residual, factors_.scale().data, factors_.shift().data, c.scratch};
    }

    /// Puts the launches of one call into the stream. Throws kdna::error if the kernels that it brings are not those of
    /// the plan.
    void enqueue(const device_conv_plan& p, const device_conv_call& c, typename Device::stream s) const {
        check_kernels(p, c);
        const call_type call{*device_, layer_, factors_, kernel_.get(), p, c, s};
        with_number(layer_.numbers(), [&]<class Number>(Number) { enqueue_as<Number>(call); });
    }

private:
    using call_type = detail::layer_call<Device>;

    void check_kernels(const device_conv_plan& p, const device_conv_call& c) const {
        const kernel_recipe& k = layer_.recipe().kernel;
        const bool given = k.form == kernel_form::given;
        const index_t expected = !given ? 0 : p.own_kernels ? p.in.n : 1;
        const shape4& found = c.kernels.shape();
        const index_t kernels = c.kernels.device_pointer() == nullptr ? 0 : found.n,
                      size = kernels == 0 ? 0 : found.c * found.h * found.w;
        if (kernels != expected || (given && size != k.given))
            throw error(concat(name(), " kernel"), concat(expected, " of ", k.given, " weights in device memory"),
                        concat(kernels, " of ", size));
    }

    template <class Number>
    static void enqueue_as(const call_type& call) {
        using T = typename Number::element;
        const device_conv_plan& p = call.plan;
        if (call.layer.routed()) detail::enqueue_routing<Number>(call);
        const T* residual =
            call.layer.recipe().attention ? enqueue_attention<T>(call) : static_cast<const T*>(call.tensors.residual);
        for (index_t first = 0; first < p.in.n; first += p.chunk) {
            const index_t count = std::min<index_t>(p.chunk, p.in.n - first);
            const device_kernel<T> kernel = detail::kernel_of_samples<T>(call, first, count);
            const device_output<T> out = output_of_samples<T>(call, residual, first, count);
            if (p.depthwise)
                enqueue_depthwise<Number>(call, kernel, out, first, count);
            else
                enqueue_convolution<Number>(call, kernel, out, first, count);
        }
    }

    /// What an X-volution's attention and its residual add to the convolution, in the scratch.
    template <class T>
    [[nodiscard]] static const T* enqueue_attention(const call_type& call) {
        const int size = detail::known_int(element_count(call.plan.out));
        attention_arguments<T> a{call.template x<T>()};
        a.geometry = call.plan.geometry;
        a.factor = *call.layer.recipe().attention;
        if (call.tensors.residual != nullptr)
            a.residual = {
                static_cast<const T*>(call.tensors.residual),
                detail::span_of_pixels(size / a.geometry.channels, call.plan.residual_pixel, call.plan.out.c)};
        a.residual_row = call.plan.residual_pixel;
        a.scale = call.factors.scale();
        a.y = call.template scratch<T>(call.plan.attended_at, size);
        if (call.plan.wide_channels && call.plan.whole_rows)
            call.template launch<attention_program<T, wide<T>>>(a);
        else
            call.template launch<attention_program<T, 1>>(a);
        return a.y.data;
    }

    /// Input, gate and spatial factors of samples [first, first + count).
    template <class T>
    [[nodiscard]] static device_span<const T> input_of_samples(const call_type& call, index_t first, index_t count) {
        const index_t pixels = call.plan.in.h * call.plan.in.w;
        const int pixel = call.plan.geometry.pixel;
        return {static_cast<const T*>(call.tensors.x) + first * pixels * pixel,
                detail::span_of_pixels(count * pixels, pixel, call.layer.in_channels())};
    }
    [[nodiscard]] static device_factors gate_of_samples(const call_type& call, index_t first) {
        return call.routes(first, call.layer.recipe().router.channel, call.plan.channel_at);
    }
    [[nodiscard]] static device_factors spatial_of_samples(const call_type& call, index_t first) {
        const device_factors routed = call.routes(first, call.layer.recipe().router.spatial, call.plan.spatial_at);
        return routed ? routed : device_factors{call.factors.spatial(), 0};
    }
    /// Their output, and what is applied to it.
    template <class T>
    [[nodiscard]] static device_output<T> output_of_samples(const call_type& call, const T* residual, index_t first,
                                                            index_t count) {
        const device_conv_plan& p = call.plan;
        const index_t pixels = p.out.h * p.out.w;
        device_output<T> out;
        out.y_row = p.out_pixel;
        // Attention and its residual are dense in the scratch.
        out.residual_row = call.layer.recipe().attention ? detail::known_int(p.out.c) : p.residual_pixel;
        out.whole_rows = p.whole_rows;
        out.y = {static_cast<T*>(call.tensors.y) + first * pixels * out.y_row,
                 detail::span_of_pixels(count * pixels, out.y_row, p.out.c)};
        if (residual != nullptr)
            out.residual = {residual + first * pixels * out.residual_row,
                            detail::span_of_pixels(count * pixels, out.residual_row, p.out.c)};
        out.scale = call.layer.recipe().router.filter.outputs > 0 ? call.routes(first, p.scale_at)
                                                                  : device_factors{call.factors.scale(), 0};
        out.shift = call.layer.mixes_bias() ? call.routes(first, p.shift_at) : device_factors{call.factors.shift(), 0};
        out.channels = detail::known_int(p.out.c);
        out.act = call.factors.activation_of(call.layer);
        out.rows = p.out_rows;
        if (call.tensors.y_sums) {
            out.sums = call.tensors.y_sums;
            // Chunks are of samples with kernels of their own, whose tiles are of one sample each.
            const int skip = detail::known_int(first) * out.rows.tiles_per_slice * out.channels;
            out.sums.values.data += skip;
            out.sums.values.size -= skip;
        }
        return out;
    }

    template <class Number, class T>
    static void enqueue_depthwise(const call_type& call, const device_kernel<T>& kernel, const device_output<T>& out,
                                  index_t first, index_t count) {
        const conv_geometry& g = call.plan.geometry;
        const depthwise_arguments<T> a{
            input_of_samples<T>(call, first, count), kernel.w, kernel.sample_stride, g, gate_of_samples(call, first),
            spatial_of_samples(call, first),         out};
        constexpr int columns = depthwise_program<Number, 1, 0>::columns;
        const grid_size grid{tiles_of(a.out, call.plan, count), (g.channels - 1) / columns + 1, 1};
        if (!call.plan.wide_channels)
            call.template launch<depthwise_program<Number, 1, 0>>(grid, a);
        else if (g.kh == 3 && g.kw == 3)
            call.template launch<depthwise_program<Number, wide<T>, 3>>(grid, a);
        else
            call.template launch<depthwise_program<Number, wide<T>, 0>>(grid, a);
    }

    template <class Number, class T>
    static void enqueue_convolution(const call_type& call, const device_kernel<T>& kernel, const device_output<T>& out,
                                    index_t first, index_t count) {
        const device_conv_plan& p = call.plan;
        convolution_arguments<T> a{
            input_of_samples<T>(call, first, count), kernel, p.geometry, gate_of_samples(call, first),
            spatial_of_samples(call, first),         out,    {},         p.depth_parts};
        a.out.rows = p.rows;
        if (p.depth_parts > 1) a.parts = call.template scratch<float>(p.parts_at, p.parts_floats);
        if (p.large)
            launch_product<Number, large_tile>(call, a, count);
        else
            launch_product<Number, small_tile>(call, a, count);
        if (p.depth_parts > 1) {
            using finish = convolution_finish_program<Number>;
            call.template launch<finish>({out.rows.tiles_per_slice, (out.channels - 1) / finish::columns + 1, 1},
                                         {a.parts, p.depth_parts, out});
        }
    }
    template <class Number, class Tile>
    static void launch_product(const call_type& call, const convolution_arguments<typename Number::element>& a,
                               index_t count) {
        const grid_size grid{tiles_of(a.out, call.plan, count), (a.geometry.group_filters - 1) / Tile::columns + 1,
                             detail::known_int(call.layer.kernel().groups) * a.depth_parts};
        switch (call.plan.input) {
            case input_path::copies:
                return call.template launch<convolution_program<Number, Tile, input_path::copies>>(grid, a);
            case input_path::short_copies:
                return call.template launch<convolution_program<Number, Tile, input_path::short_copies>>(grid, a);
            case input_path::vectors:
                return call.template launch<convolution_program<Number, Tile, input_path::vectors>>(grid, a);
            case input_path::elements:
                return call.template launch<convolution_program<Number, Tile, input_path::elements>>(grid, a);
        }
    }
    /// Tiles of all slices of an output of `count` samples.
    template <class T>
    [[nodiscard]] static int tiles_of(const device_output<T>& out, const device_conv_plan& p, index_t count) noexcept {
        return detail::known_int(count * p.out.h * p.out.w) / out.rows.slice_rows * out.rows.tiles_per_slice;
    }

    Device* device_;
    layer_description layer_;
    std::shared_ptr<const typename kernel_store<Device>::kernel> kernel_;
    layer_factors<Device> factors_;
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
