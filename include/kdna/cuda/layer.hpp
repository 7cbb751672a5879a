// A convolution layer on a device: its weights there, the plan for an input shape, and the launches of a call.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <kdna/cuda/conv_kernel.hpp>
#include <kdna/cuda/depthwise_kernel.hpp>
#include <kdna/cuda/memory.hpp>
#include <kdna/cuda/pool_kernels.hpp>
#include <kdna/cuda/recipe.hpp>
#include <kdna/cuda/router_kernel.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How a layer or a network is put on a device.
struct device_options {
    precision numbers = precision::f32;
    /// Bytes that the kernels of a chunk of samples may take, where every sample has a kernel of its own.
    index_t assembly_budget = index_t{64} << 20;
};

/// Kernels on a device, each once: a child finds its parent's here.
template <device_api Device>
class kernel_store {
public:
    struct kernel {
        device_memory<Device> memory{};
        int depth = 0, group_stride = 0, size = 0;  ///< of a filter, a group, one kernel; in elements
        /// What the key stands for, so that its address is not given to anything else while the kernel is here.
        kernel_recipe recipe{};
    };

    /// The kernel of a recipe for an input of `channels` a group, its own or more, made on first use. Throws kdna::error.
    [[nodiscard]] std::shared_ptr<const kernel> get(Device& device, const kernel_recipe& r, index_t channels,
                                                    precision p, typename Device::stream s, std::string_view where) {
        if (r.storage == nullptr) return make(device, r, channels, p, s, where);
        auto& slot = kernels_[{r.storage, bytes_of(p) == 4 ? precision::f32 : p, channels}];
        if (slot == nullptr) slot = make(device, r, channels, p, s, where);
        return slot;
    }
    /// Bytes of all kernels that layers share, once.
    [[nodiscard]] index_t bytes() const noexcept {
        index_t sum = 0;
        for (const auto& [key, k] : kernels_) sum += k->memory.bytes();
        return sum;
    }

private:
    [[nodiscard]] static std::shared_ptr<const kernel> make(Device& device, const kernel_recipe& r, index_t channels,
                                                            precision p, typename Device::stream s,
                                                            std::string_view where) {
        auto k = std::make_shared<kernel>();
        k->recipe = r;
        with_number(p, [&]<class Number>(Number) {
            using T = typename Number::element;
            const kernel_shape& shape = r.shape;
            const index_t stage = row_bytes / static_cast<index_t>(sizeof(T));
            const bool depthwise = shape.depthwise();
            const index_t depth = depthwise ? shape.taps() : (shape.taps() * channels + stage - 1) / stage * stage;
            // Whole packs, so that mixtures are put together pack by pack.
            const index_t size = (checked_mul(shape.o, depth, where) + wide<T> - 1) / wide<T> * wide<T>;
            std::vector<T> w(static_cast<std::size_t>(checked_mul(size, r.count, where)));
            for (index_t i = 0; i < r.count; ++i)
                for (index_t o = 0; o < shape.o; ++o)
                    for (index_t c = 0; c < shape.channels_per_group(); ++c)
                        for (index_t t = 0; t < shape.taps(); ++t) {
                            const index_t at = depthwise ? t * shape.o + o : o * depth + t * channels + c;
                            w[static_cast<std::size_t>(i * size + at)] = from_float<T>(r.weight(i, o, c, t));
                        }
            k->size = detail::checked_int(checked_mul(size, r.count, where), where) / static_cast<int>(r.count);
            k->depth = static_cast<int>(depth);
            k->group_stride = static_cast<int>(shape.filters_per_group() * depth);
            k->memory = uploaded<T>(device, w, s);
        });
        return k;
    }
    std::map<std::tuple<const void*, precision, index_t>, std::shared_ptr<const kernel>> kernels_;
};

/// What was decided for a layer and an input shape.
struct device_conv_plan {
    shape4 in{}, out{};
    conv_geometry geometry{};
    tile_rows rows{};      ///< of the product
    tile_rows out_rows{};  ///< of what finishes it, and so of the sums it takes
    bool depthwise = false, wide_channels = false, large = false;
    staging stage = staging::copies;
    int depth_parts = 1, chunk = 0;  ///< samples at a time; all of them where they share a kernel
    // Routes of a sample, in floats from its own, and everything's place in the scratch, in bytes.
    int route_floats = 0, mixture_at = 0, channel_at = 0, spatial_at = 0, scale_at = 0, shift_at = 0;
    index_t routes_at = 0, parts_at = 0, assembly_at = 0, sums_at = 0, scratch_bytes = 0;
    index_t parts_floats = 0, assembly_elements = 0;
    tile_rows pooled_rows{};  ///< of the sums of the input, where the layer takes them itself
    std::string text{};

