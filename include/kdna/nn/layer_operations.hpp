// Layers and pools as the steps of a network.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include <kdna/nn/conv2d.hpp>
#include <kdna/nn/operation.hpp>
#include <kdna/nn/pool.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// The state of a layer that is a step.
template <class Plan>
struct layer_state : operation_state {
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

/// The output's shape of a layer whose last input, if it takes one, is a residual.
template <class Layer>
[[nodiscard]] nd_shape layer_output_shape(const Layer& l, std::span<const nd_shape> in) {
    const shape4 y = l.output_shape(image_shape(in.front(), l.name()));
    if (l.takes_residual()) {
        const shape4 added = image_shape(in.back(), concat(l.name(), " residual"));
        if (added != y) throw error(concat(l.name(), " residual"), to_string(y), to_string(added));
    }
    return nd_shape(y);
}

/// What every layer is as a step, whose `layer()` gives it.
template <class Self, class Plan>
class layer_step : public operation {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return layer().name(); }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override {
        return layer_output_shape(layer(), in);
    }
    [[nodiscard]] bool reads_channel_means() const noexcept override { return layer().reads_channel_means(); }
    [[nodiscard]] bool gives_channel_means() const noexcept override { return layer().gives_channel_means(); }
    [[nodiscard]] band_support bands(const operation_state& s) const noexcept override {
        return layer().bands(static_cast<const layer_state<Plan>&>(s).plan);
    }

private:
    [[nodiscard]] const auto& layer() const noexcept { return static_cast<const Self&>(*this).layer(); }
};

}  // namespace detail

/// Any layer as a step; a residual is its second input.
template <planned_layer Layer>
class layer_operation final : public detail::layer_step<layer_operation<Layer>, typename Layer::plan_type> {
public:
    explicit layer_operation(Layer l) : layer_(std::move(l)) {}
    [[nodiscard]] const Layer& layer() const noexcept { return layer_; }

    [[nodiscard]] index_t inputs() const noexcept override { return layer_.takes_residual() ? 2 : 1; }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                        const plan_options& options) const override {
        return std::make_unique<state>(layer_.plan_without_workspace(image_shape(in.front(), this->name()), options),
                                       &Layer::use_workspace);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        layer_.run(static_cast<state&>(s).plan, c.x(), c.y(), c.residual(), c.means, c.rows);
    }
    void for_each_storage(const storage_visitor& f) const override { layer_.for_each_storage(f); }
    [[nodiscard]] any_ref computes() const noexcept override { return any_ref::to(layer_); }

private:
    using state = detail::layer_state<typename Layer::plan_type>;
    Layer layer_;
};

/// A convolution as a step, held by its base, so that the step is compiled once for each backend. Its inputs are the image, for a
/// layer whose coefficients or context come with each call those of every sample, [N, n] or [N, n, 1, 1], and the residual, if it
/// takes one.
template <conv_backend Backend>
class convolution_operation final : public detail::layer_step<convolution_operation<Backend>, conv_plan<Backend>> {
    using base = detail::layer_step<convolution_operation<Backend>, conv_plan<Backend>>;

public:
    explicit convolution_operation(std::unique_ptr<const conv_layer<Backend>> l)
        : layer_(std::move(l)), given_(layer_->given_floats()) {}
    [[nodiscard]] const conv_layer<Backend>& layer() const noexcept { return *layer_; }

    [[nodiscard]] index_t inputs() const noexcept override {
        return 1 + (given_ > 0 ? 1 : 0) + (layer_->takes_residual() ? 1 : 0);
    }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override {
        const nd_shape y = base::output_shape(in);
        if (given_ > 0) {
            const std::string where = concat(this->name(), " ", layer_->given_name());
            const shape4 expected{y[0], given_, 1, 1}, found = image_shape(in[1], where);
            if (found != expected) throw error(where, to_string(expected), to_string(found));
        }
        return y;
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                        const plan_options& options) const override {
        return std::make_unique<state>(layer_->plan_without_workspace(image_shape(in.front(), this->name()), options),
                                       given_, options.memory);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        auto& own = static_cast<state&>(s);
        if (given_ > 0) return run_given(own, c);
        layer_->run_routed(own.plan, c.x(), c.y(), c.residual(), c.means, c.rows);
    }
    void for_each_storage(const storage_visitor& f) const override { layer_->visit_storage(f); }
    [[nodiscard]] any_ref computes() const noexcept override { return layer_->as_any(); }

private:
    struct state final : detail::layer_state<conv_plan<Backend>> {
        state(conv_plan<Backend> p, index_t count, std::pmr::memory_resource* memory)
            : detail::layer_state<conv_plan<Backend>>(std::move(p), &conv_layer<Backend>::use_workspace),
              given(count * this->plan.input_shape().n, memory) {}
        [[nodiscard]] std::string explain() const override {
            const index_t count = given.size() / this->plan.input_shape().n;
            // A layer with a router says itself what the router reads.
            return this->plan.explain() + (count > 0 && !this->plan.routed()
                                               ? concat(", kernels mixed by ", count, " coefficients of each sample")
                                               : std::string());
        }
        buffer<float> given;
    };
    /// With what is given for each sample, which is contiguous for the layer wherever the value lies.
    KDNA_NOINLINE void run_given(state& own, const operation_call& c) const noexcept {
        const tensor_view<const float> from = c.image(1);
        for (index_t n = 0; n < from.shape.n; ++n)
            for (index_t i = 0; i < given_; ++i) own.given.data()[n * given_ + i] = from(n, i, 0, 0);
        layer_->run_given(own.plan, c.x(), {own.given.data(), given_}, c.y(),
                          layer_->takes_residual() ? c.image(2) : tensor_view<const float>{}, c.means);
    }
    std::unique_ptr<const conv_layer<Backend>> layer_;
    index_t given_;  // floats of a sample, coefficients or a context, that come with each call
};

