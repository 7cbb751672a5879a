// A convolution layer on a device: its weights there, the plan for an input shape, and the launches of a call.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/device/vendor_library.hpp>
#include <kdna/cuda/layers/kernel_store.hpp>
#include <kdna/cuda/layers/layer_plan.hpp>
#include <kdna/cuda/layers/recipe.hpp>
#include <kdna/cuda/programs/assembly.hpp>
#include <kdna/cuda/programs/attention.hpp>
#include <kdna/cuda/programs/convolution.hpp>
#include <kdna/cuda/programs/depthwise.hpp>
#include <kdna/cuda/programs/pooling.hpp>
#include <kdna/cuda/programs/router.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How a layer or a network is put on a device.
struct device_options {
    precision numbers = precision::f32;
    /// Bytes that the kernels of a chunk of samples may take, where every sample has a kernel of its own.
    index_t assembly_budget = index_t{64} << 20;
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
        check_router();
        constexpr index_t most_taps = attention_program<float, 1>::most_taps;
        if (recipe_.attention && k.taps() > most_taps)
            throw error(recipe_.name, concat("attention over at most ", most_taps, " positions on a device"),
                        concat(k.taps()));
        layout_ = weight_layout::of(k, in_channels_ / k.groups, options.numbers, recipe_.name);
        static_cast<void>(detail::checked_int(layout_.size, recipe_.name));
        if (recipe_.kernel.form != kernel_form::given)
            kernel_ = store.get(device, recipe_.kernel, in_channels_ / k.groups, options.numbers, s, recipe_.name);
        places_ = places();
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
        add(kernel_bias_, recipe_.kernel.kernel_bias);
        add(q_, centre_factor());
        const router_recipe& r = recipe_.router;
        for (const auto& [at, dense] : {std::pair(&hidden_, &r.hidden),
                                        {&gate_, &r.gate},
                                        {&mixture_, &r.mixture},
                                        {&kernel_filter_, &r.kernel_filter},
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
        return r.kernel.shape.groups == 1 && !r.kernel.shape.depthwise() && r.kernel.form == kernel_form::stored &&
               !r.attention && r.router.empty();
    }

    [[nodiscard]] const std::string& name() const noexcept { return recipe_.name; }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return recipe_.kernel.shape; }
    [[nodiscard]] bool takes_residual() const noexcept { return recipe_.residual; }
    [[nodiscard]] bool routed() const noexcept { return !recipe_.router.empty(); }
    /// Calls f(address, bytes) for every block of device memory that the layer keeps: its kernel or its stage's warehouse, which
    /// layers share and which then comes up in each of them with the same address, and what is its own, factors and router.
    template <class F>
    void for_each_storage(F&& f) const {
        if (kernel_ != nullptr) f(static_cast<const void*>(kernel_->memory.data()), kernel_->memory.bytes());
        f(static_cast<const void*>(factors_.data()), factors_.bytes());
    }

    /// Whether it reads the sums of its input's channels.
    [[nodiscard]] bool reads_sums() const noexcept { return routed() && recipe_.router.grid == 1; }

    /// Decides how to run on inputs of shape `in`; `given` is for layers whose kernels come with each call. Throws kdna::error.
    [[nodiscard]] device_conv_plan plan(const shape4& in, given_kernels given = given_kernels::one) const {
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
        p.chunk = static_cast<int>(in.n);
        const kernel_form form = recipe_.kernel.form;
        p.own_kernels =
            form != kernel_form::stored && (form != kernel_form::given || (given == given_kernels::each && in.n > 1));
        if (p.own_kernels) {
            const index_t bytes = checked_mul(layout_.size, element, recipe_.name);
            p.chunk = static_cast<int>(std::clamp<index_t>(options_.assembly_budget / bytes, 1, in.n));
            p.assembly_elements = checked_mul(p.chunk, layout_.size, recipe_.name);
            static_cast<void>(detail::checked_int(p.assembly_elements, recipe_.name));
        } else if (form == kernel_form::given) {
            p.assembly_elements = layout_.size;
        }
        const int pixels = p.geometry.out_pixels, slice = p.own_kernels ? pixels : pixels * static_cast<int>(in.n);
        if (p.depthwise) {
            p.rows = p.out_rows = tile_rows::cut(pixels, slice, finishing_rows);
        } else {
            const bool factors = recipe_.router.channel.outputs + taps_factors() > 0;
            p.input = whole(16)              ? factors ? input_path::vectors : input_path::copies
                      : factors || !whole(8) ? input_path::elements
                                             : input_path::short_copies;
            plan_tiles(p, pixels, slice);
        }
        plan_scratch(p);
        p.text = explain(p);
        return p;
    }

