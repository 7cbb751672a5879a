// A network on a device: lowered from the graph of a host network, its memory planned once, its launches replayed as a CUDA graph.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <kdna/cuda/layers/context.hpp>
#include <kdna/cuda/layers/conversion.hpp>
#include <kdna/cuda/layers/network_launch.hpp>
#include <kdna/cuda/layers/network_plan.hpp>
#include <kdna/cuda/layers/network_planning.hpp>
#include <kdna/cuda/layers/network_steps.hpp>
#include <kdna/nn/network_builder.hpp>

namespace kdna::inline KDNA_ABI::cuda {

namespace detail {

/// What all handles of a network share.
template <device_api Device>
class network_body {
public:
    using plan_type = basic_network_plan<Device>;

    template <class... Layers>
    network_body(std::type_identity<std::tuple<Layers...>>, const network& host, const basic_context<Device>& where,
                 typename Device::stream s)
        : context_(where),
          graph_(host.graph()),
          stored_channels_(network_lowering<Device, Layers...>::channels_to_store(graph_)),
          steps_(network_lowering<Device, Layers...>::steps(graph_, where, stored_channels_, s)) {
        device().synchronize(s);
    }

    [[nodiscard]] const basic_context<Device>& context() const noexcept { return context_; }
    [[nodiscard]] const network_graph& graph() const noexcept { return graph_; }
    [[nodiscard]] index_t weight_bytes() const {
        std::set<const void*> counted;
        index_t sum = 0;
        const auto count = [&](const void* address, index_t bytes) {
            if (counted.insert(address).second) sum += bytes;
        };
        for (const device_step<Device>& s : steps_)
            if (const auto* conv = s.conv())
                conv->layer.for_each_storage(count);
            else if (const auto* constant = s.constant())
                count(constant->memory.data(), constant->memory.bytes());
        return sum;
    }

    [[nodiscard]] plan_type plan(std::span<const shape4> in, const device_plan_options& options,
                                 const std::shared_ptr<const network_body>& owner) const {
        std::vector<nd_shape> shapes;
        for (std::size_t i = 0; i < in.size(); ++i) {
            const bool pixels = static_cast<index_t>(i) < graph_.input_count() && in[i].h == 1 && in[i].w == 1 &&
                                graph_.input_extents(static_cast<index_t>(i)).size() == 2;
            shapes.push_back(pixels ? nd_shape{in[i].n, in[i].c} : nd_shape(in[i]));
        }
        plan_type p;
        p.owner_ = owner;
        p.state_ = std::make_unique<network_state<Device>>();
        network_state<Device>& state = *p.state_;
        network_planner<Device>(graph_, steps_, context_, stored_channels_, state).plan(shapes);
        if (options.graph)
            state.graph = device().record(
                [this, &state](typename Device::stream s) { enqueue_steps(context_, steps_, state, s); });
        return p;
    }

    void run(plan_type& p, std::span<const device_view<const float>> x, std::span<const device_view<float>> y,
             typename Device::stream s) const {
        check(p, x, y);
        const network_state<Device>& state = *p.state_;
        with_number(context_.options().numbers, [&]<class Number>(Number) {
            using T = typename Number::element;
            for (std::size_t i = 0; i < x.size(); ++i) store_input<T>(i, x[i], state.values[i], s);
            if (state.graph)
                (*state.graph)(s);
            else
                enqueue_steps(context_, steps_, state, s);
            for (std::size_t i = 0; i < y.size(); ++i) {
                const device_operand& from = state.values[static_cast<std::size_t>(state.outputs[i])];
                const device_view<float>& to = y[i];
                enqueue_conversion(device(), from.template span<const T>(), strides_of(from),
                                   device_span<float>{to.device_pointer(), known_int(element_count(to.shape()))},
                                   dense_strides(to.shape(), to.order()), to.shape(), s);
            }
        });
    }

private:
    [[nodiscard]] Device& device() const noexcept { return context_.device(); }

    void check(const plan_type& p, std::span<const device_view<const float>> x,
               std::span<const device_view<float>> y) const {
        if (p.owner_.get() != this) throw error("network", "a plan of this network", "another network's");
        const network_state<Device>& state = *p.state_;
        if (x.size() != state.input_shapes.size())
            throw error("network", concat(state.input_shapes.size(), " inputs"), concat(x.size()));
        if (y.size() != state.output_shapes.size())
            throw error("network", concat(state.output_shapes.size(), " outputs"), concat(y.size()));
        const auto require = [](std::string_view what, std::size_t count, const std::string& name,
                                const shape4& expected, const shape4& found, const void* data) {
            const std::string where = concat("network ", what, count == 1 ? "" : " ", count == 1 ? "" : name);
            if (data == nullptr) throw error(where, "a view of device memory", "a null pointer");
            if (found != expected) throw error(where, to_string(expected), to_string(found));
        };
        for (std::size_t i = 0; i < x.size(); ++i)
            require("input", x.size(), graph_.input_name(static_cast<index_t>(i)), state.input_shapes[i], x[i].shape(),
                    x[i].device_pointer());
        for (std::size_t i = 0; i < y.size(); ++i)
            require("output", y.size(), graph_.output_name(static_cast<index_t>(i)), state.output_shapes[i],
                    y[i].shape(), y[i].device_pointer());
    }

