// The steps of a network behind one interface, so that a network can hold layers of any source, router and backend.
#pragma once

#include <kdna/core/macros_push.hpp>

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

/// Most inputs of one step.
inline constexpr index_t most_inputs = 32;

/// What a step works on.
struct operation_call {
    std::span<const tensor_view<const float>> inputs;  ///< in the order of the step's inputs
    tensor_view<float> y;
    channel_means means{};  ///< of the first input and of y, as far as the step reads and gives them
    conv::row_band rows{};  ///< for a step that supports bands: which rows of y

    [[nodiscard]] const tensor_view<const float>& x() const noexcept { return inputs.front(); }
    /// The second input; no data where there is none.
    [[nodiscard]] tensor_view<const float> residual() const noexcept {
        return inputs.size() > 1 ? inputs[1] : tensor_view<const float>{};
    }
};

/// One step: inputs, and an output. Immutable; what changes is in its state.
class operation {
public:
    virtual ~operation() = default;
    [[nodiscard]] virtual std::string_view name() const noexcept = 0;
    /// Number of inputs, 1 ... most_inputs.
    [[nodiscard]] virtual index_t inputs() const noexcept { return 1; }
    /// The output's shape for inputs of these shapes, inputs() of them. Throws kdna::error if the step cannot run on them.
    [[nodiscard]] virtual shape4 output_shape(std::span<const shape4> in) const = 0;
    [[nodiscard]] virtual std::unique_ptr<operation_state> plan(std::span<const shape4> in,
                                                                const plan_options& options) const = 0;
    virtual void run(operation_state& state, const operation_call& call) const noexcept = 0;
    /// Whether the step has a use for the means of its first input's channels.
    [[nodiscard]] virtual bool reads_channel_means() const noexcept { return false; }
    /// Whether it can take those of its output, when it was planned with plan_options::channel_means.
    [[nodiscard]] virtual bool gives_channel_means() const noexcept { return false; }
    /// Whether a step planned so can compute its output a few rows at a time. Only the first input may then hold some rows only.
    [[nodiscard]] virtual band_support bands(const operation_state&) const noexcept { return {}; }
    virtual void for_each_storage(const storage_visitor&) const {}
};

namespace detail {

/// The state of a layer that is a step.
template <class Plan>
struct layer_state final : operation_state {
    layer_state(Plan p, void (*use)(Plan&, std::byte*) noexcept) : plan(std::move(p)), use_(use) {}
    [[nodiscard]] index_t workspace_bytes() const noexcept override { return plan.workspace_bytes(); }
    void use_workspace(std::byte* workspace) noexcept override { use_(plan, workspace); }
    [[nodiscard]] index_t transformed_bytes() const noexcept override { return plan.transformed_bytes(); }
    [[nodiscard]] std::string explain() const override { return plan.explain(); }
    [[nodiscard]] std::span<const float> gate(index_t n) const noexcept override { return plan.gate(n); }
    Plan plan;

private:
    void (*use_)(Plan&, std::byte*) noexcept;
};

/// The output's shape of a layer whose second input, if it has one, is a residual.
template <class Layer>
[[nodiscard]] shape4 layer_output_shape(const Layer& l, std::span<const shape4> in) {
    const shape4 y = l.output_shape(in.front());
    if (in.size() > 1 && in[1] != y) throw error(concat(l.name(), " residual"), to_string(y), to_string(in[1]));
    return y;
}

}  // namespace detail

/// Any layer as a step; a residual is its second input.
template <planned_layer Layer>
class layer_operation final : public operation {
public:
    explicit layer_operation(Layer l) : layer_(std::move(l)) {}
    [[nodiscard]] const Layer& layer() const noexcept { return layer_; }

    [[nodiscard]] std::string_view name() const noexcept override { return layer_.name(); }
    [[nodiscard]] index_t inputs() const noexcept override { return layer_.takes_residual() ? 2 : 1; }
    [[nodiscard]] shape4 output_shape(std::span<const shape4> in) const override {
        return detail::layer_output_shape(layer_, in);
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const shape4> in,
                                                        const plan_options& options) const override {
        return std::make_unique<state>(layer_.plan_without_workspace(in.front(), options), &Layer::use_workspace);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        layer_.run(static_cast<state&>(s).plan, c.x(), c.y, c.residual(), c.means, c.rows);
    }
    [[nodiscard]] bool reads_channel_means() const noexcept override { return layer_.reads_channel_means(); }
    [[nodiscard]] bool gives_channel_means() const noexcept override { return layer_.gives_channel_means(); }
    [[nodiscard]] band_support bands(const operation_state& s) const noexcept override {
        return layer_.bands(static_cast<const state&>(s).plan);
    }
    void for_each_storage(const storage_visitor& f) const override { layer_.for_each_storage(f); }

private:
    using state = detail::layer_state<typename Layer::plan_type>;
    Layer layer_;
};

/// A convolution as a step, held by its base, so that the step is compiled once for each backend.
template <conv_backend Backend>
class convolution_operation final : public operation {
public:
    explicit convolution_operation(std::unique_ptr<const conv_layer<Backend>> l) : layer_(std::move(l)) {}
    [[nodiscard]] const conv_layer<Backend>& layer() const noexcept { return *layer_; }

