// Device forms of the operations that are no convolutions: how an operation of the host becomes a step of a device.
//
// An operation has a device form where there is a specialisation of device_form for its type, and its type is in the list in
// network_steps.hpp. element_forms.hpp and image_forms.hpp have those of the library.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <kdna/core/any_ref.hpp>
#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/layers/operands.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// What a step is launched with.
template <device_api Device>
struct step_call {
    Device& device;
    typename Device::stream stream;
    std::span<const device_operand> inputs;
    device_operand output;
    device_span<const float> parameters{};  ///< what device_form<Op>::parameters gave

    template <class Program>
    void launch(int items, const typename Program::arguments& a) const {
        device.template launch<Program>(elementwise_program::grid(items), a, stream);
    }
};

/// How operations of type Op run on a device:
///
///     parameters(op)                      std::vector<float> that step_call::parameters has in device memory; may be absent
///     check(op, where)                    throws kdna::error, naming `where`, where programs do not compute the operation; may be
///                                         absent
///     check_shapes(op, in, out, where)    the same when the shapes are known; may be absent
///     enqueue<T>(op, call)                puts its launches into the stream, for values of T; allocates nothing
template <class Op>
struct device_form;

/// An operation on a device for shapes that are known. Immutable.
template <device_api Device>
class planned_operation {
public:
    virtual ~planned_operation() = default;
    virtual void enqueue(const step_call<Device>& call, precision numbers) const = 0;
};

/// An operation on a device. Immutable.
template <device_api Device>
class device_operation {
public:
    virtual ~device_operation() = default;
    /// Throws kdna::error, naming `where`, where it cannot run on those shapes.
    [[nodiscard]] virtual std::shared_ptr<const planned_operation<Device>> plan(std::span<const nd_shape> in,
                                                                                const nd_shape& out,
                                                                                const std::string& where) const = 0;
};

namespace detail {

template <class Op, device_api Device>
class planned_form final : public planned_operation<Device> {
public:
    using form = device_form<Op>;
    planned_form(Op op, Device& device, const std::string& where, typename Device::stream s) : op_(std::move(op)) {
        if constexpr (requires { form::check(op_, where); }) form::check(op_, where);
        if constexpr (requires { form::parameters(op_); })
            parameters_ = uploaded<float>(device, form::parameters(op_), s);
    }
    void check_shapes(std::span<const nd_shape> in, const nd_shape& out, const std::string& where) const {
        if constexpr (requires { form::check_shapes(op_, in, out, where); }) form::check_shapes(op_, in, out, where);
    }
    void enqueue(const step_call<Device>& call, precision numbers) const override {
        step_call<Device> own = call;
        if (parameters_.bytes() > 0)
            own.parameters =
                parameters_.template span<const float>(0, parameters_.bytes() / static_cast<index_t>(sizeof(float)));
        with_number(numbers, [&]<class Number>(Number) { form::template enqueue<typename Number::element>(op_, own); });
    }

private:
    Op op_;
    device_memory<Device> parameters_{};
};

/// An operation whose attributes are known when the network is made.
template <class Op, device_api Device>
class fixed_operation final : public device_operation<Device> {
public:
    fixed_operation(const Op& op, Device& device, const std::string& where, typename Device::stream s)
        : planned_(std::make_shared<const planned_form<Op, Device>>(op, device, where, s)) {}
    [[nodiscard]] std::shared_ptr<const planned_operation<Device>> plan(std::span<const nd_shape> in,
                                                                        const nd_shape& out,
                                                                        const std::string& where) const override {
        planned_->check_shapes(in, out, where);
        return planned_;
    }

private:
    std::shared_ptr<const planned_form<Op, Device>> planned_;
};

/// One that is made from shapes.
template <class Op, device_api Device>
class shaped_form final : public device_operation<Device> {
public:
    using maker = std::function<Op(std::span<const nd_shape>)>;
    shaped_form(maker make, Device& device) : make_(std::move(make)), device_(&device) {}
    [[nodiscard]] std::shared_ptr<const planned_operation<Device>> plan(std::span<const nd_shape> in,
                                                                        const nd_shape& out,
                                                                        const std::string& where) const override {
        auto planned =
            std::make_shared<const planned_form<Op, Device>>(make_(in), *device_, where, typename Device::stream{});
        planned->check_shapes(in, out, where);
        return planned;
    }

private:
    maker make_;
    Device* device_;
};

}  // namespace detail

/// Types of operations that have a device form.
template <class... Ops>
struct operation_list {
    /// The device form of what a step computes, or null.
    template <device_api Device>
    [[nodiscard]] static std::shared_ptr<const device_operation<Device>> find(const any_ref& computes, Device& device,
                                                                              const std::string& where,
                                                                              typename Device::stream s) {
        std::shared_ptr<const device_operation<Device>> found;
        static_cast<void>((((found = form_of<Ops>(computes, device, where, s)) != nullptr) || ...));
        return found;
    }

private:
    template <class Op, device_api Device>
    [[nodiscard]] static std::shared_ptr<const device_operation<Device>> form_of(const any_ref& computes,
                                                                                 Device& device,
                                                                                 const std::string& where,
                                                                                 typename Device::stream s) {
        if (const Op* op = computes.as<Op>())
            return std::make_shared<const detail::fixed_operation<Op, Device>>(*op, device, where, s);
        if (const auto* make = computes.as<typename detail::shaped_form<Op, Device>::maker>())
            return std::make_shared<const detail::shaped_form<Op, Device>>(*make, device);
        return nullptr;
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