    [[nodiscard]] static strides4 strides_of(const device_operand& v) {
        const axis_numbers& t = v.stride;
        return v.shape.rank() == 2 ? strides4{t[0], t[1], 0, 0} : strides4{t[0], t[1], t[2], t[3]};
    }

    template <class T>
    void store_input(std::size_t i, const device_view<const float>& x, const device_operand& to,
                     typename Device::stream s) const {
        const index_t channels = x.shape().c, stored = stored_channels_[i] == 0 ? channels : stored_channels_[i];
        if (stored % 4 == 0 && (stored != channels || x.order() == layout::nchw))
            enqueue_conversion_in_fours(device(), x, static_cast<T*>(to.data), stored, s);
        else
            enqueue_conversion(device(), x.device_pointer(), x.order(), static_cast<T*>(to.data), layout::nhwc,
                               x.shape(), s);
    }

    basic_context<Device> context_;
    network_graph graph_;
    std::vector<index_t> stored_channels_;
    std::vector<device_step<Device>> steps_;
};

}  // namespace detail

/// A network of a device: a handle, whose copies are the same network. Immutable: several streams may run it, each with
/// a plan of its own. The device must outlive it; the host network need not. `Layers` are conv2d types of your own
/// routers or sources (take_apart.hpp) beside those that the library knows.
template <device_api Device, class... Layers>
class basic_network {
public:
    using plan_type = basic_network_plan<Device>;

    /// Puts the weights of `host` on the device: every kernel once, children on their parent's. Waits for the stream.
    /// Throws kdna::error naming the step that has no device form. What needs no weights shares its description with `host`.
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

    /// Inputs and outputs, their names, and what inputs must be.
    [[nodiscard]] const network_graph& graph() const noexcept { return body_->graph(); }

    /// Plans every step for an input of shape `in`, allocates all memory, and records the launches. Throws kdna::error
    /// naming the step that cannot run on its input.
    [[nodiscard]] plan_type plan(const shape4& in, const device_plan_options& options = {}) const {
        return plan({&in, 1}, options);
    }
    /// The same for a network of several inputs. Pixels [N, C] have the shape [N, C, 1, 1].
    [[nodiscard]] plan_type plan(std::span<const shape4> in, const device_plan_options& options = {}) const {
        return body_->plan(in, options, body_);
    }
    /// x [plan.input_shape()] to y [plan.output_shape()], float32 in device memory, in the stream; does not wait.
    /// Allocates nothing. Throws kdna::error if the arguments are not those of the plan, or a launch fails.
    void run(plan_type& p, const device_view<const float>& x, const device_view<float>& y,
             typename Device::stream s = {}) const {
        run(p, {&x, 1}, {&y, 1}, s);
    }
    /// The same for several inputs or outputs, a view for each.
    void run(plan_type& p, std::span<const device_view<const float>> x, std::span<const device_view<float>> y,
             typename Device::stream s = {}) const {
        body_->run(p, x, y, s);
    }
    /// Plans and runs in one go, on host tensors; the output is NCHW. Throws kdna::error. For tests and for code that
    /// runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x, typename Device::stream s = {}) const {
        std::vector<tensor<float>> y = (*this)({&x, 1}, s);
        if (y.size() != 1) throw error("network", "one output", concat(y.size()));
        return std::move(y.front());
    }
    /// The same for several inputs; returns all outputs.
    [[nodiscard]] std::vector<tensor<float>> operator()(std::span<const tensor_view<const float>> x,
                                                        typename Device::stream s = {}) const {
        using device_tensor = basic_device_tensor<float, Device>;
        std::vector<shape4> shapes;
        for (const auto& v : x) shapes.push_back(v.shape);
        plan_type p = plan(shapes, {.graph = false});
        Device& device = body_->context().device();
        std::vector<device_tensor> in, out;
        std::vector<device_view<const float>> from;
        std::vector<device_view<float>> to;
        for (const auto& v : x) {
            in.emplace_back(device, v.shape);
            in.back().upload(v, s);
            from.push_back(std::as_const(in.back()).view());
        }
        for (index_t i = 0; i < graph().output_count(); ++i) {
            out.emplace_back(device, p.output_shape(i), layout::nchw);
            to.push_back(out.back().view());
        }
        run(p, from, to, s);
        std::vector<tensor<float>> y;
        for (const device_tensor& t : out) y.push_back(t.download(s));
        return y;
    }

private:
    std::shared_ptr<const detail::network_body<Device>> body_;
};

}  // namespace kdna::inline KDNA_ABI::cuda

namespace kdna::inline KDNA_ABI {

/// models::load<backend::cuda>(...), models::build<backend::cuda>(...).
template <class Device>
struct network_on<backend::on<Device>> {
    using type = cuda::basic_network<Device>;
    using host_backend = backend::reference;
    template <class... Where>
    [[nodiscard]] static type make(const network& host, const Where&... where) {
        return type(host, where...);
    }
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