    /// Floats of the sums of the output, for those who want them.
    [[nodiscard]] index_t sums_floats() const noexcept { return floats_of(out_rows, out); }
    [[nodiscard]] static index_t floats_of(const tile_rows& r, const shape4& s) noexcept {
        const index_t slices = s.n * r.pixels / r.slice_rows;
        return slices * r.tiles_per_slice * r.slots() * s.c;
    }
};

/// The tensors of a call, in device memory. `x` and `residual` dense NHWC in the layer's numbers, `x` with the channels that the
/// layer was made for.
struct device_conv_call {
    const void* x = nullptr;
    void* y = nullptr;
    const void* residual = nullptr;
    device_sums x_sums{};  ///< of x, where its maker took them
    device_sums y_sums{};  ///< where to put those of y, or none; rows as in the plan
    std::byte* scratch = nullptr;
};

/// One convolution layer of a device. Immutable once made; a call's memory is the caller's.
template <device_api Device>
class device_conv {
public:
    /// `in_channels`: of a pixel of the input as it is stored, where that is more than the kernel has; those behind are zeros.
    device_conv(Device& device, conv_recipe recipe, const device_options& options, kernel_store<Device>& store,
                typename Device::stream s, index_t in_channels = 0)
        : device_(&device), recipe_(std::move(recipe)), options_(options) {
        const kernel_shape& k = recipe_.kernel.shape;
        in_channels_ = in_channels == 0 ? k.i : in_channels;
        if (in_channels_ < k.i || (in_channels_ > k.i && !takes_more_channels(recipe_)))
            throw error(recipe_.name, concat("an input stored with ", k.i, " channels"), concat(in_channels_));
        if (k.groups * 16 > 65535 && !k.depthwise())
            throw error(recipe_.name, "at most 4095 groups on a device", concat(k.groups));
        if (recipe_.router.mixture.outputs > router_kernel::threads)
            throw error(recipe_.name, concat("at most ", router_kernel::threads, " kernels in a mixture on a device"),
                        concat(recipe_.router.mixture.outputs));
        kernel_ = store.get(device, recipe_.kernel, in_channels_ / k.groups, options.numbers, s, recipe_.name);
        std::vector<float> values;
        const auto add = [&](place& p, const std::vector<float>& v) {
            values.resize((values.size() + 7) / 8 * 8);  // whole sectors of 32 bytes: a warp's 32 floats lie in four
            p = {static_cast<index_t>(values.size()), static_cast<index_t>(v.size())};
            values.insert(values.end(), v.begin(), v.end());
        };
        add(spatial_, recipe_.spatial);
        add(scale_, recipe_.scale);
        add(shift_, recipe_.shift);
        add(mixed_bias_scale_, recipe_.mixed_bias_scale);
        add(biases_, recipe_.kernel.biases);
        const router_recipe& r = recipe_.router;
        for (const auto& [at, dense] : {std::pair(&hidden_, &r.hidden),
                                        {&mixture_, &r.mixture},
                                        {&channel_, &r.channel},
                                        {&filter_, &r.filter},
                                        {&head_spatial_, &r.spatial}}) {
            add(at->w, dense->w);
            add(at->bias, dense->bias);
        }
        factors_ = uploaded<float>(device, values, s);
    }

    /// Whether a layer may have an input with more channels than it has: zeros times zeros, and nobody looks at their sums.
    [[nodiscard]] static bool takes_more_channels(const conv_recipe& r) noexcept {
        return r.kernel.shape.groups == 1 && !r.kernel.shape.depthwise() && !r.kernel.mixed && r.router.empty();
    }

