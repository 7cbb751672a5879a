// A network on a device: lowered from a host network, its memory planned once, its launches replayed as a CUDA graph.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <set>
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
          channels_(host.input_channels()),
          stored_channels_(network_lowering<Device, Layers...>::channels_to_store(host)),
          steps_(network_lowering<Device, Layers...>::steps(host, where, stored_channels_, s)) {
        device().synchronize(s);
    }

    [[nodiscard]] const basic_context<Device>& context() const noexcept { return context_; }
    [[nodiscard]] index_t weight_bytes() const {
        std::set<const void*> counted;
        index_t sum = 0;
        for (const device_step<Device>& s : steps_)
            if (const auto* conv = s.conv())
                conv->layer.for_each_storage([&](const void* address, index_t bytes) {
                    if (counted.insert(address).second) sum += bytes;
                });
        return sum;
    }

    [[nodiscard]] plan_type plan(const shape4& in, const device_plan_options& options,
                                 const std::shared_ptr<const network_body>& owner) const {
        static_cast<void>(checked_elements(in, "network input"));
        if (in.c != channels_) throw error("network input", concat(channels_, " channels"), to_string(in));
        static_cast<void>(checked_elements({in.n, stored_channels_, in.h, in.w}, "network input"));
        plan_type p;
        p.owner_ = owner;
        p.state_ = std::make_unique<network_state<Device>>();
        network_state<Device>& state = *p.state_;
        network_planner<Device>(steps_, context_, stored_channels_, state).plan(in);
        if (options.graph)
            state.graph = device().record(
                [this, &state](typename Device::stream s) { enqueue_steps(context_, steps_, state, s); });
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
        const network_state<Device>& state = *p.state_;
        with_number(context_.options().numbers, [&]<class Number>(Number) {
            using T = typename Number::element;
            store_input(x, static_cast<T*>(state.value(0)), s);
            if (state.graph)
                (*state.graph)(s);
            else
                enqueue_steps(context_, steps_, state, s);
            const auto last = static_cast<index_t>(steps_.size());
            enqueue_conversion(device(), static_cast<const T*>(state.value(last)), layout::nhwc, y.device_pointer(),
                               y.order(), y.shape(), s);
        });
    }

private:
    [[nodiscard]] Device& device() const noexcept { return context_.device(); }

    template <class T>
    void store_input(const device_view<const float>& x, T* to, typename Device::stream s) const {
        if (stored_channels_ % 4 == 0 && (stored_channels_ != channels_ || x.order() == layout::nchw))
            enqueue_conversion_in_fours(device(), x, to, stored_channels_, s);
        else
            enqueue_conversion(device(), x.device_pointer(), x.order(), to, layout::nhwc, x.shape(), s);
    }

    basic_context<Device> context_;
    index_t channels_, stored_channels_;
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
    /// Throws kdna::error naming the step that has no device form.
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

    /// Plans every step for inputs of shape `in`, allocates all memory, and records the launches. Throws kdna::error
    /// naming the step that cannot run on its input.
    [[nodiscard]] plan_type plan(const shape4& in, const device_plan_options& options = {}) const {
        return body_->plan(in, options, body_);
    }
    /// x [plan.input_shape()] to y [plan.output_shape()], float32 in device memory, in the stream; does not wait.
    /// Allocates nothing. Throws kdna::error if the arguments are not those of the plan, or a launch fails.
    void run(plan_type& p, const device_view<const float>& x, const device_view<float>& y,
             typename Device::stream s = {}) const {
        body_->run(p, x, y, s);
    }
    /// Plans and runs in one go, on host tensors; the output is NCHW. Throws kdna::error. For tests and for code that
    /// runs once.
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