    /// The layer as a library would run it; nothing where it has factors of its own, or its filters are not dense in memory.
    [[nodiscard]] std::optional<plain_convolution> as_plain(const device_conv_plan& p) const {
        const kernel_shape& k = kernel();
        if (routed() || recipe_.attention || recipe_.kernel.form != kernel_form::stored || !recipe_.spatial.empty() ||
            k.depthwise() || in_channels_ != k.i || p.geometry.circular ||
            layout_.filter_stride != k.taps() * k.channels_per_group())
            return std::nullopt;
        return plain_convolution{options_.numbers, p.in, p.out, k, recipe_.params, recipe_.residual, recipe_.act};
    }
    [[nodiscard]] plain_convolution_call plain_call(const device_conv_call& c) const {
        return {c.x, kernel_->memory.data(), c.y, c.residual, values(scale_).data, values(shift_).data, c.scratch};
    }

    /// Puts the launches of one call into the stream. Throws kdna::error if the kernels that it brings are not those of the plan.
    void enqueue(const device_conv_plan& p, const device_conv_call& c, typename Device::stream s) const {
        check_kernels(p, c);
        with_number(options_.numbers, [&]<class Number>(Number) { enqueue_as<Number>(p, c, s); });
    }

private:
    struct place {
        index_t at = 0, count = 0;  // in factors_, floats
    };
    struct dense_place {
        place w{}, bias{};
    };

    void check_kernels(const device_conv_plan& p, const device_conv_call& c) const {
        const bool given = recipe_.kernel.form == kernel_form::given;
        const index_t expected = !given ? 0 : p.own_kernels ? p.in.n : 1;
        const shape4& found = c.kernels.shape();
        const index_t kernels = c.kernels.device_pointer() == nullptr ? 0 : found.n,
                      size = kernels == 0 ? 0 : found.c * found.h * found.w;
        if (kernels != expected || (given && size != recipe_.kernel.given))
            throw error(concat(recipe_.name, " kernel"),
                        concat(expected, " of ", recipe_.kernel.given, " weights in device memory"),
                        concat(kernels, " of ", size));
    }
    /// Routers of one's own may say anything.
    void check_router() const {
        const router_recipe& r = recipe_.router;
        const kernel_recipe& k = recipe_.kernel;
        for (const dense_recipe* d : {&r.mixture, &r.channel, &r.filter, &r.spatial})
            if (d->act == dense_activation::signed_share && (d->group < 2 || d->outputs % d->group != 0))
                throw error(concat(recipe_.name, " router"), "signed shares in whole groups of two or more",
                            concat(d->outputs, " outputs in groups of ", d->group));
        const bool decomposed = k.form == kernel_form::decomposed, combined = k.form == kernel_form::combined;
        const index_t mixture = decomposed ? k.rank() * k.rank() + k.rank()
                                : combined ? checked_mul(k.combinations(), k.count, recipe_.name)
                                           : 0;
        const auto require = [&](std::string_view values, index_t found, index_t expected) {
            if (found != expected)
                throw error(concat(recipe_.name, " router"), concat(expected, values), concat(found));
        };
        require(" values of a mixture", r.mixture.values(), mixture);
        require(" factors of the stored filters", r.kernel_filter.values(), decomposed ? k.shape.o : 0);
        constexpr index_t largest_rank = decomposition_program<float>::largest_rank;
        if (decomposed && k.rank() > largest_rank)
            throw error(recipe_.name, concat("a low-rank part of rank ", largest_rank, " at most on a device"),
                        concat(k.rank()));
        router_arguments a;
        a.inputs = detail::checked_int(router_inputs(), recipe_.name);
        set_dense(a);
        // What every device gives a block, but for some that a launch itself takes.
        constexpr int most = 96 * 1024;
        if (const int bytes = router_program::shared_bytes(a); bytes > most)
            throw error(concat(recipe_.name, " router"),
                        concat("at most ", most, " bytes of shared memory on a device"), concat(bytes));
    }
    [[nodiscard]] index_t router_inputs() const {
        const index_t grid = recipe_.router.grid;
        return checked_mul(kernel().i, checked_mul(grid, grid, recipe_.name), recipe_.name);
    }
    /// The router's layers, without their places among the routes.
    void set_dense(router_arguments& a) const {
        const router_recipe& r = recipe_.router;
        a.hidden = dense(hidden_, r.hidden);
        a.gate = dense(gate_, r.gate);
        const auto set = [&](route_kind kind, const dense_place& at, const dense_recipe& d) {
            device_head& h = a.heads[static_cast<int>(kind)];
            h.dense = dense(at, d);
            h.group = static_cast<int>(d.act == dense_activation::softmax ? std::max<index_t>(d.outputs, 1) : d.group);
        };
        set(route_kind::mixture, mixture_, r.mixture);
        set(route_kind::kernel_filter, kernel_filter_, r.kernel_filter);
        set(route_kind::channel, channel_, r.channel);
        set(route_kind::filter, filter_, r.filter);
        set(route_kind::spatial, head_spatial_, r.spatial);
    }

