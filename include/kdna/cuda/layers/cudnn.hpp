// Plain convolutions by cuDNN's graph API: convolution, scale, shift, residual and activation as one operation.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/gpu.hpp>

#if !defined(KDNA_CUDNN)
#error \
    "kdna: <kdna/cuda/cudnn.hpp> needs cuDNN 9. Configure kdna with -DKDNA_ENABLE_CUDA=ON -DKDNA_CUDNN=ON, and link the target kdna::cudnn"
#endif

#include <cudnn.h>

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/cuda/layers/layer.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Throws kdna::error with the call and cuDNN's text, unless it is CUDNN_STATUS_SUCCESS.
inline void check(cudnnStatus_t status, std::string_view call) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    std::array<char, 1024> last{};
    cudnnGetLastErrorString(last.data(), last.size());
    throw error(std::string(call), "CUDNN_STATUS_SUCCESS", concat(cudnnGetErrorString(status), ": ", last.data()));
}

namespace detail {

/// A handle on the current device. One thread at a time uses it, which holds `turn`.
class cudnn_handle {
public:
    cudnn_handle() { check(cudnnCreate(&handle_), "cudnnCreate"); }
    cudnn_handle(const cudnn_handle&) = delete;
    cudnn_handle& operator=(const cudnn_handle&) = delete;
    ~cudnn_handle() { static_cast<void>(cudnnDestroy(handle_)); }
    [[nodiscard]] cudnnHandle_t get() const noexcept { return handle_; }
    std::mutex turn{};

private:
    cudnnHandle_t handle_ = nullptr;
};

/// A descriptor of cuDNN's backend API.
class cudnn_descriptor {
public:
    explicit cudnn_descriptor(cudnnBackendDescriptorType_t type) {
        cudnnBackendDescriptor_t d = nullptr;
        check(cudnnBackendCreateDescriptor(type, &d), "cudnnBackendCreateDescriptor");
        handle_ = {d, [](cudnnBackendDescriptor_t p) { static_cast<void>(cudnnBackendDestroyDescriptor(p)); }};
    }
    [[nodiscard]] cudnnBackendDescriptor_t get() const noexcept { return handle_.get(); }

    template <class T>
    cudnn_descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                          const std::vector<T>& values) {
        return set(name, type, values.size(), values.data());
    }
    template <class T>
    cudnn_descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, T value) {
        return set(name, type, 1, &value);
    }
    cudnn_descriptor& set(cudnnBackendAttributeName_t name, const cudnn_descriptor& other) {
        return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, other.get());
    }
    cudnn_descriptor& finalize(std::string_view what) {
        check(cudnnBackendFinalize(get()), concat("cudnnBackendFinalize of ", what));
        return *this;
    }

private:
    cudnn_descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::size_t count,
                          const void* values) {
        check(cudnnBackendSetAttribute(get(), name, type, static_cast<std::int64_t>(count), values),
              concat("cudnnBackendSetAttribute of attribute ", static_cast<int>(name)));
        return *this;
    }
    std::shared_ptr<std::remove_pointer_t<cudnnBackendDescriptor_t>> handle_{};
};

/// The operations of a plain convolution. Descriptors refer to each other, so all of them are kept.
class cudnn_operations {
public:
    // Unique ids of the tensors of a call.
    static constexpr std::int64_t x = 1, w = 2, scale = 3, shift = 4, residual = 5, y = 6;

