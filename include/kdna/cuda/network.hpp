// A network on a device: lowered from a host network, its memory planned once, its launches replayed as a CUDA graph.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <kdna/cuda/layer.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How a network is planned.
struct device_plan_options {
    /// Replays the launches as one CUDA graph. Without it every run launches them one by one.
    bool graph = true;
};

template <device_api Device, class... Layers>
class basic_network;

namespace detail {

/// What a device with a vendor's library keeps for a layer that runs there (cudnn.hpp): its plan_plain() gives one or null.
template <class Device>
struct library_part {
    using type = std::nullptr_t;
};
template <class Device>
requires requires { typename Device::library_convolution; }
struct library_part<Device> {
    using type = std::shared_ptr<const typename Device::library_convolution>;
};

}  // namespace detail

/// The memory of one network for one input shape, all on the device and allocated when the plan is made. A plan serves one run
/// at a time; make one per stream.
template <device_api Device>
class basic_network_plan {
public:
    [[nodiscard]] const shape4& input_shape() const noexcept { return state_->shapes.front(); }
    [[nodiscard]] const shape4& output_shape() const noexcept { return state_->shapes.back(); }
    /// Bytes of activations at their peak; of routes, sums of channels and everything else that steps work in.
    [[nodiscard]] index_t arena_bytes() const noexcept { return state_->arena.bytes(); }
    [[nodiscard]] index_t workspace_bytes() const noexcept { return state_->sums.bytes() + state_->scratch.bytes(); }
    /// One line per step, and the totals.
    [[nodiscard]] std::string explain() const {
        std::string text;
        for (const step_plan& s : state_->steps) text += s.text + "\n";
        return text + concat("activations ", (arena_bytes() + 1023) / 1024, " KiB at their peak, workspace ",
                             (workspace_bytes() + 1023) / 1024, " KiB\n");
    }

private:
    template <device_api, class...>
    friend class basic_network;
    using library_part = typename detail::library_part<Device>::type;
    struct step_plan {
        device_conv_plan conv{};
        device_sums x_sums{}, y_sums{};
        bool takes_sums = false;
        library_part library{};  // null: our own kernels
        std::string text{};
    };
    /// On the heap, where recordings find it when the plan is moved.
    struct state {
        std::vector<shape4> shapes{};  // of values: input first, output last
        std::vector<index_t> offsets{};
        std::vector<step_plan> steps{};
        device_memory<Device> arena{}, sums{}, scratch{};
        std::optional<typename Device::recording> graph{};
        [[nodiscard]] void* value(index_t id) const {
            return static_cast<std::byte*>(arena.data()) + offsets[static_cast<std::size_t>(id)];
        }
    };
    std::shared_ptr<const char> owner_{};
    std::unique_ptr<state> state_{};
};

/// A network of a device. Immutable once made, and stays where it was made: several streams may run it, each with a plan of its
/// own. It must outlive its plans, and the device must outlive it; the host network need not. `Layers` are conv2d types of your
/// own routers or sources (recipe.hpp) beside those that the library knows.
template <device_api Device, class... Layers>
class basic_network {
public:
    using plan_type = basic_network_plan<Device>;

    /// Puts the weights of `host` on the device: every kernel once, children on their parent's. Waits for the stream. Throws
    /// kdna::error naming the step that has no device form.
    basic_network(const network& host, Device& device, const device_options& options = {},
                  typename Device::stream s = {})
        : device_(&device),
          options_(options),
          channels_(host.input_channels()),
          stored_channels_(channels_to_store(host)) {
        for (index_t i = 0; i < host.step_count(); ++i) {
            const network::step_view v = host.step_at(i);
            steps_.push_back(
                {lower(v.op, s, v.input == 0 ? stored_channels_ : 0), v.input, v.residual, std::string(v.op.name())});
        }
        device.synchronize(s);
    }

    basic_network(const basic_network&) = delete;
    basic_network& operator=(const basic_network&) = delete;

    [[nodiscard]] const device_options& options() const noexcept { return options_; }
    /// Bytes of weights on the device; what layers share counts once.
    [[nodiscard]] index_t weight_bytes() const noexcept {
        index_t sum = store_.bytes();
        for (const step& s : steps_)
            if (const auto* conv = std::get_if<conv_step>(&s.what)) sum += conv->layer.own_bytes();
        return sum;
    }