/// A fully connected layer: a 1x1 convolution in which the samples of the batch stand where pixels do, so that weights are
/// read once for the whole batch. Input [N, C, 1, 1] or [N, C]; the output has its rank.
template <conv_backend Backend>
class linear_operation final : public operation {
public:
    explicit linear_operation(std::unique_ptr<const conv_layer<Backend>> l) : convolution_(std::move(l)) {}
    [[nodiscard]] std::string_view name() const noexcept override { return convolution_.name(); }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override {
        const shape4 x = image_shape(in.front(), name());
        if (x.h != 1 || x.w != 1) throw error(std::string(name()), "a pooled input, H = W = 1", to_string(x));
        nd_shape y = convolution_.output_shape(in);
        return in.front().rank() == 2 ? nd_shape{y[0], y[1]} : y;
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                        const plan_options& options) const override {
        const nd_shape samples_as_rows{1, in.front()[1], in.front()[0], 1};
        return convolution_.plan({&samples_as_rows, 1}, options);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        const nd_view<const float> x = rows(c.x());
        convolution_.run(s, {.inputs = {&x, 1}, .output = rows(c.y())});
    }
    void for_each_storage(const storage_visitor& f) const override { convolution_.for_each_storage(f); }
    [[nodiscard]] any_ref computes() const noexcept override { return convolution_.computes(); }

private:
    template <class T>
    [[nodiscard]] static tensor_view<T> rows(const tensor_view<T>& v) noexcept {
        return {v.data, {1, v.shape.c, v.shape.n, 1}, {0, v.stride.c, v.stride.n, 0}};
    }
    convolution_operation<Backend> convolution_;
};

class max_pool_operation final : public operation {
public:
    explicit max_pool_operation(const max_pool2d& pool, std::string name = "max_pool2d")
        : pool_(pool), name_(std::move(name)) {}
    [[nodiscard]] any_ref computes() const noexcept override { return any_ref::to(pool_); }
    [[nodiscard]] std::string_view name() const noexcept override { return name_; }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override {
        return nd_shape(pool_.output_shape(image_shape(in.front(), name_), name_));
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape>,
                                                        const plan_options& options) const override {
        return std::make_unique<state>(options.executor);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        const executor_ref& executor = static_cast<state&>(s).executor;
        const tensor_view<const float> x = c.x();
        const tensor_view<float> y = c.y();
        const index_t height = c.rows.count > 0 ? c.rows.count : y.shape.h, rows = y.shape.n * height,
                      workers = std::min(std::max<index_t>(executor.concurrency(), 1), rows);
        const auto work = [&](index_t worker) {
            for (index_t row = rows * worker / workers; row < rows * (worker + 1) / workers; ++row)
                pool_.run_row(x, y, row / height, c.rows.first + row % height, c.rows.x_first, c.rows.y_first);
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
    std::string name_;
};

/// Mean over H and W: [N, C, H, W] to [N, C, 1, 1].
class global_average_operation final : public operation {
public:
    explicit global_average_operation(std::string name = "global_average") : name_(std::move(name)) {}
    [[nodiscard]] std::string_view name() const noexcept override { return name_; }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override {
        const shape4 x = image_shape(in.front(), name());
        return {x.n, x.c, 1, 1};
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                        const plan_options& options) const override {
        return std::make_unique<state>(in.front()[1], options);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        float* own = static_cast<state&>(s).mean.data();
        const tensor_view<const float> x = c.x();
        const tensor_view<float> y = c.y();
        for (index_t n = 0; n < x.shape.n; ++n) {
            const float* mean = c.means.input != nullptr ? c.means.input + n * x.shape.c : own;
            if (mean == own) global_average(x, n, own);
            for (index_t i = 0; i < x.shape.c; ++i) y(n, i, 0, 0) = mean[i];
        }
    }
    [[nodiscard]] bool reads_channel_means() const noexcept override { return true; }
    [[nodiscard]] any_ref computes() const noexcept override { return any_ref::to(*this); }

private:
    struct state final : operation_state {
        state(index_t channels, const plan_options& options) : mean(channels, options.memory) {}
        buffer<float> mean;
    };
    std::string name_;
};

}  // namespace kdna::inline KDNA_ABI

#ifdef KDNA_COMPILED
namespace kdna::inline KDNA_ABI {
extern template class convolution_operation<backend::cpu>;
extern template class linear_operation<backend::cpu>;
}  // namespace kdna::inline KDNA_ABI
#endif

#include <kdna/core/macros_pop.hpp>
