// A network on a device: lowered from a host network, its memory planned once, its launches replayed as a CUDA graph.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/layers/context.hpp>
#include <kdna/cuda/layers/conversion.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How a network is planned.
struct device_plan_options {
    /// Replays the launches as one CUDA graph. Without it every run launches them one by one.
    bool graph = true;
};

namespace detail {

template <device_api Device>
class network_body;

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
/// at a time; make one per stream. It keeps what it needs of its network.
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
    friend class detail::network_body<Device>;
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
    std::shared_ptr<const detail::network_body<Device>> owner_{};
    std::unique_ptr<state> state_{};
};

namespace detail {

/// What all handles of a network share.
template <device_api Device>
class network_body {
public:
    using plan_type = basic_network_plan<Device>;

    template <class... Layers>
    network_body(std::type_identity<std::tuple<Layers...>>, const network& host, const basic_context<Device>& where,
                 typename Device::stream s)
        : context_(where), channels_(host.input_channels()), stored_channels_(channels_to_store<Layers...>(host)) {
        for (index_t i = 0; i < host.step_count(); ++i) {
            const network::step_view v = host.step_at(i);
            steps_.push_back({lower<Layers...>(v.op, s, v.input == 0 ? stored_channels_ : 0), v.input, v.residual,
                              std::string(v.op.name())});
        }
        device().synchronize(s);
    }

    [[nodiscard]] const basic_context<Device>& context() const noexcept { return context_; }
    [[nodiscard]] index_t weight_bytes() const {
        std::set<const void*> counted;
        index_t sum = 0;
        for (const step& s : steps_)
            if (const auto* conv = std::get_if<conv_step>(&s.what))
                conv->layer.for_each_storage([&](const void* address, index_t bytes) {
                    if (counted.insert(address).second) sum += bytes;
                });
        return sum;
    }

    [[nodiscard]] plan_type plan(const shape4& in, const device_plan_options& options,
                                 const std::shared_ptr<const network_body>& owner) const {
        static_cast<void>(detail::checked_elements(in, "network input"));
        if (in.c != channels_) throw error("network input", concat(channels_, " channels"), to_string(in));
        static_cast<void>(detail::checked_elements({in.n, stored_channels_, in.h, in.w}, "network input"));
        plan_type p;
        p.owner_ = owner;
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
        state.scratch = device_memory<Device>(device(), scratch);
        state.arena = device_memory<Device>(device(), place_values(state));
        if (options.graph)
            state.graph = device().record([this, &state](typename Device::stream s) { enqueue_steps(state, s); });
        return p;
    }

    void run(plan_type& p, const device_view<const float>& x, const device_view<float>& y,
             typename Device::stream s) const {
        if (p.owner_.get() != this) throw error("network", "a plan of this network", "another network's");
        const auto require = [](std::string_view what, const shape4& expected, const shape4& found, const void* data) {
            if (data == nullptr) throw error(std::string(what), "a view of device memory", "a null pointer");
            if (found != expected) throw error(std::string(what), to_string(expected), to_string(found));
        };
        require("network input", p.input_shape(), x.shape(), x.device_pointer());
        require("network output", p.output_shape(), y.shape(), y.device_pointer());
        typename plan_type::state& state = *p.state_;
        with_number(numbers(), [&]<class Number>(Number) {
            using T = typename Number::element;
            T* const to = static_cast<T*>(state.value(0));
            if (stored_channels_ % 4 == 0 && (stored_channels_ != channels_ || x.order() == layout::nchw))
                enqueue_conversion_in_fours(device(), x, to, stored_channels_, s);
            else
                enqueue_conversion(device(), x.device_pointer(), x.order(), to, layout::nhwc, x.shape(), s);
        });
        if (state.graph)
            (*state.graph)(s);
        else
            enqueue_steps(state, s);
        with_number(numbers(), [&]<class Number>(Number) {
            using T = typename Number::element;
            const auto last = static_cast<index_t>(steps_.size());
            enqueue_conversion(device(), static_cast<const T*>(state.value(last)), layout::nhwc, y.device_pointer(),
                               y.order(), y.shape(), s);
        });
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

    [[nodiscard]] Device& device() const noexcept { return context_.device(); }
    [[nodiscard]] precision numbers() const noexcept { return context_.options().numbers; }

    template <class... Layers>
    [[nodiscard]] static std::optional<conv_recipe> recipe_of(const operation& op) {
        std::optional<conv_recipe> recipe = detail::take_apart_known<backend::cpu>(op);
        if (!recipe) recipe = detail::take_apart_known<backend::reference>(op);
        if (!recipe) recipe = detail::take_apart_any<Layers...>(op);
        return recipe;
    }
    /// Channels of a pixel of the input as it is stored: whole fours, so that 3 channels come by asynchronous copies too (of 16 bytes
    /// in 32-bit numbers, of 8 in 16-bit ones), if all steps that read it are convolutions to which that is the same.
    template <class... Layers>
    [[nodiscard]] static index_t channels_to_store(const network& host) {
        const index_t channels = host.input_channels();
        bool read = false;
        for (index_t i = 0; i < host.step_count(); ++i) {
            const network::step_view v = host.step_at(i);
            if (v.residual == 0) return channels;
            if (v.input != 0) continue;
            const auto recipe = recipe_of<Layers...>(v.op);
            if (!recipe || !device_conv<Device>::takes_more_channels(*recipe)) return channels;
            read = true;
        }
        return read ? (channels + 3) / 4 * 4 : channels;
    }
    template <class... Layers>
    [[nodiscard]] std::variant<conv_step, max_pool2d, average_step> lower(const operation& op,
                                                                          typename Device::stream s,
                                                                          index_t in_channels) {
        if (const auto* pool = dynamic_cast<const max_pool_operation*>(&op)) return pool->pool();
        if (dynamic_cast<const global_average_operation*>(&op) != nullptr) return average_step{};
        std::optional<conv_recipe> recipe = recipe_of<Layers...>(op);
        if (!recipe)
            throw error(std::string(op.name()),
                        "a step with a device form: a convolution by one of the library's methods, pooling, or a layer "
                        "named to basic_network",
                        "another");
        // A fully connected layer is a convolution of one pixel: rows of the product are samples either way.
        const bool linear = detail::is_linear<Layers...>(op);
        return conv_step{
            device_conv<Device>(device(), std::move(*recipe), context_.options(), context_.kernels(), s, in_channels),
            linear};
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
            if (!average && (conv == nullptr || !conv->layer.reads_sums())) continue;
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
        state.sums = device_memory<Device>(device(), memory.bytes());
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
            if (plain) p.library = device().plan_plain(*plain);
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
            static_cast<void>(one.add(element_count(stored), bytes_of(numbers())));
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
            with_number(numbers(), [&]<class Number>(Number) { enqueue_step<Number>(state, i, s); });
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
                device().template launch<max_pool_program<Number, wide<T>>>(
                    elementwise_program::grid(to.size / wide<T>), a, s);
            else
                device().template launch<max_pool_program<Number, 1>>(elementwise_program::grid(to.size), a, s);
        } else {
            using sums = channel_sums_program<Number>;
            if (!p.takes_sums) device().template launch<sums>(sums::grid(p.x_sums), {from, p.x_sums}, s);
            device().template launch<mean_program<Number>>(elementwise_program::grid(to.size), {p.x_sums, to}, s);
        }
    }

