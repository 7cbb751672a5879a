// conv2d on a device: the layers of nn/conv2d.hpp with backend::cuda.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/layers/context.hpp>
#include <kdna/cuda/layers/conversion.hpp>
#include <kdna/cuda/layers/take_apart.hpp>

namespace kdna::inline KDNA_ABI {

namespace cuda {

/// How a layer is planned.
struct device_layer_options {
    /// true: runs take float32 tensors in any order, and the plan keeps memory to convert them. false: runs take only
    /// tensors with channels last in the layer's own numbers, which are never copied.
    bool conversions = true;
    /// For a layer whose kernels come with each call: whether one serves all samples, or each sample has its own.
    given_kernels kernels = given_kernels::one;
};

/// The decisions and the memory of one layer for one input shape, all on the device. A plan serves one run at a time;
/// make one per stream.
template <device_api Device>
class basic_conv2d_plan {
public:
    [[nodiscard]] const shape4& input_shape() const noexcept { return decisions_.in; }
    [[nodiscard]] const shape4& output_shape() const noexcept { return decisions_.out; }
    [[nodiscard]] index_t workspace_bytes() const noexcept {
        return scratch_.bytes() + x_.bytes() + y_.bytes() + residual_.bytes();
    }
    /// A few words about the tile, where each factor is applied, and the workspace.
    [[nodiscard]] const std::string& explain() const& noexcept { return decisions_.text; }
    void explain() const&& = delete;  // the text would outlive the plan: give the plan a name

private:
    template <kernel_source, router, layer_backend>
    friend class KDNA_ABI::conv2d;
    std::shared_ptr<const device_conv<Device>> owner_{};
    device_conv_plan decisions_{};
    device_memory<Device> scratch_{}, x_{}, y_{}, residual_{};
};

/// Routers with a device form: those of the library, and yours with a take_apart beside them (take_apart.hpp).
template <class R>
concept device_router = requires(const R& r) {
    { take_apart(r) } -> std::same_as<router_recipe>;
};

namespace detail {

/// Uploads x and, if there is one, a residual, calls run(x, y, residual) on float32 views of them, and returns y in
/// NCHW.
template <device_api Device, class Run>
[[nodiscard]] tensor<float> run_on_host_tensors(Device& device, const shape4& out_shape,
                                                const tensor_view<const float>& x,
                                                const tensor_view<const float>& residual, typename Device::stream s,
                                                Run&& run) {
    using device_tensor = basic_device_tensor<float, Device>;
    device_tensor in(device, x.shape), out(device, out_shape, layout::nchw);
    in.upload(x, s);
    std::optional<device_tensor> added;
    if (residual.data != nullptr) {
        added.emplace(device, residual.shape);
        added->upload(residual, s);
    }
    run(std::as_const(in).view(), out.view(), added ? std::as_const(*added).view() : device_view<const float>{});
    return out.download(s);
}

}  // namespace detail

}  // namespace cuda

/// One convolution layer on a device: a handle, whose copies are the same layer. Layers of one context share on the
/// device what they share on the host: a child runs on its parent's weights, which are uploaded once.
template <kernel_source Source, router Router, class Device>
class conv2d<Source, Router, backend::on<Device>> {
    static_assert(origin_of<Router> != route_origin::context,
                  "kdna: layers on devices do not read a context; this one runs on the CPU");
    static_assert(cuda::device_router<Router>,
                  "kdna: this router has no device form; write a cuda::router_recipe take_apart(const your_router&) "
                  "beside it (kdna/cuda/layers/take_apart.hpp)");

public:
    using plan_type = cuda::basic_conv2d_plan<Device>;
    using context_type = cuda::basic_context<Device>;
    using stream = typename Device::stream;

    /// Puts the layer on the context's device, and waits for the stream. Throws kdna::error, naming the layer, if any
    /// part does not fit the kernel or has no device form.
    conv2d(adapted<Source> kernel, const conv_params& params, const conv_options& options = {}, Router r = {},
           const context_type& where = context_type::standard(), stream s = {})
        : context_(where),
          layer_(upload(conv2d<Source, Router, backend::reference>(std::move(kernel), params, options, std::move(r)),
                        where, s)),
          params_(params) {}
    conv2d(Source source, const conv_params& params, const conv_options& options = {}, Router r = {},
           const context_type& where = context_type::standard(), stream s = {})
        : conv2d(adapted<Source>{std::move(source), {}, {}}, params, options, std::move(r), where, s) {}

    [[nodiscard]] const std::string& name() const noexcept { return layer_->name(); }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return layer_->kernel(); }
    [[nodiscard]] const conv_params& params() const noexcept { return params_; }
    [[nodiscard]] bool takes_residual() const noexcept { return layer_->takes_residual(); }
    [[nodiscard]] const context_type& context() const noexcept { return context_; }
    /// Whether the weights come with each call.
    [[nodiscard]] static constexpr bool takes_given() noexcept { return routes_given<Router>; }
    /// Throws kdna::error if the layer cannot run on an input of this shape.
    [[nodiscard]] shape4 output_shape(const shape4& in) const {
        return KDNA_ABI::output_shape(in, kernel(), params_, name());
    }
    /// Calls f(address, bytes) for the kernel on the device, which layers share, and for what is the layer's own.
    template <class F>
    void for_each_storage(F&& f) const {
        layer_->for_each_storage(f);
    }

