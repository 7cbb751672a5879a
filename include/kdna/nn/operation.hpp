// The steps of a network behind one interface, so that a network can hold layers of any source, router and backend.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <kdna/nn/conv2d.hpp>
#include <kdna/nn/pool.hpp>

namespace kdna::inline KDNA_ABI {

/// What one step keeps between planning and running.
class operation_state {
public:
    virtual ~operation_state() = default;
    [[nodiscard]] virtual index_t workspace_bytes() const noexcept { return 0; }
    virtual void use_workspace(std::byte*) noexcept {}
    /// Bytes of transformed kernels the step uses; they belong to the layer.
    [[nodiscard]] virtual index_t transformed_bytes() const noexcept { return 0; }
    [[nodiscard]] virtual std::string explain() const { return {}; }
    /// Gate of sample n in the last run; empty where there is none.
    [[nodiscard]] virtual std::span<const float> gate(index_t) const noexcept { return {}; }
};

/// Called with the address and the size in bytes of a block of weights.
using storage_visitor = std::function<void(const void*, index_t)>;

/// What a step works on.
struct operation_call {
    tensor_view<const float> x;
    tensor_view<float> y;
    tensor_view<const float> residual{};  ///< no data: none
    channel_means means{};                ///< of x and y, as far as the step reads and gives them
    conv::row_band rows{};                ///< for a step that supports bands: which rows of y
};

/// One step: an input, an optional residual, an output. Immutable; what changes is in its state.
class operation {
public:
    virtual ~operation() = default;
    [[nodiscard]] virtual std::string_view name() const noexcept = 0;
    /// Throws kdna::error if the step cannot run on such an input.
    [[nodiscard]] virtual shape4 output_shape(const shape4& in) const = 0;
    [[nodiscard]] virtual std::unique_ptr<operation_state> plan(const shape4& in,
                                                                const plan_options& options) const = 0;
    virtual void run(operation_state& state, const operation_call& call) const noexcept = 0;
    /// Whether the step has a use for the means of its input's channels.
    [[nodiscard]] virtual bool reads_channel_means() const noexcept { return false; }
    /// Whether it can take those of its output, when it was planned with plan_options::channel_means.
    [[nodiscard]] virtual bool gives_channel_means() const noexcept { return false; }
    /// Whether a step planned so can compute its output a few rows at a time.
    [[nodiscard]] virtual band_support bands(const operation_state&) const noexcept { return {}; }
    virtual void for_each_storage(const storage_visitor&) const {}
};

/// A convolution layer as a step.
template <class Layer>
class conv_operation final : public operation {
public:
    explicit conv_operation(Layer layer) : layer_(std::move(layer)) {}
    [[nodiscard]] const Layer& layer() const noexcept { return layer_; }

    [[nodiscard]] std::string_view name() const noexcept override { return layer_.name(); }
    [[nodiscard]] shape4 output_shape(const shape4& in) const override { return layer_.output_shape(in); }
    [[nodiscard]] std::unique_ptr<operation_state> plan(const shape4& in, const plan_options& options) const override {
        return std::make_unique<state>(layer_.plan_without_workspace(in, options));
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        layer_.run(static_cast<state&>(s).plan, c.x, c.y, c.residual, c.means, c.rows);
    }
    [[nodiscard]] bool reads_channel_means() const noexcept override { return layer_.reads_channel_means(); }
    [[nodiscard]] bool gives_channel_means() const noexcept override { return true; }
    [[nodiscard]] band_support bands(const operation_state& s) const noexcept override {
        return layer_.bands(static_cast<const state&>(s).plan);
    }
    void for_each_storage(const storage_visitor& f) const override { layer_.for_each_storage(f); }

private:
    struct state final : operation_state {
        explicit state(typename Layer::plan_type p) : plan(std::move(p)) {}
        [[nodiscard]] index_t workspace_bytes() const noexcept override { return plan.workspace_bytes(); }
        void use_workspace(std::byte* workspace) noexcept override { Layer::use_workspace(plan, workspace); }
        [[nodiscard]] index_t transformed_bytes() const noexcept override { return plan.transformed_bytes(); }
        [[nodiscard]] std::string explain() const override { return plan.explain(); }
        [[nodiscard]] std::span<const float> gate(index_t n) const noexcept override { return plan.gate(n); }
        typename Layer::plan_type plan;
    };
    Layer layer_;
};

/// A fully connected layer: a 1x1 convolution in which the samples of the batch stand where pixels do, so that weights are
/// read once for the whole batch. Input [N, C, 1, 1].
template <class Layer>
class linear_operation final : public operation {
public:
    explicit linear_operation(Layer layer) : convolution_(std::move(layer)) {}
    [[nodiscard]] const Layer& layer() const noexcept { return convolution_.layer(); }