    [[nodiscard]] std::string_view name() const noexcept override { return layer_->name(); }
    [[nodiscard]] index_t inputs() const noexcept override { return layer_->takes_residual() ? 2 : 1; }
    [[nodiscard]] shape4 output_shape(std::span<const shape4> in) const override {
        return detail::layer_output_shape(*layer_, in);
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const shape4> in,
                                                        const plan_options& options) const override {
        return std::make_unique<state>(layer_->plan_without_workspace(in.front(), options),
                                       &conv_layer<Backend>::use_workspace);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        layer_->run_routed(static_cast<state&>(s).plan, c.x(), c.y, c.residual(), c.means, c.rows);
    }
    [[nodiscard]] bool reads_channel_means() const noexcept override { return layer_->reads_channel_means(); }
    [[nodiscard]] bool gives_channel_means() const noexcept override { return true; }
    [[nodiscard]] band_support bands(const operation_state& s) const noexcept override {
        return layer_->bands(static_cast<const state&>(s).plan);
    }
    void for_each_storage(const storage_visitor& f) const override { layer_->visit_storage(f); }

private:
    using state = detail::layer_state<conv_plan<Backend>>;
    std::unique_ptr<const conv_layer<Backend>> layer_;
};

/// A fully connected layer: a 1x1 convolution in which the samples of the batch stand where pixels do, so that weights are
/// read once for the whole batch. Input [N, C, 1, 1].
template <conv_backend Backend>
class linear_operation final : public operation {
public:
    explicit linear_operation(std::unique_ptr<const conv_layer<Backend>> l) : convolution_(std::move(l)) {}
    [[nodiscard]] const conv_layer<Backend>& layer() const noexcept { return convolution_.layer(); }

    [[nodiscard]] std::string_view name() const noexcept override { return convolution_.name(); }
    [[nodiscard]] shape4 output_shape(std::span<const shape4> in) const override {
        if (in.front().h != 1 || in.front().w != 1)
            throw error(std::string(name()), "a pooled input, H = W = 1", to_string(in.front()));
        return convolution_.output_shape(in);
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const shape4> in,
                                                        const plan_options& options) const override {
        const shape4 samples_as_rows{1, in.front().c, in.front().n, 1};
        return convolution_.plan({&samples_as_rows, 1}, options);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        const tensor_view<const float> x = rows(c.x());
        convolution_.run(s, {.inputs = {&x, 1}, .y = rows(c.y)});
    }
    void for_each_storage(const storage_visitor& f) const override { convolution_.for_each_storage(f); }

private:
    template <class T>
    [[nodiscard]] static tensor_view<T> rows(const tensor_view<T>& v) noexcept {
        return {v.data, {1, v.shape.c, v.shape.n, 1}, {0, v.stride.c, v.stride.n, 0}};
    }
    convolution_operation<Backend> convolution_;
};

class max_pool_operation final : public operation {
public:
    explicit max_pool_operation(const max_pool2d& pool) : pool_(pool) {}
    [[nodiscard]] const max_pool2d& pool() const noexcept { return pool_; }
    [[nodiscard]] std::string_view name() const noexcept override { return "max_pool2d"; }
    [[nodiscard]] shape4 output_shape(std::span<const shape4> in) const override {
        return pool_.output_shape(in.front());
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const shape4>,
                                                        const plan_options& options) const override {
        return std::make_unique<state>(options.executor);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        const executor_ref& executor = static_cast<state&>(s).executor;
        const index_t height = c.rows.count > 0 ? c.rows.count : c.y.shape.h, rows = c.y.shape.n * height,
                      workers = std::min(std::max<index_t>(executor.concurrency(), 1), rows);
        const auto work = [&](index_t worker) {
            for (index_t row = rows * worker / workers; row < rows * (worker + 1) / workers; ++row)
                pool_.run_row(c.x(), c.y, row / height, c.rows.first + row % height, c.rows.x_first, c.rows.y_first);
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
    [[nodiscard]] shape4 output_shape(std::span<const shape4> in) const override {
        return {in.front().n, in.front().c, 1, 1};
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const shape4> in,
                                                        const plan_options& options) const override {
        return std::make_unique<state>(in.front().c, options);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        float* own = static_cast<state&>(s).mean.data();
        for (index_t n = 0; n < c.x().shape.n; ++n) {
            const float* mean = c.means.input != nullptr ? c.means.input + n * c.x().shape.c : own;
            if (mean == own) global_average(c.x(), n, own);
            for (index_t i = 0; i < c.x().shape.c; ++i) c.y(n, i, 0, 0) = mean[i];
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

#ifdef KDNA_COMPILED
namespace kdna::inline KDNA_ABI {
extern template class convolution_operation<backend::cpu>;
extern template class linear_operation<backend::cpu>;
}  // namespace kdna::inline KDNA_ABI
#endif

#include <kdna/core/macros_pop.hpp>