    /// Plans every step for inputs of shape `in`, allocates all memory, and records the launches. Throws kdna::error naming the
    /// step that cannot run on its input.
    [[nodiscard]] plan_type plan(const shape4& in, const device_plan_options& options = {}) const {
        static_cast<void>(detail::checked_elements(in, "network input"));
        if (in.c != channels_) throw error("network input", concat(channels_, " channels"), to_string(in));
        static_cast<void>(detail::checked_elements({in.n, stored_channels_, in.h, in.w}, "network input"));
        plan_type p;
        p.owner_ = identity_;
        p.state_ = std::make_unique<typename plan_type::state>();
        typename plan_type::state& state = *p.state_;
        state.shapes.push_back(in);
        index_t scratch = 0;
        for (const step& s : steps_) {
            state.steps.push_back(plan_step(s, state));
            state.shapes.push_back(output_of(s, state.steps.back(), shape_of(state, s.input)));
            if (s.residual >= 0 && shape_of(state, s.residual) != state.shapes.back())
                throw error(concat(s.name, " residual"), to_string(state.shapes.back()),
                            to_string(shape_of(state, s.residual)));
            scratch = std::max(scratch, state.steps.back().conv.scratch_bytes);
        }
        place_sums(state);
        if constexpr (!std::is_null_pointer_v<typename plan_type::library_part>)
            scratch = std::max(scratch, plan_library(state));
        state.scratch = device_memory<Device>(*device_, scratch);
        state.arena = device_memory<Device>(*device_, place_values(state));
        if (options.graph)
            state.graph = device_->record([this, &state](typename Device::stream s) { enqueue_steps(state, s); });
        return p;
    }

    /// x [plan.input_shape()] to y [plan.output_shape()], float32 in device memory, in the stream; does not wait. Allocates
    /// nothing. Throws kdna::error if the arguments are not those of the plan, or a launch fails.
    void run(plan_type& p, const device_view<const float>& x, const device_view<float>& y,
             typename Device::stream s) const {
        if (p.owner_ != identity_) throw error("network", "a plan of this network", "another network's");
        const auto require = [](std::string_view what, const shape4& expected, const shape4& found, const void* data) {
            if (data == nullptr) throw error(std::string(what), "a view of device memory", "a null pointer");
            if (found != expected) throw error(std::string(what), to_string(expected), to_string(found));
        };
        require("network input", p.input_shape(), x.shape(), x.device_pointer());
        require("network output", p.output_shape(), y.shape(), y.device_pointer());
        typename plan_type::state& state = *p.state_;
        with_number(options_.numbers, [&]<class Number>(Number) {
            using T = typename Number::element;
            if (stored_channels_ % 4 == 0 && (stored_channels_ != channels_ || x.order() == layout::nchw))
                convert_fours<T>(x, static_cast<T*>(state.value(0)), s);
            else
                convert<float, T>(x.device_pointer(), x.order(), static_cast<T*>(state.value(0)), layout::nhwc,
                                  x.shape(), s);
        });
        if (state.graph)
            (*state.graph)(s);
        else
            enqueue_steps(state, s);
        with_number(options_.numbers, [&]<class Number>(Number) {
            using T = typename Number::element;
            const auto last = static_cast<index_t>(steps_.size());
            convert<T, float>(static_cast<const T*>(state.value(last)), layout::nhwc, y.device_pointer(), y.order(),
                              y.shape(), s);
        });
    }

    /// Plans and runs in one go, on host tensors; the output is NCHW. Throws kdna::error. For tests and for code that runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x, typename Device::stream s = {}) const {
        plan_type p = plan(x.shape, {.graph = false});
        basic_device_tensor<float, Device> in(*device_, x.shape), out(*device_, p.output_shape(), layout::nchw);
        in.upload(x, s);
        run(p, std::as_const(in).view(), out.view(), s);
        return out.download(s);
    }