    explicit cudnn_operations(const plain_convolution& c) {
        const cudnnDataType_t type = c.numbers == precision::f16    ? CUDNN_DATA_HALF
                                     : c.numbers == precision::bf16 ? CUDNN_DATA_BFLOAT16
                                                                    : CUDNN_DATA_FLOAT;
        const shape4 kernel{c.kernel.o, c.kernel.channels_per_group(), c.kernel.kh, c.kernel.kw},
            per_filter{1, c.kernel.o, 1, 1};
        cudnn_descriptor moves(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
        const auto pair = [](index_t h, index_t w) { return std::vector<std::int64_t>{h, w}; };
        moves.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
            .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION)
            .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t{2})
            .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, pair(c.params.dilation.h, c.params.dilation.w))
            .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, pair(c.params.stride.h, c.params.stride.w))
            .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, pair(c.params.pad.top, c.params.pad.left))
            .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, pair(c.params.pad.bottom, c.params.pad.right))
            .finalize("a convolution");
        kept_.push_back(moves);

        std::int64_t next = 100;  // ids of the tensors between two operations
        const auto between = [&] { return tensor(c.out, CUDNN_DATA_FLOAT, next++, true); };
        cudnn_descriptor value = between();
        cudnn_descriptor convolution(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
        convolution.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, tensor(c.in, type, x, false))
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, tensor(kernel, type, w, false))
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, value)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, moves)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1.0F)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 0.0F)
            .finalize("a convolution operation");
        operations_.push_back(convolution);

        constexpr clamp_range all = range_of(activation_kind::none);
        const bool clips = c.range.low > all.low || c.range.high < all.high;
        const auto then = [&](cudnnPointwiseMode_t mode, const cudnn_descriptor& other, bool last) {
            const cudnn_descriptor out = last ? tensor(c.out, type, y, false) : between();
            cudnn_descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
            operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise(mode))
                .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, value)
                .set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other)
                .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out)
                .finalize("a pointwise operation");
            operations_.push_back(operation);
            value = out;
        };
        then(CUDNN_POINTWISE_MUL, tensor(per_filter, CUDNN_DATA_FLOAT, scale, false), false);
        then(CUDNN_POINTWISE_ADD, tensor(per_filter, CUDNN_DATA_FLOAT, shift, false), !c.residual && !clips);
        if (c.residual) then(CUDNN_POINTWISE_ADD, tensor(c.out, type, residual, false), !clips);
        if (clips) {
            cudnn_descriptor mode = pointwise(CUDNN_POINTWISE_RELU_FWD, c.range),
                             operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
            operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, mode)
                .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, value)
                .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensor(c.out, type, y, false))
                .finalize("an activation");
            operations_.push_back(operation);
        }
    }

    /// The graph of these operations, for a handle.
    [[nodiscard]] cudnn_descriptor graph(cudnnHandle_t handle) const {
        std::vector<cudnnBackendDescriptor_t> all;
        for (const cudnn_descriptor& o : operations_) all.push_back(o.get());
        cudnn_descriptor g(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
        g.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, all)
            .set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle)
            .finalize("an operation graph");
        return g;
    }
    [[nodiscard]] std::size_t count() const noexcept { return operations_.size(); }

private:
    /// A dense tensor, channels last.
    cudnn_descriptor tensor(const shape4& s, cudnnDataType_t type, std::int64_t id, bool passing) {
        cudnn_descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
        d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type)
            .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, std::vector<std::int64_t>{s.n, s.c, s.h, s.w})
            .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64,
                 std::vector<std::int64_t>{s.h * s.w * s.c, 1, s.w * s.c, s.c})
            .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id)
            .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{16})
            .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, passing)
            .finalize("a tensor");
        kept_.push_back(d);
        return d;
    }
    cudnn_descriptor pointwise(cudnnPointwiseMode_t mode, const std::optional<clamp_range>& range = std::nullopt) {
        cudnn_descriptor d(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
        d.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode)
            .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
        // The lower end is 0 and the upper infinity unless they are set.
        if (range && range->low != 0.0F)
            d.set(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, CUDNN_TYPE_DOUBLE, static_cast<double>(range->low));
        if (range && range->high < range_of(activation_kind::none).high)
            d.set(CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, CUDNN_TYPE_DOUBLE, static_cast<double>(range->high));
        d.finalize("a pointwise mode");
        kept_.push_back(d);
        return d;
    }
    std::vector<cudnn_descriptor> operations_{}, kept_{};
};

}  // namespace detail

/// A GPU on which cuDNN runs the plain layers of networks. kdna's programs run layers with factors, layers that take
/// the sums of their output, and exact float32, which cuDNN may round to TF32.
class cudnn_gpu : public gpu {
public:
    explicit cudnn_gpu(int ordinal = 0) : gpu(ordinal) {
        const current_device here(ordinal);
        handle_ = std::make_shared<detail::cudnn_handle>();
    }