    /// Q' of a decomposed kernel, [L][centre_size()]: as the centre tap lies over packs of the depth, with zeros around.
    [[nodiscard]] std::vector<float> centre_factor() const {
        const kernel_recipe& k = recipe_.kernel;
        if (k.form != kernel_form::decomposed) return {};
        const index_t size = centre_size(), begin = centre_at() - centre_first();
        std::vector<float> out(static_cast<std::size_t>(checked_mul(k.rank(), size, recipe_.name)), 0.0F);
        for (index_t j = 0; j < k.rank(); ++j)
            for (index_t c = 0; c < k.shape.i; ++c)
                out[static_cast<std::size_t>(j * size + begin + c)] = k.q[static_cast<std::size_t>(j * k.shape.i + c)];
        return out;
    }
    [[nodiscard]] index_t centre_at() const noexcept { return kernel().taps() / 2 * layout_.tap_stride; }
    [[nodiscard]] index_t centre_first() const noexcept {
        const index_t lane = 16 / bytes_of(options_.numbers);
        return centre_at() / lane * lane;
    }
    [[nodiscard]] index_t centre_size() const noexcept {
        const index_t lane = 16 / bytes_of(options_.numbers);
        return (centre_at() - centre_first() + kernel().i + lane - 1) / lane * lane;
    }

    /// Where what is stored lies in the kernel of a sample.
    [[nodiscard]] cell_places places() const {
        const auto number = [](index_t v) { return static_cast<int>(v); };
        cell_places p;
        if (!recipe_.kernel.cell) {
            p.inner = number(layout_.size);
            return p;
        }
        const cell_shape& cell = *recipe_.kernel.cell;
        p.outer_stride = p.inner_stride = number(layout_.filter_stride);
        if (cell.c == 1) {
            p.inner = number(cell.o);
            p.outer_stride = number(layout_.tap_stride);
        } else {
            p.inner = number(cell.c);
            p.inner_stride = 1;
            p.middle = number(cell.taps());
            p.middle_stride = number(layout_.tap_stride);
        }
        p.filters = number(layout_.filters / cell.o);
        p.channels = number(layout_.channels / cell.c);
        p.piece_stride = number(cell.taps() * layout_.tap_stride);
        p.filter_stride = number(cell.o * layout_.filter_stride);
        p.channel_stride = p.channels > 1 ? number(cell.c) : 0;
        return p;
    }

    [[nodiscard]] index_t taps_factors() const noexcept {
        return static_cast<index_t>(recipe_.spatial.size()) + recipe_.router.spatial.outputs;
    }