    /// Decides how to run on inputs of shape `in` and allocates everything a run needs. Throws kdna::error.
    [[nodiscard]] plan_type plan(const shape4& in, const cuda::device_layer_options& options = {}) const {
        plan_type p;
        p.owner_ = layer_;
        p.decisions_ = layer_->plan(in, options.kernels);
        Device& device = context_.device();
        p.scratch_ = cuda::device_memory<Device>(device, p.decisions_.scratch_bytes);
        if (options.conversions) {
            const auto copy_of = [&](const shape4& s) {
                return cuda::device_memory<Device>(
                    device, checked_mul(element_count(s), cuda::bytes_of(context_.options().numbers), name()));
            };
            p.x_ = copy_of(in);
            p.y_ = copy_of(p.output_shape());
            if (takes_residual()) p.residual_ = copy_of(p.output_shape());
        }
        return p;
    }

    /// y = act( BN( conv(x) + bias ) + residual ), in the stream; does not wait. Views of the plan's shapes; x and y
    /// must not overlap, y and residual may be the same view. `T`: float, or the layer's own numbers channels last.
    /// Allocates nothing. Throws kdna::error if the arguments are not those of the plan, or a launch fails.
    // Spelled out: nvcc 13 takes a call of takes_given() in a constraint for unsatisfied.
    template <class T>
    void run(plan_type& p, const std::type_identity_t<cuda::device_view<const T>>& x, const cuda::device_view<T>& y,
             const std::type_identity_t<cuda::device_view<const T>>& residual = {}, stream s = {}) const
        requires(!routes_given<Router>) {
        run_in(p, x, {}, y, residual, s);
    }
    /// The same with kernels that come with the call (runtime_kernel): float32, [1 or N][weights of one] in PyTorch's
    /// order.
    template <class T>
    void run(plan_type& p, const std::type_identity_t<cuda::device_view<const T>>& x,
             const cuda::device_view<const float>& kernels, const cuda::device_view<T>& y,
             const std::type_identity_t<cuda::device_view<const T>>& residual = {}, stream s = {}) const
        requires(routes_given<Router>) {
        run_in(p, x, kernels, y, residual, s);
    }

    /// Plans and runs in one go on host tensors, and returns the output, in NCHW. Throws kdna::error. For tests and for
    /// code that runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x,
                                           const tensor_view<const float>& residual = {}, stream s = {}) const
        requires(!routes_given<Router>) {
        plan_type p = plan(x.shape);
        return cuda::detail::run_on_host_tensors(
            context_.device(), p.output_shape(), x, residual, s,
            [&](const auto& in, const auto& out, const auto& added) { run(p, in, out, added, s); });
    }

private:
    using layer_type = cuda::device_conv<Device>;

    [[nodiscard]] static std::shared_ptr<const layer_type> upload(
        const conv2d<Source, Router, backend::reference>& host, const context_type& where, stream s) {
        auto layer = std::make_shared<const layer_type>(where.device(), cuda::take_apart(host), where.options(),
                                                        where.kernels(), s);
        where.device().synchronize(s);
        return layer;
    }

    template <class T>
    void check(const plan_type& p, const cuda::device_view<const T>& x, const cuda::device_view<T>& y,
               const cuda::device_view<const T>& residual) const {
        if (p.owner_ != layer_) throw error(name(), "a plan of this layer", "another layer's");
        const auto require = [&](const char* what, const shape4& expected, const auto& found) {
            const std::string where = concat(name(), " ", what);
            if (found.device_pointer() == nullptr) throw error(where, "a view of device memory", "a null pointer");
            if (found.shape() != expected) throw error(where, to_string(expected), to_string(found.shape()));
            if (in_place(found) || (std::is_same_v<T, float> && p.x_.data() != nullptr)) return;
            throw error(where,
                        concat("channels last in ", cuda::to_string(context_.options().numbers),
                               p.x_.data() != nullptr ? ", or float32" : ", as the plan makes no conversions"),
                        "another order or type");
        };
        require("input", p.input_shape(), x);
        require("output", p.output_shape(), y);
        if (takes_residual())
            require("residual", p.output_shape(), residual);
        else if (residual.device_pointer() != nullptr)
            throw error(concat(name(), " residual"), "none", "one");
    }
    /// Whether programs can read and write these elements where they are.
    template <class T>
    [[nodiscard]] bool in_place(const cuda::device_view<T>& v) const {
        return v.order() == layout::nhwc && cuda::with_number(context_.options().numbers, []<class Number>(Number) {
                   return std::is_same_v<std::remove_const_t<T>, typename Number::element>;
               });
    }
    template <class T>
    void run_in(plan_type& p, const cuda::device_view<const T>& x, const cuda::device_view<const float>& kernels,
                const cuda::device_view<T>& y, const cuda::device_view<const T>& residual, stream s) const {
        check(p, x, y, residual);
        Device& device = context_.device();
        cuda::with_number(context_.options().numbers, [&]<class Number>(Number) {
            using element = typename Number::element;
            const auto given = [&](const auto& v, const cuda::device_memory<Device>& copy) -> const void* {
                if (v.device_pointer() == nullptr || in_place(v)) return v.device_pointer();
                if constexpr (std::is_same_v<T, float>)
                    cuda::enqueue_conversion(device, v.device_pointer(), v.order(), static_cast<element*>(copy.data()),
                                             layout::nhwc, v.shape(), s);
                return copy.data();
            };
            const bool direct = in_place(y);
            cuda::device_conv_call call{given(x, p.x_), direct ? y.device_pointer() : p.y_.data(),
                                        given(residual, p.residual_)};
            call.scratch = static_cast<std::byte*>(p.scratch_.data());
            call.kernels = kernels;
            layer_->enqueue(p.decisions_, call, s);
            if constexpr (std::is_same_v<T, float>)
                if (!direct)
                    cuda::enqueue_conversion(device, static_cast<const element*>(p.y_.data()), layout::nhwc,
                                             y.device_pointer(), y.order(), y.shape(), s);
        });
    }

    context_type context_;
    std::shared_ptr<const layer_type> layer_;
    conv_params params_;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