    /// A plain convolution that cuDNN has planned.
    class library_convolution {
    public:
        [[nodiscard]] index_t scratch_bytes() const noexcept { return scratch_bytes_; }
        [[nodiscard]] static std::string explain() {
            return "cuDNN, scale, shift, residual and activation in one operation";
        }
        /// One run at a time, like the network's plan that it belongs to. Runs of other plans may overlap: they take
        /// turns at the handle. The description of a call is kept, and made again only when a tensor has moved.
        void run(const plain_convolution_call& c, stream_ref s) const {
            if (!arguments_ || c != told_) arguments_.emplace(arguments_of(c));
            told_ = c;
            const std::lock_guard turn(handle_->turn);
            check(cudnnSetStream(handle_->get(), s.handle), "cudnnSetStream");
            check(cudnnBackendExecute(handle_->get(), plan_->get(), arguments_->get()), "cudnnBackendExecute");
        }

    private:
        friend class cudnn_gpu;
        [[nodiscard]] static detail::cudnn_descriptor arguments_of(const plain_convolution_call& c) {
            using ids = detail::cudnn_operations;
            std::vector<const void*> pointers{c.x, c.w, c.scale, c.shift, c.y};
            std::vector<std::int64_t> names{ids::x, ids::w, ids::scale, ids::shift, ids::y};
            if (c.residual != nullptr) {
                pointers.push_back(c.residual);
                names.push_back(ids::residual);
            }
            detail::cudnn_descriptor arguments(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
            arguments.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers)
                .set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, names)
                .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, c.scratch)
                .finalize("a variant pack");
            return arguments;
        }
        std::shared_ptr<detail::cudnn_handle> handle_{};
        mutable std::optional<detail::cudnn_descriptor> arguments_{};
        mutable plain_convolution_call told_{};
        std::optional<detail::cudnn_operations> operations_{};
        std::optional<detail::cudnn_descriptor> graph_{}, config_{}, plan_{};
        index_t scratch_bytes_ = 0;
    };

    /// The first plan of cuDNN's heuristics that can be made, or null.
    [[nodiscard]] std::shared_ptr<const library_convolution> plan_plain(const plain_convolution& c) const {
        if (c.numbers == precision::f32) return nullptr;
        const current_device here(ordinal());
        auto out = std::make_shared<library_convolution>();
        out->handle_ = handle_;
        try {
            out->operations_.emplace(c);
            out->graph_ = out->operations_->graph(handle_->get());
            detail::cudnn_descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
            heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, *out->graph_)
                .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A)
                .finalize("a heuristic");
            for (const detail::cudnn_descriptor& config : results(heuristics))
                if (make_plan(*out, config)) return out;
        } catch (const error&) {
            // kdna's programs run what cuDNN does not take.
        }
        return nullptr;
    }

private:
    [[nodiscard]] static std::vector<detail::cudnn_descriptor> results(const detail::cudnn_descriptor& heuristics) {
        std::int64_t count = 0;
        check(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                       0, &count, nullptr),
              "cudnnBackendGetAttribute");
        std::vector<detail::cudnn_descriptor> configs;
        std::vector<cudnnBackendDescriptor_t> handles;
        for (std::int64_t i = 0; i < count; ++i) {
            configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
            handles.push_back(configs.back().get());
        }
        std::int64_t found = 0;
        check(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                       count, &found, handles.data()),
              "cudnnBackendGetAttribute");
        configs.erase(configs.begin() + std::min(found, count), configs.end());
        return configs;
    }
    [[nodiscard]] bool make_plan(library_convolution& to, const detail::cudnn_descriptor& config) const {
        try {
            detail::cudnn_descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
            plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle_->get())
                .set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config)
                .finalize("an execution plan");
            std::int64_t bytes = 0, count = 0;
            check(cudnnBackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                           &count, &bytes),
                  "cudnnBackendGetAttribute");
            to.config_ = config;
            to.plan_ = plan;
            to.scratch_bytes_ = bytes;
            return true;
        } catch (const error&) {
            return false;  // the next engine may succeed
        }
    }
    std::shared_ptr<detail::cudnn_handle> handle_{};
};
static_assert(device_api<cudnn_gpu>);

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