    [[nodiscard]] const std::string& name() const noexcept { return recipe_.name; }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return recipe_.kernel.shape; }
    [[nodiscard]] bool takes_residual() const noexcept { return recipe_.residual; }
    [[nodiscard]] bool routed() const noexcept { return !recipe_.router.empty(); }
    /// Bytes of device memory that are the layer's own: factors and router.
    [[nodiscard]] index_t own_bytes() const noexcept { return factors_.bytes(); }
    [[nodiscard]] const std::shared_ptr<const typename kernel_store<Device>::kernel>& device_kernel_block()
        const noexcept {
        return kernel_;
    }

    /// Decides how to run on inputs of shape `in`. Throws kdna::error.
    [[nodiscard]] device_conv_plan plan(const shape4& in) const {
        device_conv_plan p;
        const kernel_shape& k = kernel();
        p.in = in;
        p.out = output_shape(in, k, recipe_.params, recipe_.name);
        static_cast<void>(detail::checked_elements({in.n, in_channels_, in.h, in.w}, recipe_.name));
        static_cast<void>(detail::checked_elements(p.out, recipe_.name));
        plan_geometry(p);
        const index_t element = bytes_of(options_.numbers);
        p.depthwise = k.depthwise();
        const auto whole = [&](index_t bytes) {
            return in_channels_ * element % bytes == 0 &&
                   (p.depthwise || in_channels_ / k.groups * element % bytes == 0);
        };
        p.wide_channels = whole(16);
        const bool own_kernels = recipe_.kernel.mixed;
        p.chunk = static_cast<int>(in.n);
        if (own_kernels) {
            const index_t bytes = checked_mul(kernel_->size, element, recipe_.name);
            p.chunk = static_cast<int>(std::clamp<index_t>(options_.assembly_budget / bytes, 1, in.n));
            p.assembly_elements = checked_mul(p.chunk, kernel_->size, recipe_.name);
            static_cast<void>(detail::checked_int(p.assembly_elements, recipe_.name));
        }
        const int pixels = p.geometry.out_pixels, slice = own_kernels ? pixels : pixels * static_cast<int>(in.n);
        if (p.depthwise) {
            p.rows = p.out_rows = tile_rows::cut(pixels, slice, finishing_rows);
        } else {
            const bool factors = recipe_.router.channel.outputs + taps_factors() > 0;
            p.stage = whole(16)              ? factors ? staging::vectors : staging::copies
                      : factors || !whole(8) ? staging::elements
                                             : staging::short_copies;
            plan_tiles(p, pixels, slice);
        }
        plan_scratch(p);
        p.text = explain(p);
        return p;
    }

    /// The layer as a library would run it; nothing where it has factors of its own, or its filters are not dense in memory.
    [[nodiscard]] std::optional<plain_convolution> as_plain(const device_conv_plan& p) const {
        const kernel_shape& k = kernel();
        if (routed() || recipe_.kernel.mixed || !recipe_.spatial.empty() || k.depthwise() || in_channels_ != k.i ||
            kernel_->depth != k.taps() * k.channels_per_group())
            return std::nullopt;
        return plain_convolution{options_.numbers, p.in, p.out, k, recipe_.params, recipe_.residual, recipe_.act};
    }
    [[nodiscard]] plain_convolution_call plain_call(const device_conv_call& c) const {
        return {c.x, kernel_->memory.data(), c.y, c.residual, values(scale_).data, values(shift_).data, c.scratch};
    }

    /// Puts the launches of one call into the stream.
    void enqueue(const device_conv_plan& p, const device_conv_call& c, typename Device::stream s) const {
        with_number(options_.numbers, [&]<class Number>(Number) { enqueue_as<Number>(p, c, s); });
    }

