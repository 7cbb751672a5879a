// What every layer is: a name, an identity that its plans carry, the checks of a call, and the calls built on them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <concepts>
#include <functional>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <kdna/core/executor.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/nn/bands.hpp>
#include <kdna/nn/options.hpp>
#include <kdna/tensor/tensor.hpp>

namespace kdna::inline KDNA_ABI {

/// Called with the address and the size in bytes of a block of weights.
using storage_visitor = std::function<void(const void*, index_t)>;

/// Tells layers (and networks) apart. Copies of a layer are the same layer: they share its weights and its plans.
class layer_identity {
public:
    [[nodiscard]] const std::shared_ptr<const char>& token() const noexcept { return token_; }

private:
    std::shared_ptr<const char> token_ = std::make_shared<const char>();
};

/// What the plans of all layers have: shapes, threads, scratch, and a few words about the decisions. A plan serves one run at
/// a time; make one per thread.
class layer_plan {
public:
    [[nodiscard]] const shape4& input_shape() const noexcept { return in_; }
    [[nodiscard]] const shape4& output_shape() const noexcept { return out_; }
    /// Bytes of scratch, shared or owned.
    [[nodiscard]] index_t workspace_bytes() const noexcept { return bytes_; }
    /// A few words about the algorithm, the tile, where each factor is applied, and the workspace.
    [[nodiscard]] const std::string& explain() const& noexcept { return text_; }
    void explain() const&& = delete;  // the text would outlive the plan: give the plan a name
    /// Bytes of kernels that were prepared for this plan and are kept with the layer.
    [[nodiscard]] static index_t transformed_bytes() noexcept { return 0; }
    /// The gate of sample n in the last run; empty where the layer has none.
    [[nodiscard]] static std::span<const float> gate(index_t) noexcept { return {}; }

protected:
    friend class layer_base;
    template <class>
    friend class layer_calls;

    [[nodiscard]] std::byte* allocate_workspace(std::pmr::memory_resource* memory) {
        own_workspace_ = buffer<std::byte>(bytes_, memory);
        return own_workspace_.data();
    }

    std::shared_ptr<const char> owner_{};  // which layer made it
    shape4 in_{}, out_{};
    index_t bytes_ = 0;
    bool takes_means_ = false;
    executor_ref executor_{};
    buffer<std::byte> own_workspace_{};
    std::byte* workspace_ = nullptr;
    std::string text_{};
};

namespace detail {

/// Runs `check` and ends the program with its message if it throws: `run` is noexcept. Nothing with KDNA_CHECK=0.
template <class Check>
void enforce([[maybe_unused]] const Check& check) noexcept {
#if KDNA_CHECK
    try {
        check();
    } catch (const error& e) {
        contract_failure(e);
    }
#endif
}

}  // namespace detail

/// What all layers have: a name for messages, and whether a residual is their second input.
class layer_base {
public:
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// Whether `run` takes a residual of the output's shape.
    [[nodiscard]] bool takes_residual() const noexcept { return residual_; }
    /// Whether a run can take the means of its output's channels on its way.
    [[nodiscard]] static constexpr bool gives_channel_means() noexcept { return true; }

protected:
    layer_base(std::string name, bool residual) : name_(std::move(name)), residual_(residual) {}

    /// Makes `p` a plan of this layer.
    void own(layer_plan& p, const shape4& in, const shape4& out, const plan_options& options) const {
        p.owner_ = identity_.token();
        p.in_ = in;
        p.out_ = out;
        p.takes_means_ = options.channel_means;
        p.executor_ = options.executor;
    }
    /// Scratch that is the plan's own.
    [[nodiscard]] static std::byte* allocate_workspace(layer_plan& p, std::pmr::memory_resource* memory) {
        return p.allocate_workspace(memory);
    }
    /// Throws kdna::error unless `p` is a plan of this layer or of a copy, with a workspace, and the views are memory of the
    /// plan's shapes. `strided_input`: whether the plan serves an input whose channels are not contiguous.
    KDNA_FUNC void check_call(const layer_plan& p, const tensor_view<const float>& x, const tensor_view<float>& y,
                              const tensor_view<const float>& residual, const channel_means& means,
                              bool strided_input) const;
    std::string name_;
    bool residual_;
    layer_identity identity_{};
};

/// A layer: immutable, planned once for each input shape, run from many threads with a plan each.
///
///     plan_type                                    what a plan is; default constructible, movable
///     name(), takes_residual()                     for messages; whether there is a second input, added before the activation
///     output_shape(in)                             throws kdna::error where the layer cannot run
///     plan_without_workspace(in, options)          decides how to run; throws kdna::error
///     use_workspace(plan, memory)                  static: gives a plan its scratch, plan.workspace_bytes(), 64-byte aligned
///     check(plan, x, y, residual, means)           throws kdna::error unless `run` may be called so
///     run(plan, x, y, residual, means, rows)       noexcept; allocates nothing
///     reads_channel_means(), gives_channel_means(), bands(plan), for_each_storage(f)   what a network asks, see nn/operation.hpp
// clang-format off
template <class L>
concept planned_layer = requires(const L& l, typename L::plan_type& p, const shape4& in, const plan_options& options, std::byte* memory,
                         const tensor_view<const float>& x, const tensor_view<float>& y, const channel_means& means,
                         const conv::row_band& rows, void (*visit)(const void*, index_t)) {
    { l.name() } -> std::convertible_to<std::string_view>;
    { l.takes_residual() } -> std::convertible_to<bool>;
    { l.output_shape(in) } -> std::convertible_to<shape4>;
    { l.plan_without_workspace(in, options) } -> std::same_as<typename L::plan_type>;
    L::use_workspace(p, memory);
    l.check(p, x, y, x, means);
    { l.run(p, x, y, x, means, rows) } noexcept;
    { l.reads_channel_means() } -> std::convertible_to<bool>;
    { l.gives_channel_means() } -> std::convertible_to<bool>;
    { l.bands(p) } -> std::convertible_to<band_support>;
    l.for_each_storage(visit);
};
// clang-format on

/// The calls that follow from a layer's own functions.
template <class Layer>
class layer_calls {
public:
    /// Decides how to run on inputs of shape `in` and allocates everything a run needs. Throws kdna::error.
    [[nodiscard]] auto plan(const shape4& in, const plan_options& options = {}) const {
        auto p = self().plan_without_workspace(in, options);
        Layer::use_workspace(p, p.allocate_workspace(options.memory));
        return p;
    }
    /// Plans and runs in one go and returns the output, in NCHW. Throws kdna::error. For tests and for code that runs once.
    [[nodiscard]] tensor<float> operator()(const tensor_view<const float>& x,
                                           const tensor_view<const float>& residual = {},
                                           const plan_options& options = {}) const {
        auto p = plan(x.shape, options);
        tensor<float> y(p.output_shape(), layout::nchw, options.memory);
        self().check(p, x, y.view(), residual);
        self().run(p, x, y.view(), residual);
        return y;
    }

private:
    [[nodiscard]] const Layer& self() const noexcept { return static_cast<const Layer&>(*this); }
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/layer.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