    void plan_geometry(device_conv_plan& p) const {
        const kernel_shape& k = kernel();
        const conv_params& m = recipe_.params;
        const auto extent = [&](index_t v) { return detail::checked_int(v, recipe_.name); };
        // Coordinates are added up in 32 bits, far from the rows that are not there (convolution_program::start).
        for (const index_t v :
             {k.kh * m.dilation.h, k.kw * m.dilation.w, m.pad.top, m.pad.left, m.pad.bottom, m.pad.right})
            if (v > 1 << 24) throw error(recipe_.name, "windows and padding below 2^24 on a device", concat(v));
        const bool circular = m.mode == padding_mode::circular;
        if (circular && std::max(p.in.h, p.in.w) > 1 << 24)
            throw error(recipe_.name, "maps below 2^24 where padding is circular on a device", to_string(p.in));
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
                      .out_pixels = extent(p.out.h * p.out.w),
                      .circular = circular};
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
        const index_t stage = row_bytes / bytes_of(options_.numbers), stages = layout_.filter_stride / stage;
        const index_t few = blocks(small_tile::rows, small_tile::columns);
        // Kernels of samples of their own take turns in one scratch, and have few rows each: not worth parts of the depth.
        if (p.large || p.own_kernels || few >= processors) return;
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
        p.mixture_at = reserve(r.mixture.values());
        p.kernel_filter_at = reserve(r.kernel_filter.values());
        p.channel_at = reserve(r.channel.outputs);
        p.spatial_at = reserve(r.spatial.outputs);
        p.scale_at = reserve(r.filter.outputs);
        p.shift_at = reserve(mixes_bias() ? kernel().o : 0);
        p.route_floats = floats;
        device_layout scratch;
        p.routes_at = scratch.add(p.in.n * floats, sizeof(float));
        static_cast<void>(detail::checked_int(p.in.n * floats, recipe_.name));
        p.parts_at = scratch.add(p.parts_floats, sizeof(float));
        p.attended_at = scratch.add(recipe_.attention ? element_count(p.out) : 0, bytes_of(options_.numbers));
        p.assembly_at = scratch.add(p.assembly_elements, bytes_of(options_.numbers));
        if (reads_sums()) {
            const int in_pixels = detail::checked_int(p.in.h * p.in.w, recipe_.name);
            p.pooled_rows =
                tile_rows::cut(in_pixels, detail::checked_int(p.in.n * in_pixels, recipe_.name), summing_rows);
            p.sums_at = scratch.add(device_conv_plan::floats_of(p.pooled_rows, p.in), sizeof(float));
        } else if (routed()) {
            const index_t means = checked_mul(p.in.n, router_inputs(), recipe_.name);
            static_cast<void>(detail::checked_int(means, recipe_.name));
            p.window_means_at = scratch.add(means, sizeof(float));
        }
        p.scratch_bytes = scratch.bytes();
    }
    [[nodiscard]] bool mixes_bias() const noexcept { return !recipe_.kernel.biases.empty(); }

    [[nodiscard]] std::string explain(const device_conv_plan& p) const {
        std::string text = concat(recipe_.name, ": ", to_string(kernel()), " on ", to_string(p.in), ", ",
                                  to_string(options_.numbers), ": ");
        if (p.depthwise) {
            text += concat("depthwise, ", p.wide_channels ? 16 / bytes_of(options_.numbers) : 1, " channels a thread");
        } else {
            text += concat("implicit product, tiles ", p.rows.tile, " x ",
                           p.large ? large_tile::columns : small_tile::columns, ", input by ",
                           p.input == input_path::copies         ? "asynchronous copies"
                           : p.input == input_path::short_copies ? "asynchronous copies of 8 bytes"
                           : p.input == input_path::vectors      ? "16 bytes through registers"
                                                                 : "single elements");
            if (in_channels_ != p.in.c) text += concat(", ", in_channels_, " channels stored");
            if (p.depth_parts > 1) text += concat(", depth in ", p.depth_parts, " parts");
        }
        if (recipe_.router.channel.outputs > 0) text += ", gate on the input";
        if (taps_factors() > 0)
            text += p.depthwise ? ", spatial factor per tap" : ", spatial factor on the input per tap";
        if (recipe_.attention) text += ", attention as its residual";
        if (recipe_.kernel.form == kernel_form::given) text += ", kernels that come with the call";
        if (p.own_kernels) text += concat(", kernels of ", p.chunk, " samples at a time");
        if (recipe_.kernel.form == kernel_form::decomposed)
            text += concat(", each with a low-rank part of rank ", recipe_.kernel.rank());
        if (recipe_.kernel.cell)
            text += concat(", each of ", recipe_.kernel.combinations(), " combinations of ",
                           to_string(*recipe_.kernel.cell));
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
        device_span<const float> means;
        const int inputs = static_cast<int>(router_inputs());
        if (!reads_sums()) {
            sums = {};
            means = piece<const float>(c.scratch, p.window_means_at, p.in.n * inputs);
            window_mean_arguments<T> a{{static_cast<const T*>(c.x), static_cast<int>(element_count(p.in))},
                                       piece<float>(c.scratch, p.window_means_at, p.in.n * inputs)};
            a.h = p.geometry.in_h;
            a.w = p.geometry.in_w;
            a.channels = p.geometry.channels;
            a.grid = static_cast<int>(recipe_.router.grid);
            using program = window_mean_program<Number>;
            device_->template launch<program>(program::grid(static_cast<int>(p.in.n), a), a, s);
        } else if (!sums) {
            sums = {piece<float>(c.scratch, p.sums_at, device_conv_plan::floats_of(p.pooled_rows, p.in)), p.pooled_rows,
                    static_cast<int>(p.in.c)};
            const channel_sums_arguments<T> a{{static_cast<const T*>(c.x), static_cast<int>(element_count(p.in))},
                                              sums};
            device_->template launch<channel_sums_program<Number>>(channel_sums_program<Number>::grid(sums), a, s);
        }
        router_arguments a;
        a.sums = sums;
        a.means = means;
        a.inputs = inputs;
        set_dense(a);
        const auto put = [&](route_kind kind, int at, const device_span<const float>& times) {
            device_head& h = a.heads[static_cast<int>(kind)];
            h.at = at;
            h.times = times;
        };
        put(route_kind::mixture, p.mixture_at, {});
        put(route_kind::kernel_filter, p.kernel_filter_at, {});
        put(route_kind::channel, p.channel_at, {});
        put(route_kind::filter, p.scale_at, values(scale_));
        put(route_kind::spatial, p.spatial_at, values(spatial_));
        a.routes = piece<float>(c.scratch, p.routes_at, p.in.n * p.route_floats);
        a.stride = p.route_floats;
        a.filters = static_cast<int>(kernel().o);
        if (mixes_bias()) {
            a.shift = values(shift_);
            a.bias_scale = values(mixed_bias_scale_);
            a.biases = values(biases_);
            a.kernel_bias = values(kernel_bias_);
            a.shift_at = p.shift_at;
            a.mixed_from = p.mixture_at + static_cast<int>(recipe_.router.mixture.values()) - a.biases.size / a.filters;
        }
        device_->template launch<router_program>({static_cast<int>(p.in.n), 1, 1}, a, s);
    }

    template <class Number>
    void enqueue_as(const device_conv_plan& p, const device_conv_call& c, typename Device::stream s) const {
        using T = typename Number::element;
        if (routed()) route<Number>(p, c, s);
        const T* added = recipe_.attention ? attend<T>(p, c, s) : static_cast<const T*>(c.residual);
        const index_t in_size = in_channels_ * p.in.h * p.in.w, out_size = p.out.c * p.out.h * p.out.w;
        for (index_t first = 0; first < p.in.n; first += p.chunk) {
            const index_t count = std::min<index_t>(p.chunk, p.in.n - first);
            const router_recipe& r = recipe_.router;
            const device_factors channel = routes(p, c, first, r.channel, p.channel_at);
            device_factors spatial = routes(p, c, first, r.spatial, p.spatial_at);
            if (!spatial) spatial = {values(spatial_), 0};
            device_output<T> out;
            out.y = {static_cast<T*>(c.y) + first * out_size, static_cast<int>(count * out_size)};
            if (added != nullptr) out.residual = {added + first * out_size, static_cast<int>(count * out_size)};
            out.scale = r.filter.outputs > 0 ? routes(p, c, first, p.scale_at) : device_factors{values(scale_), 0};
            out.shift = mixes_bias() ? routes(p, c, first, p.shift_at) : device_factors{values(shift_), 0};
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
            const device_kernel<T> kernel = kernel_of<T>(p, c, first, count, s);
            const device_span<const T> x{static_cast<const T*>(c.x) + first * in_size,
                                         static_cast<int>(count * in_size)};
            if (p.depthwise) {
                depthwise_arguments<T> a{x, kernel.w, kernel.sample_stride, p.geometry, channel, spatial, out};
                if (!p.wide_channels)
                    launch_depthwise<depthwise_program<Number, 1, 0>>(a, s);
                else if (p.geometry.kh == 3 && p.geometry.kw == 3)
                    launch_depthwise<depthwise_program<Number, wide<T>, 3>>(a, s);
                else
                    launch_depthwise<depthwise_program<Number, wide<T>, 0>>(a, s);
            } else {
                convolution_arguments<T> a{x, kernel, p.geometry, channel, spatial, out, {}, p.depth_parts};
                a.out.rows = p.rows;
                if (p.depth_parts > 1) a.parts = piece<float>(c.scratch, p.parts_at, p.parts_floats);
                if (p.large)
                    launch_by_path<Number, large_tile>(p.input, a, s);
                else
                    launch_by_path<Number, small_tile>(p.input, a, s);
                if (p.depth_parts > 1) {
                    using finish = convolution_finish_program<Number>;
                    device_->template launch<finish>(
                        {out.rows.tiles_per_slice, (out.channels - 1) / finish::columns + 1, 1},
                        {a.parts, p.depth_parts, out}, s);
                }
            }
        }
    }
    /// What an X-volution's attention and its residual add to the convolution, in the scratch.
    template <class T>
    [[nodiscard]] const T* attend(const device_conv_plan& p, const device_conv_call& c,
                                  typename Device::stream s) const {
        const auto size = static_cast<int>(element_count(p.out));
        attention_arguments<T> a{{static_cast<const T*>(c.x), static_cast<int>(element_count(p.in))}};
        if (c.residual != nullptr) a.residual = {static_cast<const T*>(c.residual), size};
        a.scale = values(scale_);
        a.y = piece<T>(c.scratch, p.attended_at, size);
        a.geometry = p.geometry;
        a.factor = *recipe_.attention;
        if (p.in.c % wide<T> == 0)
            launch_sized<attention_program<T, wide<T>>>(a, s);
        else
            launch_sized<attention_program<T, 1>>(a, s);
        return a.y.data;
    }
    /// The kernel of all samples, or those of samples [first, first + count), put together in the scratch.
    template <class T>
    [[nodiscard]] device_kernel<T> kernel_of(const device_conv_plan& p, const device_conv_call& c, index_t first,
                                             index_t count, typename Device::stream s) const {
        const kernel_recipe& k = recipe_.kernel;
        device_kernel<T> out{{},
                             static_cast<int>(layout_.filter_stride),
                             static_cast<int>(k.shape.filters_per_group() * layout_.filter_stride),
                             p.own_kernels ? static_cast<int>(layout_.size) : 0};
        const device_span<const T> stored =
            kernel_ == nullptr ? device_span<const T>{}
                               : kernel_->memory.template span<const T>(0, index_t{kernel_->size} * k.count);
        const device_span<T> w =
            piece<T>(c.scratch, p.assembly_at, p.own_kernels ? count * layout_.size : layout_.size);
        out.w = w;
        switch (k.form) {
            case kernel_form::stored: out.w = stored; break;
            case kernel_form::combined:
                combine<T>(stored, routes(p, c, first, recipe_.router.mixture, p.mixture_at), static_cast<int>(count),
                           w, s);
                break;
            case kernel_form::decomposed:
                recompose<T>(stored, routes(p, c, first, recipe_.router.kernel_filter, p.kernel_filter_at),
                             routes(p, c, first, recipe_.router.mixture, p.mixture_at), static_cast<int>(count), w, s);
                break;
            case kernel_form::given: lay_out<T>(p, c, first, w, s); break;
        }
        return out;
    }
    /// Where a kind of routes begins for samples from `first` on; none where there are none.
    [[nodiscard]] device_factors routes(const device_conv_plan& p, const device_conv_call& c, index_t first,
                                        const dense_recipe& head, int at) const {
        return head.outputs == 0 ? device_factors{} : routes(p, c, first, at);
    }
    [[nodiscard]] device_factors routes(const device_conv_plan& p, const device_conv_call& c, index_t first,
                                        int at) const {
        return {piece<const float>(c.scratch, p.routes_at + (first * p.route_floats + at) * 4,
                                   (p.in.n - first) * p.route_floats - at),
                p.route_floats};
    }
    template <class T>
    void lay_out(const device_conv_plan& p, const device_conv_call& c, index_t first, const device_span<T>& w,
                 typename Device::stream s) const {
        const kernel_recipe& k = recipe_.kernel;
        const auto number = [](index_t v) { return static_cast<int>(v); };
        given_kernel_arguments<T> a{{c.kernels.device_pointer() + (p.own_kernels ? first * k.given : 0),
                                     number(w.size / layout_.size * k.given)},
                                    w};
        a.given_size = number(k.given);
        a.size = number(layout_.size);
        a.filters = number(layout_.filters);
        a.channels = number(layout_.channels);
        a.taps = number(layout_.taps);
        a.filter_stride = number(layout_.filter_stride);
        a.tap_stride = number(layout_.tap_stride);
        a.depthwise = p.depthwise;
        device_->template launch<given_kernel_program<T>>(elementwise_program::grid(w.size), a, s);
    }
    /// Assembles the kernels of `count` samples: w [count][size of a kernel].
    template <class T>
    void combine(const device_span<const T>& stored, const device_factors& coefficients, int count,
                 const device_span<T>& w, typename Device::stream s) const {
        const kernel_recipe& k = recipe_.kernel;
        // Ends of filters that no cell covers. Whole kernels come with theirs.
        if (k.cell && layout_.size != layout_.filters * layout_.channels * layout_.taps)
            device_->template launch<zero_program<T>>(elementwise_program::grid(w.size / wide<T>), {w}, s);
        combination_arguments<T> a{stored, coefficients, w};
        a.n = static_cast<int>(k.count);
        a.size = kernel_->size;
        a.kernel_size = static_cast<int>(layout_.size);
        a.m = static_cast<int>(k.combinations());
        a.all = detail::checked_int(index_t{count} * a.m, recipe_.name);
        a.places = places_;
        const auto packed = [](auto... v) { return ((v % wide<T> == 0) && ...); };
        if (places_.inner_stride == 1 && packed(places_.inner, places_.middle_stride, places_.outer_stride,
                                                places_.piece_stride, places_.filter_stride, places_.channel_stride))
            launch_sized<combination_program<T, wide<T>>>(a, s);
        else
            launch_sized<combination_program<T, 1>>(a, s);
    }
    template <class Program>
    void launch_sized(const typename Program::arguments& a, typename Device::stream s) const {
        device_->template launch<Program>(Program::grid(a), a, s);
    }
    template <class T>
    void recompose(const device_span<const T>& w0, const device_factors& filter, const device_factors& core, int count,
                   const device_span<T>& w, typename Device::stream s) const {
        const kernel_recipe& k = recipe_.kernel;
        decomposition_arguments<T> a{w0, filter, core, values(biases_), values(q_), w};
        a.filters = static_cast<int>(k.shape.o);
        a.depth = static_cast<int>(layout_.filter_stride);
        a.rank = static_cast<int>(k.rank());
        a.first = static_cast<int>(centre_first());
        a.centre = static_cast<int>(centre_size());
        using program = decomposition_program<T>;
        device_->template launch<program>(program::grid(count, a), a, s);
    }
    /// Tiles of all slices of an output.
    template <class T>
    [[nodiscard]] static int tiles_of(const device_output<T>& out) noexcept {
        return out.y.size / out.channels / out.rows.slice_rows * out.rows.tiles_per_slice;
    }
    template <class Program>
    void launch_depthwise(const typename Program::arguments& a, typename Device::stream s) const {
        device_->template launch<Program>({tiles_of(a.out), (a.geometry.channels - 1) / Program::columns + 1, 1}, a, s);
    }
    template <class Number, class Tile>
    void launch_by_path(input_path path, const convolution_arguments<typename Number::element>& a,
                        typename Device::stream s) const {
        const grid_size grid{tiles_of(a.out), (a.geometry.group_filters - 1) / Tile::columns + 1,
                             static_cast<int>(kernel().groups) * a.depth_parts};
        switch (path) {
            case input_path::copies:
                return device_->template launch<convolution_program<Number, Tile, input_path::copies>>(grid, a, s);
            case input_path::short_copies:
                return device_->template launch<convolution_program<Number, Tile, input_path::short_copies>>(grid, a,
                                                                                                             s);
            case input_path::vectors:
                return device_->template launch<convolution_program<Number, Tile, input_path::vectors>>(grid, a, s);
            case input_path::elements:
                return device_->template launch<convolution_program<Number, Tile, input_path::elements>>(grid, a, s);
        }
    }

    Device* device_;
    conv_recipe recipe_;
    device_options options_;
    weight_layout layout_{};  // of the layer's kernel
    cell_places places_{};
    index_t in_channels_ = 0;
    std::shared_ptr<const typename kernel_store<Device>::kernel> kernel_;
    device_memory<Device> factors_;
    place spatial_{}, scale_{}, shift_{}, mixed_bias_scale_{}, biases_{}, kernel_bias_{}, q_{};
    dense_place hidden_{}, gate_{}, mixture_{}, kernel_filter_{}, channel_{}, filter_{}, head_spatial_{};
};

}  // namespace kdna::inline KDNA_ABI::cuda