    basic_context<Device> context_;
    index_t channels_, stored_channels_;
    std::vector<step> steps_{};
};

}  // namespace detail

/// A network of a device: a handle, whose copies are the same network. Immutable: several streams may run it, each with a plan of
/// its own. The device must outlive it; the host network need not. `Layers` are conv2d types of your own routers or sources
/// (recipe.hpp) beside those that the library knows.
template <device_api Device, class... Layers>
class basic_network {
public:
    using plan_type = basic_network_plan<Device>;

    /// Puts the weights of `host` on the device: every kernel once, children on their parent's. Waits for the stream. Throws
    /// kdna::error naming the step that has no device form.
    explicit basic_network(const network& host, const basic_context<Device>& where = basic_context<Device>::standard(),
                           typename Device::stream s = {})
        : body_(std::make_shared<const detail::network_body<Device>>(std::type_identity<std::tuple<Layers...>>{}, host,
                                                                     where, s)) {}
    /// The same on a device of the caller's, which must outlive the network.
    basic_network(const network& host, Device& device, const device_options& options = {},
                  typename Device::stream s = {})
        : basic_network(host, basic_context<Device>(device, options), s) {}

    [[nodiscard]] const device_options& options() const noexcept { return body_->context().options(); }
    /// Bytes of weights on the device; what layers share counts once.
    [[nodiscard]] index_t weight_bytes() const { return body_->weight_bytes(); }

    /// Plans every step for inputs of shape `in`, allocates all memory, and records the launches. Throws kdna::error naming the
    /// step that cannot run on its input.
    [[nodiscard]] plan_type plan(const shape4& in, const device_plan_options& options = {}) const {
        return body_->plan(in, options, body_);
    }
    /// x [plan.input_shape()] to y [plan.output_shape()], float32 in device memory, in the stream; does not wait. Allocates
    /// nothing. Throws kdna::error if the arguments are not those of the plan, or a launch fails.
    void run(plan_type& p, const device_view<const float>& x, const device_view<float>& y,
             typename Device::stream s = {}) const {
        body_->run(p, x, y, s);
    }
    /// Plans and runs in one go, on host tensors; the output is NCHW. Throws kdna::error. For tests and for code that runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x, typename Device::stream s = {}) const {
        plan_type p = plan(x.shape, {.graph = false});
        Device& device = body_->context().device();
        basic_device_tensor<float, Device> in(device, x.shape), out(device, p.output_shape(), layout::nchw);
        in.upload(x, s);
        run(p, std::as_const(in).view(), out.view(), s);
        return out.download(s);
    }

private:
    std::shared_ptr<const detail::network_body<Device>> body_;
};

}  // namespace kdna::inline KDNA_ABI::cuda

namespace kdna::inline KDNA_ABI {

/// models::load<backend::cuda>(...), models::build<backend::cuda>(...).
template <class Device>
struct network_on<cuda::on<Device>> {
    using type = cuda::basic_network<Device>;
    using host_backend = backend::reference;
    template <class... Where>
    [[nodiscard]] static type make(const network& host, const Where&... where) {
        return type(host, where...);
    }
};

}  // namespace kdna::inline KDNA_ABI