    [[nodiscard]] std::string_view name() const noexcept override { return convolution_.name(); }
    [[nodiscard]] shape4 output_shape(const shape4& in) const override {
        if (in.h != 1 || in.w != 1) throw error(std::string(name()), "a pooled input, H = W = 1", to_string(in));
        return convolution_.output_shape(in);
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(const shape4& in, const plan_options& options) const override {
        return convolution_.plan({1, in.c, in.n, 1}, options);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        convolution_.run(s, {.x = rows(c.x), .y = rows(c.y)});
    }
    void for_each_storage(const storage_visitor& f) const override { convolution_.for_each_storage(f); }

private:
    template <class T>
    [[nodiscard]] static tensor_view<T> rows(const tensor_view<T>& v) noexcept {
        return {v.data, {1, v.shape.c, v.shape.n, 1}, {0, v.stride.c, v.stride.n, 0}};
    }
    conv_operation<Layer> convolution_;
};

class max_pool_operation final : public operation {
public:
    explicit max_pool_operation(const max_pool2d& pool) : pool_(pool) {}
    [[nodiscard]] const max_pool2d& pool() const noexcept { return pool_; }
    [[nodiscard]] std::string_view name() const noexcept override { return "max_pool2d"; }
    [[nodiscard]] shape4 output_shape(const shape4& in) const override { return pool_.output_shape(in); }
    [[nodiscard]] std::unique_ptr<operation_state> plan(const shape4&, const plan_options& options) const override {
        return std::make_unique<state>(options.executor);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        const executor_ref& executor = static_cast<state&>(s).executor;
        const index_t height = c.rows.count > 0 ? c.rows.count : c.y.shape.h, rows = c.y.shape.n * height,
                      workers = std::min(std::max<index_t>(executor.concurrency(), 1), rows);
        const auto work = [&](index_t worker) {
            for (index_t row = rows * worker / workers; row < rows * (worker + 1) / workers; ++row)
                pool_.run_row(c.x, c.y, row / height, c.rows.first + row % height, c.rows.x_first, c.rows.y_first);
        };
        executor.parallel_for(workers, work);
    }

    [[nodiscard]] band_support bands(const operation_state&) const noexcept override {
        return {1, {pool_.window().h, pool_.stride().h, pool_.pad().top}};
    }

private:
    struct state final : operation_state {
        explicit state(const executor_ref& e) : executor(e) {}
        executor_ref executor;
    };
    max_pool2d pool_;
};

/// Mean over H and W: [N, C, H, W] to [N, C, 1, 1].
class global_average_operation final : public operation {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return "global_average"; }
    [[nodiscard]] shape4 output_shape(const shape4& in) const override { return {in.n, in.c, 1, 1}; }
    [[nodiscard]] std::unique_ptr<operation_state> plan(const shape4& in, const plan_options& options) const override {
        return std::make_unique<state>(in.c, options);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        float* own = static_cast<state&>(s).mean.data();
        for (index_t n = 0; n < c.x.shape.n; ++n) {
            const float* mean = c.means.input != nullptr ? c.means.input + n * c.x.shape.c : own;
            if (mean == own) global_average(c.x, n, own);
            for (index_t i = 0; i < c.x.shape.c; ++i) c.y(n, i, 0, 0) = mean[i];
        }
    }
    [[nodiscard]] bool reads_channel_means() const noexcept override { return true; }

private:
    struct state final : operation_state {
        state(index_t channels, const plan_options& options) : mean(channels, options.memory) {}
        buffer<float> mean;
    };
};

}  // namespace kdna::inline KDNA_ABI