private:
    struct conv_step {
        device_conv<Device> layer;
        bool linear;
    };
    struct average_step {};
    struct step {
        std::variant<conv_step, max_pool2d, average_step> what;
        index_t input, residual;
        std::string name;
    };
    using step_plan = typename plan_type::step_plan;
    using plan_state = typename plan_type::state;

    [[nodiscard]] static std::optional<conv_recipe> recipe_of(const operation& op) {
        std::optional<conv_recipe> recipe = detail::take_apart_known<backend::cpu>(op);
        if (!recipe) recipe = detail::take_apart_known<backend::reference>(op);
        if (!recipe) recipe = detail::take_apart_any<Layers...>(op);
        return recipe;
    }
    /// Channels of a pixel of the input as it is stored: whole fours, so that 3 channels come by asynchronous copies too (of 16 bytes
    /// in 32-bit numbers, of 8 in 16-bit ones), if all steps that read it are convolutions to which that is the same.
    [[nodiscard]] static index_t channels_to_store(const network& host) {
        const index_t channels = host.input_channels();
        bool read = false;
        for (index_t i = 0; i < host.step_count(); ++i) {
            const network::step_view v = host.step_at(i);
            if (v.residual == 0) return channels;
            if (v.input != 0) continue;
            const auto recipe = recipe_of(v.op);
            if (!recipe || !device_conv<Device>::takes_more_channels(*recipe)) return channels;
            read = true;
        }
        return read ? (channels + 3) / 4 * 4 : channels;
    }
    [[nodiscard]] std::variant<conv_step, max_pool2d, average_step> lower(const operation& op,
                                                                          typename Device::stream s,
                                                                          index_t in_channels) {
        if (const auto* pool = dynamic_cast<const max_pool_operation*>(&op)) return pool->pool();
        if (dynamic_cast<const global_average_operation*>(&op) != nullptr) return average_step{};
        std::optional<conv_recipe> recipe = recipe_of(op);
        if (!recipe)
            throw error(
                std::string(op.name()),
                "a step with a device form: a convolution of a dense or static kernel, or a mixture with a routed "
                "softmax or sigmoid, pooling, or a layer named to basic_network",
                "another");
        // A fully connected layer is a convolution of one pixel: rows of the product are samples either way.
        const bool linear = detail::is_linear<Layers...>(op);
        return conv_step{device_conv<Device>(*device_, std::move(*recipe), options_, store_, s, in_channels), linear};
    }

    [[nodiscard]] static const shape4& shape_of(const plan_state& state, index_t id) {
        return state.shapes[static_cast<std::size_t>(id)];
    }
    [[nodiscard]] step_plan plan_step(const step& s, const plan_state& state) const {
        step_plan p;
        const shape4& in = shape_of(state, s.input);
        if (const auto* conv = std::get_if<conv_step>(&s.what)) {
            if (conv->linear && (in.h != 1 || in.w != 1))
                throw error(s.name, "a pooled input, H = W = 1", to_string(in));
            p.conv = conv->layer.plan(in);
            p.text = p.conv.text;
        } else {
            p.text = concat(s.name, " on ", to_string(in));
        }
        return p;
    }
    [[nodiscard]] static shape4 output_of(const step& s, const step_plan& p, const shape4& in) {
        if (const auto* pool = std::get_if<max_pool2d>(&s.what)) {
            const shape4 out = pool->output_shape(in);
            static_cast<void>(detail::checked_elements(out, s.name));
            return out;
        }
        return std::holds_alternative<average_step>(s.what) ? shape4{in.n, in.c, 1, 1} : p.conv.out;
    }

    /// Gives sums of channels to every step that reads them, and lets the step before take them where it can.
    void place_sums(plan_state& state) const {
        device_layout memory;
        struct placed {
            std::size_t step;
            index_t at, floats;
            bool of_output;
        };
        std::vector<placed> places;
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            const step& s = steps_[i];
            const auto* conv = std::get_if<conv_step>(&s.what);
            const bool average = std::holds_alternative<average_step>(s.what);
            if (!average && (conv == nullptr || !conv->layer.routed())) continue;
            step_plan& p = state.steps[i];
            const bool made_by_layer =
                s.input > 0 && std::holds_alternative<conv_step>(steps_[static_cast<std::size_t>(s.input) - 1].what);
            const shape4& in = shape_of(state, s.input);
            if (made_by_layer) {
                step_plan& maker = state.steps[static_cast<std::size_t>(s.input) - 1];
                p.takes_sums = true;
                const auto known = std::find_if(places.begin(), places.end(), [&](const placed& other) {
                    return other.of_output && other.step == static_cast<std::size_t>(s.input) - 1;
                });
                if (known != places.end()) continue;
                maker.y_sums.rows = maker.conv.out_rows;
                const index_t floats = maker.conv.sums_floats();
                places.push_back(
                    {static_cast<std::size_t>(s.input) - 1, memory.add(floats, sizeof(float)), floats, true});
            } else if (average) {
                const int pixels = detail::checked_int(in.h * in.w, s.name),
                          rows = detail::checked_int(in.n * in.h * in.w, s.name);
                p.x_sums.rows = tile_rows::cut(pixels, rows, summing_rows);
                const index_t floats = device_conv_plan::floats_of(p.x_sums.rows, in);
                places.push_back({i, memory.add(floats, sizeof(float)), floats, false});
            }
        }
        state.sums = device_memory<Device>(*device_, memory.bytes());
        for (const placed& v : places) {
            step_plan& p = state.steps[v.step];
            device_sums& sums = v.of_output ? p.y_sums : p.x_sums;
            sums.values = state.sums.template span<float>(v.at, v.floats);
            sums.channels = static_cast<int>(v.of_output ? p.conv.out.c : shape_of(state, steps_[v.step].input).c);
        }
        for (std::size_t i = 0; i < steps_.size(); ++i)
            if (state.steps[i].takes_sums)
                state.steps[i].x_sums = state.steps[static_cast<std::size_t>(steps_[i].input) - 1].y_sums;
    }

    /// Plain layers of whose output nobody wants sums go to the library, where it takes them. Returns the scratch they need.
    [[nodiscard]] index_t plan_library(plan_state& state) const
        requires(!std::is_null_pointer_v<typename plan_type::library_part>) {
        index_t scratch = 0;
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            step_plan& p = state.steps[i];
            const auto* conv = std::get_if<conv_step>(&steps_[i].what);
            if (conv == nullptr || p.y_sums) continue;
            const std::optional<plain_convolution> plain = conv->layer.as_plain(p.conv);
            if (plain) p.library = device_->plan_plain(*plain);
            if (p.library == nullptr) continue;
            scratch = std::max(scratch, p.library->scratch_bytes());
            p.text = concat(steps_[i].name, ": ", to_string(plain->kernel), " on ", to_string(plain->in), ", ",
                            to_string(plain->numbers), ": ", p.library->explain());
        }
        return scratch;
    }

    /// Gives every value an offset that overlaps no value alive at the same time: largest first, lowest fit. Returns the bytes.
    [[nodiscard]] index_t place_values(plan_state& state) const {
        struct placed {
            index_t first, last, offset, bytes;
        };
        const auto count = static_cast<index_t>(steps_.size());
        std::vector<placed> values;
        for (index_t id = 0; id <= count; ++id) {
            device_layout one;
            shape4 stored = shape_of(state, id);
            if (id == 0) stored.c = stored_channels_;
            static_cast<void>(one.add(element_count(stored), bytes_of(options_.numbers)));
            // Made by step id - 1, the input before all; the output is read after all.
            values.push_back({id - 1, id == count ? count : id - 1, 0, one.bytes()});
        }
        const auto read = [&](index_t id, index_t by) {
            if (id >= 0)
                values[static_cast<std::size_t>(id)].last = std::max(values[static_cast<std::size_t>(id)].last, by);
        };
        for (index_t i = 0; i < count; ++i) {
            read(steps_[static_cast<std::size_t>(i)].input, i);
            read(steps_[static_cast<std::size_t>(i)].residual, i);
        }
        std::vector<std::size_t> order(values.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return values[a].bytes > values[b].bytes; });
        std::vector<placed> done;
        index_t total = 0;
        state.offsets.resize(values.size());
        for (const std::size_t i : order) {
            placed v = values[i];
            std::sort(done.begin(), done.end(), [](const placed& a, const placed& b) { return a.offset < b.offset; });
            for (const placed& other : done)
                if (v.first <= other.last && other.first <= v.last && v.offset < other.offset + other.bytes &&
                    other.offset < v.offset + v.bytes)
                    v.offset = other.offset + other.bytes;
            state.offsets[i] = v.offset;
            total = std::max(total, checked_add(v.offset, v.bytes, "network arena"));
            done.push_back(v);
        }
        return total;
    }

    void enqueue_steps(const plan_state& state, typename Device::stream s) const {
        for (std::size_t i = 0; i < steps_.size(); ++i)
            with_number(options_.numbers, [&]<class Number>(Number) { enqueue_step<Number>(state, i, s); });
    }
    template <class Number>
    void enqueue_step(const plan_state& state, std::size_t i, typename Device::stream s) const {
        using T = typename Number::element;
        const step& what = steps_[i];
        const step_plan& p = state.steps[i];
        const shape4 &in = shape_of(state, what.input), &out = state.shapes[i + 1];
        void *x = state.value(what.input), *y = state.value(static_cast<index_t>(i) + 1);
        const device_span<const T> from{static_cast<const T*>(x), static_cast<int>(element_count(in))};
        const device_span<T> to{static_cast<T*>(y), static_cast<int>(element_count(out))};
        if (const auto* conv = std::get_if<conv_step>(&what.what)) {
            const device_conv_call call{x,        y,        what.residual < 0 ? nullptr : state.value(what.residual),
                                        p.x_sums, p.y_sums, static_cast<std::byte*>(state.scratch.data())};
            if constexpr (!std::is_null_pointer_v<typename plan_type::library_part>)
                if (p.library != nullptr) return p.library->run(conv->layer.plain_call(call), s);
            conv->layer.enqueue(p.conv, call, s);
        } else if (const auto* pool = std::get_if<max_pool2d>(&what.what)) {
            const auto number_of = [](index_t v) { return static_cast<int>(v); };
            const max_pool_arguments<T> a{from,
                                          to,
                                          number_of(in.h),
                                          number_of(in.w),
                                          number_of(in.c),
                                          number_of(out.h),
                                          number_of(out.w),
                                          number_of(pool->window().h),
                                          number_of(pool->window().w),
                                          number_of(pool->stride().h),
                                          number_of(pool->stride().w),
                                          number_of(pool->pad().top),
                                          number_of(pool->pad().left)};
            if (in.c % wide<T> == 0)
                device_->template launch<max_pool_kernel<Number, wide<T>>>(elementwise_kernel::grid(to.size / wide<T>),
                                                                           a, s);
            else
                device_->template launch<max_pool_kernel<Number, 1>>(elementwise_kernel::grid(to.size), a, s);
        } else {
            using sums = channel_sums_kernel<Number>;
            if (!p.takes_sums) device_->template launch<sums>(sums::grid(p.x_sums), {from, p.x_sums}, s);
            device_->template launch<mean_kernel<Number>>(elementwise_kernel::grid(to.size), {p.x_sums, to}, s);
        }
    }

    /// The network's input, channels in fours.
    template <class T>
    void convert_fours(const device_view<const float>& x, T* y, typename Device::stream s) const {
        const shape4& shape = x.shape();
        const strides4 strides = dense_strides(shape, x.order());
        const auto number_of = [](index_t v) { return static_cast<int>(v); };
        typename fours_kernel<float, T>::arguments a;
        a.pixels = number_of(shape.n * shape.h * shape.w);
        a.channels = number_of(stored_channels_);
        a.x_channels = number_of(shape.c);
        a.h = number_of(shape.h);
        a.w = number_of(shape.w);
        a.x = {x.device_pointer(), number_of(element_count(shape))};
        a.y = {y, a.pixels * a.channels};
        a.x_n = number_of(strides.n);
        a.x_c = number_of(strides.c);
        a.x_h = number_of(strides.h);
        a.x_w = number_of(strides.w);
        device_->template launch<fours_kernel<float, T>>(elementwise_kernel::grid(a.y.size / 4), a, s);
    }
    template <class From, class To>
    void convert(const From* x, layout x_order, To* y, layout y_order, const shape4& shape,
                 typename Device::stream s) const {
        const strides4 a = dense_strides(shape, x_order), b = dense_strides(shape, y_order);
        const auto number_of = [](index_t v) { return static_cast<int>(v); };
        const int items = number_of(element_count(shape));
        const convert_arguments<From, To> arguments{
            {x, items},     {y, items},     number_of(shape.c), number_of(shape.h), number_of(shape.w), number_of(a.n),
            number_of(a.c), number_of(a.h), number_of(a.w),     number_of(b.n),     number_of(b.c),     number_of(b.h),
            number_of(b.w), items};
        device_->template launch<convert_kernel<From, To>>(elementwise_kernel::grid(items), arguments, s);
    }

    Device* device_;
    device_options options_;
    index_t channels_, stored_channels_;
    kernel_store<Device> store_{};
    std::vector<step> steps_{};
    std::shared_ptr<const char> identity_ = std::make_shared<const char>();
};

}  // namespace kdna::inline KDNA_ABI::cuda