private:
    struct place {
        index_t at = 0, count = 0;  // in factors_, floats
    };
    struct dense_place {
        place w{}, bias{};
    };

    [[nodiscard]] index_t taps_factors() const noexcept {
        return static_cast<index_t>(recipe_.spatial.size()) + recipe_.router.spatial.outputs;
    }

    void plan_geometry(device_conv_plan& p) const {
        const kernel_shape& k = kernel();
        const conv_params& m = recipe_.params;
        const auto extent = [&](index_t v) { return detail::checked_int(v, recipe_.name); };
        // Coordinates are added up in 32 bits, far from the rows that are not there (conv_kernel::start).
        for (const index_t v :
             {k.kh * m.dilation.h, k.kw * m.dilation.w, m.pad.top, m.pad.left, m.pad.bottom, m.pad.right})
            if (v > 1 << 24) throw error(recipe_.name, "windows and padding below 2^24 on a device", concat(v));
        const int group_channels = extent(in_channels_ / k.groups),
                  stage = row_bytes / static_cast<int>(bytes_of(options_.numbers));
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
                      .channels = extent(in_channels_),
                      .group_channels = group_channels,
                      .group_filters = extent(k.filters_per_group()),
                      .out_pixels = extent(p.out.h * p.out.w)};
        const int taps = stage / group_channels;
        p.geometry.stage_step = {taps / p.geometry.kw, taps % p.geometry.kw, stage % group_channels};
    }

    /// The large tile where it gives every multiprocessor a block; the depth in parts where even small ones do not.
    void plan_tiles(device_conv_plan& p, int pixels, int slice) const {
        const auto blocks = [&](int rows, int columns) {
            return (slice == pixels ? p.chunk : 1) * ((slice - 1) / rows + 1) *
                   ((p.geometry.group_filters - 1) / columns + 1) * kernel().groups;
        };
        const int processors = std::max(device_->multiprocessors(), 1);
        p.large = p.geometry.group_filters > small_tile::columns &&
                  blocks(large_tile::rows, large_tile::columns) >= processors;
        p.rows = tile_rows::cut(pixels, slice, p.large ? large_tile::rows : small_tile::rows);
        p.out_rows = p.rows;
        const index_t stage = row_bytes / bytes_of(options_.numbers), stages = kernel_->depth / stage;
        const index_t few = blocks(small_tile::rows, small_tile::columns);
        // Kernels of samples of their own take turns in one scratch, and have few rows each: not worth parts of the depth.
        if (p.large || recipe_.kernel.mixed || few >= processors) return;
        // At least eight stages each, so that they are worth their way through memory.
        p.depth_parts =
            static_cast<int>(std::clamp<index_t>(std::min<index_t>(2 * processors / few, stages / 8), 1, 16));
        if (p.depth_parts > 1) {
            p.out_rows = tile_rows::cut(pixels, slice, finishing_rows);
            p.parts_floats = checked_mul(p.depth_parts, element_count(p.out, recipe_.name), recipe_.name);
            static_cast<void>(detail::checked_int(p.parts_floats, recipe_.name));
        }
    }

    void plan_scratch(device_conv_plan& p) const {
        int floats = 0;
        const auto reserve = [&](index_t count) {
            return std::exchange(floats, detail::checked_int((floats + count + 3) / 4 * 4, recipe_.name));
        };
        const router_recipe& r = recipe_.router;
        p.mixture_at = reserve(r.mixture.outputs);
        p.channel_at = reserve(r.channel.outputs);
        p.spatial_at = reserve(r.spatial.outputs);
        p.scale_at = reserve(r.filter.outputs);
        p.shift_at = reserve(mixes_bias() ? kernel().o : 0);
        p.route_floats = floats;
        device_layout scratch;
        p.routes_at = scratch.add(p.in.n * floats, sizeof(float));
        static_cast<void>(detail::checked_int(p.in.n * floats, recipe_.name));
        p.parts_at = scratch.add(p.parts_floats, sizeof(float));
        p.assembly_at = scratch.add(p.assembly_elements, bytes_of(options_.numbers));
        if (routed()) {
            const int in_pixels = detail::checked_int(p.in.h * p.in.w, recipe_.name);
            p.pooled_rows =
                tile_rows::cut(in_pixels, detail::checked_int(p.in.n * in_pixels, recipe_.name), summing_rows);
            p.sums_at = scratch.add(device_conv_plan::floats_of(p.pooled_rows, p.in), sizeof(float));
        }
        p.scratch_bytes = scratch.bytes();
    }
    [[nodiscard]] bool mixes_bias() const noexcept { return !recipe_.kernel.biases.empty() && recipe_.kernel.mixed; }

    [[nodiscard]] std::string explain(const device_conv_plan& p) const {
        std::string text = concat(recipe_.name, ": ", to_string(kernel()), " on ", to_string(p.in), ", ",
                                  to_string(options_.numbers), ": ");
        if (p.depthwise) {
            text += concat("depthwise, ", p.wide_channels ? 16 / bytes_of(options_.numbers) : 1, " channels a thread");
        } else {
            text += concat("implicit product, tiles ", p.rows.tile, " x ",
                           p.large ? large_tile::columns : small_tile::columns, ", input by ",
                           p.stage == staging::copies         ? "asynchronous copies"
                           : p.stage == staging::short_copies ? "asynchronous copies of 8 bytes"
                           : p.stage == staging::vectors      ? "16 bytes through registers"
                                                              : "single elements");
            if (in_channels_ != p.in.c) text += concat(", ", in_channels_, " channels stored");
            if (p.depth_parts > 1) text += concat(", depth in ", p.depth_parts, " parts");
        }
        if (recipe_.router.channel.outputs > 0) text += ", gate on the input";
        if (taps_factors() > 0)
            text += p.depthwise ? ", spatial factor per tap" : ", spatial factor on the input per tap";
        if (recipe_.kernel.mixed) text += concat(", kernels of ", p.chunk, " samples at a time");
        if (p.scratch_bytes > 0) text += concat(", scratch ", (p.scratch_bytes + 1023) / 1024, " KiB");
        return text;
    }

    [[nodiscard]] device_span<const float> values(const place& p) const {
        return p.count == 0 ? device_span<const float>{}
                            : factors_.template span<const float>(p.at * static_cast<index_t>(sizeof(float)), p.count);
    }
    [[nodiscard]] device_dense dense(const dense_place& p, const dense_recipe& r) const {
        return {values(p.w), values(p.bias), static_cast<int>(r.inputs), static_cast<int>(r.outputs), r.act};
    }
    template <class T>
    [[nodiscard]] static device_span<T> piece(std::byte* base, index_t at, index_t count) {
        return {reinterpret_cast<T*>(base + at), static_cast<int>(count)};
    }

    /// Pools the input unless its sums are known, and routes every sample.
    template <class Number>
    void route(const device_conv_plan& p, const device_conv_call& c, typename Device::stream s) const {
        using T = typename Number::element;
        device_sums sums = c.x_sums;
        if (!sums) {
            sums = {piece<float>(c.scratch, p.sums_at, device_conv_plan::floats_of(p.pooled_rows, p.in)), p.pooled_rows,
                    static_cast<int>(p.in.c)};
            const channel_sums_arguments<T> a{{static_cast<const T*>(c.x), static_cast<int>(element_count(p.in))},
                                              sums};
            device_->template launch<channel_sums_kernel<Number>>(channel_sums_kernel<Number>::grid(sums), a, s);
        }
        const router_recipe& r = recipe_.router;
        router_arguments a;
        a.sums = sums;
        a.hidden = dense(hidden_, r.hidden);
        a.mixture = dense(mixture_, r.mixture);
        a.channel = dense(channel_, r.channel);
        a.filter = dense(filter_, r.filter);
        a.spatial = dense(head_spatial_, r.spatial);
        a.routes = piece<float>(c.scratch, p.routes_at, p.in.n * p.route_floats);
        a.stride = p.route_floats;
        a.mixture_at = p.mixture_at;
        a.channel_at = p.channel_at;
        a.spatial_at = p.spatial_at;
        a.scale_at = p.scale_at;
        a.shift_at = p.shift_at;
        a.static_spatial = values(spatial_);
        a.scale = values(scale_);
        a.shift = values(shift_);
        a.biases = values(biases_);
        a.bias_scale = values(mixed_bias_scale_);
        a.filters = static_cast<int>(kernel().o);
        device_->template launch<router_kernel>({static_cast<int>(p.in.n), 1, 1}, a, s);
    }

    template <class Number>
    void enqueue_as(const device_conv_plan& p, const device_conv_call& c, typename Device::stream s) const {
        using T = typename Number::element;
        if (routed()) route<Number>(p, c, s);
        const index_t in_size = in_channels_ * p.in.h * p.in.w, out_size = p.out.c * p.out.h * p.out.w;
        for (index_t first = 0; first < p.in.n; first += p.chunk) {
            const index_t count = std::min<index_t>(p.chunk, p.in.n - first);
            const auto route_at = [&](index_t width, int at) -> device_factors {
                if (width == 0) return {};
                return {piece<const float>(c.scratch, p.routes_at + (first * p.route_floats + at) * 4,
                                           (p.in.n - first) * p.route_floats - at),
                        p.route_floats};
            };
            const router_recipe& r = recipe_.router;
            const device_factors channel = route_at(r.channel.outputs, p.channel_at);
            device_factors spatial = route_at(r.spatial.outputs, p.spatial_at);
            if (!spatial) spatial = {values(spatial_), 0};
            device_output<T> out;
            out.y = {static_cast<T*>(c.y) + first * out_size, static_cast<int>(count * out_size)};
            if (c.residual != nullptr)
                out.residual = {static_cast<const T*>(c.residual) + first * out_size,
                                static_cast<int>(count * out_size)};
            out.scale =
                r.filter.outputs > 0 ? route_at(r.filter.outputs, p.scale_at) : device_factors{values(scale_), 0};
            out.shift = mixes_bias() ? route_at(kernel().o, p.shift_at) : device_factors{values(shift_), 0};
            out.channels = static_cast<int>(p.out.c);
            out.act = recipe_.act;
            out.rows = p.out_rows;
            if (c.y_sums) {
                out.sums = c.y_sums;
                // Chunks are of samples with kernels of their own, whose tiles are of one sample each.
                const int skip = static_cast<int>(first) * out.rows.tiles_per_slice * out.channels;
                out.sums.values.data += skip;
                out.sums.values.size -= skip;
            }
            device_kernel<T> kernel{
                kernel_->memory.template span<const T>(0, index_t{kernel_->size} * recipe_.kernel.count),
                kernel_->depth, kernel_->group_stride, 0};
            if (recipe_.kernel.mixed) {
                assembly_arguments<T> a;
                a.kernels = kernel.w;
                a.coefficients = route_at(r.mixture.outputs, p.mixture_at);
                a.w = piece<T>(c.scratch, p.assembly_at, count * kernel_->size);
                a.n = static_cast<int>(recipe_.kernel.count);
                a.size = kernel_->size;
                const int packs = a.size / wide<T>;
                device_->template launch<assembly_kernel<Number>>(
                    {(packs - 1) / assembly_kernel<Number>::threads + 1, static_cast<int>(count), 1}, a, s);
                kernel.w = a.w;
                kernel.sample_stride = kernel_->size;
            }
            const device_span<const T> x{static_cast<const T*>(c.x) + first * in_size,
                                         static_cast<int>(count * in_size)};
            if (p.depthwise) {
                depthwise_arguments<T> a{x, kernel.w, kernel.sample_stride, p.geometry, channel, spatial, out};
                if (!p.wide_channels)
                    launch_depthwise<depthwise_kernel<Number, 1, 0>>(a, s);
                else if (p.geometry.kh == 3 && p.geometry.kw == 3)
                    launch_depthwise<depthwise_kernel<Number, wide<T>, 3>>(a, s);
                else
                    launch_depthwise<depthwise_kernel<Number, wide<T>, 0>>(a, s);
            } else {
                conv_arguments<T> a{x, kernel, p.geometry, channel, spatial, out, {}, p.depth_parts};
                a.out.rows = p.rows;
                if (p.depth_parts > 1) a.parts = piece<float>(c.scratch, p.parts_at, p.parts_floats);
                if (p.large)
                    launch_staged<Number, large_tile>(p.stage, a, s);
                else
                    launch_staged<Number, small_tile>(p.stage, a, s);
                if (p.depth_parts > 1) {
                    using finish = conv_finish_kernel<Number>;
                    device_->template launch<finish>(
                        {out.rows.tiles_per_slice, (out.channels - 1) / finish::columns + 1, 1},
                        {a.parts, p.depth_parts, out}, s);
                }
            }
        }
    }
    /// Tiles of all slices of an output.
    template <class T>
    [[nodiscard]] static int tiles_of(const device_output<T>& out) noexcept {
        return out.y.size / out.channels / out.rows.slice_rows * out.rows.tiles_per_slice;
    }
    template <class Kernel>
    void launch_depthwise(const typename Kernel::arguments& a, typename Device::stream s) const {
        device_->template launch<Kernel>({tiles_of(a.out), (a.geometry.channels - 1) / Kernel::columns + 1, 1}, a, s);
    }
    template <class Number, class Tile>
    void launch_staged(staging stage, const conv_arguments<typename Number::element>& a,
                       typename Device::stream s) const {
        const grid_size grid{tiles_of(a.out), (a.geometry.group_filters - 1) / Tile::columns + 1,
                             static_cast<int>(kernel().groups) * a.depth_parts};
        switch (stage) {
            case staging::copies:
                return device_->template launch<conv_kernel<Number, Tile, staging::copies>>(grid, a, s);
            case staging::short_copies:
                return device_->template launch<conv_kernel<Number, Tile, staging::short_copies>>(grid, a, s);
            case staging::vectors:
                return device_->template launch<conv_kernel<Number, Tile, staging::vectors>>(grid, a, s);
            case staging::elements:
                return device_->template launch<conv_kernel<Number, Tile, staging::elements>>(grid, a, s);
        }
    }

    Device* device_;
    conv_recipe recipe_;
    device_options options_;
    index_t in_channels_ = 0;
    std::shared_ptr<const typename kernel_store<Device>::kernel> kernel_;
    device_memory<Device> factors_;
    place spatial_{}, scale_{}, shift_{}, mixed_bias_scale_{}, biases_{};
    dense_place hidden_{}, mixture_{}, channel_{}, filter_{}, head_spatial_{};
};

}  // namespace kdna::inline KDNA_ABI::cuda
